"""Accuracy and bytes of projected rows beside whole ones; prints the tables of docs/cache.md.

    python bench/projection.py --data DIR [--seeds 3] [--ranks 4,16] [--only efficientnet]

EfficientNet-lite0 learns the digits of bench/any_model.py; the fan and HAR are by the paper's
protocol. Whole adapters and projected ones are trained alike: by steps as for any model, by the
recipe auto, and the networks by the paper's recipe too.
"""

from __future__ import annotations

import harness  # first: one thread

# isort: split
import argparse
import statistics
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import models
import skip2lora as s2
from any_model import Rows, opened
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.known_rows import KnownRows
from skip2lora.errors import ForgettingWarning
from skip2lora.paper.protocol import TASKS, load_split, pretrained

KINDS = ("pls", "pca", "random")
Sets = tuple[Backbone, Any, Any, Any, Any, dict[str, Any]]


def of_digits(seeds: int, anew: bool) -> Iterator[Sets]:
    """EfficientNet-lite0's rows: every sample passes it once, whatever is compared."""
    make, rows = models.maker("efficientnet"), None
    for seed in range(seeds):
        job = make(seed)
        if rows is None:
            model = opened(job)
            rows = Rows(model)
        known = KnownRows(model.tap_widths, model.n_outputs, rows.format.layout)
        options = {"keep_outputs": False} if anew else job.options
        yield known, rows.of(job.x)[0], job.y, rows.of(job.test_x)[0], job.test_y, options


def of_task(task: str, data: Path, seeds: int) -> Iterator[Sets]:
    """The paper's network for each seed."""
    split = load_split(task, data)
    for seed in range(seeds):
        model = pretrained(split, TASKS[task], seed)
        fine, test = split.finetune, split.test
        yield model, fine.x, fine.labels, test.x, test.labels, {}


def ways(name: str) -> dict[str, dict[str, Any]]:
    """Recipes that are compared."""
    several: dict[str, dict[str, Any]] = {"steps": {"solver": "steps"}, "auto": {"recipe": "auto"}}
    if name in TASKS:
        several |= {"paper": {"recipe": "paper", "epochs": TASKS[name].epochs}}
        several["steps"] = {"optimizer": "adam", "learning_rate": 0.001, "standardize": True}
    return several


def projections(ranks: list[int]) -> dict[str, dict[str, Any]]:
    """Whole rows, and what may be kept of them."""
    of = {f"{kind} {rank}": (rank, kind) for kind in KINDS for rank in ranks}
    named = {name: {"projection": n, "projection_from": kind} for name, (n, kind) in of.items()}
    return {"whole": {}, **named}


def measure(name: str, sets: Iterator[Sets], ranks: list[int]) -> None:
    scores: dict[tuple[str, str], list[float]] = {}
    n_bytes: dict[str, float] = {}
    for seed, (model, x, y, test_x, test_y, fixed) in enumerate(sets):
        for way, options in ways(name).items():
            for kind, of in projections(ranks).items():
                adapted = s2.adapt(model, x, y, seed=seed, **options, **of, **fixed)
                scores.setdefault((way, kind), []).append(adapted.score(test_x, test_y))
                if way == "steps":
                    n_bytes[kind] = adapted.cache_bytes / len(y)
        print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
    print(f"\n{name}: accuracy in %, mean of seeds\n")
    print("| | bytes a sample |", " | ".join(ways(name)), "|")
    print("|---" * (2 + len(ways(name))) + "|")
    for kind in projections(ranks):
        each = [f"{100 * statistics.mean(scores[way, kind]):.2f}" for way in ways(name)]
        print(f"| {kind} | {n_bytes[kind]:,.0f} |", " | ".join(each), "|", flush=True)


def main() -> None:
    warnings.simplefilter("ignore", ForgettingWarning)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ranks", default="4,16", help="with commas")
    parser.add_argument("--only", nargs="+", default=["efficientnet", "efficientnet-anew", *TASKS])
    arguments = parser.parse_args()
    ranks = [int(rank) for rank in arguments.ranks.split(",")]
    print(harness.environment(), file=sys.stderr)
    for name in arguments.only:
        seeds = arguments.seeds
        digits = {"efficientnet": False, "efficientnet-anew": True}
        own = name not in digits
        sets = of_task(name, arguments.data, seeds) if own else of_digits(seeds, digits[name])
        measure(name, sets, ranks)


if __name__ == "__main__":
    main()
