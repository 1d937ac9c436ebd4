"""Stop `adapt --cache-dir` at random moments: no row that was written is lost, and none is wrong.

A warm process forks a child for each run, in which every few samples take some milliseconds and
become a shard. It is stopped by SIGKILL or by a signal that it answers, at a step of its writing or
at a random time. After a few stops the run is let go on: it computes what is missing alone, and
ends with the bits of one that has no folder.

    python tests/filling.py --kills 200
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import skip2lora as s2
from killing import content, forked, set_up
from skip2lora.__main__ import STOPS, leave
from skip2lora.adapters import cached
from skip2lora.adapters.rows import RowFormat
from skip2lora.backbones.onnx.backbone import OnnxBackbone
from skip2lora.cli import run
from skip2lora.data.lazy import digests_of

WORDS = "adapt a.onnx field.npz -o out --force --json --epochs 2 --class-names stop,normal,damaged"
KEPT = f"{WORDS} --cache-dir rows".split()
#: Of a run, before it is let go on to its end.
MOST_STOPS = 6


def slowly() -> None:
    """A few samples at a time, each of which takes a while, and a shard for all of them."""
    cached._SECONDS = -1.0
    OnnxBackbone.samples_at_once = 5  # type: ignore[assignment]
    compute = RowFormat._compute

    def waiting(self: RowFormat, backbone: Any, x: Any, rows: Any, **more: Any) -> None:
        if isinstance(backbone, OnnxBackbone):
            time.sleep(0.005)
        compute(self, backbone, x, rows, **more)

    RowFormat._compute = waiting  # type: ignore[method-assign]


def rows_there(model: s2.Backbone, x: np.ndarray) -> np.ndarray:
    """Which samples have a row in the folder, (samples,); a damaged shard is an error."""
    if not Path("rows", "manifest.json").exists():
        return np.zeros(len(x), bool)
    folder, row_format = s2.CacheFolder("rows"), RowFormat.of(model, copy_input=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        about = cached.depends_on(model, row_format, None)
        folder.claim(about, row_format.layout.row_stride)
        places = folder.rows(digests_of(model.check(x)))
    out, own = row_format.empty(len(x)), row_format.empty(len(x))
    places.read(out)
    row_format.compute(model, model.check(x), own)
    there = places.shard >= 0
    assert np.array_equal(out[there], own[there])
    return there


def try_run(count: int, chance: np.random.Generator, tally: Counter[str]) -> str:
    """Stop a run so many times; what is wrong then, if anything."""
    model, x = s2.load("a.onnx"), np.load("field.npz")["X"]
    plain = forked(lambda: run(WORDS.split()))
    expected = content(("out",))
    whole = forked(lambda: run(KEPT))
    assert (plain.status, whole.status) == (0, 0), (plain, whole)
    shutil.rmtree("rows")
    there = rows_there(model, x)
    for number in [signal.SIGKILL] * count + chance.choice(list(STOPS), 1).tolist():
        at: dict[str, Any] = {"at": int(chance.integers(whole.steps))}
        if chance.random() < 0.5:
            at = {"after": chance.uniform(0, whole.seconds)}
        stopped = forked(lambda: run(KEPT), number=number, **at)
        tally["kills" if number == signal.SIGKILL else "signals"] += 1
        tally[f"ended with {os.waitstatus_to_exitcode(stopped.status)}"] += 1
        now = rows_there(model, x)
        if (there & ~now).any():
            return "lost rows"
        tally["stopped with some of the rows"] += bool(stopped.status and 0 < now.sum() < len(x))
        there = now
    done = forked(lambda: run(KEPT))
    left = [path.name for path in Path("rows").iterdir() if path.name.startswith(".")]
    shutil.rmtree("rows")
    if done.status or content(("out",)) != expected:
        return f"other bits: {done.said}"
    if left:
        return f"left {left}"
    n_forwards = json.loads(done.said)["n_forwards"]
    return "" if n_forwards == (~there).sum() else f"{n_forwards} for {(~there).sum()} missing"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for number in STOPS:  # as __main__ has it while modules are imported
        signal.signal(number, leave)
    chance = np.random.default_rng(options.seed)
    tally: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    slowly()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        if forked(set_up).status:
            sys.exit("the files to start from could not be made")
        while tally["kills"] < options.kills:
            count = min(options.kills - tally["kills"], int(chance.integers(1, MOST_STOPS)))
            fault = try_run(count, chance, tally)
            faults[fault] += bool(fault)
        os.chdir("/")
    print(json.dumps({"counts": tally, "faults": +faults}, indent=1))


if __name__ == "__main__":
    main()
