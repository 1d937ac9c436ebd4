"""Whole fine-tunings as called from Python: against LoRA-All, and in milliseconds.

    python bench/finetuning.py [--rounds 5] [--data DIR] [--quick] [--json]

Everything is included: checks of the arguments, cache fill, every epoch, the copy of the result.
"Within a point" is the first epoch whose test accuracy is within one point of the last epoch's,
found in a run of its own; the time is what passed in a later run from the call to that epoch's end.
Of the quickest way there, Adam on standardised taps, it is the median of many runs, each from
checked samples on: checks of the arguments are left out, the fill is not.
"""

from __future__ import annotations

import harness  # first: one thread

# isort: split
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import skip2lora as s2
from harness import BATCH, NETS, RANK, Net, Side
from skip2lora.adapted import AdaptedModel
from skip2lora.backbones.recipe import PAPER
from skip2lora.datasets import Split
from skip2lora.training.costs import method_costs
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import Callback, EpochReport, train
from skip2lora.training.options import resolve_options
from skip2lora.training.watch import Watch

LEAST_REDUCTION, MOST_ADAPT_MS, MOST_WITHIN_MS, MOST_QUICK_MS = 0.90, 30.0, 5.0, 1.0
QUICK = {"optimizer": "adam", "learning_rate": 0.003, "standardize": True, "epochs": 30}
QUICK_RUNS = 51


def reduction(net: Net, rounds: int, *, quick: bool) -> dict[str, Any]:
    """How much less time Skip2-LoRA takes than our own LoRA-All, all epochs."""
    x, y = harness.random_data(net)
    model = s2.pretrain(s2.MLP.create(net.widths), x, y, epochs=2)
    epochs = 3 if quick else net.epochs

    def adapt(method: str) -> Side:
        return Side(lambda: s2.adapt(model, x, y, method=method, rank=RANK, epochs=epochs))

    sides = {method: adapt(method) for method in ("lora-all", "skip2-lora")}
    took = harness.in_turn(sides, rounds=rounds, seconds=0.0)
    # Operations are linear in the samples, so that all of them are one batch here.
    costs = method_costs(net.widths, batch=net.n_samples, rank=RANK, epochs=epochs)
    operations = {name: epochs * costs[name].operations for name in sides}
    pairs = zip(took["skip2-lora"], took["lora-all"], strict=True)
    return {
        "epochs": epochs,
        "n_samples": net.n_samples,
        "ms": {name: harness.spread(of, 1e3) for name, of in took.items()},
        "gflops": {
            name: round(operations[name] / statistics.median(of) / 1e9, 1)
            for name, of in took.items()
        },
        "reduction": harness.spread([1 - fast / slow for fast, slow in pairs]),
        "reduction_by_operations": round(1 - operations["skip2-lora"] / operations["lora-all"], 4),
    }


def required_epochs(model: s2.MLP, split: Split, **options: Any) -> tuple[int, float]:
    """The first epoch within a point of the last one's test accuracy, and that accuracy."""
    scores: list[float] = []

    def score(report: EpochReport) -> None:
        now = AdaptedModel(model, report.result(), "skip2-lora")
        scores.append(now.score(split.test.x, split.test.labels))

    s2.adapt(model, split.finetune.x, split.finetune.labels, callback=score, **options)
    return within(scores), scores[-1]


def within(scores: list[float], points: float = 0.01) -> int:
    """The first epoch, from 1, that comes so close to the last."""
    return next(n for n, score in enumerate(scores, 1) if score >= scores[-1] - points)


def time_to_epoch(call: Callable[[Callback], object], epoch: int) -> float:
    """Seconds from the call to the end of that epoch, in a call for all epochs."""
    ended = 0.0

    def follow(report: EpochReport) -> None:
        nonlocal ended
        if report.epoch == epoch:
            ended = time.perf_counter()

    start = time.perf_counter()
    call(follow)
    return ended - start


def quick_way(model: s2.MLP, split: Split, seed: int) -> tuple[float, int, float]:
    """Seconds to within a point of the last epoch, that epoch, and the accuracy after all."""
    epoch, score = required_epochs(model, split, seed=seed, **QUICK)
    part = CheckedSamples(split.finetune.x, split.finetune.labels.astype(np.int32))
    options = resolve_options(PAPER, model.tap_widths, len(part.x), seed=seed, **QUICK)

    def call(callback: Callback) -> object:
        return train(model, part, options, watch=Watch(callback))

    took = [time_to_epoch(call, epoch) for _ in range(QUICK_RUNS)]
    return statistics.median(took), epoch, score


def front_door(arguments: Any) -> dict[str, Any]:
    """``adapt`` as called, and to within a point, of one network a seed."""
    epochs = 5 if arguments.quick else 300
    whole, to_epoch, required, before, after, quick = [], [], [], [], [], []
    for seed in range(arguments.rounds):
        task, split = harness.task(arguments.data, seed)
        model = harness.pretrained(split, seed, quick=arguments.quick)
        epoch, score = required_epochs(model, split, seed=seed, epochs=epochs)
        x, y = split.finetune.x, split.finetune.labels
        call = partial(s2.adapt, model, x, y, epochs=epochs, seed=seed)
        whole += harness.in_turn({"": Side(call)}, rounds=1, seconds=0.0)[""]
        to_epoch.append(time_to_epoch(lambda follow: call(callback=follow), epoch))  # noqa: B023
        quick.append(quick_way(model, split, seed))
        required.append(epoch)
        before.append(model.score(split.test.x, split.test.labels))
        after.append(score)
    return {
        "task": task,
        "n_samples": len(x),
        "epochs": epochs,
        "seeds": arguments.rounds,
        "adapt_ms": harness.spread(whole, 1e3),
        "within_a_point_ms": harness.spread(to_epoch, 1e3),
        "within_a_point_epochs": harness.spread(required),
        "accuracy_before": harness.spread(before),
        "accuracy_after": harness.spread(after),
        "quick_ms": harness.spread([seconds for seconds, _, _ in quick], 1e3),
        "quick_epochs": harness.spread([epoch for _, epoch, _ in quick]),
        "quick_accuracy": harness.spread([score for _, _, score in quick]),
    }


def measure(arguments: Any) -> dict[str, Any]:
    nets = {net.name: reduction(net, arguments.rounds, quick=arguments.quick) for net in NETS}
    door = front_door(arguments)
    epochs, task = door["epochs"], door["task"]
    return {
        "versions": {"numpy": np.__version__},
        "threads": {"skip2lora": 1},
        "nets": nets,
        "front_door": door,
        "targets": [
            *(
                harness.target(
                    f"{net}: share of LoRA-All's time that Skip2-LoRA saves, {of['epochs']} epochs",
                    of["reduction"]["median"],
                    LEAST_REDUCTION,
                )
                for net, of in nets.items()
            ),
            harness.target(
                f"adapt, {door['n_samples']} samples, {epochs} epochs, {task} (ms)",
                door["adapt_ms"]["median"], MOST_ADAPT_MS, at_least=False,
            ),
            harness.target(
                f"adapt to within a point of the final accuracy, {task} (ms)",
                door["within_a_point_ms"]["median"], MOST_WITHIN_MS, at_least=False,
            ),
            harness.target(
                "checked samples to within a point of the final accuracy, standardised taps and "
                f"Adam, {task} (ms)",
                door["quick_ms"]["median"], MOST_QUICK_MS, at_least=False,
            ),
        ],
    }  # fmt: skip


def lines(result: dict[str, Any]) -> list[str]:
    made = []
    for net, of in result["nets"].items():
        made.append(f"{net}: {of['n_samples']} samples, {of['epochs']} epochs, batch {BATCH}")
        made += [
            f"  {name:<12} {harness.shown(ms, 'ms')}, {of['gflops'][name]:.1f} GFLOP/s"
            for name, ms in of["ms"].items()
        ]
        value = of["reduction"]
        made.append(
            f"  less time: {100 * value['median']:.1f} % ({100 * value['smallest']:.1f} to "
            f"{100 * value['largest']:.1f}), by operations alone "
            f"{100 * of['reduction_by_operations']:.1f} %"
        )
    of = result["front_door"]
    adapt, close = of["adapt_ms"], of["within_a_point_ms"]
    made += [
        f"{of['task']}, {of['n_samples']} samples, {of['seeds']} networks; test accuracy "
        f"{100 * of['accuracy_before']['median']:.1f} % before, "
        f"{100 * of['accuracy_after']['median']:.1f} % after",
        f"  adapt, {of['epochs']} epochs: {harness.shown(adapt, 'ms')}",
        f"  within a point of it: {harness.shown(close, 'ms')}, "
        f"epoch {harness.shown(of['within_a_point_epochs'])}",
        "  standardised taps and Adam, from checked samples: "
        f"{harness.shown(of['quick_ms'], 'ms')}, epoch {harness.shown(of['quick_epochs'])}, "
        f"{100 * of['quick_accuracy']['median']:.1f} % after {QUICK['epochs']}",
    ]
    return made


if __name__ == "__main__":
    harness.run(__doc__, measure, lines)
