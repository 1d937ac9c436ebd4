"""Read a table, ``.csv`` or ``.parquet``: one row a sample, its answers in one or more columns."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import as_float32, listing, number_or_none
from skip2lora.data.samples import Table
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
    """Read a ``.csv``: a header, then numbers, and text or numbers in the columns of answers.

    Raises:
        DataError: damaged, an empty or missing cell, text where a number is expected.
    """
    rows: list[NDArray[np.float32]] = []
    answers: list[list[str]] = []
    lines: list[int] = []
    try:
        with source.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            columns = _csv_header(next(reader, []))
            places = _check_names(columns, wanted)
            features = [name for at, name in enumerate(columns) if at not in places]
            for cells in reader:
                if not cells:
                    continue  # a blank line, often the last
                lines.append(reader.line_num)
                place = f"row {len(lines) - 1} (from 0, line {reader.line_num})"
                if len(cells) != len(columns):
                    raise DataError(
                        f"{place} has {len(cells)} cells, expected {len(columns)} as in the "
                        "header: correct the row"
                    )
                answers.append([_filled(cells[at].strip(), place, columns[at]) for at in places])
                left = [cell for at, cell in enumerate(cells) if at not in places]
                rows.append(_numbers(left, place, features))
    except csv.Error as error:
        raise DataError(
            f"it is damaged or no .csv ({error}), expected comma-separated text: export it again"
        ) from error
    return Table(
        x=np.array(rows, np.float32).reshape(len(rows), len(features)),
        answers=Answers(
            _squeezed(np.array(answers, np.str_)) if places else None,
            column_names=tuple(columns[at] for at in places) or None,
            place=lambda row: f"row {row} (from 0, line {lines[row]})",
        ),
        feature_names=tuple(features),
    )


def _csv_header(cells: list[str]) -> list[str]:
    columns = [cell.strip() for cell in cells]
    # pandas calls columns without names 0, 1, 2, ...: a header, unlike any other row of numbers.
    counted = columns == [str(number) for number in range(len(columns))]
    if not columns or (not counted and _all_numbers(columns)):
        got = "is blank" if not columns else "holds only numbers"
        raise DataError(f"line 1 {got}, expected the column names: add a header row")
    return columns


def _all_numbers(cells: list[str]) -> bool:
    try:
        for cell in cells:
            float(cell)
    except ValueError:
        return False
    return True


def _numbers(cells: list[str], place: str, columns: list[str]) -> NDArray[np.float32]:
    try:
        return as_float32(np.array([float(cell) for cell in cells], np.float64))
    except ValueError:
        for cell, column in zip(cells, columns, strict=True):
            if number_or_none(_filled(cell, place, column)) is None:
                raise DataError(
                    f'{place} column "{column}" has "{cell[:40]}", expected a number: correct it, '
                    "or name the columns of answers with target="
                ) from None
        raise


def _filled(cell: str, place: str, column: str) -> str:
    if not cell.strip():
        raise DataError(f'{place} column "{column}" is empty, expected a value: fill the cell')
    return cell


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
            _filled("", f"row {row} (from 0)", name)
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
