"""Read a table, of text or ``.parquet``: one row a sample, its answers in one or more columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import as_float32
from skip2lora.data import plain_text
from skip2lora.data.lazy import LazySamples
from skip2lora.data.samples import Table
from skip2lora.data.spool import IN_MEMORY, check_room
from skip2lora.data.spooled import Columns, Gathered
from skip2lora.data.text import open_table
from skip2lora.errors import DataError, FileError, MissingExtraError, first_line
from skip2lora.limits import check_bytes, max_bytes
from skip2lora.tasks.columns import Wanted, otherwise
from skip2lora.tasks.task import Answers

_BUFFER_BYTES = 1 << 16  # a column
_FLOAT_BYTES = 4
_BATCH_ROWS = 1 << 16  # of a column at a time


def _assign(columns: Sequence[str], wanted: Wanted) -> tuple[list[int], list[int], list[int]]:
    """Places of answers, of features and of others, after a check that names are distinct."""
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
    return wanted.assign(columns)


def _squeezed(answers: NDArray[Any]) -> NDArray[Any]:
    """(samples,) of one column, else (samples, columns)."""
    return answers.reshape(-1) if answers.shape[-1:] == (1,) else answers


def read_csv(source: Path, wanted: Wanted) -> Table:
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


def _read_text(source: Path, wanted: Wanted, encoding: str | None) -> Table:
    with open_table(source, encoding) as text:
        places, at_features, beside = _assign(text.columns, wanted)
        asked = [*places, *beside]
        optional = not wanted.required
        plain = None
        if encoding is None and source.stat().st_size >= plain_text.LEAST_BYTES:
            plain = plain_text.plain_values(text, at_features, asked, optional=optional)
        x, words, lines = plain or text.values(asked, at_features, optional=optional)
        answers, others = np.split(words, [len(places)], axis=1)
    return Table(
        x=x,
        answers=Answers(
            _squeezed(answers) if places else None,
            column_names=tuple(text.columns[at] for at in places) or None,
            place=lambda row: f"row {row} (from 0, line {lines[row]})",
        ),
        columns=wanted.columns([text.columns[at] for at in at_features]),
        aside=dict(zip(wanted.aside, others.T, strict=True)),
        notes=text.notes,
    )


def read_parquet(source: Path, wanted: Wanted) -> Table:
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
        with pyarrow.parquet.ParquetFile(source, buffer_size=_BUFFER_BYTES) as file:
            columns = _without_index(file.schema_arrow, wanted)
            places, at_features, beside = _assign(columns, wanted)
            features = [columns[at] for at in at_features]
            asked, others = ([columns[at] for at in some] for some in (places, beside))
            _check_size(source, file.metadata, len(features), [*asked, *others])
            read = _Columns(file)
            x = read.numbers(source, features)
            words = {name: read.words(name) for name in (*asked, *others)}
    except (pyarrow.ArrowException, OSError) as error:
        # Ours, or the system's word and not pyarrow's.
        if isinstance(error, FileError) or getattr(error, "errno", None) is not None:
            raise
        raise DataError(
            f"it is damaged or no .parquet ({first_line(error)}), "
            "expected a whole file: write it again"
        ) from error
    read.check([*features, *others, *(asked if wanted.required else ())])
    filled = [["" if v is None else v for v in words[name]] for name in asked]
    answers = np.array(filled).T
    return Table(
        x=x,
        answers=Answers(
            _squeezed(answers) if places else None,
            column_names=tuple(columns[at] for at in places) or None,
        ),
        columns=wanted.columns(features),
        aside={
            keyword: np.array(words[name])
            for keyword, name in zip(wanted.aside, others, strict=True)
        },
    )


class _Columns:
    """The columns of a ``.parquet``, one after the other, and what is wrong with them.

    All columns of a group of rows at a time would not do: of many columns, pages take more than all
    of their numbers.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._empty: dict[str, int] = {}  # the first row without a value
        self._kinds: dict[str, Any] = {}  # of what should be numbers

    def _batches(self, name: str, groups: Sequence[int], first_row: int) -> Iterator[Any]:
        """One column of some groups of rows, which begin with ``first_row``, a part at a time."""
        row = first_row
        for batch in self._file.iter_batches(
            _BATCH_ROWS, row_groups=groups, columns=[name], use_threads=False
        ):
            values = batch.column(name)
            if values.null_count and name not in self._empty:
                self._empty[name] = row + values.to_pylist().index(None)
            yield values
            row += len(values)

    def words(self, name: str) -> list[Any]:
        """All of one column."""
        groups = range(self._file.metadata.num_row_groups)
        return [word for part in self._batches(name, groups, 0) for word in part.to_pylist()]

    def numbers(self, source: Path, names: Sequence[str]) -> NDArray[Any] | LazySamples:
        """The columns side by side, (rows, columns); what is no number is left out."""
        gathered, row = Gathered(source, (len(names),)), 0
        for groups, n_rows in self._pieces(len(names)):
            if _FLOAT_BYTES * n_rows * len(names) <= IN_MEMORY:
                x = np.empty((n_rows, len(names)), np.float32)
                for number, name in enumerate(names):
                    at = 0
                    for values in self._numbers(name, groups, row):
                        x[at : at + len(values), number] = values
                        at += len(values)
                gathered.append(x)
            else:
                columns = Columns(n_rows)
                for name in names:
                    for values in self._numbers(name, groups, row):
                        columns.append(values)
                for rows in columns.rows():
                    gathered.append(rows)
            row += n_rows
        return gathered.samples()

    def _numbers(
        self, name: str, groups: Sequence[int], first_row: int
    ) -> Iterator[NDArray[np.float32]]:
        for part in self._batches(name, groups, first_row):
            values = part.to_numpy(zero_copy_only=False)
            if values.dtype.kind not in "fiub":
                self._kinds[name] = part.type
                values = np.zeros(len(part), np.float32)
            yield as_float32(values)

    def _pieces(self, n_columns: int) -> Iterator[tuple[list[int], int]]:
        """Groups of rows that are read together, and their rows: as many as fit into memory."""
        about, groups, n_rows = self._file.metadata, list[int](), 0
        for group in range(about.num_row_groups):
            more = about.row_group(group).num_rows
            if groups and _FLOAT_BYTES * (n_rows + more) * n_columns > IN_MEMORY:
                yield groups, n_rows
                groups, n_rows = [], 0
            groups, n_rows = [*groups, group], n_rows + more
        if groups:
            yield groups, n_rows

    def check(self, filled: Sequence[str]) -> None:
        """Raise DataError for an empty cell of these columns, or for what is no number."""
        for name in filled:
            if name in self._empty:
                raise DataError(
                    f'row {self._empty[name]} (from 0) column "{name}" is empty, expected a value: '
                    "fill the cell, or remove the row"
                )
        for name, kind in self._kinds.items():
            raise DataError(
                f'column "{name}" is {kind}, expected numbers: convert it, '
                f"{otherwise([*self._kinds])}"
            )


def _check_size(source: Path, about: Any, n_features: int, names: Sequence[str]) -> None:
    """Room for numbers, and memory for the columns of these ``names`` and for any part of one.

    One value a million times takes no bytes in the file.
    """
    check_room(source, _FLOAT_BYTES * about.num_rows * n_features)
    groups = [about.row_group(at) for at in range(about.num_row_groups)]
    columns = [groups[0].column(at).path_in_schema for at in range(about.num_columns) if groups]
    places = [at for at, name in enumerate(columns) if name in names]
    n_bytes = sum(group.column(at).total_uncompressed_size for group in groups for at in places)
    check_bytes(source, max(n_bytes, _FLOAT_BYTES * about.num_rows * len(names)))
    for group in groups:
        if group.total_byte_size > max_bytes():
            each = (group.column(at).total_uncompressed_size for at in range(len(columns)))
            check_bytes(source, max(each))


def _without_index(schema: Any, wanted: Wanted) -> list[str]:
    """The columns but for those that pandas keeps its index in, unless they are asked for."""
    index = (schema.pandas_metadata or {}).get("index_columns", [])
    asked = {*(wanted.chosen or ()), *wanted.ignore, *(wanted.learned.features or ())}
    return [name for name in schema.names if name not in index or name in asked]
