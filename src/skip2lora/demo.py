"""The demonstration: a simulated fan monitor moves from a silent room to a noisy one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from skip2lora.adapt import adapt
from skip2lora.adapted import AdaptedModel, NewlyAdapted
from skip2lora.backbones.mlp import MLP
from skip2lora.data.samples import Samples
from skip2lora.datasets import Split, simulated
from skip2lora.drawing import new_figure, png
from skip2lora.files import make_folder, write_bytes
from skip2lora.training.loop import Callback, EpochReport
from skip2lora.training.pretraining import pretrain

HIDDEN = (96, 96)
PRETRAIN_EPOCHS = 100
ADAPT_EPOCHS = 300
METHODS = {"lora-last": "last layer only", "skip2-lora": "Skip2-LoRA"}


@dataclass(frozen=True, eq=False)
class DemoResult:
    """Accuracies are shares of the test samples of the noisy room, unless said otherwise.

    ``curves[method]`` is the accuracy before training and after each epoch.
    """

    split: Split
    model: MLP
    silent_accuracy: float
    noisy_accuracy: float
    adapted: Mapping[str, NewlyAdapted]
    accuracy: dict[str, float]
    curves: dict[str, list[float]]


def run_demo(*, seed: int = 0, callback: Callback | None = None) -> DemoResult:
    """Pre-train in the silent room, fall in the noisy one, adapt with two methods.

    ``callback`` follows the pre-training. The curves come from a second, equal run, so that
    scoring each epoch does not blur the measured times.
    """
    split = simulated.make_task(seed=seed)
    x, y = split.pretrain.x, split.pretrain.labels
    test = split.test
    names = split.pretrain.class_names or ()
    fresh = MLP.create([x.shape[1], *HIDDEN, len(names)], seed=seed, class_names=names)
    model = pretrain(
        fresh, x, y, epochs=PRETRAIN_EPOCHS, seed=seed, standardize=False, callback=callback
    )  # as in the paper
    adapted, accuracy, curves = {}, {}, {}
    before = model.score(test.x, test.labels)
    for method in METHODS:
        field = (split.finetune.x, split.finetune.labels)
        adapted[method] = adapt(model, *field, method=method, epochs=ADAPT_EPOCHS, seed=seed)
        accuracy[method] = adapted[method].score(test.x, test.labels)
        curve = [before]
        follow = _scorer(curve, model, method, test)
        adapt(model, *field, method=method, epochs=ADAPT_EPOCHS, seed=seed, callback=follow)
        curves[method] = curve
    return DemoResult(split, model, model.score(x, y), before, adapted, accuracy, curves)


def _scorer(curve: list[float], model: MLP, method: str, test: Samples) -> Callback:
    def follow(report: EpochReport) -> None:
        now = AdaptedModel(model, report.result(), method)
        curve.append(now.score(test.x, test.labels))

    return follow


def draw_curve(result: DemoResult, path: str | os.PathLike[str]) -> None:
    """Draw test accuracy against epochs as a PNG; its folder is made if need be.

    Raises:
        MissingExtraError: matplotlib is not installed.
        FileError: the system refused.
    """
    figure = new_figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for method, color in zip(METHODS, ("#b0722a", "#1f5fa8"), strict=True):
        curve = [100 * value for value in result.curves[method]]
        axes.plot(range(len(curve)), curve, color=color, label=METHODS[method])
    axes.axhline(
        100 * result.noisy_accuracy, color="0.5", linestyle="--", linewidth=1, label="no adaptation"
    )
    axes.set_xlabel("epochs of adaptation")
    axes.set_ylabel("accuracy in the noisy room (%)")
    axes.set_xlim(0, ADAPT_EPOCHS)
    lowest = min(min(curve) for curve in result.curves.values())
    axes.set_ylim(100 * lowest - 12, 101)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    make_folder(Path(path).parent)
    write_bytes(path, png(figure, dpi=150))
