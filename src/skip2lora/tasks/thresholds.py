"""Least probabilities of classes: below them a sample is none of these.

Of several labels they stand in the place of one half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import listing
from skip2lora.errors import ParameterError
from skip2lora.tasks.task import Task, probabilities_of

#: What a sample is called that no class is probable enough for, and its number.
NONE_OF_THESE, NO_PLACE = "none of these", -1
#: More than any probability.
NEVER = float(np.inf)
#: Samples held out that a class needs to get a threshold.
FEWEST = 10

#: One for all outputs, one each in their order, or some by the name or number of the output.
Threshold = float | Sequence[float] | Mapping[Any, float]


@dataclass(frozen=True)
class Thresholds:
    """Least probabilities of the outputs that were chosen on samples held out.

    ``precision`` is the share of predictions that is right from them on. ``values`` has one an
    output: infinity where it is never predicted, as that share is not reached, and None where there
    are fewer than ``FEWEST`` samples of it to choose on; ``counts`` has the number of those.
    """

    precision: float
    values: tuple[float | None, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(
        cls, task: Task, logits: NDArray[Any], answers: NDArray[Any], precision: float
    ) -> Thresholds:
        """Chosen on held-out ``logits``, (samples, n_outputs), and their encoded ``answers``.

        Raises:
            ParameterError: as :func:`choose_thresholds`.
        """
        shares = probabilities_of(task, logits.astype(np.float64))
        least = choose_thresholds(task, logits if shares is None else shares, answers, precision)
        counts = (
            (answers == 1).sum(axis=0)
            if task.numeric_targets
            else np.bincount(answers.astype(np.intp), minlength=len(least))
        )
        values = (
            float(value) if count >= FEWEST else None
            for value, count in zip(least, counts, strict=True)
        )  # fmt: skip
        return cls(float(precision), tuple(values), tuple(counts.tolist()))

    def least(self, task: Task) -> NDArray[np.float64]:
        """The least probability of each output, the usual one where none was chosen."""
        usual = _usual(task)
        return np.array([usual if value is None else value for value in self.values])

    def to_json(self) -> dict[str, Any]:
        """As the adapter's folder holds it."""
        values = ["never" if value == NEVER else value for value in self.values]
        return {"precision": self.precision, "values": values, "counts": list(self.counts)}

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> Thresholds:
        """What :meth:`to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it gave something else.
            ParameterError: a number is no probability.
        """
        listed, counts = entries["values"], tuple(map(int, entries["counts"]))
        values = tuple(
            NEVER if value == "never" else None if value is None else _probability(value)
            for value in listed
        )
        if len(values) != len(counts):
            raise ValueError("thresholds")
        return cls(_probability(entries["precision"]), values, counts)


def _usual(task: Task) -> float:
    return 0.5 if task.numeric_targets else 0.0


def checked_thresholds(task: Task, threshold: Threshold, titles: Sequence[Any]) -> NDArray[Any]:
    """The least probability of each output, (n_outputs,); of what is not named, none is needed.

    ``titles`` are what the outputs are called.

    Raises:
        ParameterError: the outputs are numbers, or it is no probability, or of no output.
    """
    if task.name == "regression":
        raise ParameterError(
            "threshold= is given, the outputs are numbers, expected classes or labels: leave it out"
        )
    values = np.full(len(titles), _usual(task))
    names = [str(title) for title in titles]
    if isinstance(threshold, Mapping):
        for name, value in threshold.items():
            if str(name) not in names:
                raise ParameterError(
                    f'threshold= names "{name}", expected some of {listing(names)}: correct it'
                )
            values[names.index(str(name))] = _probability(value)
        return values
    if isinstance(threshold, list | tuple | np.ndarray):
        if len(threshold) != len(titles):
            raise ParameterError(
                f"threshold= has {len(threshold)} numbers, expected {len(titles)}, one an output: "
                "correct it"
            )
        return np.array([_probability(value) for value in threshold])
    return np.full(len(titles), _probability(threshold))


def _probability(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not (0 <= number <= 1 or number == NEVER):
        raise ParameterError(f"threshold= is {value!r}, expected a number from 0 to 1: correct it")
    return number


def decide(
    task: Task, probabilities: NDArray[Any], thresholds: NDArray[np.float64]
) -> NDArray[np.int64]:
    """The place of the most probable output, or -1, (samples,); of several labels 0 or 1 each."""
    if task.numeric_targets:
        return (probabilities >= thresholds).astype(np.int64)
    best = probabilities.argmax(axis=1)
    sure = probabilities[np.arange(len(best)), best] >= thresholds[best]
    return np.where(sure, best, NO_PLACE).astype(np.int64)


def check_precision(precision: float) -> None:
    """Raise ParameterError where that is no share of predictions."""
    if not 0 < precision <= 1:
        raise ParameterError(f"precision= is {precision!r}, expected more than 0, to 1: correct it")


def choose_thresholds(
    task: Task, probabilities: NDArray[Any], answers: NDArray[Any], precision: float
) -> NDArray[np.float64]:
    """The least probability of each output from which on this share of predictions is right.

    ``probabilities`` is (samples, n_outputs) of samples with the ``answers`` encoded, which are not
    to be those that are then measured. An output for which there is none is never predicted.

    Raises:
        ParameterError: ``precision`` is no share, or the outputs are numbers.
    """
    if task.name == "regression":
        raise ParameterError(
            "precision= is given, the outputs are numbers, expected classes or labels: leave it out"
        )
    check_precision(precision)
    thresholds = np.full(probabilities.shape[1], NEVER)
    best = probabilities.argmax(axis=1)
    for place in range(len(thresholds)):
        shares = probabilities[:, place]
        right = answers[:, place] == 1 if task.numeric_targets else answers == place
        if not task.numeric_targets:
            shares, right = shares[best == place], right[best == place]
        values, places, counts = np.unique(-shares, return_inverse=True, return_counts=True)
        n_right = np.bincount(
            places.astype(np.intp), weights=right, minlength=len(values)
        )  # the surest first
        good = np.cumsum(n_right) >= precision * np.cumsum(counts)
        if good.any():
            thresholds[place] = -values[np.flatnonzero(good)[-1]]
    return thresholds
