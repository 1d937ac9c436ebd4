"""Read a table, of text or ``.parquet``: one row a sample, its answers in one or more columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import as_float32
from skip2lora.data import plain_text
from skip2lora.data.samples import Table
from skip2lora.data.text import open_table, otherwise
from skip2lora.errors import DataError, FileError, MissingExtraError, first_line
from skip2lora.limits import check_bytes
from skip2lora.tasks.columns import Wanted
from skip2lora.tasks.task import Answers

_BUFFER_BYTES = 1 << 16  # a column


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
        answers, others = np.split(words.reshape(len(lines), len(asked)), [len(places)], axis=1)
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
            _check_size(source, file.metadata)
            columns = _without_index(file.schema_arrow, wanted)
            places, at_features, beside = _assign(columns, wanted)
            features = [columns[at] for at in at_features]
            asked, others = ([columns[at] for at in some] for some in (places, beside))
            read = _Columns(file)
            x = read.numbers(features)
            words = {name: read.column(name).to_pylist() for name in (*asked, *others)}
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
    """The columns of a ``.parquet``, of which one is in memory at a time; what is wrong with them.

    Groups of rows would not do: those of many columns take more than all of their numbers.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._empty: dict[str, int] = {}  # the first row without a value
        self._kinds: dict[str, Any] = {}  # of what should be numbers

    def column(self, name: str) -> Any:
        """All of one."""
        column = self._file.read([name], use_threads=False)[name]
        if column.null_count:
            self._empty[name] = column.to_pylist().index(None)
        return column

    def numbers(self, names: Sequence[str]) -> NDArray[np.float32]:
        """The columns side by side, (rows, columns); what is no number is left out."""
        x = np.empty((self._file.metadata.num_rows, len(names)), np.float32)
        for number, name in enumerate(names):
            column = self.column(name)
            values = column.to_numpy()
            if values.dtype.kind in "fiub":
                x[:, number] = as_float32(values)
            else:
                self._kinds[name] = column.type
        return x

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


def _check_size(source: Path, about: Any) -> None:
    """Whether it fits into memory: one value a million times takes no bytes in the file."""
    groups = (about.row_group(at) for at in range(about.num_row_groups))
    packed = sum(group.total_byte_size for group in groups)
    check_bytes(source, max(packed, 4 * about.num_rows * about.num_columns))


def _without_index(schema: Any, wanted: Wanted) -> list[str]:
    """The columns but for those that pandas keeps its index in, unless they are asked for."""
    index = (schema.pandas_metadata or {}).get("index_columns", [])
    asked = {*(wanted.chosen or ()), *wanted.ignore, *(wanted.learned.features or ())}
    return [name for name in schema.names if name not in index or name in asked]
