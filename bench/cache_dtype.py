"""Rows of less precision: accuracy in paired trials, and time of training in a cache and beyond it.

    python bench/cache_dtype.py [--data FOLDER] [--trials 20] [--rounds 15] [--recipe paper]

With the recordings (docs/performance.md says where they are) the paper's training is done for every
dtype on the same pretrained network and the same seed, on Damage1, Damage2 and HAR: accuracy is of
the test part, the difference from float32 a mean over trials with its standard error. Times are CPU
times of an epoch of training by steps, or of an exact fit, the dtypes in turn in every round, as
the median of their ratios to float32 in that round.
"""

from __future__ import annotations

from harness import NETS, random_data  # isort: skip  # first: one thread

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import skip2lora as s2
from skip2lora.adapters.coded import DTYPES
from skip2lora.backbones.base import Backbone, Taps
from skip2lora.datasets import Split, fan, har
from skip2lora.tasks.task import CLASSIFICATION, Goal
from skip2lora.training.exact_job import ExactJob
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.options import resolve_options
from skip2lora.training.skip_job import SkipJob

#: Networks of the three data sets, epochs of pretraining and of fine-tuning.
SETS = {"Damage1": (0, 100, 300), "Damage2": (0, 100, 300), "HAR": (1, 40, 600)}


def split_of(name: str, data: Path) -> Split:
    if name == "HAR":
        return har.load_task(data / "har" / "har.npz")
    return fan.load_task(name.lower(), source=data / "cooling-fan")


def trial(split: Split, name: str, seed: int, recipe: str) -> dict[str, Any]:
    """Accuracies in %, and bytes a row, by dtype."""
    net, pretraining, epochs = SETS[name]
    start = s2.MLP.create(NETS[net].widths, seed=seed)
    lab = split.pretrain
    model = s2.pretrain(start, lab.x, lab.y, epochs=pretraining, seed=seed, standardize=False)
    accuracy, n_bytes = {}, {}
    for dtype in DTYPES:
        asked = {"recipe": recipe, "seed": seed, "cache_dtype": dtype}
        if recipe == "paper":
            asked["epochs"] = epochs
        done = s2.adapt(model, split.finetune.x, split.finetune.y, **asked)
        accuracy[dtype] = 100 * done.score(split.test.x, split.test.y)
        n_bytes[dtype] = (done.cache_bytes + done.cache_overhead_bytes) / len(split.finetune.y)
    return {"accuracy": accuracy, "bytes": n_bytes}


def accuracies(data: Path, n_trials: int, recipe: str) -> Iterator[dict[str, Any]]:
    for name in SETS:
        split = split_of(name, data)
        trials = [trial(split, name, seed, recipe) for seed in range(n_trials)]
        for dtype in DTYPES:
            off = [of["accuracy"][dtype] - of["accuracy"]["float32"] for of in trials]
            spread = statistics.stdev(off) if n_trials > 1 else 0.0
            n_bytes = trials[0]["bytes"]
            yield {
                "data": name, "dtype": dtype, "trials": n_trials, "recipe": recipe,
                "accuracy": statistics.fmean(of["accuracy"][dtype] for of in trials),
                "difference": statistics.fmean(off), "standard_error": spread / n_trials**0.5,
                "bytes": n_bytes[dtype] / n_bytes["float32"],
            }  # fmt: skip


class Random(Backbone):
    """Random taps, a part of one table each, whatever the sample: no forward pass to wait for."""

    fingerprint, n_outputs = "random", 6

    def __init__(self, tap_widths: tuple[int, ...]) -> None:
        self.tap_widths = tap_widths
        random = np.random.default_rng(0)
        self._table = random.standard_normal((256, max(tap_widths)), dtype=np.float32)

    def forward(self, x: np.ndarray) -> Taps:
        taps = tuple(self._table[: len(x), :width] for width in self.tap_widths)
        return Taps(taps, self._table[: len(x), : self.n_outputs])


@dataclass(frozen=True)
class Regime:
    """Rows of random taps, or of a network of the paper; ``solver`` is what is timed."""

    name: str
    n_samples: int
    tap_widths: tuple[int, ...] | int
    solver: str = "steps"
    standardize: bool = False

    def job(self, dtype: str) -> Callable[[], object]:
        """One epoch of steps, or one fit."""
        if isinstance(self.tap_widths, int):
            net = NETS[self.tap_widths]
            x, y = random_data(net)
            model: Backbone = s2.MLP.create(net.widths, seed=0)
        else:
            model = Random(self.tap_widths)
            x = np.zeros((self.n_samples, 1), np.float32)
            y = (np.arange(self.n_samples) % model.n_outputs).astype(np.int32)
        asked: dict[str, Any] = {"cache_dtype": dtype, "solver": self.solver}
        if self.solver == "steps":
            asked |= {"epochs": 1, "batch_size": 20, "standardize": self.standardize}
            asked["optimizer"] = "sgd"
        else:
            asked["penalty"] = 0.01
        options = resolve_options(model.recipe, model.tap_widths, len(x), rank=4, **asked)
        part, goal = CheckedSamples(x, y), Goal(CLASSIFICATION, model.n_outputs)
        if self.solver == "exact":
            exact = ExactJob(model, part, options, goal=goal)
            return lambda: list(exact.path())
        steps = SkipJob(model, part, options, goal=goal)
        return lambda: steps.epoch(1e-4)


REGIMES = (
    Regime("in the cache, 256-96-96-3, 470", 470, 0),
    Regime("in the cache, 561-96-96-6, 1,048", 1048, 1),
    Regime("in the cache, 561-96-96-6, 1,048, scaled taps", 1048, 1, standardize=True),
    Regime("in the cache, exact, 561-96-96-6, 1,048", 1048, 1, "exact"),
    Regime("beyond it, 1,000,000 x 198 narrow", 1_000_000, (96, 96)),
    Regime("beyond it, 6,000 x 34,480 wide", 6000, (34_480,)),
    Regime("beyond it, exact, 20,000 x 2,560", 20_000, (2560,), "exact"),
)


def times(n_rounds: int, dtypes: list[str], only: str) -> Iterator[dict[str, Any]]:
    for regime in REGIMES:
        if only not in regime.name:
            continue
        jobs = {dtype: regime.job(dtype) for dtype in dtypes}
        small = isinstance(regime.tap_widths, int) and regime.solver == "steps"
        took: dict[str, list[float]] = {dtype: [] for dtype in dtypes}
        for number in range(n_rounds + 1):
            for dtype, job in jobs.items():
                began = time.process_time()
                for _ in range(40 if small else 1):
                    job()
                if number:  # the first is for the caches
                    took[dtype].append((time.process_time() - began) / (40 if small else 1))
        for dtype in dtypes:
            pairs = zip(took[dtype], took["float32"], strict=True)
            yield {
                "regime": regime.name, "dtype": dtype, "ms": 1e3 * statistics.median(took[dtype]),
                "ratio": statistics.median(own / of for own, of in pairs),
            }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the recordings; none: no accuracy")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--recipe", choices=("paper", "auto"), default="paper")
    parser.add_argument("--rounds", type=int, default=15, help="of times; 0: none")
    parser.add_argument("--dtypes", nargs="+", default=[*DTYPES])
    parser.add_argument("--only", default="", help="regimes whose name has this")
    given = parser.parse_args()
    if given.data is not None:
        for line in accuracies(given.data, given.trials, given.recipe):
            print(json.dumps(line), flush=True)
    if given.rounds:
        for line in times(given.rounds, given.dtypes, given.only):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
