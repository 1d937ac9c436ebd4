"""How much each sample counts in the loss: its own weight times that of its class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora.arrays import as_array, listing, number_or_none, real, real_array
from skip2lora.errors import DataError, ParameterError, brief
from skip2lora.tasks.task import Encoded, Task

#: Weights of classes: "balanced", or a number a class by its name or number; others have 1.
ClassWeight = str | Mapping[Any, float]
_LARGEST = 3e38  # about that of a float32


def _row(row: int) -> str:
    return f"row {row} (from 0)"


def check_weights(
    values: ArrayLike,
    n_samples: int,
    name: str = "sample_weight",
    place: Callable[[int], str] = _row,
) -> NDArray[np.float32]:
    """Weights of ``n_samples`` samples, (n_samples,).

    ``name`` is what messages call them, ``place(row)`` where one stands.

    Raises:
        DataError: another length or shape, no numbers, NaN, negative or too large ones, or zero
            for all samples.
    """
    weights = real_array(values, name)
    if weights.shape != (n_samples,):
        raise DataError(
            f"{name} has shape {weights.shape}, expected ({n_samples},), one a sample: pass such"
        )
    good = (weights >= 0) & (weights <= _LARGEST)
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(
            f"{name} is {weights[row]:g} in {place(row)}, expected a number from 0 to "
            f"{_LARGEST:g}: correct it"
        )
    weights = weights.astype(np.float32)
    if n_samples and not weights.any():
        raise DataError(
            f"{name} is zero for all {n_samples} samples, expected one above zero at least: "
            "correct it, or leave it out"
        )
    return weights


def leave_out(x: Any, y: Any, weights: NDArray[np.float32]) -> tuple[Any, Any, NDArray[np.float32]]:
    """Samples, answers and weights without those of weight 0, which are as if not there.

    ``x`` are checked samples, ``y`` answers as they were passed, or encoded.
    """
    stay = weights > 0
    if stay.all() or y is None:
        return x, y, weights
    if isinstance(y, Encoded):
        answers: Any = replace(y, y=y.y[stay])
    else:
        answers = as_array(y)
        answers = answers[stay] if answers.shape[:1] == stay.shape else answers
    return x[stay], answers, weights[stay]


def combined(
    y: NDArray[Any],
    own: NDArray[np.float32] | None,
    class_weight: ClassWeight | None,
    places: Mapping[Any, int],
) -> NDArray[np.float32] | None:
    """Weights with mean 1, (samples,), from those of samples and of classes; None: all the same.

    ``y`` has the place of each sample's class, or targets where there is no ``class_weight``;
    ``own`` are the samples' weights, None where they have none. ``class_weight`` names
    a class by a key of ``places``, which gives its place. "balanced" is scikit-learn's: samples /
    (classes * samples of the class), of those classes that occur, each sample as often as its
    weight says.

    Raises:
        ParameterError: a class that is not there or named twice, a weight out of range, or weights
            that leave no sample.
    """
    weights = np.ones(len(y)) if own is None else own.astype(np.float64)
    if class_weight is not None:
        if isinstance(class_weight, str):
            of_place = _balanced(class_weight, y, weights)
        else:
            of_place = _given(class_weight, places)
        weights = weights * of_place[y]
        if not weights.any():
            raise ParameterError(
                "class_weight is zero for every class that has samples, expected one above zero at "
                "least: correct it"
            )
    if (weights == weights[0]).all():
        return None
    return np.asarray(weights / weights.mean(), np.float32)


def _balanced(word: str, y: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    if word != "balanced":
        raise ParameterError(
            f"class_weight is {brief(word)!r}, expected 'balanced' or each class with its number: "
            "correct it"
        )
    counts = np.bincount(y.astype(np.intp), weights=weights)
    occurs = counts > 0
    of_place = np.zeros(len(counts))
    of_place[occurs] = 1 / counts[occurs]  # times samples / classes, which is the same for all
    return of_place


def _given(class_weight: Mapping[Any, float], places: Mapping[Any, int]) -> NDArray[np.float64]:
    if not isinstance(class_weight, Mapping):
        raise ParameterError(
            f"class_weight is a {type(class_weight).__name__}, expected 'balanced' or a mapping "
            "from classes to numbers: pass one"
        )
    of_place = np.ones(max(places.values()) + 1)
    named: set[int] = set()
    for key, value in class_weight.items():
        as_number = number_or_none(key) if isinstance(key, str) else key
        place = places.get(key, places.get(as_number))
        shown = brief(repr(key))
        if place is None:
            known = [of for of in places if isinstance(of, str)] or map(str, places)
            raise ParameterError(
                f"class_weight= names the class {shown}, expected one of {listing([*known])}: "
                "correct it"
            )
        if place in named:
            raise ParameterError(
                f"class_weight= names the class {shown} twice, by name and number, expected once: "
                "leave one out"
            )
        named.add(place)
        of_place[place] = real(
            f"class_weight of {shown}", value, 0.0, _LARGEST, f"from 0 to {_LARGEST:g}"
        )
    return of_place / of_place.max() if of_place.any() else of_place


def places_of(encoded: Encoded) -> dict[Any, int]:
    """The place of each class of encoded labels, by its name and by its number."""
    labels = [*(encoded.outputs.numbers or ()), *encoded.new_labels]
    by_number: dict[Any, int] = {label: place for place, label in enumerate(labels)}
    return by_number | {title: place for place, title in enumerate(encoded.titles)}


def weigh(
    task: Task, encoded: Encoded, own: NDArray[np.float32] | None, class_weight: ClassWeight | None
) -> NDArray[np.float32] | None:
    """Weights of encoded answers as :func:`combined` gives them.

    Raises:
        ParameterError: as :func:`combined`, or weights of classes where there are none.
    """
    if class_weight is not None:
        check_has_classes(task)
    return combined(encoded.y, own, class_weight, places_of(encoded))


def check_has_classes(task: Task) -> None:
    """Check that a sample has one class, by which it can be weighed.

    Raises:
        ParameterError: it has several, or a number.
    """
    if task.numeric_targets:
        why = "a sample has numbers" if task.name == "regression" else "a sample has several labels"
        raise ParameterError(
            f"class_weight is set with task {task.name}, where {why} and no one class, expected "
            "classification: leave it out, or weigh samples with sample_weight="
        )
