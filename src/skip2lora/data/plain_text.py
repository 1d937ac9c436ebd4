"""Large plain tables of text by pyarrow's reader, in a quarter of the time, where it is installed.

Only where both readers say the same: bare cells, a line a row, and finite numbers. Anything else,
and every refusal, is left to :mod:`skip2lora.data.text`.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence
from typing import Any

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
_OTHER_TEXT = (b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff")  # packed, or of two bytes a character


def plain_values(
    text: TextTable, features: Sequence[int], places: Sequence[int], *, optional: bool
) -> tuple[NDArray[np.float32] | LazySamples, NDArray[np.str_], range] | None:
    """What ``text.values`` would give, with no row of ``text`` read; None where it has to.

    Raises:
        DataError: an answer that is missing.
        FileError: answers take more than the memory allowed, or numbers have no room.
    """
    n_rows = _count_rows(text)
    try:
        import pyarrow.csv
    except ImportError:
        return None
    if n_rows is None:
        return None
    check_room(text.source, 4 * n_rows * len(features))
    x, words = Gathered(text.source, (len(features),)), Words(text.source, len(places))
    lines = range(2, n_rows + 2)
    try:
        with _opened(pyarrow.csv, text, features, places) as reader:
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


def _opened(arrow_csv: Any, text: TextTable, features: Sequence[int], places: Sequence[int]) -> Any:
    kinds = {text.columns[at]: "string" for at in places}
    kinds |= {text.columns[at]: "float64" for at in features}
    names = [*text.columns]
    return arrow_csv.open_csv(
        text.source,
        arrow_csv.ReadOptions(
            use_threads=False, block_size=_BLOCK_BYTES, skip_rows=1, column_names=names
        ),
        arrow_csv.ParseOptions(delimiter=text.dialect.delimiter, quote_char=False),
        arrow_csv.ConvertOptions(
            column_types=kinds, include_columns=[*kinds], null_values=[],
            strings_can_be_null=False, decimal_point=text.dialect.decimal,
        ),
    )  # fmt: skip


def _count_rows(text: TextTable) -> int | None:
    """Lines below the header, which is the first; None where a line may be more than a row."""
    with text.source.open("rb") as stream:
        header = stream.readline()
        if header.startswith(_OTHER_TEXT) or not _is_header(header, text):
            return None
        decoder, last, n_lines = codecs.getincrementaldecoder("utf-8")(), b"\n", 0
        while block := stream.read(_BLOCK_BYTES):
            if block.endswith(b"\r"):
                block += stream.read(1)
            alone = b"\r" in block and block.count(b"\r") != block.count(b"\r\n")
            if alone or b'"' in block or b"\0" in block:
                return None
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                return None
            n_lines, last = n_lines + block.count(b"\n"), block
    return n_lines + (not last.endswith(b"\n"))


def _is_header(line: bytes, text: TextTable) -> bool:
    """Whether this is the line, alone, that names the columns."""
    try:
        rows = [*csv.reader([line.decode("utf-8-sig")], delimiter=text.dialect.delimiter)]
    except (UnicodeDecodeError, csv.Error):
        return False
    names = [[cell.strip() for cell in row] for row in rows]
    return names == [[*text.columns]] and line.count(b"\r") == line.endswith(b"\r\n")
