"""What users write: no type checker may complain (tools/check_types.py). Nothing runs it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, assert_type

import numpy as np
import torch
from numpy.typing import NDArray

import skip2lora as s2
from skip2lora.datasets import simulated
from skip2lora.plan import Plan, plan
from skip2lora.sklearn import Skip2LoRAClassifier, Skip2LoRARegressor


class Forward(s2.Backbone):
    def forward(self, x: NDArray[np.float32]) -> s2.Taps:
        return s2.Taps((x,), x[:, :3])


class OfClass(Forward):
    tap_widths: tuple[int, ...] = (4,)
    n_outputs: int = 3
    fingerprint: str = "sha256:0"


class OfClassVar(Forward):
    tap_widths: ClassVar[tuple[int, ...]] = (4,)
    n_outputs: ClassVar[int] = 3
    fingerprint: ClassVar[str] = "sha256:0"


class OfInstance(Forward):
    tap_widths: tuple[int, ...]
    n_outputs: int
    fingerprint: str

    def __init__(self, width: int) -> None:
        self.tap_widths, self.n_outputs = (width,), 3
        self.fingerprint = "sha256:0"


class Properties(Forward):
    @property
    def tap_widths(self) -> tuple[int, ...]:
        return (4,)

    @property
    def n_outputs(self) -> int:
        return 3

    @property
    def fingerprint(self) -> str:
        return "sha256:0"


class Cached(Forward):
    @cached_property
    def tap_widths(self) -> tuple[int, ...]:
        return (4,)

    @cached_property
    def n_outputs(self) -> int:
        return 3

    @cached_property
    def fingerprint(self) -> str:
        return "sha256:0"

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        return ("a", "b", "c")


@dataclass(eq=False)
class Fields(Forward):
    tap_widths: tuple[int, ...]
    n_outputs: int
    fingerprint: str
    path: str | Path | None = None


@dataclass(frozen=True, eq=False)
class FrozenFields(Forward):
    tap_widths: tuple[int, ...]
    n_outputs: int
    fingerprint: str = "sha256:0"


def models() -> list[s2.Backbone]:
    return [
        OfClass(), OfClassVar(), OfInstance(4), Properties(), Cached(),
        Fields((4,), 3, "sha256:0"), FrozenFields((4,), 3),
        s2.MLP.create([4, 3]), s2.load("model.onnx", taps=2, size=(224, 224)),
        s2.load(Path("model.tflite"), taps=["/fc*"], class_names=("a", "b", "c")),
        s2.TorchBackbone(torch.nn.Linear(4, 3), example=np.zeros((1, 4))),
    ]  # fmt: skip


def adapting(X: NDArray[np.float32], y: NDArray[np.int64]) -> None:
    for model in models():
        adapted = s2.adapt(model, X, y, epochs=3, validation=0.2, patience=1)
        print(adapted.timing, adapted.timing.total_ms, adapted.history.best_epoch)
        print(adapted.fit.after.overall if adapted.fit else "no rows were kept")
        assert_type(adapted.score(X, y), float)
        assert_type(adapted.predict_proba(X), NDArray[np.float32])
        adapted.save(Path("adapter"))
        again: s2.AdaptedModel = s2.AdaptedModel.load(model, "adapter")
        print(again.predict(X), None if again.timing is None else again.timing.training_ms)


def kinds_of_samples(model: s2.Backbone) -> None:
    s2.adapt(model, [[1, 2, 3, 4]], [0])
    s2.adapt(model, {"ids": np.zeros((2, 8)), "mask": [[1] * 8] * 2}, ["calm", "glad"])
    s2.adapt(model, [np.zeros((2, 8)), np.ones((2, 8))], np.array(["calm", "glad"]))
    s2.adapt(model, (np.zeros((2, 8)), np.ones((2, 8))), [[0.5], [1.5]], task="regression")
    model.predict([[1, 2, 3, 4]])


def others() -> None:
    lab, field, test = simulated.make_task(seed=0)
    model = s2.pretrain(s2.MLP.create([256, 3]), lab.x, lab.y, epochs=2)
    assert_type(model, s2.MLP)
    assert_type(plan(model, field.x), Plan)
    print(plan(model, n_samples=9).memory.peak_bytes, len(test.y))
    classifier = Skip2LoRAClassifier(model, epochs=2).fit(field.x, field.y)
    print(classifier.partial_fit(test.x, test.y).adapted_.timing.total_ms)
    print(Skip2LoRARegressor(hidden=[8]).fit([[1], [2]], [0.5, 1]).predict([[3]]))
    try:
        s2.load("model.onnx")
    except s2.Skip2LoraError as error:
        print(error)
