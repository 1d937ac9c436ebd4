"""What is learned: one class of several, several classes at once, or numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora import _core
from skip2lora.arrays import as_float32, check_labels, real_array
from skip2lora.errors import DataError, ParameterError


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


def task_of_end(*, sigmoid: bool) -> str:
    """The task that the end of a model tells: several labels after a sigmoid, else one class."""
    return "multi-label" if sigmoid else CLASSIFICATION.name


def check_answers(
    task: Task,
    y: ArrayLike | None,
    n_samples: int,
    n_outputs: int,
    *,
    fix: str = "pass one row a sample, one column an output",
) -> NDArray[np.int32] | NDArray[np.float32]:
    """What the samples should give: labels (samples,), or targets (samples, n_outputs).

    Multi-label targets are 0 or 1, one column a class. Targets of a model with one output may be
    (samples,). ``fix`` is what to do about another shape.

    Raises:
        DataError: another shape or length, NaN, a label or target out of range.
    """
    if not task.targets:
        return check_labels(y, n_samples, n_outputs)
    if y is None:
        raise DataError(f"y is None, expected {(n_samples, n_outputs)} for {task.name}: pass them")
    targets = real_array(y, "y")
    if targets.ndim == 1 and n_outputs == 1:
        targets = targets.reshape(-1, 1)
    if targets.shape != (n_samples, n_outputs):
        raise DataError(
            f"y has shape {targets.shape}, expected ({n_samples}, {n_outputs}) for {task.name}: "
            f"{fix}"
        )
    values = as_float32(targets)
    flaw = first_flaw(task, values)
    if flaw is not None:
        row, column, wanted = flaw
        raise DataError(
            f"y has {targets[row, column]} at row {row}, column {column} (from 0), "
            f"expected {wanted}: correct it"
        )
    return values


def first_flaw(task: Task, targets: NDArray[np.float32]) -> tuple[int, int, str] | None:
    """Row and column of the first target that cannot be one, and what was expected; else None.

    ``targets`` is (samples, n_outputs).
    """
    several = task is TASKS["multi-label"]
    good = (targets == 0) | (targets == 1) if several else np.isfinite(targets)
    if good.all():
        return None
    row, column = (int(at) for at in np.argwhere(~good)[0])
    return row, column, "0 or 1" if several else "a finite number"


def decided(task: Task, outputs: NDArray[np.float32]) -> NDArray[Any]:
    """Predictions of a task: the place of the largest output (samples,), 0 or 1, or numbers."""
    if task is TASKS["regression"]:
        return outputs
    made = outputs > 0 if task.targets else outputs.argmax(axis=1)
    labels: NDArray[np.int64] = made.astype(np.int64)
    return labels


def chances(task: Task, outputs: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Probabilities, (samples, n_outputs): softmax, or sigmoid of several labels; else None."""
    if task is TASKS["regression"]:
        return None
    if task.targets:
        sigmoid: NDArray[np.float32] = 0.5 + 0.5 * np.tanh(0.5 * outputs)
        return sigmoid
    return softmax(outputs)


def softmax(outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows that add up to one, (samples, outputs)."""
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


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
