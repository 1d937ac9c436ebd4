"""A table as text, ``.csv`` or ``.tsv``, packed or not: how it is written is found out and told.

Cells are separated by commas, semicolons, tabs or bars, and numbers have a point or a comma. A
first line ``sep=;``, lines that begin with ``#`` before the header, a row of units below it and
empty cells at the end of rows are understood. What could mean two things is refused.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import as_float32
from skip2lora.data.lazy import LazySamples
from skip2lora.data.spooled import Gathered, Words
from skip2lora.errors import DataError, brief
from skip2lora.limits import check_bytes, max_bytes
from skip2lora.tasks.columns import otherwise

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_DECIMALS = {".": "a decimal point", ",": "a decimal comma"}
_SAMPLED = 1000  # lines that tell how a file is written
_MOST_CHARACTERS = 1 << 26  # a line
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_COMMA_NUMBER = re.compile(r"[+-]?[0-9]*,[0-9]+(?:[eE][+-]?[0-9]+)?")
# What may be a thousand and more, or one and a fraction.
_THREE_DIGITS = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}")
_DIGIT_FIRST = re.compile(r"[+-]?[.,]?\d")  # of any script
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?:[,.'\u2019_ \u00a0\u2009\u202f][0-9]{3})+(?:[.,][0-9]*)?")
_WORDS = {"true": 1.0, "false": 0.0}
#: Words that stand for a missing value in numbers and in labels; "none" may be a class.
MISSING = frozenset(("na", "n/a", "#n/a", "nan", "<na>", "null", "nil"))
_MISSING_NUMBER = MISSING | {"none", "-", "--", "?", "missing"}
_OTHER_KINDS = {
    b"PK\x03\x04": "a .zip or an Excel file",
    b"\xd0\xcf\x11\xe0": "an Excel file",
    b"PAR1": "a .parquet file",
}


class Record(NamedTuple):
    """A row of cells, and the line that it ends in, counted from 1."""

    line: int
    cells: list[str]


@dataclass(frozen=True)
class Dialect:
    """How a table is written: what stands between cells, and in numbers."""

    delimiter: str = ","
    decimal: str = "."

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not as in most files, in a line."""
        cells = f"{_DELIMITERS.get(self.delimiter, self.delimiter)} between cells"
        said = {cells: self.delimiter != ",", _DECIMALS[self.decimal]: self.decimal != "."}
        unusual = [words for words, is_unusual in said.items() if is_unusual]
        return (f"read with {' and '.join(unusual)}",) if unusual else ()


@dataclass(frozen=True, eq=False)
class TextTable:
    """Names of the columns, then rows as they come; ``notes`` say what was understood."""

    columns: tuple[str, ...]
    records: Iterator[Record]
    dialect: Dialect
    notes: tuple[str, ...]
    source: Path
    first_row: int = 0  # of ``records``, where some were taken before

    def values(
        self, places: Sequence[int], features: Sequence[int], *, optional: bool = False
    ) -> tuple[NDArray[np.float32] | LazySamples, NDArray[np.str_], Sequence[int]]:
        """Numbers (rows, features), answers in the columns ``places``, lines of the rows.

        Answers that are ``optional`` may be missing: an empty text.

        Raises:
            DataError: a row of another width, a cell that is missing or no number.
            FileError: answers take more than the memory allowed, or numbers have no room.
        """
        x, lines = Gathered(self.source, (len(features),)), array("q")
        words = Words(self.source, len(places))
        names = [self.columns[at] for at in features]
        for line, place, cells in self._rows():
            lines.append(line)
            words.append(
                [self.answer(cells[at], place, self.columns[at], optional) for at in places]
            )
            x.add(self._numbers([cells[at] for at in features], place, names))
        return x.samples(), words.all(), lines

    def _rows(self) -> Iterator[tuple[int, str, list[str]]]:
        """Line, place (for errors) and cells of each row, as many cells as there are columns."""
        width, row, empty = len(self.columns), self.first_row, ""
        for line, cells in self.records:
            if not cells:
                continue  # a blank line
            place = f"row {row} (from 0, line {line})"
            if not any(cell.strip() for cell in cells):
                empty = empty or place  # as spreadsheets leave below a table
                continue
            if empty:
                raise DataError(f"{empty} is empty, expected values: remove it, or fill it in")
            while len(cells) > width and not cells[-1].strip():
                cells.pop()
            if len(cells) != width:
                raise DataError(
                    f"{place} has {len(cells)} cells, expected {width} as in the header: "
                    "correct the row"
                )
            yield line, place, cells
            row += 1

    def answer(self, cell: str, place: str, column: str, optional: bool) -> str:
        """The cell of an answer, a number with a point, or DataError where it is missing."""
        if optional and (not cell.strip() or cell.strip().lower() in MISSING):
            return ""
        text = _filled(cell.strip(), place, column, MISSING)
        if self.dialect.decimal == "," and _COMMA_NUMBER.fullmatch(text):
            return text.replace(",", ".")
        return text

    def _numbers(self, cells: list[str], place: str, columns: Sequence[str]) -> NDArray[np.float32]:
        """The cells as numbers, (columns,)."""
        text = "".join(cells)
        comma = self.dialect.decimal == ","
        if text.isascii() and "_" not in text and not (comma and "." in text):
            decimals = [cell.replace(",", ".") for cell in cells] if comma else cells
            with suppress(ValueError):
                return as_float32(np.array([float(cell) for cell in decimals], np.float64))
        named = dict(zip(columns, cells, strict=True))
        values = [self._number(cell, name, place, named) for name, cell in named.items()]
        return as_float32(np.array(values, np.float64))

    def _number(self, cell: str, column: str, place: str, row: dict[str, str]) -> float:
        text = _filled(cell.strip(), place, column, _MISSING_NUMBER)
        at = f'{place} column "{column}"'
        if text.lower() in _WORDS:
            return _WORDS[text.lower()]
        decimal = self.dialect.decimal
        other = "." if decimal == "," else ","
        number = text.replace(decimal, ".") if other not in text else ""
        if _NUMBER.fullmatch(number) or number.lower().lstrip("+-") in ("inf", "infinity"):
            return float(number)
        if _GROUPED.fullmatch(text):
            raise DataError(
                f'{at} has "{brief(text)}", with thousands separators, expected a number without '
                f"them, with {_DECIMALS[decimal]}: export it without"
            )
        if _is_number(text):
            raise DataError(
                f'{at} has "{brief(text)}", expected a number with {_DECIMALS[decimal]}, as others '
                "here: export it again"
            )
        is_text = (name == column or not _DIGIT_FIRST.match(row[name].strip()) for name in row)
        names = [name for name, is_one in zip(row, is_text, strict=True) if is_one]
        raise DataError(
            f'{at} has "{brief(text)}", expected a number: correct it, {otherwise(names)}'
        )


def _filled(cell: str, place: str, column: str, missing: frozenset[str]) -> str:
    if cell and cell.lower() not in missing:
        return cell
    got = f'has "{cell}", a missing value' if cell else "is empty"
    raise DataError(
        f'{place} column "{column}" {got}, expected a value: fill the cell, or remove the row'
    )


@contextmanager
def open_table(source: Path, encoding: str | None = None) -> Iterator[TextTable]:
    """Yield the table in ``source``, of text in ``encoding``, UTF-8 or UTF-16 unless told.

    Raises:
        DataError: it is damaged or no such table, or could be read in two ways.
        UnicodeDecodeError: its text has another encoding.
    """
    with source.open("rb") as raw:
        head = raw.read(4)
    for magic, kind in _OTHER_KINDS.items():
        if head.startswith(magic):
            raise DataError(f"it is {kind}, expected text: export it as .csv, or name it so")
    if encoding is None:
        encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        opener = gzip.open if head.startswith(b"\x1f\x8b") else open
        with opener(source, "rt", encoding=encoding, newline="") as stream:
            yield _table(stream, source)
    except (csv.Error, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"it is damaged or no .csv ({error}), expected text with a delimiter: export it again"
        ) from error


def _lines(stream: IO[str]) -> Iterator[str]:
    """Its lines; a carriage return alone ends one too."""
    for number, line in enumerate(iter(lambda: stream.readline(_MOST_CHARACTERS), ""), 1):
        if len(line) == _MOST_CHARACTERS:
            raise DataError(
                f"line {number} has more than {_MOST_CHARACTERS:,} characters, expected a row of "
                "cells: was it written with line breaks?"
            )
        if "\0" in line:
            raise DataError(
                f"line {number} has NUL characters, expected text: was the writing cut off, or is "
                "it UTF-16? remove them, or save it as UTF-8"
            )
        yield line


def _head(lines: Iterator[str], source: Path) -> Iterator[str]:
    """The first lines, which are in memory at once: a few bytes of .gz may hold any number."""
    n_read, limit = 0, max_bytes()
    for line in islice(lines, _SAMPLED):
        if (n_read := n_read + len(line)) > limit:
            check_bytes(source, n_read)
        yield line


def _table(stream: IO[str], source: Path) -> TextTable:
    lines = _lines(stream)
    first, skipped = next(lines, ""), 0
    separator = re.fullmatch(r"\"?sep=(.)\"?[;,]*\s*", first, re.IGNORECASE)
    if separator:
        first, skipped = next(lines, ""), 1
    n_comments, comment = 0, ""
    while first and (not first.strip() or first.lstrip().startswith("#")):
        skipped += 1
        if first.strip():
            n_comments, comment = n_comments + 1, first
        first = next(lines, "")
    sampled = [first, *_head(lines, source)]
    delimiter = separator[1] if separator else _find_delimiter(sampled)
    notes = []
    if n_comments:
        notes.append(f"lines that begin with # are left out ({n_comments} before the table)")
        heading = comment.lstrip().removeprefix("#")
        if _is_header(heading, sampled, delimiter):  # as numpy.savetxt writes it
            sampled.insert(0, heading)
            skipped -= 1
            notes = ["its columns are named in a comment"]
    cells = _cells(sampled, delimiter)
    columns = _columns(cells, skipped + 1)
    dialect = Dialect(delimiter, _find_decimal(cells[1:], columns, delimiter))
    reader = csv.reader(chain(sampled, lines), strict=True, **_spelled(delimiter))
    next(reader, None)
    records = (
        Record(skipped + reader.line_num, record)
        for record in reader
        if not (n_comments and "".join(record[:1]).startswith("#"))
    )
    unit = _unit(cells[1:])
    if unit is not None:
        line = next(records).line
        notes.append(f'line {line} is left out, as it has units ("{unit}")')
    return TextTable(columns, records, dialect, (*dialect.notes, *notes), source)


def _spelled(delimiter: str) -> dict[str, Any]:
    """How to read cells; a space after a delimiter belongs to none."""
    return {"delimiter": delimiter, "skipinitialspace": delimiter != "\t"}


def _cells(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """Rows of stripped cells; the last may be cut off where its cells hold line breaks."""
    rows = csv.reader(lines, **_spelled(delimiter))
    return [[cell.strip() for cell in cells] for cells in rows if cells]


def _is_number(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell) or _COMMA_NUMBER.fullmatch(cell))


def _find_delimiter(lines: Sequence[str]) -> str:
    """What makes the most numbers, and the least of anything else, of rows as wide as the header.

    Raises:
        DataError: two do so equally.
    """
    scores: dict[str, int] = {}
    widths: dict[str, int] = {}
    for delimiter in _DELIMITERS:
        try:
            header, *rows = _cells(lines, delimiter) or [[]]
        except csv.Error:  # a cell as long as a row
            continue
        widths[delimiter] = len(header)
        fitting = [cell for row in rows if len(row) == len(header) > 1 for cell in row]
        n_numbers = sum(map(_is_number, fitting))
        if n_numbers:
            scores[delimiter] = 2 * n_numbers - len(fitting)
    if not scores:  # the header alone tells
        _check_spaces(lines, widths)
        return max(widths, key=lambda delimiter: widths[delimiter], default=",")
    best = max(scores.values())
    likely = [delimiter for delimiter, score in scores.items() if score == best]
    if len(likely) > 1:
        names = " or ".join(_DELIMITERS[each] for each in likely)
        raise DataError(
            f"its cells may be separated by {names}, expected one of them to be clear, as after a "
            'line such as "sep=;" at the top: add one'
        )
    return likely[0]


def _check_spaces(lines: Sequence[str], widths: dict[str, int]) -> None:
    """Raise DataError where numbers stand side by side with nothing but spaces between them."""
    words = lines[1].split() if len(lines) > 1 else []
    if max(widths.values(), default=0) < 2 <= sum(map(_is_number, words)):
        raise DataError(
            "its cells are separated by spaces, expected commas, semicolons, tabs or bars: "
            "export it again"
        )


def _is_header(line: str, following: Sequence[str], delimiter: str) -> bool:
    """Whether a comment names the columns of what follows."""
    names, *rows = _cells([line, *following], delimiter) or [[]]
    same = bool(rows) and len(names) == len(rows[0]) > 1
    return same and any(map(_is_number, rows[0])) and not any(map(_is_number, names))


def _columns(cells: list[list[str]], line: int) -> tuple[str, ...]:
    """Names of the columns, of rows of cells of which the first is to be the header.

    Raises:
        DataError: it is none.
    """
    columns, *rows = cells or [[]]
    names = list(columns)
    # Separators at the end of each row make a column without a name or anything else.
    while len(names) > 1 and not names[-1] and not any(any(row[len(names) - 1 :]) for row in rows):
        names.pop()
    # pandas calls columns without names 0, 1, 2, ...: a header, unlike any other row of numbers.
    counted = names == [str(number) for number in range(len(names))]
    texts = [at for at, name in enumerate(names) if not _is_number(name)]
    got = "" if texts or counted else "holds only numbers"
    if not names:
        got = "is blank"
    elif len(texts) < len(names) and any(
        names[at] in row[at : at + 1] for at in texts for row in rows
    ):
        got = f'has numbers and "{names[texts[0]]}", as rows below it'
    if got:
        raise DataError(f"line {line} {got}, expected the column names: add a header row")
    return tuple(names)


def _find_decimal(rows: Sequence[list[str]], columns: Sequence[str], delimiter: str) -> str:
    """A point, or a comma where that alone makes numbers of cells.

    Raises:
        DataError: it may separate thousands as well, as a point may where semicolons stand between
            cells.
    """
    cells = [(cell, at) for row in rows for at, cell in enumerate(row)]
    commas = [(cell, at) for cell, at in cells if _COMMA_NUMBER.fullmatch(cell)]
    points = [(cell, at) for cell, at in cells if "." in cell and _NUMBER.fullmatch(cell)]
    doubtful = points if delimiter == ";" and not commas else commas if not points else []
    if doubtful and all(_THREE_DIGITS.fullmatch(cell) for cell, _ in doubtful):
        cell, at = doubtful[0]
        raise DataError(
            f'column "{columns[at] if at < len(columns) else at}" has "{cell}", which may be a '
            "thousand and more or a fraction, expected that to be clear: export it with commas "
            "between cells and decimal points"
        )
    return "," if commas and not points else "."


def _unit(rows: Sequence[list[str]]) -> str | None:
    """A cell of the first row, where that has units of the numbers below; None where it has not."""
    if len(rows) < 2:
        return None
    first, *others = rows
    if any(map(_DIGIT_FIRST.match, first)) or any(
        cell in row[at : at + 1] for at, cell in enumerate(first) if cell for row in others
    ):
        return None
    known = _MISSING_NUMBER | _WORDS.keys()
    units = [at for at, cell in enumerate(first) if cell and cell.lower() not in known]
    measured = [at for at in units if any(map(_is_number, others[0][at : at + 1]))]
    return first[measured[0]] if measured else None
