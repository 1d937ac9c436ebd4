"""Least probabilities of classes: below them a sample is none of these.

Of several labels they stand in the place of one half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import listing
from skip2lora.errors import ParameterError
from skip2lora.tasks.task import Task

#: What a sample is called that no class is probable enough for, and its number.
NONE_OF_THESE, NO_PLACE = "none of these", -1
#: More than any probability.
NEVER = float(np.inf)

#: One for all outputs, one each in their order, or some by the name or number of the output.
Threshold = float | Sequence[float] | Mapping[Any, float]


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
    usual = 0.5 if task.numeric_targets else 0.0
    values = np.full(len(titles), usual)
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
    if not 0 < precision <= 1:
        raise ParameterError(f"precision= is {precision!r}, expected more than 0, to 1: correct it")
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
