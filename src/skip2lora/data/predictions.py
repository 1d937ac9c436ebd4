"""Predictions as a ``.csv``: one row a sample."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.data.samples import Spans, Table
from skip2lora.errors import ParameterError
from skip2lora.files import write_file
from skip2lora.tasks.task import Task, predictions_of, probabilities_of
from skip2lora.tasks.thresholds import NO_PLACE, NONE_OF_THESE, decide


def write_predictions(
    path: str | os.PathLike[str],
    task: Task,
    outputs: NDArray[np.floating[Any]],
    names: Sequence[str] | None = None,
    *,
    beside: Mapping[str, Sequence[Any]] | None = None,
    thresholds: NDArray[np.float64] | None = None,
    spans: Spans | None = None,
) -> NDArray[Any]:
    """Write a ``.csv`` with one row a sample, made from ``outputs``, (samples, n_outputs).

    Its columns are row (from 0), then of classes prediction, name if known, and p_CLASS for each;
    of several labels prediction, their names or numbers with ``;`` between, and p_CLASS for each;
    of numbers each output under its name, or prediction (prediction_0, ... of several) without.
    ``beside`` are columns to put behind these but before p_CLASS, (samples,) each, after
    probability, that of the class predicted. A class below its part of ``thresholds``,
    (n_outputs,), is not predicted: prediction is -1 and name "none of these" where none is.
    With ``spans`` of one recording a ``path`` that ends in ``.txt`` gets labels of Audacity: start
    and end of neighbouring windows of one class, and its name.
    Returns the predictions, as of :func:`~skip2lora.tasks.task.predictions_of`, -1 for none.

    Raises:
        ParameterError: ``names`` does not name each output once, or one holds what separates
            names in such a file.
        FileError: the system refused; ``path`` is as it was.
    """
    predictions, header, rows = rows_of(task, outputs, names, beside=beside, thresholds=thresholds)
    if spans is not None and Path(path).suffix.lower() == ".txt":
        titles = [str(at) for at in range(outputs.shape[1])] if names is None else list(names)
        _check_free(titles, "\t\r\n", f"{path}, labels as Audacity reads them")
        write_file(
            path, partial(_write_labels, predictions=predictions, titles=titles, spans=spans)
        )
        return predictions

    def write_table(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["row", *header])
            writer.writerows([number, *row] for number, row in enumerate(rows))

    write_file(path, write_table)
    return predictions


def rows_of(
    task: Task,
    outputs: NDArray[np.floating[Any]],
    names: Sequence[str] | None = None,
    *,
    beside: Mapping[str, Sequence[Any]] | None = None,
    thresholds: NDArray[np.float64] | None = None,
) -> tuple[NDArray[Any], list[str], Iterator[list[Any]]]:
    """The predictions, and the table that :func:`write_predictions` writes without its row numbers.

    Raises:
        ParameterError: as there.
    """
    n_outputs = outputs.shape[1]
    if names is not None and len(names) != n_outputs:
        raise ParameterError(
            f"got {len(names)} class names, expected {n_outputs}: pass one an output"
        )
    shares = probabilities_of(task, outputs)
    if shares is None or thresholds is None:
        predictions = predictions_of(task, outputs)
    else:
        predictions = decide(task, shares, thresholds)
    header, rows = _table(task, predictions, shares, names, likely=beside is not None)
    if names is not None and task.numeric_targets and shares is not None:
        _check_free(names, ";", "a .csv with the labels of a sample in one cell")
    columns = beside or {}
    known = zip(*columns.values(), strict=True) if columns else (() for _ in outputs)
    at = len(header) - (0 if shares is None else n_outputs)
    both = ([*row[:at], *own, *row[at:]] for own, row in zip(known, rows, strict=True))
    return predictions, [*header[:at], *columns, *header[at:]], both


def _check_free(names: Sequence[str], separators: str, what: str) -> None:
    """Raise ParameterError where a name holds what separates names."""
    wrong = [name for name in names if set(name) & set(separators)]
    if wrong:
        raise ParameterError(
            f"output is {what}, a class is called {wrong[0]!r}, expected names without "
            f"{' and '.join(map(repr, separators))}, which separate them there: rename that class"
        )


def _write_labels(
    temporary: Path, *, predictions: NDArray[Any], titles: Sequence[str], spans: Spans
) -> None:
    """Neighbouring windows of one class are one label; none of these has no label."""
    labels: list[list[Any]] = []
    for place, (start, end) in zip(predictions, spans.seconds, strict=True):
        if labels and labels[-1][2] == place and start <= labels[-1][1]:
            labels[-1][1] = end
        else:
            labels.append([start, end, place])
    lines = [
        f"{start:.6f}\t{end:.6f}\t{titles[place]}\n"
        for start, end, place in labels if place != NO_PLACE
    ]  # fmt: skip
    temporary.write_text("".join(lines), encoding="utf-8", newline="\n")


def check_labels_file(path: str | os.PathLike[str], task: Task, table: Table) -> None:
    """Raise ParameterError where a file of labels of Audacity cannot hold what is predicted."""
    if Path(path).suffix.lower() != ".txt" or table.spans is None:
        return
    n_files = len(set(table.files or ()))
    if n_files > 1 or task.numeric_targets:
        got = f"of {n_files} recordings" if n_files > 1 else f"for {task.name}"
        raise ParameterError(
            f"output is {path}, labels as Audacity reads them, {got}, expected classes of one "
            "recording: name a .csv"
        )


def check_name(path: str | os.PathLike[str]) -> None:
    """Raise ParameterError if a file is named as if it held something else than a ``.csv``."""
    suffix = Path(path).suffix.lower()
    if suffix in (".json", ".jsonl", ".parquet", ".xlsx", ".xls"):
        raise ParameterError(
            f"output is {path}, expected .csv at its end, as that is what is written: name it so"
        )


def _table(
    task: Task,
    predictions: NDArray[Any],
    shares: NDArray[Any] | None,
    names: Sequence[str] | None,
    *,
    likely: bool,
) -> tuple[list[str], Iterator[list[Any]]]:
    """Names of the columns behind the first, and their cells."""
    n_outputs = (predictions if shares is None else shares).shape[1]
    titles = list(names) if names is not None else [str(at) for at in range(n_outputs)]
    if shares is None:
        if names is None:
            titles = [f"prediction_{at}" for at in titles] if len(titles) > 1 else ["prediction"]
        return titles, ([*map(str, row)] for row in predictions)
    of_classes = [f"p_{title}" for title in titles]
    if task.numeric_targets:
        sets = (";".join(titles[at] for at in np.flatnonzero(row)) for row in predictions)
        return ["prediction", *of_classes], (
            [joined, *map(str, row)] for joined, row in zip(sets, shares, strict=True)
        )
    named = [] if names is None else ["name"]
    sure = ["probability"] if likely else []

    def cells(place: int, row: NDArray[Any]) -> list[Any]:
        name = NONE_OF_THESE if place == NO_PLACE else titles[place]
        return [
            place,
            *([name] if named else []),
            *([str(row.max())] if sure else []),
            *map(str, row),
        ]

    rows = (cells(int(place), row) for place, row in zip(predictions, shares, strict=True))
    return ["prediction", *named, *sure, *of_classes], rows
