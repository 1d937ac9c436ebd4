"""Stop `adapt --checkpoint` at random moments and let it go on: it ends with the same bits.

A warm process forks a child for each run, which is stopped by SIGKILL, or by a signal that it
answers with a checkpoint. After a few stops the run is let go on to its end.

    python tests/resuming.py --kills 200
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from itertools import cycle
from pathlib import Path

import numpy as np

from killing import Content, content, forked, names, set_up
from skip2lora.__main__ import STOPS, leave
from skip2lora.cli import run

#: The model, options of training, and seconds between two checkpoints.
RUNS = {
    "adam, samples held out": (
        "m.safetensors", "--epochs 1500 --optimizer adam --validation 0.3 --seed 3", "0.05"
    ),
    "a network": ("m.safetensors", "--method ft-all --epochs 1000 --optimizer momentum", "0.02"),
    "without a cache": ("m.safetensors", "--epochs 1000 --no-cache --schedule cosine", "0.1"),
    "scaled": ("a.onnx", "--epochs 100 --standardize", "0"),
    "old samples beside": ("m.safetensors", "--epochs 1500 --keep lab.npz", "0.01"),
    "exact fits, whose rows are kept": ("a.onnx", "", "1"),
}  # fmt: skip
#: Of a run, before it is let go on to its end.
MOST_STOPS = 4


def ended(words: str) -> tuple[Content, float]:
    """What a run writes that nothing stops, and its seconds."""
    done = forked(lambda: run(words.split()))
    assert done.status == 0, done
    return content(("out",)), done.seconds


def try_run(name: str, stops: list[int], chance: np.random.Generator, tally: Counter[str]) -> str:
    """Stop a run by these signals, one after the other; what is wrong then, if anything."""
    model, training, every = RUNS[name]
    whole = f"adapt {model} field.npz -o out --force {training}"
    resumed = f"{whole} --checkpoint ck --resume --checkpoint-every {every}"
    expected, seconds = ended(whole)
    before = names()
    shutil.rmtree("out")
    for number in stops:
        after = chance.uniform(0, seconds)
        stopped = forked(lambda: run(resumed.split()), number=number, after=after)
        tally["kills" if number == signal.SIGKILL else "signals"] += 1
        tally[f"ended with {os.waitstatus_to_exitcode(stopped.status)}"] += 1
        tally["stopped with a checkpoint"] += stopped.status != 0 and Path("ck").exists()
        if number != signal.SIGKILL and stopped.status:
            code = os.waitstatus_to_exitcode(stopped.status)
            if code != 128 + number:
                return f"{code} after {signal.Signals(number).name}: {stopped.said}"
    result, _ = ended(resumed)
    left = names() - before - {"ck"}
    shutil.rmtree("ck")
    if left:
        return f"left {sorted(left)}"
    return "" if result == expected else "other bits"


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
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        if forked(set_up).status:
            sys.exit("the files to start from could not be made")
        for name in cycle(RUNS):
            count = min(options.kills - tally["kills"], int(chance.integers(1, MOST_STOPS)))
            if not count:
                break
            stops = [*[signal.SIGKILL] * count, *chance.choice(list(STOPS), 1).tolist()]
            fault = try_run(name, chance.permutation(stops).tolist(), chance, tally)
            faults[f"{name}: {fault}"] += bool(fault)
        os.chdir("/")
    print(json.dumps({"counts": tally, "faults": +faults}, indent=1))


if __name__ == "__main__":
    main()
