"""Random rows to solve for, and the same columns in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skip2lora import _core
from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.adapters.rows import RowFormat
from skip2lora.tasks.task import TASKS, Task
from skip2lora.training.design import Design
from skip2lora.training.skip_job import Scaling, places_of

LOSS_OF = {"classification": "softmax", "multi-label": "sigmoid", "regression": "squared"}


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of two taps or more, far from standard, and answers that depend on them."""

    task: Task
    format: RowFormat
    rows: np.ndarray
    y: np.ndarray

    @classmethod
    def random(
        cls,
        task: str,
        *,
        n_samples: int = 61,
        widths: tuple[int, ...] = (7, 40),
        n_outputs: int = 4,
        n_classes: int = 4,
        base: float = 1.0,
        seed: int = 0,
    ) -> Rows:
        random = np.random.default_rng(seed)
        layout = _core.RowLayout(widths, n_outputs, False)
        row_format = RowFormat(widths, n_outputs, 0, False, layout)
        rows = row_format.empty(n_samples)
        for at, width in places_of(row_format):
            spread = 4 * random.random(width)
            rows[:, at : at + width] = random.normal(3, 2, (n_samples, width)) * spread
        at = layout.logits_offset
        rows[:, at : at + n_outputs] = base * random.normal(0, 1, (n_samples, n_outputs))
        labels = (
            np.argsort(rows[:, 1]) * n_classes // n_samples + random.integers(0, 2)
        ) % n_classes
        y: Any = labels.astype(np.int32)
        if task != "classification":
            y = np.eye(n_outputs, dtype=np.float32)[y]
        if task == "regression":
            y = (50 * y + random.normal(0, 3, y.shape)).astype(np.float32)
        return cls(TASKS[task], row_format, rows, y)

    @property
    def base_logits(self) -> np.ndarray:
        at = self.format.layout.logits_offset
        return self.rows[:, at : at + self.format.n_outputs]

    @property
    def scaling(self) -> Scaling:
        numbers = self.y if self.task.name == "regression" else None
        return Scaling.of(self.format, [self.rows], numbers)

    def columns(self, design: Design, weight: np.ndarray | None = None) -> np.ndarray:
        """The columns z of ``design`` as its definition says, in float64."""
        scaling = design.scaling
        z = (self.rows.astype(np.float64) - scaling.mean) * scaling.scale
        places = places_of(self.format)
        z = np.concatenate([z[:, places[t][0] :][:, : places[t][1]] for t in design.taps], axis=1)
        weight = np.full(len(z), 1 / len(z)) if weight is None else weight
        return z / np.sqrt(weight @ (z**2).sum(axis=1))

    def outputs(self, adapters: SkipAdapters) -> np.ndarray:
        return adapters.logits_from_rows(self.format, self.rows, np.zeros((len(self.rows), 1), "f"))
