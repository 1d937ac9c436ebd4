"""What the server does: ask for adapters, merge them, send the result, say who took it.

`skip2lora.merge` averages what the adapters add to the logits, weighted by the samples that each
has learned. The merged adapter is written to `out`, what was told and sent to `out` + `.json`.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from flwr.app import Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp

import skip2lora as s2
from skip2lora_fleet.folders import n_bytes, packed, unpacked

app = ServerApp()


def connected(grid: Grid, wanted: int, wait: float) -> list[int]:
    """Numbers of the devices, as soon as there are so many."""
    until = time.monotonic() + wait
    while len(nodes := sorted(grid.get_node_ids())) < wanted:
        if time.monotonic() > until:
            raise SystemExit(f"{len(nodes)} devices connected, expected {wanted}: start them")
        time.sleep(0.2)
    return nodes


def ask(
    grid: Grid, nodes: list[int], what: str, content: RecordDict, wait: float
) -> dict[int, RecordDict]:
    """What each device answers; one that fails, or is silent for too long, is said and left out."""
    messages = [Message(content, dst_node_id=node, message_type=what) for node in nodes]
    answers = {}
    for reply in grid.send_and_receive(messages, timeout=wait):
        node = reply.metadata.src_node_id
        if reply.has_error():
            print(f"device {node} failed: {reply.error.reason}")
        else:
            answers[node] = reply.content
    return dict(sorted(answers.items()))


def shown(node: int, content: RecordDict) -> dict[str, object]:
    """A device's verdict, said and for the report."""
    said = content["verdict"]
    print(f"device {node}, {said['what']} adapter: {said['reason']}")
    return {"device": node, **said}


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One round: adapters come, are merged, and the result goes to those that sent one."""
    said = context.run_config
    out, wait = Path(str(said["out"])), float(said["wait"])
    nodes = connected(grid, int(said["devices"]), wait)
    learned = ask(grid, nodes, MessageType.TRAIN, RecordDict(), wait)
    if len(learned) < 2:
        raise SystemExit(f"{len(learned)} devices have adapted, expected 2 or more to merge")
    with tempfile.TemporaryDirectory() as scratch:
        folders = [
            unpacked(content["adapter"], Path(scratch, str(node)))
            for node, content in learned.items()
        ]
        samples = [int(content["learned"]["samples"]) for content in learned.values()]
        merged = s2.merge(folders, out, weights=samples)
    fleet = packed(out)
    judged = ask(grid, list(learned), MessageType.EVALUATE, RecordDict({"adapter": fleet}), wait)
    report = {
        "devices": len(learned),
        "samples": samples,
        "lost": merged.lost,
        "bytes_from_devices": sum(n_bytes(content["adapter"]) for content in learned.values()),
        "bytes_to_devices": len(learned) * n_bytes(fleet),
        "own": [shown(node, content) for node, content in learned.items()],
        "fleet": [shown(node, content) for node, content in judged.items()],
    }
    Path(f"{out}.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    print(
        f"merged {len(learned)} adapters: {report['bytes_from_devices']:,} bytes came, "
        f"{report['bytes_to_devices']:,} went"
    )
