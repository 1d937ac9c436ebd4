"""What is learned: one class of several, several classes at once, or numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.errors import ParameterError


@dataclass(frozen=True)
class Task:
    """``loss`` is that of the core.

    ``numeric_targets`` says whether a sample has float targets, one an output, and not a label.
    """

    name: str
    loss: int
    numeric_targets: bool


@dataclass(frozen=True)
class Goal:
    """What skip adapters are to learn.

    ``n_outputs`` is None for those of the model; more make room for new classes.
    """

    task: Task
    n_outputs: int | None = None

    @property
    def bias(self) -> bool:
        """Whether it needs a bias, as new classes do; the paper has none."""
        return self.n_outputs is not None or self.task.numeric_targets


TASKS = {
    task.name: task
    for task in (
        Task("classification", _core.SOFTMAX, numeric_targets=False),
        Task("multi-label", _core.SIGMOID, numeric_targets=True),
        Task("regression", _core.SQUARED, numeric_targets=True),
    )
}
CLASSIFICATION = TASKS["classification"]


#: The paper's: labels the model knows.
PLAIN = Goal(CLASSIFICATION)


def find_task(name: str) -> Task:
    """The task of that name.

    Raises:
        ParameterError: there is none.
    """
    if name not in TASKS:
        raise ParameterError(f"task is {name!r}, expected one of {', '.join(TASKS)}: choose one")
    return TASKS[name]


def task_of_end(*, sigmoid: bool) -> str:
    """The task that the end of a model tells: several labels after a sigmoid, else one class."""
    return "multi-label" if sigmoid else CLASSIFICATION.name


def predictions_of(task: Task, outputs: NDArray[np.float32]) -> NDArray[Any]:
    """Predictions of a task: the place of the largest output (samples,), 0 or 1, or numbers."""
    if task is TASKS["regression"]:
        return outputs
    predictions = outputs > 0 if task.numeric_targets else outputs.argmax(axis=1)
    return predictions.astype(np.int64)


def probabilities_of(task: Task, outputs: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Probabilities, (samples, n_outputs): softmax, or sigmoid of several labels; else None."""
    if task is TASKS["regression"]:
        return None
    if task.numeric_targets:
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
    if not task.numeric_targets:
        values -= values.max(axis=1, keepdims=True)
        own = values[np.arange(len(answers)), answers]
        return float((np.log(np.exp(values).sum(axis=1)) - own).mean())
    if task.name == "regression":
        return float(0.5 * ((values - answers) ** 2).sum(axis=1).mean())
    return float((np.logaddexp(0, values) - values * answers).sum(axis=1).mean())
