"""Targets: several labels or numbers a sample, one column an output of the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import as_float32, listing, number_or_none, real_array
from skip2lora.errors import DataError, ParameterError, TaskWarning, brief, warn
from skip2lora.tasks.task import TASKS, Answers, Encoded, Outputs, Task

#: What the only column of answers is usually called, which says nothing of its output.
USUAL_NAMES = ("label", "y", "target")
#: And what an array of them is called.
USUAL_ARRAYS = (*USUAL_NAMES, "labels", "targets")

#: What to do about targets of another shape.
ONE_COLUMN_AN_OUTPUT = "pass one row a sample, one column an output"


def encode_targets(
    task: Task, y: Any, n_samples: int, outputs: Outputs, *, fix: str = ONE_COLUMN_AN_OUTPUT
) -> Encoded:
    """Targets of the samples, (samples, n_outputs) float32, in the order of ``outputs``.

    ``y`` is an array, (samples, n_outputs), or (samples,) for one output; or the
    :class:`~skip2lora.tasks.task.Answers` of a file, whose columns are put in order by name.
    Without a model there are as many outputs as columns. ``fix`` is what to do about another shape.

    Raises:
        DataError: another shape or length, text, NaN, other than 0 and 1 where several labels are
            learned, or names that are not those of the outputs.
        ParameterError: a model without outputs.
    """
    if isinstance(y, Answers):
        return _encode_file(task, y, outputs)
    if outputs.count == 0:
        raise ParameterError(
            f"the model has no outputs of its own for {task.name}, expected one a column of y: "
            "learn all anew with keep_outputs=False"
        )
    return _encode_array(task, y, n_samples, outputs, fix)


def _encode_array(task: Task, y: Any, n_samples: int, outputs: Outputs, fix: str) -> Encoded:
    if y is None:
        shape = (n_samples, outputs.count or 1)
        raise DataError(f"y is None, expected {shape} for {task.name}: pass them")
    targets = real_array(y, "y")
    n_columns = targets.shape[1] if targets.ndim > 1 else 1
    if n_columns == 0:
        raise DataError(
            f"y has shape {targets.shape}, expected one column or more for {task.name}: "
            "pass the targets"
        )
    if outputs.count is None:
        outputs = Outputs(range(n_columns), outputs.names)
    if targets.ndim == 1 and outputs.count == 1:
        targets = targets.reshape(-1, 1)
    if targets.shape != (n_samples, outputs.count):
        raise DataError(
            f"y has shape {targets.shape}, expected ({n_samples}, {outputs.count}) for "
            f"{task.name}: {fix}"
        )
    values = as_float32(targets)
    invalid = _first_invalid(task, values)
    if invalid is not None:
        row, column, expected = invalid
        raise DataError(
            f"y has {targets[row, column]} at row {row}, column {column} (from 0), "
            f"expected {expected}: correct it"
        )
    return Encoded(values, outputs)


def _first_invalid(task: Task, targets: NDArray[np.float32]) -> tuple[int, int, str] | None:
    """Row and column of the first target that cannot be one, and what was expected; else None.

    ``targets`` is (samples, n_outputs).
    """
    several = task is TASKS["multi-label"]
    good = (targets == 0) | (targets == 1) if several else np.isfinite(targets)
    if good.all():
        return None
    row, column = (int(at) for at in np.argwhere(~good)[0])
    return row, column, "0 or 1" if several else "a finite number"


def _one_each(answers: Answers, outputs: Outputs) -> Answers:
    """Names of one class a sample as columns: 1 where a sample has that class, else 0.

    There is one of each name of ``outputs``, or else of each name there is, sorted. Answers that
    are something else stay as they are.
    """
    values = answers.values
    if values is None or values.dtype.kind != "U" or values.size != len(values):
        return answers
    labels = values.reshape(-1)
    there = np.unique(labels).tolist()
    if not all(name and number_or_none(name) is None for name in there):
        return answers
    known = outputs.names or answers.class_names or ()
    names = tuple(known) if set(there) <= set(known) else tuple(there)
    columns = (labels[:, None] == np.array(names)).astype(np.float32)
    return replace(answers, values=columns, column_names=names, class_names=None)


def _encode_file(task: Task, answers: Answers, outputs: Outputs) -> Encoded:
    if task is TASKS["multi-label"]:
        answers = _one_each(answers, outputs)
    values = _numbers(task, answers)
    names = answers.column_names
    if names is not None and len(names) == 1 and names[0] in USUAL_NAMES:
        names = None
    if names is None and task is TASKS["multi-label"]:
        names = answers.class_names
    if names is not None and len(names) != values.shape[1]:
        raise DataError(
            f"y has {values.shape[1]} columns and there are {len(names)} names ({listing(names)}), "
            "expected one a column: write them again"
        )
    values, names = _match_columns(values, names, outputs.names, chosen=answers.chosen)
    n_targets = values.shape[1]
    if n_targets != (n_targets if outputs.count is None else outputs.count):
        given = f" ({listing(names)})" if names else ""
        columns = "choose the columns with target=, or " if outputs.count else ""
        raise DataError(
            f"it has {n_targets} target{'s' * (n_targets != 1)}{given}, expected {outputs.count}, "
            f"one an output of the model: {columns}learn new outputs with adapt and "
            "keep_outputs=False"
        )
    adopted = outputs.names is None and names is not None and outputs.count is not None
    adopted &= task is TASKS["multi-label"] and not answers.chosen
    matched = Outputs(range(n_targets), names)
    return Encoded(values, matched, names_adopted=adopted)


def _numbers(task: Task, answers: Answers) -> NDArray[np.float32]:
    """The values of a file, checked, as float32 (samples, columns)."""
    values = answers.values
    if values is None:
        raise DataError(f"it has no answers, expected columns of them for {task.name}: add y")
    table = values.reshape(len(values), -1) if values.ndim < 3 else values
    if table.ndim != 2 or table.shape[1] == 0:
        raise DataError(
            f"y has shape {values.shape}, expected (samples, outputs) for {task.name}: write it "
            "again"
        )
    names = answers.column_names

    def cell(row: int, column: int) -> str:
        place = answers.place(row)
        if names:
            return f'{place} column "{names[column]}"'
        return place if table.shape[1] == 1 else f"{place} column {column}"

    if table.dtype.kind == "U":
        table = _parsed(task, table, cell)
    if table.dtype.kind not in "fiub":
        raise DataError(
            f"the answers have dtype {table.dtype}, expected numbers for {task.name}: convert them"
        )
    targets = as_float32(table)
    invalid = _first_invalid(task, targets)
    if invalid is not None:
        row, column, expected = invalid
        raise DataError(
            f"{cell(row, column)} has {table[row, column]}, expected {expected} for {task.name}: "
            "correct it, or set another task="
        )
    return targets


def _parsed(
    task: Task, table: NDArray[Any], cell: Callable[[int, int], str]
) -> NDArray[np.float64]:
    try:
        return table.astype(np.float64)
    except ValueError:
        for (row, column), text in np.ndenumerate(table):
            if number_or_none(str(text)) is None:
                raise DataError(
                    f'{cell(row, column)} has "{brief(text)}", expected a number for '
                    f"{task.name}: correct it, or leave task= out where classes are meant"
                ) from None
        raise


def _match_columns(
    targets: NDArray[np.float32],
    names: tuple[str, ...] | None,
    known: tuple[str, ...] | None,
    *,
    chosen: bool,
) -> tuple[NDArray[np.float32], tuple[str, ...] | None]:
    """Columns in the order of the model's outputs, and what the outputs are called.

    Names put columns in their places; columns without names, or ``chosen`` under names of which
    the model knows none, are taken in their order; they keep their own names where they are not as
    many as the outputs.

    Raises:
        DataError: the model knows other names.
    """
    if known is None or names == known:
        return targets, known or names
    fits = len(known) == targets.shape[1]
    if names is None:
        return targets, known if fits else None
    if set(names) == set(known):
        return targets[:, [names.index(name) for name in known]], known
    if chosen and not set(names) & set(known):
        return targets, known if fits else names
    strangers = [name for name in names if name not in known]
    got = f'target "{strangers[0]}"' if strangers else f"targets {listing(names)} alone"
    raise DataError(
        f"it has {got}, expected {listing(known)}, the outputs of the model: choose the columns "
        "with target="
    )


# More different numbers than this are classes only if most have several samples.
_MOST_CLASSES = 20


def check_classes(encoded: Encoded) -> None:
    """Raise DataError where numbers that are learned as classes look like measured ones.

    Measured ones leave gaps or are not whole, and hardly any comes ten times; numbers that count
    classes from 0 or 1 have two samples each at least.
    """
    counts = np.bincount(encoded.y.astype(np.intp))
    places = np.flatnonzero(counts)
    titles = encoded.titles or tuple(map(str, range(len(counts))))
    texts = [titles[place] for place in places]
    given = [number_or_none(text) for text in texts]
    numbers = sorted(number for number in given if number is not None)
    if len(numbers) <= _MOST_CLASSES or len(numbers) < len(given):
        return
    whole = all(map(float.is_integer, numbers))
    gaps = not whole or not 0 <= numbers[0] <= 1 or numbers[-1] - numbers[0] >= len(numbers)
    if len(numbers) > len(encoded.y) / (10 if gaps else 2):
        raise DataError(
            f"y has {len(numbers):,} different {'whole ' * whole}numbers in {len(encoded.y):,} "
            f"samples ({listing(sorted(texts, key=float))}), expected classes with several samples "
            "each: learn numbers with task='regression', or say which holds the classes with "
            "target="
        )


def infer_task(labels: NDArray[Any]) -> Task:
    """The task that answers look like: several columns, fractions, or labels of classes."""
    try:
        labels = labels.astype(np.float64)
    except (ValueError, TypeError):
        return TASKS["classification"]
    if labels.ndim > 1:
        several = ((labels == 0) | (labels == 1)).all()
        return TASKS["multi-label" if several else "regression"]
    whole = (np.floor(labels) == labels).all()
    return TASKS["classification" if whole else "regression"]


def warn_of_numbers(targets: NDArray[Any]) -> None:
    """Say that ``targets``, (samples, 1), are 0 and 1 alone, as two classes would be.

    A model whose one output has no activation may have been trained for either.
    """
    if targets.shape[1] == 1 and np.array_equal(np.unique(targets), [0, 1]):
        warn(
            "y has 0 and 1 alone, learned as numbers since the one output of the model has no "
            "sigmoid, expected it to tell: pass task='classification' if they are two classes, "
            "task='regression' if not",
            TaskWarning,
        )
