"""Predictions a second of the service over loopback, and while it adapts: docs/serve.md.

    python bench/serving.py [--data ../shared/data] [--seconds 10] [--rounds 3] [--json]

wrk asks for one prediction of the fan's network at a time, in JSON, over 50 connections. The same
server with an application that reads the body and answers 100 bytes is the floor: what is left is
the service's own. "Adapting" is the service while another client makes it learn anew, again and
again, from 200 labels of all classes, and answers by what it learned. Rounds take turns; processor
time is that of the server's process alone, without the one that learns.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from harness import environment, pretrained, shown, spread, task

CONNECTIONS, N_LABELS = 50, 200
POST = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[{}]]
"""
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
EMPTY = """
import sys
from skip2lora.serve.server import Stop, listening, run

async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"100")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * 100})

at = listening("127.0.0.1", 0)
run(app, at, Stop(), lambda: print('{"url": "http://127.0.0.1:%d"}' % at.getsockname()[1],
                                   flush=True))
"""


@contextmanager
def server(command: list[str]) -> Iterator[tuple[int, str]]:
    """A process that prints JSON with its address; its number and that address."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            text = ""
            while not text.rstrip().endswith("}"):
                line = process.stdout.readline()
                if not line:
                    raise SystemExit(f"serving: {command[-1][:60]} ended before it answered")
                text += line
            yield process.pid, json.loads(text)["url"]
        finally:
            process.terminate()


def call(url: str, path: str, body: Any) -> Any:
    """The JSON that a POST gives."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=600)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body), headers)
        return json.load(connection.getresponse())
    finally:
        connection.close()


def cpu_s(pid: int) -> float:
    """Processor seconds of a process so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(pid: int, url: str, script: Path, seconds: int) -> dict[str, float]:
    """What wrk says of a route: requests a second, milliseconds of the 99th percentile."""
    before = cpu_s(pid)
    wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    text = subprocess.run(wrk, check=True, capture_output=True, text=True).stdout
    used = cpu_s(pid) - before
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(f"serving: {text}")
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
    count = int(re.search(r"(\d+) requests in", text).group(1))
    return {"per_second": rate, "p99_ms": float(number) * UNITS[unit], "cpu_us": 1e6 * used / count}


def teach(url: str, rows: list[list[float]], names: list[str]) -> None:
    """Label some samples."""
    answers = call(url, "/api/predict", {"rows": rows})["samples"]
    labels = [{"id": of["id"], "label": name} for of, name in zip(answers, names, strict=True)]
    call(url, "/api/labels", {"labels": labels})


@contextmanager
def learning(url: str) -> Iterator[list[float]]:
    """Learn again and again meanwhile; the seconds each took."""
    took: list[float] = []
    ended = threading.Event()

    def again() -> None:
        while not ended.is_set():
            began = time.perf_counter()
            call(url, "/api/learn", {})
            took.append(time.perf_counter() - began)

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield took
    finally:
        ended.set()
        thread.join()


def measure(data: Path | None, seconds: int, rounds: int) -> dict[str, Any]:
    """Everything, rounds in turn."""
    about, split = task(data, 0)
    names = list(split.pretrain.class_names)
    with tempfile.TemporaryDirectory() as folder:
        model, script = Path(folder) / "fan.safetensors", Path(folder) / "post.lua"
        pretrained(split, 0).named(names).save(model)
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, split.finetune.x.shape[1]]}
        tensor["data"] = [round(float(n), 6) for n in split.finetune.x[0]]
        body = json.dumps({"inputs": [tensor]})
        script.write_text(POST.format(body))
        service = [sys.executable, "-m", "skip2lora", "serve", str(model), "--store",
                   f"{folder}/store", "--port", "0", "--json"]  # fmt: skip
        results: dict[str, list[dict[str, float]]] = {"empty": [], "service": [], "adapting": []}
        took: list[float] = []
        with (
            server([sys.executable, "-c", EMPTY]) as (empty_pid, empty_url),
            server(service) as (pid, url),
        ):
            order = np.random.default_rng(0).permutation(len(split.finetune.y))[:N_LABELS]
            teach(
                url, split.finetune.x[order].tolist(),
                [names[label] for label in split.finetune.y[order]],
            )  # fmt: skip
            judged = call(url, "/api/learn", {})
            if judged["version"] is None:
                raise SystemExit(f"serving: nothing is learned: {judged['reason']}")
            path = f"{url}/v2/models/fan/infer"
            load(pid, path, script, 2)
            for _ in range(rounds):
                results["empty"].append(load(empty_pid, empty_url, script, seconds))
                results["service"].append(load(pid, path, script, seconds))
                with learning(url) as times:
                    results["adapting"].append(load(pid, path, script, seconds))
                took += times
    return {
        "environment": environment(), "data": about, "connections": CONNECTIONS,
        "body_bytes": len(body), "learned": len(took), "learn_s": statistics.median(took),
        "results": results,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("serving: wrk is not installed, expected it: apt install wrk")
    result = measure(arguments.data, arguments.seconds, arguments.rounds)
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{result['data']}, bodies of {result['body_bytes']:,} bytes, 50 connections")
    for name, rounds in result["results"].items():
        values = {key: shown(spread([of[key] for of in rounds])) for key in rounds[0]}
        print(f"{name:9}", "  ".join(f"{key} {value}" for key, value in values.items()))
    print(f"learned {result['learned']} times, {result['learn_s']:.2f} s each")


if __name__ == "__main__":
    main()
