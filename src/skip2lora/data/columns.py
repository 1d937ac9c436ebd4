"""Which columns of a file hold the answers, and answers that are numbers, checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import as_float32, listing, number_or_none
from skip2lora.errors import DataError
from skip2lora.tasks.task import TASKS, Task, first_flaw

#: What the only column of answers is called, unless told otherwise.
USUAL_NAMES = ("label", "y", "target")


@dataclass(frozen=True)
class Wanted:
    """The answers to look for: ``asked`` by the user, else ``known`` outputs, else the usual name.

    ``required`` says that they must be there.
    """

    asked: tuple[str, ...] | None = None
    known: tuple[str, ...] | None = None
    required: bool = True


def find_answers(columns: Sequence[str], wanted: Wanted, what: str = "columns") -> list[int] | None:
    """Places of the columns that hold the answers, in the order asked for; None without any.

    Raises:
        DataError: one that is asked for or required is not there.
    """
    if wanted.asked is not None:
        missing = [name for name in wanted.asked if name not in columns]
        if missing:
            raise DataError(
                f'it has {what} {listing(columns)}, expected one called "{missing[0]}": '
                "correct --target"
            )
        twice = [name for at, name in enumerate(wanted.asked) if name in wanted.asked[:at]]
        if twice:
            raise DataError(
                f'--target names column "{twice[0]}" twice, expected each column once: correct it'
            )
        return [columns.index(name) for name in wanted.asked]
    if wanted.known and set(wanted.known) <= set(columns):
        return [columns.index(name) for name in wanted.known]
    for name in USUAL_NAMES:
        if name in columns:
            return [columns.index(name)]
    if not wanted.required:
        return None
    told = f" (or all of {listing(wanted.known)})" if wanted.known else ""
    raise DataError(
        f'it has {what} {listing(columns)}, expected one called "label", "y" or "target"{told} '
        "with the answers: say which hold them with --target"
    )


def guessed(labels: NDArray[Any]) -> Task:
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


def number_targets(
    task: Task,
    answers: NDArray[Any],
    names: tuple[str, ...] | None,
    place: Callable[[int], str],
) -> NDArray[np.float32]:
    """Answers of a file, (samples,) or (samples, outputs), as float32 (samples, outputs).

    ``names`` are those of the columns, ``place(row)`` names a row, counted from 0, in errors.

    Raises:
        DataError: text, NaN, other than 0 and 1 where several labels are told.
    """
    table = answers.reshape(len(answers), -1) if answers.ndim < 3 else answers
    if table.ndim != 2 or table.shape[1] == 0:
        raise DataError(
            f"y has shape {answers.shape}, expected (samples, outputs) for {task.name}: write it "
            "again"
        )

    def told(row: int, column: int) -> str:
        if names:
            return f'{place(row)} column "{names[column]}"'
        return place(row) if table.shape[1] == 1 else f"{place(row)} column {column}"

    if table.dtype.kind == "U":
        table = _parsed(task, table, told)
    if table.dtype.kind not in "fiub":
        raise DataError(
            f"the answers have dtype {table.dtype}, expected numbers for {task.name}: convert them"
        )
    values = as_float32(table)
    flaw = first_flaw(task, values)
    if flaw is not None:
        row, column, wanted = flaw
        raise DataError(
            f"{told(row, column)} has {table[row, column]}, expected {wanted} for {task.name}: "
            "correct it, or set another --task"
        )
    return values


def _parsed(
    task: Task, table: NDArray[Any], told: Callable[[int, int], str]
) -> NDArray[np.float64]:
    try:
        return table.astype(np.float64)
    except ValueError:
        for (row, column), text in np.ndenumerate(table):
            if number_or_none(str(text)) is None:
                raise DataError(
                    f'{told(row, column)} has "{str(text)[:40]}", expected a number for '
                    f"{task.name}: correct it, or leave --task out where classes are meant"
                ) from None
        raise


def matched(
    targets: NDArray[np.float32],
    names: tuple[str, ...] | None,
    known: tuple[str, ...] | None,
    *,
    asked: bool,
) -> tuple[NDArray[np.float32], tuple[str, ...] | None]:
    """Columns in the order of the model's outputs, and what the outputs are called.

    Names put columns in their places; columns without names, or ``asked`` for under names of which
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
    if asked and not set(names) & set(known):
        return targets, known if fits else names
    strangers = [name for name in names if name not in known]
    got = f'target "{strangers[0]}"' if strangers else f"targets {listing(names)} alone"
    raise DataError(
        f"it has {got}, expected {listing(known)}, the outputs of the model: choose the columns "
        "with --target"
    )
