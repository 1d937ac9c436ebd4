"""A service from the first quiet sample to an adapted model, on recorded fans: docs/serve.md.

    python bench/field.py --data ../shared/data [--trials 4] [--json]

A network is pre-trained in the quiet room anew in each trial. Of another day there, one sample in
two tells what is normal, and the others may raise no alarm. Then come the 470 of the noisy room:
first 20 labels are asked for, then 10 at a time, and one answer in twenty is wrong. Accuracy is
that of another recording of the noisy room. "In order", samples come as they were recorded and
labels as they come; the lowest accuracy beside the base at any time is told.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import skip2lora as s2
from harness import environment
from skip2lora.datasets import fan
from skip2lora.paper.protocol import TASKS, load_split, pretrained
from skip2lora.training.lab_set import LabSet

WRONG, AT = 0.05, (20, 40, 80, 120)
STEP = 47  # samples that come in order before labels are given
LAB = (0, 10, 30)


def taught(served: s2.Service, truth: dict[int, str], random: np.random.Generator) -> Iterator[int]:
    """Answer what is asked for, one batch a step, and learn; the number of labels."""
    while asked := served.ask():
        for id in asked:
            answer = truth[id]
            if random.random() < WRONG:
                answer = str(random.choice([name for name in fan.CLASS_NAMES if name != answer]))
            served.label(id, answer)
        served.learn()
        yield served.status()["n_labels"]


def trial(task: str, seed: int, data: Path, n_lab: int, *, in_order: bool) -> dict[str, Any]:
    """One life of a service, in a folder that goes at its end."""
    split, random = load_split(task, data), np.random.default_rng(seed)
    model = pretrained(split, TASKS[task], seed).named(fan.CLASS_NAMES)
    folder = data / "cooling-fan"
    quiet = fan.load_pair(
        *(folder / f"{fan.RECORDINGS}{of}_silentA_2.zip" for of in ("normal", task))
    )
    lab = LabSet.of(model, split.pretrain.x, split.pretrain.y, n_lab) if n_lab else False
    x, y = split.finetune.x, split.finetune.y
    order = np.arange(len(x)) if in_order else random.permutation(len(x))
    test = np.array(fan.CLASS_NAMES)[split.test.y]
    result: dict[str, Any] = {}

    def accuracy() -> float:
        return float(100 * np.mean(served.model.predict(split.test.x) == test))

    with (
        tempfile.TemporaryDirectory() as store,
        s2.Service(
            model, store, lab_set=lab, learning=False, seed=seed,
            limits=s2.Limits(learn=len(quiet.x) // 2),
        ) as served,
    ):  # fmt: skip
        result["base"] = lowest = accuracy()
        truth, first = {}, 0  # of the quiet room too: a change may be dated a few samples early
        for at in np.argsort(np.arange(len(quiet.x)) % 2, kind="stable"):
            (id,) = served.predict(quiet.x[at][None]).ids
            truth[id] = fan.CLASS_NAMES[quiet.y[at]]
        result["false_alarms"] = int(served.drift.alarm)
        for part in np.array_split(order, len(order) // STEP if in_order else 1):
            for at in part:
                (id,) = served.predict(x[at][None]).ids
                first, truth[id] = first or id, fan.CLASS_NAMES[y[at]]
                if served.drift.alarm and "delay" not in result:
                    result["delay"] = served.drift.alarm_at - first + 1
            for n_labels in taught(served, truth, random):
                now = accuracy()
                lowest = min(lowest, now)
                result |= {str(n): now for n in AT if n <= n_labels and str(n) not in result}
                if in_order or n_labels >= AT[-1]:
                    break
        result["below_base"] = lowest - result["base"]
        result["versions"] = served.version
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # few labels, on purpose
    lines = []
    for in_order in (False, True):
        for task in ("damage1", "damage2"):
            for n_lab in LAB:
                runs = [
                    trial(task, seed, asked.data, n_lab, in_order=in_order)
                    for seed in range(asked.trials)
                ]
                lines.append({"task": task, "lab": n_lab, "in_order": in_order, "runs": runs})
                if not asked.json:
                    print(_line(lines[-1]), flush=True)
    if asked.json:
        print(json.dumps({"environment": environment(), "lines": lines}))


def _line(of: dict[str, Any]) -> str:
    """Means over the trials, and the worst where that counts."""
    runs = of["runs"]
    means = [np.mean([run.get(str(n), np.nan) for run in runs]) for n in AT]
    delays = [run.get("delay") for run in runs]
    return (
        f"{of['task']} {'in order' if of['in_order'] else 'shuffled'} lab {of['lab']}: "
        f"base {np.mean([run['base'] for run in runs]):.1f} "
        + " ".join(f"{n}: {mean:.1f}" for n, mean in zip(AT, means, strict=True))
        + f" false alarms {sum(run['false_alarms'] for run in runs)} delays {delays} "
        f"lowest {min(run['below_base'] for run in runs):+.1f}"
    )


if __name__ == "__main__":
    main()
