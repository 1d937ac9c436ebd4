"""Large plain tables of text by pyarrow's reader, in a quarter of the time, where it is installed.

Only where both readers say the same: bare cells or cells in quotation marks from end to end, a line
a row, and finite numbers. Anything else, and every refusal, is left to :mod:`skip2lora.data.text`.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import as_float32
from skip2lora.data.lazy import LazySamples
from skip2lora.data.spool import check_room
from skip2lora.data.spooled import Gathered, Words
from skip2lora.data.text import TextTable

#: Of a file to read so: below, importing pyarrow takes longer than reading.
LEAST_BYTES = 1 << 24
_BLOCK_BYTES = 1 << 20
_LINE_FEED, _RETURN, _MARK = b'\n\r"'
_OTHER_TEXT = (b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff")  # packed, or of two bytes a character


def plain_values(
    text: TextTable, features: Sequence[int], places: Sequence[int], *, optional: bool
) -> tuple[NDArray[np.float32] | LazySamples, NDArray[np.str_], range] | None:
    """What ``text.values`` would give, with no row of ``text`` read; None where it has to.

    Raises:
        DataError: an answer that is missing.
        FileError: answers take more than the memory allowed, or numbers have no room.
    """
    below = _looked_over(text)
    try:
        import pyarrow.csv
    except ImportError:
        return None
    if below is None:
        return None
    n_rows = below.n_rows
    check_room(text.source, 4 * n_rows * len(features))
    x, words = Gathered(text.source, (len(features),)), Words(text.source, len(places))
    lines = range(2, n_rows + 2)
    try:
        with _opened(pyarrow.csv, text, features, places, quoted=below.quoted) as reader:
            for batch in reader:
                row, rows = len(x), np.empty((batch.num_rows, len(features)), np.float32)
                for number, place in enumerate(features):
                    rows[:, number] = as_float32(batch[text.columns[place]].to_numpy())
                x.append(rows)
                if x.bad is not None or len(x) > n_rows:
                    return None
                cells = [batch[text.columns[place]].to_pylist() for place in places]
                for at in range(row, len(x)):
                    where = f"row {at} (from 0, line {lines[at]})"
                    words.append(
                        [
                            text.answer(column[at - row], where, text.columns[place], optional)
                            for place, column in zip(places, cells, strict=True)
                        ]
                    )
    except pyarrow.ArrowException:
        return None
    return (x.samples(), words.all(), lines) if len(x) == n_rows else None


def _opened(
    arrow_csv: Any,
    text: TextTable,
    features: Sequence[int],
    places: Sequence[int],
    *,
    quoted: bool,
) -> Any:
    kinds = {text.columns[at]: "string" for at in places}
    kinds |= {text.columns[at]: "float64" for at in features}
    names = [*text.columns]
    return arrow_csv.open_csv(
        text.source,
        arrow_csv.ReadOptions(
            use_threads=False, block_size=_BLOCK_BYTES, skip_rows=1, column_names=names
        ),
        arrow_csv.ParseOptions(
            delimiter=text.dialect.delimiter, quote_char='"' if quoted else False
        ),
        arrow_csv.ConvertOptions(
            column_types=kinds, include_columns=[*kinds], null_values=[],
            strings_can_be_null=False, decimal_point=text.dialect.decimal,
        ),
    )  # fmt: skip


class _Below(NamedTuple):
    """What stands below the header: how many rows, and whether cells are in quotation marks."""

    n_rows: int
    quoted: bool


def _looked_over(text: TextTable) -> _Below | None:
    """None where a line may be more or less than a row, or a cell be read in two ways."""
    with text.source.open("rb") as stream:
        header = stream.readline()
        if header.startswith(_OTHER_TEXT) or not _is_header(header, text):
            return None
        decoder, last, n_lines, quoted = codecs.getincrementaldecoder("utf-8")(), b"\n", 0, False
        while block := stream.read(_BLOCK_BYTES):
            block += stream.readline(_BLOCK_BYTES)  # to the end of a line
            is_cut = not last.endswith(b"\n")  # a line as long as a block
            alone = b"\r" in block and block.count(b"\r") != block.count(b"\r\n")
            if is_cut or alone or b"\0" in block or not _are_cells(block, text.dialect.delimiter):
                return None
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                return None
            quoted = quoted or b'"' in block
            n_lines, last = n_lines + block.count(b"\n"), block
    return _Below(n_lines + (not last.endswith(b"\n")), quoted)


def _are_cells(block: bytes, delimiter: str) -> bool:
    """Whether each cell in these whole lines is bare, or in quotation marks from end to end.

    Then quotation marks open and close in turn, two that stand for one as a close and an open: each
    that opens begins a cell or follows the one before it, each that closes ends one or is followed
    by the next, and no line ends between them.
    """
    of = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(of == _LINE_FEED)
    limit, separator = csv.field_size_limit(), ord(delimiter)
    if np.diff(ends, prepend=-1, append=len(of)).max() > limit:
        cuts = np.flatnonzero((of == separator) | (of == _LINE_FEED))
        if np.diff(cuts, prepend=-1, append=len(of)).max() > limit:
            return False
    marks = np.flatnonzero(of == _MARK)
    if not len(marks):
        return True
    if len(marks) % 2 or (np.searchsorted(marks, ends) % 2).any():
        return False
    opening, closing = marks[::2], marks[1::2]
    before = of[opening - 1]  # of the first byte the last, which is the end of a line or of all
    before[opening == 0] = _LINE_FEED
    behind = of[np.minimum(closing + 1, len(of) - 1)]
    behind[closing + 1 == len(of)] = _LINE_FEED
    outside = np.array([separator, _LINE_FEED, _MARK], np.uint8)
    is_ended = np.isin(behind, outside) | (behind == _RETURN)
    return bool(np.isin(before, outside).all() and is_ended.all())


def _is_header(line: bytes, text: TextTable) -> bool:
    """Whether this is the line, alone, that names the columns."""
    try:
        rows = [*csv.reader([line.decode("utf-8-sig")], delimiter=text.dialect.delimiter)]
    except (UnicodeDecodeError, csv.Error):
        return False
    names = [[cell.strip() for cell in row] for row in rows]
    return names == [[*text.columns]] and line.count(b"\r") == line.endswith(b"\r\n")
