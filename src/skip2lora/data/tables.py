"""Read a table, of text or ``.parquet``: one row a sample, its answers in one or more columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import as_float32, listing
from skip2lora.data.samples import Table
from skip2lora.data.text import open_table
from skip2lora.errors import DataError, MissingExtraError, first_line
from skip2lora.tasks.targets import USUAL_NAMES
from skip2lora.tasks.task import Answers


@dataclass(frozen=True)
class AnswerColumns:
    """The answers to look for: ``chosen`` by the user, else ``known`` outputs, else a usual name.

    ``required`` says that they must be there.
    """

    chosen: tuple[str, ...] | None = None
    known: tuple[str, ...] | None = None
    required: bool = True


def find_answers(
    columns: Sequence[str], wanted: AnswerColumns, what: str = "columns"
) -> list[int] | None:
    """Places of the columns that hold the answers, in the order asked for; None without any.

    Raises:
        DataError: one that is asked for or required is not there.
    """
    if wanted.chosen is not None:
        missing = [name for name in wanted.chosen if name not in columns]
        if missing:
            raise DataError(
                f'it has {what} {listing(columns)}, expected one called "{missing[0]}": '
                "correct target="
            )
        twice = [name for at, name in enumerate(wanted.chosen) if name in wanted.chosen[:at]]
        if twice:
            raise DataError(
                f'target= names column "{twice[0]}" twice, expected each column once: correct it'
            )
        return [columns.index(name) for name in wanted.chosen]
    if wanted.known and set(wanted.known) <= set(columns):
        return [columns.index(name) for name in wanted.known]
    for name in USUAL_NAMES:
        if name in columns:
            return [columns.index(name)]
    if not wanted.required:
        return None
    outputs = f" (or all of {listing(wanted.known)})" if wanted.known else ""
    raise DataError(
        f'it has {what} {listing(columns)}, expected one called "label", "y" or "target"{outputs} '
        "with the answers: say which hold them with target="
    )


def _check_names(columns: Sequence[str], wanted: AnswerColumns) -> list[int]:
    """Places of the columns with answers, after a check that columns have distinct names."""
    seen: set[str] = set()
    for number, name in enumerate(columns):
        if not name.strip():
            raise DataError(
                f"column {number} (from 0) has no name, expected a name for each column: "
                "name it, or remove it if it is an index"
            )
        if name in seen:
            raise DataError(f'column "{name}" is there twice, expected once: rename one')
        seen.add(name)
    return find_answers(columns, wanted) or []


def _squeezed(answers: NDArray[Any]) -> NDArray[Any]:
    """(samples,) of one column, else (samples, columns)."""
    return answers.reshape(-1) if answers.shape[-1:] == (1,) else answers


def read_csv(source: Path, wanted: AnswerColumns) -> Table:
    """Read a table of text: a header, then numbers, and text or numbers in the columns of answers.

    Raises:
        DataError: damaged, an empty or missing cell, text where a number is expected.
        UnicodeDecodeError: its text is in another encoding than UTF-8, UTF-16 and Windows-1252.
    """
    try:
        return _read_text(source, wanted, None)
    except UnicodeDecodeError:
        read = _read_text(source, wanted, "cp1252")
        return replace(read, notes=(*read.notes, "its text is read as Windows-1252, not UTF-8"))


def _read_text(source: Path, wanted: AnswerColumns, encoding: str | None) -> Table:
    with open_table(source, encoding) as text:
        places = _check_names(text.columns, wanted)
        x, answers, lines = text.values(places)
    return Table(
        x=x,
        answers=Answers(
            _squeezed(answers) if places else None,
            column_names=tuple(text.columns[at] for at in places) or None,
            place=lambda row: f"row {row} (from 0, line {lines[row]})",
        ),
        feature_names=tuple(name for at, name in enumerate(text.columns) if at not in places),
        notes=text.notes,
    )


def read_parquet(source: Path, wanted: AnswerColumns) -> Table:
    """Read a ``.parquet``: columns of numbers, and of text or numbers with the answers.

    Raises:
        DataError: damaged, missing values, a column that is no number.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(
            f"reading {source} needs pyarrow: pip install 'skip2lora[parquet]', or use .npz or .csv"
        ) from error
    try:
        # ParquetFile, unlike read_table, adds no columns guessed from folder names.
        with pyarrow.parquet.ParquetFile(source) as file:
            table = file.read()
    except (pyarrow.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:  # the system's word, not pyarrow's
            raise
        raise DataError(
            f"it is damaged or no .parquet ({first_line(error)}), "
            "expected a whole file: write it again"
        ) from error
    columns = list(table.column_names)
    places = _check_names(columns, wanted)
    features = [name for at, name in enumerate(columns) if at not in places]
    for name in columns:
        if table[name].null_count:
            row = table[name].to_pylist().index(None)
            raise DataError(
                f'row {row} (from 0) column "{name}" is empty, expected a value: fill the cell, or '
                "remove the row"
            )
    x = np.empty((table.num_rows, len(features)), np.float32)
    for number, name in enumerate(features):
        kind = table.schema.field(name).type
        values = table[name].to_numpy()
        if values.dtype.kind not in "fiub":
            raise DataError(
                f'column "{name}" is {kind}, expected numbers: convert or remove it, '
                "or name the columns of answers with target="
            )
        x[:, number] = as_float32(values)
    answers = np.array([table[columns[at]].to_pylist() for at in places]).T
    return Table(
        x=x,
        answers=Answers(
            _squeezed(answers) if places else None,
            column_names=tuple(columns[at] for at in places) or None,
        ),
        feature_names=tuple(features),
    )
