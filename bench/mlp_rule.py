"""Adapts the paper's networks by recipe="auto"; writes mlp_rule.json and docs/mlp-rule.md.

    python bench/mlp_rule.py --data DIR [--trials 20] [--networks DIR] [--json]

Fan and HAR by the paper's protocol (docs/paper.md), each trial from a network of its own seed,
which is kept in the folder `--networks` if one is named. The old domain of the fan is a further
recording of the quiet room, silentA_2, which is in no other part; that of HAR are 1,500 rows of the
persons that the network was trained on.
"""

from __future__ import annotations

import harness  # first: one thread

# isort: split
import argparse
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import mlp_rule_page
import skip2lora as s2
import text
from skip2lora.datasets import LabelledSamples, Split, fan
from skip2lora.errors import ForgettingWarning
from skip2lora.paper.protocol import TASKS, load_split, pretrained
from skip2lora.training.lab_set import LabSet

RESULTS = Path(__file__).resolve().parent / "mlp_rule.json"
LAB_SET = 10  # samples a class
OLD_ROWS = 1500


def network(task: str, split: Split, seed: int, folder: Path) -> s2.MLP:
    """As the paper pre-trains it: the same numbers for the same seed."""
    file = folder / f"{task}-{seed}.safetensors"
    if not file.exists():
        pretrained(split, TASKS[task], seed).save(file)
    return s2.MLP.load(file)


def old_domain(task: str, split: Split, data: Path) -> LabelledSamples:
    """Samples of the domain that the network was trained on."""
    if task != "har":
        folder = data / "cooling-fan" if (data / "cooling-fan").is_dir() else data
        return fan.load_pair(
            *(folder / f"12cm_hmlo_{state}_silentA_2.zip" for state in ("normal", task))
        )
    places = np.linspace(0, len(split.pretrain.x) - 1, OLD_ROWS).astype(int)
    return LabelledSamples(split.pretrain.x[places], split.pretrain.labels[places])


def trial(
    task: str, split: Split, old: LabelledSamples, model: s2.MLP, seed: int
) -> dict[str, list[float]]:
    """Accuracy on test samples, on the old domain, and as printed by samples held out."""
    x, y = split.finetune.x, split.finetune.labels
    lab_set = LabSet.of(model, split.pretrain.x, split.pretrain.labels, LAB_SET, seed=seed)
    ways: dict[str, dict[str, Any]] = {
        "paper": {"recipe": "paper", "epochs": TASKS[task].epochs},
        "auto": {"recipe": "auto"},
        "auto, lab set": {"recipe": "auto", "keep": lab_set},
        "auto, lab set once": {"recipe": "auto", "keep": lab_set, "keep_weight": 1.0},
    }
    made = {
        "before": [model.score(split.test.x, split.test.labels), model.score(old.x, old.labels)]
    }
    for name, options in ways.items():
        adapted = s2.adapt(model, x, y, seed=seed, **options)
        scores = [adapted.score(split.test.x, split.test.labels), adapted.score(old.x, old.labels)]
        held_out = adapted.history.held_out
        made[name] = scores if held_out is None else [*scores, held_out.value]
    return made


def measure(task: str, data: Path, trials: int, folder: Path) -> dict[str, Any]:
    """All trials of a task: for each way lists of new, old and held-out accuracy."""
    split = load_split(task, data)
    old = old_domain(task, split, data)
    of_trials = [
        trial(task, split, old, network(task, split, seed, folder), seed) for seed in range(trials)
    ]
    kinds = ("new", "old", "held out")
    ways = {
        name: {
            kind: [round(float(of[name][at]), 6) for of in of_trials]
            for at, kind in enumerate(kinds[: len(of_trials[0][name])])
        }
        for name in of_trials[0]
    }
    return {"environment": harness.environment(), "ways": ways}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--networks", type=Path)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore", ForgettingWarning)
    with tempfile.TemporaryDirectory() as beside:
        folder = asked.networks or Path(beside)
        folder.mkdir(parents=True, exist_ok=True)
        results = {task: measure(task, asked.data, asked.trials, folder) for task in TASKS}
    text.write_text(RESULTS, text.compact(results))
    mlp_rule_page.main()
    print(json.dumps(results) if asked.json else RESULTS.read_text())


if __name__ == "__main__":
    main()
