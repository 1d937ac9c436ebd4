"""Samples: a table of features with its labels, and the one check that arrays pass on the way in.

Rows and columns in the messages of :func:`check_samples` count from 0, as NumPy does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import _MAX_LABEL, Inputs, listing, number_or_none
from skip2lora.errors import DataError


@dataclass(frozen=True, eq=False)
class Samples:
    """A table of samples, as a file or a dataset gives it.

    ``x`` is (samples, features) float32; images and the like have more axes, and what a model with
    several inputs takes is :class:`~skip2lora.arrays.Inputs`. ``y`` is (samples,) int64 with labels
    0, 1, ..., or (samples, outputs) float32 with several labels or numbers, or None when the
    samples have no labels. ``class_names[label]``, the names of the columns of such a ``y``, and
    ``feature_names[column]`` are None when unknown. ``names_guessed`` says that the classes are in
    the order of their sorted names, as the file tells no other.
    """

    x: Any
    y: NDArray[Any] | None = None
    class_names: tuple[str, ...] | None = None
    feature_names: tuple[str, ...] | None = None
    names_guessed: bool = False

    @property
    def labels(self) -> NDArray[Any]:
        """``y`` where it is needed.

        Raises:
            DataError: the samples have none.
        """
        if self.y is None:
            raise DataError("the samples have no labels, expected one each: add y")
        return self.y


@dataclass(frozen=True, eq=False)
class Table:
    """What a file says, before labels are numbered.

    ``x`` is as in :class:`Samples`; ``labels``, (samples,) or (samples, outputs), are numbers or
    text, ``target_names`` those of several columns; ``place`` names a row, given its index from 0.
    """

    x: NDArray[Any] | Inputs
    labels: NDArray[Any] | None
    class_names: tuple[str, ...] | None
    feature_names: tuple[str, ...] | None
    place: Callable[[int], str]
    target_names: tuple[str, ...] | None = None


def number_labels(
    labels: NDArray[Any] | None,
    *,
    own: tuple[str, ...] | None,
    known: tuple[str, ...] | None,
    place: Callable[[int], str],
) -> tuple[NDArray[np.int64] | None, tuple[str, ...] | None]:
    """Return the labels of a file as numbers, with the class names they point into.

    ``labels`` is (samples,), numbers or text; ``own`` are the class names the file gives, ``known``
    those asked for; ``place(row)`` names a row, counted from 0, in errors.

    Raises:
        DataError: a label or class that is not known, not whole, or out of range.
    """
    if labels is None:
        return None, known or own
    names = own or known
    if labels.dtype.kind == "U":
        texts = [str(text) for text in labels]
        # Names like "3" and "7" are names when they are known as such, and numbers otherwise.
        if names is None or not set(texts) <= set(names):
            values = [number_or_none(text) for text in texts]
            if None not in values:
                labels = np.array(values, np.float64)
            elif names is None and not any(value is not None for value in values):
                names = tuple(sorted(set(texts)))
            else:
                raise DataError(_unknown_name(texts, values, names, place))
    if labels.dtype.kind == "U":
        order = {name: number for number, name in enumerate(names or ())}
        y = np.array([order[text] for text in texts], np.int64)
    else:
        y = _whole_labels(labels, names, place)
    if own is None or known is None or own == known:
        return y, names
    strangers = [name for name in own if name not in known]
    if strangers:
        raise DataError(
            f'it has class "{strangers[0]}", expected only {listing(known)}: '
            "pass data of the classes the model was trained on"
        )
    return np.array([known.index(name) for name in own], np.int64)[y], known


def _unknown_name(
    texts: list[str],
    values: list[float | None],
    names: tuple[str, ...] | None,
    place: Callable[[int], str],
) -> str:
    """Say which text label cannot be used: rather one that is not a number either."""
    rows = [row for row, text in enumerate(texts) if names is None or text not in names]
    row = next((row for row in rows if values[row] is None), rows[0])
    expected = "a number as in other rows" if names is None else f"one of {listing(names)}"
    return f'{place(row)} has label "{texts[row]}", expected {expected}: correct the label'


def _whole_labels(
    labels: NDArray[Any], names: tuple[str, ...] | None, place: Callable[[int], str]
) -> NDArray[np.int64]:
    if labels.dtype.kind not in "fiub":
        raise DataError(
            f"the labels have dtype {labels.dtype}, expected whole numbers or text: "
            "number the classes from 0"
        )
    limit = _MAX_LABEL + 1 if names is None else len(names)
    good = (labels >= 0) & (labels < limit) & (np.floor(labels) == labels)
    if not good.all():
        row = int(np.argmin(good))
        top = "..." if names is None else f"..., {limit - 1} ({listing(names)})"
        raise DataError(
            f"{place(row)} has label {labels[row]}, expected a whole number 0, 1, {top}: "
            "correct the label, or learn numbers with --task regression"
        )
    return labels.astype(np.int64)
