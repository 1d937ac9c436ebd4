"""Label encoding: labels of one class a sample to the outputs of a model, and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import (
    MAX_LABEL,
    check_labels,
    fix_of_label,
    label_array,
    listing,
    number_or_none,
)
from skip2lora.errors import DataError, ParameterError, brief
from skip2lora.tasks.targets import ONE_COLUMN_AN_OUTPUT, check_classes, encode_targets
from skip2lora.tasks.task import Answers, Encoded, Outputs, Task

_CODE = re.compile(r"[+-]?0\d+")
_NAME_THEM = "name the outputs with class_names="


def two_names(y: Any) -> tuple[str, ...] | None:
    """The two names that labels are, sorted; None where they are something else."""
    if y is None or isinstance(y, Answers | Encoded):
        return None
    labels = label_array(y)
    names = np.unique(labels) if labels.dtype.kind == "U" else ()
    return tuple(map(str, names)) if len(names) == 2 else None


def check_names(names: Sequence[str] | None, n_outputs: int) -> tuple[str, ...] | None:
    """Names of a model's outputs, None for none.

    Raises:
        ParameterError: not one distinct name an output.
    """
    if names is None:
        return None
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ParameterError(f"class_names is {names!r}, expected a list of names: pass one")
    given = tuple(str(name) for name in names)
    if len(given) != n_outputs or len(set(given)) != len(given):
        raise ParameterError(
            f"class_names is {listing(given)}, expected {n_outputs} distinct names, one an output "
            "in the model's order: correct them"
        )
    return given


def encode_labels(y: Any, n_samples: int, outputs: Outputs, *, new_classes: bool) -> Encoded:
    """The place among ``outputs`` of each label, (samples,) int32; new classes come after them.

    ``y`` is an array of names or numbers, or the :class:`~skip2lora.tasks.task.Answers` of a
    file, where numbers may be written as text. Without a model the classes of a file get the order
    the file gives, or else that of their sorted names.

    Raises:
        DataError: no label a sample, a label that is neither whole nor a name, one that the outputs
            do not have without ``new_classes``, names that cannot be matched with the outputs, or
            one class alone where there are no outputs.
    """
    if isinstance(y, Answers):
        encoded = _encode_file(y, outputs, new_classes)
    else:
        encoded = _encode_array(y, n_samples, outputs, new_classes)
    if outputs.numbers is None or encoded.new_labels:
        check_classes(encoded)
    if outputs.numbers is not None and not len(outputs.numbers) and len(encoded.new_labels) == 1:
        raise DataError(
            f"y has the label {encoded.new_labels[0]} alone, expected 2 or more without the "
            "model's outputs: collect samples of another class"
        )
    return encoded


def _encode_array(y: Any, n_samples: int, outputs: Outputs, new_classes: bool) -> Encoded:
    labels = None if y is None else label_array(y)
    if labels is not None and _are_names(labels, outputs):
        labels = labels.astype(np.int64).astype(np.str_)
    if labels is None or labels.dtype.kind != "U":
        limit = None if new_classes else _limit(outputs)
        return _encode_numbers(check_labels(labels, n_samples, limit), outputs)
    if labels.shape != (n_samples,):
        raise DataError(
            f"y has shape {labels.shape}, expected ({n_samples},): pass one label a sample of X"
        )
    return _encode_names(labels, outputs, new_classes)


def _are_names(labels: NDArray[Any], outputs: Outputs) -> bool:
    """Whether numbers are names of classes, as 4, 7 and 9 may be, and do not count them."""
    names = outputs.names or ()
    if outputs.in_order or labels.dtype.kind not in "fiu" or not all(map(str.isdecimal, names)):
        return False
    counted = names == tuple(map(str, range(len(names))))  # the same, either way
    return not counted and bool((np.isfinite(labels) & (np.floor(labels) == labels)).all())


def own_labels(outputs: Outputs, labels: NDArray[Any]) -> NDArray[Any]:
    """The labels of ``outputs``, names or else numbers, of the type of ``labels``.

    Raises:
        DataError: the ones are text and the others are not.
    """
    names, numbers = outputs.names, outputs.numbers
    own = np.array(numbers, np.int64) if names is None else np.array(names)
    if is_text(own) != is_text(labels):
        raise DataError(
            f"y has labels such as {labels[:1].tolist()[0]!r}, expected such as "
            f"{own[:1].tolist()[0]!r}, which are those "
            "of the model: pass them so, or keep_outputs=False to learn the labels of y alone"
        )
    return own.astype(object) if labels.dtype == object else own


def is_text(labels: NDArray[Any]) -> bool:
    """Whether labels of one type, or objects, are text."""
    return len(labels) > 0 and isinstance(labels[0], str)


def places_in(classes: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """Where each label is in ``classes``, which has them all, in any order."""
    order = np.argsort(classes, kind="stable")
    places: NDArray[np.int64] = order[np.searchsorted(classes, labels, sorter=order)]
    return places


def _limit(outputs: Outputs) -> int | None:
    """One more than the largest number that is a label; None where any may be."""
    return None if outputs.numbers is None else max(outputs.numbers, default=-1) + 1


def _encode_numbers(labels: NDArray[np.int32], outputs: Outputs) -> Encoded:
    """Checked numbers to places; what lies between the labels of the outputs counts as new."""
    if outputs.numbers is None:
        return Encoded(labels, outputs)
    n_known = len(outputs.numbers)
    if outputs.numbers == range(n_known) and labels.max(initial=-1) < n_known:
        return Encoded(labels, outputs)
    known = np.array(outputs.numbers, np.int64)
    new = np.unique(labels[~np.isin(labels, known)])
    classes = np.concatenate([known, new])
    if not np.array_equal(classes, np.arange(len(classes))):
        labels = places_in(classes, labels).astype(np.int32)
    return Encoded(labels, outputs, tuple(int(label) for label in new))


def _encode_names(labels: NDArray[np.str_], outputs: Outputs, new_classes: bool) -> Encoded:
    """Names to places, the new ones in sorted order."""
    distinct, inverse = np.unique(labels, return_inverse=True)
    known = outputs.titles
    new = tuple(str(name) for name in distinct if name not in known)
    if new and not new_classes:
        row = int(np.argmax(labels == new[0]))
        fix = _NAME_THEM if outputs.names is None else "correct the label"
        raise DataError(
            f'got label "{new[0]}" at row {row} (from 0), expected one of {listing(known)}: '
            f"{fix}, or learn it with adapt and new_classes=True"
        )
    return Encoded(_lookup(distinct.tolist(), (*known, *new))[inverse], outputs, new)


def _lookup(names: Sequence[str], order: Sequence[str]) -> NDArray[np.int32]:
    """The place of each name in ``order``."""
    places = {name: place for place, name in enumerate(order)}
    return np.array([places[name] for name in names], np.int32)


def _encode_file(answers: Answers, outputs: Outputs, new_classes: bool) -> Encoded:
    values, own = answers.values, answers.class_names
    if values is None:
        raise DataError("the samples have no labels, expected one each: add y")
    if values.ndim > 1 or values.dtype.kind in "OS":
        values = label_array(values)
    if values.ndim > 1:
        raise DataError(
            f"its answers have shape {values.shape}, expected one label a sample: learn "
            "several labels or numbers with adapt and task=multi-label or regression"
        )
    names = own or outputs.names
    if values.dtype.kind == "U" and (values == "").any():
        place = answers.place(int(np.argmax(values == "")))
        raise DataError(f"{place} has no label, expected one each: fill it in, or remove the row")
    if values.dtype.kind == "U":
        texts, inverse = np.unique(values, return_inverse=True)
        named = own is None and outputs.called_by(texts.tolist(), new_classes)
        numbers = None
        if not named:
            new_names = new_classes and own is None
            numbers = _as_numbers(answers, texts.tolist(), inverse, names, new_names)
        if numbers is None:
            return _encode_classes(own, texts.tolist(), inverse, outputs, new_classes)
        values = numbers[inverse]
    if own is None and values.dtype.kind in "fiub":
        numbered, inverse = np.unique(values, return_inverse=True)
        named_as = _as_names(numbered, outputs, new_classes)
        if named_as is not None:
            texts, inverse = np.unique(np.array(named_as)[inverse], return_inverse=True)
            return _encode_classes(None, texts.tolist(), inverse, outputs, new_classes)
        _refuse_numbers(answers, values, outputs, new_classes)
    limit = len(own) if own else None if new_classes else _limit(outputs)
    labels = _check_whole(answers, values, limit, names)
    if own is None:
        return _encode_numbers(labels, outputs)
    return _encode_classes(own, own, labels, outputs, new_classes)


def _refuse_numbers(answers: Answers, labels: NDArray[Any], outputs: Outputs, new: bool) -> None:
    """Raise DataError for numbers of classes that have names: they may count another order."""
    counted = (labels < (_limit(outputs) or 0)) | (not new)
    if outputs.names and not outputs.in_order and counted.any():
        row = int(np.argmax(counted))
        raise DataError(
            f"{answers.place(row)} has label {labels[row]:.15g}, expected a name, as the model has "
            f"classes {listing(outputs.names)}: write these, or list them in the order of 0, 1, "
            "... with class_names="
        )


def _as_names(distinct: NDArray[Any], outputs: Outputs, new_classes: bool) -> list[str] | None:
    """What classes are called, where numbers name them; None where they do not."""
    if not (np.isfinite(distinct) & (np.floor(distinct) == distinct)).all():
        return None
    texts = [str(int(number)) for number in distinct.tolist()]
    known = outputs.names is not None and set(texts) <= set(outputs.names)
    return texts if known or outputs.called_by(texts, new_classes) else None


def _encode_classes(
    own: tuple[str, ...] | None,
    classes: Sequence[str],
    places: NDArray[np.integer],
    outputs: Outputs,
    new_classes: bool,
) -> Encoded:
    """Places among the ``classes`` of a file to places among ``outputs`` and new ones."""
    if not new_classes:
        matched, how = _match_classes(own, classes, outputs)
        return Encoded(_lookup(classes, matched.titles)[places], matched, **how)
    known = outputs.titles
    counts = np.bincount(places.astype(np.intp), minlength=len(classes))
    # The classes that samples have: a file may list others.
    present = [name for name, count in zip(classes, counts, strict=True) if count]
    new = tuple(sorted(set(present) - set(known)))
    lookup = np.full(len(classes), -1, np.int32)
    lookup[counts > 0] = _lookup(present, (*known, *new))
    return Encoded(lookup[places], outputs, new)


def _match_classes(
    own: tuple[str, ...] | None, classes: Sequence[str], outputs: Outputs
) -> tuple[Outputs, dict[str, Any]]:
    """The outputs with names for the classes of a file, ``own`` where it lists them.

    A model without names gets those that the file gives in order, one an output. Beside them what
    :class:`Encoded` says of such names.
    """
    if outputs.names is not None:
        strangers = [name for name in own or () if name not in outputs.names]
        if strangers:
            raise DataError(
                f'it has class "{strangers[0]}", expected only {listing(outputs.names)}: '
                "pass data of the classes the model was trained on"
            )
        return outputs, {}
    names = own or tuple(classes)
    n_outputs = outputs.count
    if n_outputs is None:
        return Outputs(range(len(names)), names), {"names_sorted": own is None}
    got = f"it has {len(names)} class{'es' * (len(names) != 1)} ({listing(names)})"
    more = (
        ", or learn new classes with adapt and new_classes=True, or these alone with adapt and "
        "keep_outputs=False"
    )
    if len(names) != n_outputs:
        raise DataError(
            f"{got}, the model has {n_outputs} output{'s' * (n_outputs != 1)} without names, "
            f"expected one an output: {_NAME_THEM}{more}"
        )
    if own is None:
        raise DataError(
            f"{got} in no order, the model has {n_outputs} outputs without names, expected to "
            f"know which is which: {_NAME_THEM}, such as {brief(','.join(names))}{more}"
        )
    return replace(outputs, names=names), {"names_adopted": True}


def _as_numbers(
    answers: Answers,
    texts: Sequence[str],
    inverse: NDArray[np.integer],
    names: tuple[str, ...] | None,
    new_classes: bool,
) -> NDArray[np.float64] | None:
    """The number that each distinct text is; None where they are names.

    Text such as "3" and "7" is a name where it is known as such, and a number otherwise; "07" is
    another than "7" where both are there.
    """
    if names is not None and set(texts) <= set(names):
        return None
    try:
        given = np.array([float(text) for text in texts], np.float64)
        codes = any(map(_CODE.fullmatch, texts)) and len(np.unique(given)) < len(texts)
        return None if codes else given
    except ValueError:
        numbers = [number_or_none(text) for text in texts]
    names = None if new_classes else names
    if names is None and not any(number is not None for number in numbers):
        return None
    # The first stranger, rather one that is no number either.
    strangers = [place for place, text in enumerate(texts) if text not in (names or ())]
    strangers = [place for place in strangers if numbers[place] is None] or strangers
    row = int(np.argmax(np.isin(inverse, strangers)))
    expected = "a number as in other rows" if names is None else f"one of {listing(names)}"
    raise DataError(
        f'{answers.place(row)} has label "{brief(texts[inverse[row]])}", expected {expected}: '
        "correct the label"
    )


def _check_whole(
    answers: Answers, labels: NDArray[Any], limit: int | None, names: tuple[str, ...] | None
) -> NDArray[np.int32]:
    """Numbers of a file as labels below ``limit``, of classes called ``names``."""
    if labels.dtype.kind not in "fiub":
        raise DataError(
            f"the labels have dtype {labels.dtype}, expected whole numbers or text: "
            "number the classes from 0"
        )
    top = MAX_LABEL + 1 if limit is None else limit
    good = (labels >= 0) & (labels < top) & (np.floor(labels) == labels)
    if not good.all():
        row = int(np.argmin(good))
        known = "" if names is None else f" ({listing(names)})"
        last = "..." if limit is None else f"..., {limit - 1}{known}"
        others = "correct the label, or learn numbers with task='regression'"
        fix = fix_of_label(labels, row, others)
        raise DataError(
            f"{answers.place(row)} has label {labels[row]:.15g}, expected a whole number 0, 1, "
            f"{last}: {fix}"
        )
    return labels.astype(np.int32)


def encode(
    task: Task,
    y: Any,
    n_samples: int,
    outputs: Outputs,
    *,
    new_outputs: bool = False,
    fix: str = ONE_COLUMN_AN_OUTPUT,
) -> Encoded:
    """Answers ``y`` of ``n_samples`` samples as ``outputs``, checked; what is encoded stays.

    ``new_outputs`` lets labels become outputs beside those there are, and columns any outputs;
    ``fix`` is what to do about targets of another shape.

    Raises:
        DataError: as :func:`~skip2lora.tasks.labels.encode_labels` and
            :func:`~skip2lora.tasks.targets.encode_targets`; after the name of the file, if any.
    """
    if isinstance(y, Encoded):
        if len(y.y) != n_samples:
            raise DataError(
                f"y has {len(y.y)} answers, expected {n_samples}, one a sample of X: "
                "pass the answers of these samples"
            )
        return y
    return _encode(task, y, n_samples, outputs, new_outputs, fix)


def _encode(
    task: Task, y: Any, n_samples: int, outputs: Outputs, new_outputs: bool, fix: str
) -> Encoded:
    try:
        if task.numeric_targets:
            outputs = Outputs() if new_outputs else outputs
            return encode_targets(task, y, n_samples, outputs, fix=fix)
        return encode_labels(y, n_samples, outputs, new_classes=new_outputs)
    except DataError as error:
        if not isinstance(y, Answers) or not y.source:
            raise
        # A quoted cell of a .csv may hold line breaks.
        message = " ".join(f"{y.source}: {error}".splitlines())
        raise DataError(message) from error.__cause__
