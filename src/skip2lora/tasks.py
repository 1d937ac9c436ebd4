"""What is learned: one class of several, several classes at once, or numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora import _core
from skip2lora.errors import DataError, ParameterError
from skip2lora.samples import check_labels, real_array


@dataclass(frozen=True)
class Task:
    """``loss`` is that of the core; ``targets`` says whether it takes numbers, not labels."""

    name: str
    loss: int
    targets: bool


@dataclass(frozen=True)
class Goal:
    """What skip adapters are to learn, and how.

    ``n_outputs`` is None for those of the model; more make room for new classes. With
    ``standardize`` the taps are scaled to mean 0 and deviation 1 while training.
    """

    task: Task
    n_outputs: int | None = None
    standardize: bool = False

    @property
    def bias(self) -> bool:
        """Whether there is a bias: the paper has none, scaled taps and new classes need one."""
        return self.standardize or self.n_outputs is not None or self.task.targets


TASKS = {
    task.name: task
    for task in (
        Task("classification", _core.SOFTMAX, targets=False),
        Task("multi-label", _core.SIGMOID, targets=True),
        Task("regression", _core.SQUARED, targets=True),
    )
}
CLASSIFICATION = TASKS["classification"]


#: The paper's: labels the model knows, taps as they are.
PLAIN = Goal(CLASSIFICATION)


def find_task(name: str) -> Task:
    """The task of that name.

    Raises:
        ParameterError: there is none.
    """
    if name not in TASKS:
        raise ParameterError(f"task is {name!r}, expected one of {', '.join(TASKS)}")
    return TASKS[name]


def check_answers(
    task: Task, y: ArrayLike | None, n_samples: int, n_outputs: int
) -> NDArray[np.int32] | NDArray[np.float32]:
    """What the samples should give: labels (samples,), or targets (samples, n_outputs).

    Multi-label targets are 0 or 1, one column a class. Targets of a model with one output may be
    (samples,).

    Raises:
        DataError: another shape or length, NaN, a label or target out of range.
    """
    if not task.targets:
        return check_labels(y, n_samples, n_outputs)
    if y is None:
        raise DataError(f"y is None, expected {n_outputs} numbers a sample: pass the targets")
    targets = real_array(y, "y")
    if targets.ndim == 1 and n_outputs == 1:
        targets = targets.reshape(-1, 1)
    if targets.shape != (n_samples, n_outputs):
        raise DataError(
            f"y has shape {targets.shape}, expected ({n_samples}, {n_outputs}) for {task.name}: "
            "one row a sample, one column an output"
        )
    values = np.ascontiguousarray(targets, np.float32)
    good = np.isfinite(values)
    if task is TASKS["multi-label"]:
        good = (values == 0) | (values == 1)
    if not good.all():
        row, column = (int(i) for i in np.argwhere(~good)[0])
        wanted = "0 or 1" if task is TASKS["multi-label"] else "a finite number"
        raise DataError(
            f"y has {targets[row, column]} at row {row}, column {column} (from 0), "
            f"expected {wanted}: correct it"
        )
    return values


def mean_loss(
    task: Task, outputs: NDArray[np.float32], answers: NDArray[np.int32] | NDArray[np.float32]
) -> float:
    """The loss that training makes small, over checked answers, in double precision."""
    values = outputs.astype(np.float64)
    if not task.targets:
        values -= values.max(axis=1, keepdims=True)
        own = values[np.arange(len(answers)), answers]
        return float((np.log(np.exp(values).sum(axis=1)) - own).mean())
    if task.name == "regression":
        return float(0.5 * ((values - answers) ** 2).sum(axis=1).mean())
    return float((np.logaddexp(0, values) - values * answers).sum(axis=1).mean())
