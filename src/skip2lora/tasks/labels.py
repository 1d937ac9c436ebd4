"""Labels: what each output of a model is called, and which outputs samples should have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import check_labels, listing
from skip2lora.errors import DataError, ParameterError

#: Labels of outputs that a model does not have: numbers, or names where labels are names.
New = tuple[int, ...] | tuple[str, ...]


def is_named(y: Any) -> bool:
    """Whether labels are text."""
    return np.asarray(y).dtype.kind in "US" if y is not None else False


def check_names(names: Sequence[str] | None, n_outputs: int) -> tuple[str, ...] | None:
    """Names of a model's outputs, None for none.

    Raises:
        ParameterError: not one distinct name an output.
    """
    if names is None:
        return None
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ParameterError(f"class_names is {names!r}, expected a list of names")
    told = tuple(str(name) for name in names)
    if len(told) != n_outputs or len(set(told)) != len(told):
        raise ParameterError(
            f"class_names is {listing(told)}, expected {n_outputs} distinct names, one an output "
            "in the model's order: correct them"
        )
    return told


def labels_of(n_known: int, names: Sequence[str] | None, new: New) -> NDArray[Any]:
    """The label of each output, the model's ``n_known`` first.

    All are names where the new ones are: those of the model, or its numbers as text.
    """
    if new and isinstance(new[0], str):
        return np.array([*(names or map(str, range(n_known))), *new], np.str_)
    return np.array([*range(n_known), *new], np.int64)


def number(
    y: Any, n_samples: int, n_known: int, names: Sequence[str] | None, *, new_classes: bool
) -> tuple[NDArray[np.int32], New]:
    """Outputs that the samples should have, (samples,), and the labels that are new.

    ``y`` are numbers, or names: those of the model where it has ``names``.

    Raises:
        DataError: a label the model does not know without ``new_classes``, or no label at all.
    """
    if is_named(y):
        return _number_names(np.asarray(y).astype(np.str_), n_samples, n_known, names, new_classes)
    if not new_classes:
        return check_labels(y, n_samples, n_known), ()
    labels = check_labels(y, n_samples, None)
    new = np.unique(labels[labels >= n_known])
    places = n_known + np.searchsorted(new, labels)
    outputs = np.where(labels < n_known, labels, places).astype(np.int32)
    return outputs, tuple(int(label) for label in new)


def _number_names(
    y: NDArray[np.str_],
    n_samples: int,
    n_known: int,
    names: Sequence[str] | None,
    new_classes: bool,
) -> tuple[NDArray[np.int32], New]:
    if y.shape != (n_samples,):
        raise DataError(
            f"y has shape {y.shape}, expected ({n_samples},): pass one label a sample of X"
        )
    known = tuple(names or map(str, range(n_known)))
    new = tuple(sorted(set(map(str, y)) - set(known)))
    if new and not new_classes:
        row = int(np.argmax(y == new[0]))
        raise DataError(
            f'got label "{new[0]}" at row {row} (from 0), expected one of {listing(known)}: '
            "correct the label, or learn it with new_classes"
        )
    place = {name: at for at, name in enumerate((*known, *new))}
    return np.array([place[str(name)] for name in y], np.int32), new
