"""What a merged adapter is worth where each device has seen few classes: docs/fleet.md.

    python bench/fleet.py --data ../shared/data [--trials 5] [--recipe auto] [--json]

Ten devices have 47 noisy samples each, whose classes are drawn from a Dirichlet distribution
(alpha .3); each adapts alone, all are merged. The network is pre-trained in the quiet room anew in
each trial; accuracies are those of the test recording of the noisy room. Devices that cannot
adapt, as all their samples are of one class, take no part. Needs the recordings (docs/paper.md).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

import skip2lora as s2
from harness import environment
from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.paper.protocol import TASKS, load_split, pretrained

DEVICES, LABELS, ALPHA = 10, 47, 0.3


def accuracy(model: s2.AdaptedModel | s2.Backbone, x: np.ndarray, y: np.ndarray) -> float:
    return float(100 * np.mean(model.logits(x).argmax(axis=1) == y))


def draw(y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Samples of one device: of each class a share of its own."""
    classes = random.choice(3, size=LABELS, p=random.dirichlet([ALPHA] * 3))
    return np.array([random.choice(np.flatnonzero(y == label)) for label in classes])


def mean_of_matrices(each: list[s2.AdaptedModel]) -> s2.AdaptedModel | None:
    """What others average: lora_a and lora_b apart; None where taps differ."""
    adapters = [of.adapters for of in each]
    if any(not isinstance(a, SkipAdapters) for a in adapters):
        return None
    widths = {tuple(len(a) for a in of.lora_a) for of in adapters}
    if len(widths) > 1 or len({of.rank for of in adapters}) > 1:
        return None
    pairs = [
        tuple(np.mean(of, axis=0) for of in zip(*(getattr(a, name) for a in adapters), strict=True))
        for name in ("lora_a", "lora_b")
    ]
    biases = [of.bias for of in adapters]
    bias = None if biases[0] is None else np.mean(biases, axis=0)
    merged = SkipAdapters(pairs[0], pairs[1], adapters[0].first_tap, bias)
    return replace(each[0], adapters=merged)


def trial(task: str, seed: int, data: Path, recipe: str) -> dict[str, float]:
    split = load_split(task, data)
    random = np.random.default_rng(seed)
    x, y, test = split.finetune.x, split.finetune.labels, split.test
    base = pretrained(split, TASKS[task], seed)
    each: list[s2.AdaptedModel] = []
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for device in range(DEVICES):
            rows = draw(y, random)
            if len(set(y[rows])) > 1:
                each.append(s2.adapt(base, x[rows], y[rows], recipe=recipe, seed=device))
                paths.append(Path(folder, str(device)))
                each[-1].save(paths[-1])
        s2.merge(paths, Path(folder, "all"))
        merged = s2.AdaptedModel.load(base, Path(folder, "all"))
    alone = [accuracy(of, test.x, test.labels) for of in each]
    matrices = mean_of_matrices(each)
    return {
        "devices": len(each),
        "base": accuracy(base, test.x, test.labels),
        "alone": float(np.mean(alone)),
        "worst": min(alone),
        "matrices": np.nan if matrices is None else accuracy(matrices, test.x, test.labels),
        "merged": accuracy(merged, test.x, test.labels),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task", choices=("damage1", "damage2"), default="damage1")
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--recipe", choices=("auto", "paper"), default="auto")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    trials = [trial(asked.task, n, asked.data, asked.recipe) for n in range(asked.trials)]
    means = {name: float(np.mean([each[name] for each in trials])) for name in trials[0]}
    if asked.json:
        print(
            json.dumps(
                {**environment(), **vars(asked), "trials": trials, "mean": means}, default=str
            )
        )
        return
    for name, value in means.items():
        spread = [each[name] for each in trials]
        print(f"{name:10} {value:6.1f}  ({min(spread):.1f} to {max(spread):.1f})")


if __name__ == "__main__":
    main()
