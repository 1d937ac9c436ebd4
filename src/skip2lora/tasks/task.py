"""What is learned (one class of several, several classes at once, numbers), and answers to it.

Measures of how good predictions are give what scikit-learn's metrics of the same names do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.arrays import MAX_LABEL
from skip2lora.errors import ModelError, ParameterError

#: Labels of outputs that a model does not have: numbers, or names where labels are names.
NewLabels = tuple[int, ...] | tuple[str, ...]
_CLOSE_TO_ONE = 1e-3
_FEW = 100  # outputs that may be without samples
_Real = TypeVar("_Real", np.float32, np.float64)


def _row(row: int) -> str:
    return f"row {row} (from 0)"


@dataclass(frozen=True, eq=False)
class Answers:
    """What a file says of its samples, as it says it.

    ``values`` are text or numbers, (samples,) or (samples, columns), None where it has none.
    ``class_names`` are those the file itself defines: labels are names among them, or their places.
    ``column_names`` are those of the columns; ``chosen`` says that the user named the columns.
    ``place(row)`` names a row, counted from 0, and ``source`` the file, in errors.
    """

    values: NDArray[Any] | None
    class_names: tuple[str, ...] | None = None
    column_names: tuple[str, ...] | None = None
    place: Callable[[int], str] = _row
    source: str = ""
    chosen: bool = False


class _Labelled(Protocol):
    """What predicts, as a :class:`~skip2lora.tasks.predictor.Predictor` does."""

    @property
    def task(self) -> str: ...
    @property
    def class_numbers(self) -> NDArray[np.int64]: ...
    @property
    def class_names(self) -> tuple[str, ...] | None: ...


@dataclass(frozen=True)
class Outputs:
    """What the outputs of a model are called.

    ``numbers`` has the number that is the label of each, None without a model: as many as there
    are. ``names`` has the name of each, None where they have none. ``in_order`` says that the user
    listed the names along with the answers, so that numbers count them.
    """

    numbers: Sequence[int] | None = None
    names: tuple[str, ...] | None = None
    in_order: bool = False

    @classmethod
    def of(cls, model: _Labelled, task: Task) -> Outputs:
        """What answers for ``task`` are encoded as.

        Names of classes are not those of numbers, nor the other way round. One output is a logit
        of two classes.
        """
        if task.name == "classification" and len(model.class_numbers) == 1:
            return cls(range(2))
        same = (task.name == "regression") == (model.task == "regression")
        return cls(model.class_numbers.tolist(), model.class_names if same else None)

    @property
    def count(self) -> int | None:
        """How many they are; None without a model."""
        return None if self.numbers is None else len(self.numbers)

    @property
    def titles(self) -> tuple[str, ...]:
        """The name of each, or its number."""
        return self.names or tuple(map(str, self.numbers or ()))

    def called_by(self, numbers: Sequence[str], new_classes: bool) -> bool:
        """Whether whole numbers of a file name classes, as 20240101 does, and do not count them.

        They do where no model tells and most outputs would have no sample, or where the core takes
        no such number.
        """
        if not all(text.isdecimal() for text in numbers):
            return False
        top = max(map(float, numbers), default=0)  # an int of 5,000 digits is none
        if self.numbers is None:
            return top >= max(_FEW, 2 * len(numbers))
        return new_classes and top > MAX_LABEL

    @property
    def is_plain(self) -> bool:
        """Whether they are but numbered: 0, 1, ..."""
        return self.names is None and list(self.numbers or ()) == list(range(self.count or 0))


#: Those of a model whose own are left out: all are new.
NO_OUTPUTS = Outputs(range(0))


@dataclass(frozen=True, eq=False)
class Encoded:
    """Answers as the core takes them.

    ``y`` is int32 (samples,) with the place of an output, or float32 (samples, n_outputs) with
    targets. Places from ``outputs.count`` on are ``new_labels``. ``outputs.names`` are the model's,
    or the file's where the model has none. ``names_adopted`` says that such names stand for the
    outputs only because the file has them in that order, ``names_sorted`` that not even the file
    gives an order.
    """

    y: NDArray[np.int32] | NDArray[np.float32]
    outputs: Outputs
    new_labels: NewLabels = ()
    names_adopted: bool = False
    names_sorted: bool = False

    @property
    def titles(self) -> tuple[str, ...]:
        """The name of each place, or its number, the new ones last."""
        return (*self.outputs.titles, *map(str, self.new_labels))

    @property
    def all_outputs(self) -> Outputs:
        """The outputs with the new ones after them, for further answers."""
        new, own = self.new_labels, self.outputs
        if not new:
            return own
        if own.names is None and not isinstance(new[0], str):
            return replace(own, numbers=[*(own.numbers or ()), *map(int, new)])
        titles = self.titles
        return replace(own, numbers=range(len(titles)), names=titles)


@dataclass(frozen=True)
class Task:
    """``loss`` is that of the core.

    ``numeric_targets`` says whether a sample has float targets, one an output, and not a label.
    """

    name: str
    loss: int
    numeric_targets: bool

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and other processes: there is one of each name."""
        return _named, (self.name,)


def _named(name: str) -> Task:
    return TASKS[name]


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


class _Tasks(dict[str, Task]):
    """Tasks by name, and the error for a name that there is not."""

    def __missing__(self, name: object) -> Task:
        raise ParameterError(f"task is {name!r}, expected one of {', '.join(self)}: choose one")


TASKS = _Tasks(
    (task.name, task)
    for task in (
        Task("classification", _core.SOFTMAX, numeric_targets=False),
        Task("multi-label", _core.SIGMOID, numeric_targets=True),
        Task("regression", _core.SQUARED, numeric_targets=True),
    )
)
CLASSIFICATION = TASKS["classification"]
REGRESSION = TASKS["regression"]


def task_for(model: _Labelled, asked: str | None) -> Task:
    """What ``model`` is to learn: what is ``asked`` for, or numbers where it gives these."""
    numbers = model.task == "regression"
    return TASKS[asked if asked is not None else "regression" if numbers else "classification"]


#: The paper's: labels the model knows.
PLAIN = Goal(CLASSIFICATION)


def predictions_of(task: Task, outputs: NDArray[np.float32]) -> NDArray[Any]:
    """Predictions of a task: the place of the largest output (samples,), 0 or 1, or numbers.

    Raises:
        ModelError: an output is NaN.
    """
    refuse_nan(outputs)
    if task is TASKS["regression"]:
        return outputs
    predictions = outputs > 0 if task.numeric_targets else outputs.argmax(axis=1)
    return predictions.astype(np.int64)


def probabilities_of(task: Task, outputs: NDArray[_Real]) -> NDArray[_Real] | None:
    """Probabilities, (samples, n_outputs): softmax, or sigmoid of several labels; else None.

    Raises:
        ModelError: an output is NaN.
    """
    refuse_nan(outputs)
    if task is TASKS["regression"]:
        return None
    if task.numeric_targets:
        sigmoid: NDArray[_Real] = 0.5 + 0.5 * np.tanh(0.5 * outputs)
        return sigmoid
    return softmax(outputs)


def refuse_nan(outputs: NDArray[_Real]) -> None:
    """Raise ModelError where an output is NaN, of which the first class would be the largest."""
    without = np.isnan(outputs)
    if without.any():
        row = int(without.any(axis=1).argmax())
        raise ModelError(
            f"the model gave NaN or infinity for finite samples, NaN first for row {row} (from 0), "
            "expected numbers: check its weights with its own runtime"
        )


def are_shares(outputs: NDArray[Any]) -> bool:
    """Whether each row, (samples, outputs), is of numbers from 0 that add up to one."""
    if outputs.ndim != 2 or outputs.shape[1] < 2 or outputs.dtype.kind != "f":
        return False
    sums = outputs.sum(axis=1, dtype=np.float64)
    return bool((outputs >= 0).all() and (np.abs(sums - 1) <= _CLOSE_TO_ONE).all())


def softmax(outputs: NDArray[_Real]) -> NDArray[_Real]:
    """Rows that add up to one, (samples, outputs)."""
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    probabilities: NDArray[_Real] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def sample_losses(
    task: Task, outputs: NDArray[_Real], answers: NDArray[np.int32] | NDArray[np.float32]
) -> NDArray[np.float64]:
    """The loss of each checked answer, (samples,), in double precision."""
    values = outputs.astype(np.float64)
    losses: NDArray[np.float64]
    if not task.numeric_targets:
        values -= values.max(axis=1, keepdims=True)
        own = values[np.arange(len(answers)), answers]
        losses = np.log(np.exp(values).sum(axis=1)) - own
    elif task.name == "regression":
        losses = 0.5 * ((values - answers) ** 2).sum(axis=1)
    else:
        losses = (np.logaddexp(0, values) - values * answers).sum(axis=1)
    return losses


def mean_loss(
    task: Task,
    outputs: NDArray[np.float32],
    answers: NDArray[np.int32] | NDArray[np.float32],
    weight: NDArray[np.float32] | None = None,
) -> float:
    """The loss that training makes small, over checked answers, in double precision.

    ``weight``, (samples,), says how much each counts relative to the others; None: all the same.
    """
    return float(np.average(sample_losses(task, outputs, answers), weights=weight))


@dataclass(frozen=True)
class Measures:
    """``overall`` measures by name, and ``parts``: one row a class or target, with its ``name``."""

    overall: dict[str, Any]
    parts: tuple[dict[str, Any], ...]


def measure(
    task: Task, logits: NDArray[np.float32], answers: NDArray[Any], names: Sequence[str]
) -> Measures:
    """How good outputs before softmax or sigmoid are, (samples, n_outputs), by class or column."""
    return measured(task, predictions_of(task, logits), answers, names)


def measured(
    task: Task, predictions: NDArray[Any], answers: NDArray[Any], names: Sequence[str]
) -> Measures:
    """Compare what :func:`~skip2lora.tasks.task.predictions_of` gave with checked answers.

    ``names[number]`` is the class of label ``number``, or the name of a column of both.
    """
    if not task.numeric_targets:
        return _labels(predictions, answers, names)
    return (_sets if task.name == "multi-label" else _numbers)(predictions, answers, names)


def _labels(predictions: NDArray[Any], answers: NDArray[Any], names: Sequence[str]) -> Measures:
    right = predictions == answers
    places = answers.astype(np.intp)
    counts, hits = np.bincount(places), np.bincount(places[right], minlength=len(names))
    parts = tuple(
        {"name": names[number], "n_samples": count, "accuracy": int(hits[number]) / count}
        for number, count in enumerate(counts.tolist())
        if count
    )
    return Measures({"accuracy": float(right.mean())}, parts)


def _sets(predictions: NDArray[Any], answers: NDArray[Any], names: Sequence[str]) -> Measures:
    predicted, true = predictions == 1, answers == 1
    hits = (predicted & true).sum(axis=0)
    n_predicted, n_true = predicted.sum(axis=0), true.sum(axis=0)
    f1 = _share(2 * hits, n_predicted + n_true)
    columns = (names, n_true, _share(hits, n_predicted), _share(hits, n_true), f1)
    parts = tuple(
        {
            "name": name, "n_samples": int(count), "precision": float(precision),
            "recall": float(recall), "f1": float(own),
        }
        for name, count, precision, recall, own in zip(*columns, strict=True)
    )  # fmt: skip
    overall = {
        "exact_match": float((predicted == true).all(axis=1).mean()),
        "f1_micro": float(_share(2 * hits.sum(), n_predicted.sum() + n_true.sum())),
        "f1_macro": float(f1.mean()),
        "hamming_loss": float((predicted != true).mean()),
    }
    return Measures(overall, parts)


def _share(part: NDArray[Any], of: NDArray[Any]) -> NDArray[np.float64]:
    """Quotients, 0 where there is nothing to divide by."""
    shares: NDArray[np.float64] = part / np.maximum(of, 1)
    return shares


def _numbers(predictions: NDArray[Any], answers: NDArray[Any], names: Sequence[str]) -> Measures:
    error = predictions.astype(np.float64) - answers
    absolute, squared = np.abs(error).mean(axis=0), (error**2).mean(axis=0)
    columns = (names, r2(predictions, answers), absolute, squared)
    parts = tuple(
        {
            "name": name, "r2": float(of), "mean_absolute_error": float(mean),
            "mean_squared_error": float(square), "root_mean_squared_error": float(square**0.5),
        }
        for name, of, mean, square in zip(*columns, strict=True)
    )  # fmt: skip
    keys = [key for key in parts[0] if key != "name"]
    return Measures({key: float(np.mean([of[key] for of in parts])) for key in keys}, parts)


def r2(predictions: NDArray[Any], answers: NDArray[Any]) -> NDArray[np.float64]:
    """R2 of each column; of answers that are all the same 1 where all are met, else 0."""
    true = answers.astype(np.float64)
    left = ((true - predictions) ** 2).sum(axis=0)
    spread = ((true - true.mean(axis=0)) ** 2).sum(axis=0)
    same = spread == 0
    shares: NDArray[np.float64] = 1 - left / np.where(same, 1, spread)
    return np.where(same, np.where(left == 0, 1.0, 0.0), shares)
