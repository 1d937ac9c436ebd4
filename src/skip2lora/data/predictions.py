"""Predictions as a ``.csv``: one row a sample."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
) -> NDArray[Any]:
    """Write a ``.csv`` with one row a sample, made from ``outputs``, (samples, n_outputs).

    Its columns are row (from 0), then of classes prediction, name if known, and p_CLASS for each;
    of several labels prediction, their names or numbers with ``;`` between, and p_CLASS for each;
    of numbers each output under its name, or prediction (prediction_0, ... of several) without.
    ``beside`` are columns to put behind these but before p_CLASS, (samples,) each, after
    probability, that of the class predicted. A class below its part of ``thresholds``,
    (n_outputs,), is not predicted: prediction is -1 and name "none of these" where none is.
    Returns the predictions, as of :func:`~skip2lora.tasks.task.predictions_of`, -1 for none.

    Raises:
        ParameterError: ``names`` does not name each output once.
        FileError: the system refused; ``path`` is as it was.
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
    columns = beside or {}
    known = zip(*columns.values(), strict=True) if columns else (() for _ in outputs)
    at = len(header) - (0 if shares is None else n_outputs)

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["row", *header[:at], *columns, *header[at:]])
            cells = enumerate(zip(known, rows, strict=True))
            writer.writerows([number, *row[:at], *own, *row[at:]] for number, (own, row) in cells)

    write_file(path, write)
    return predictions


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
