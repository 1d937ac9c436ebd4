"""Rows that are kept with less precision: half, a quarter or an eighth of the memory of float32.

Taps lie as codes, float16, bfloat16, or whole numbers with a scale and an offset a column; base
logits stay float32. The core reads codes as they are; there is never a float32 copy of all.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.arrays import zeros
from skip2lora.data.known import KnownDigests
from skip2lora.errors import ParameterError

_FLOAT_BYTES = 4
#: How rows may be kept; float32 has no codes.
DTYPES = {
    "float32": 0, "float16": _core.FLOAT16, "bfloat16": _core.BFLOAT16, "int8": _core.INT8,
    "int4": _core.INT4,
}  # fmt: skip
N_TABLES = 4  # floats a column: scale and offset, least and greatest
# Rows that are written at once, as many as this or more: the range of a column is that of the first
# ones, and what goes beyond it later writes all rows anew.
_STAGE_BYTES, _MOST_ROWS, ROWS_AT_ONCE = 4 << 20, 4096, 256
_MOST_SPAN = 3e38  # whose steps times the largest code are floats
# Of what a range has become, by which it grows beyond: so it grows seldom.
_MARGIN = 0.25


def rows_at_once(layout: _core.RowLayout) -> int:
    """Rows to write at a time, so many that their range is about that of all."""
    return max(ROWS_AT_ONCE, min(_MOST_ROWS, _rows_of(_STAGE_BYTES, layout)))


def read_at_once(layout: _core.RowLayout) -> int:
    """Rows that are floats at a time where all are read."""
    return min(ROWS_AT_ONCE, _rows_of(_STAGE_BYTES, layout))


def _rows_of(n_bytes: int, layout: _core.RowLayout) -> int:
    """How many are so large as floats, at least one."""
    return max(1, n_bytes // (_FLOAT_BYTES * layout.row_stride))


@dataclass(frozen=True, eq=False)
class CodedRows:
    """Rows of ``layout`` as codes of the dtype ``kind``, (n, bytes): indexing gives float32 copies.

    A column's number is code * ``scale`` + ``offset``, (columns,) each. The whole numbers of a
    column span what was written so far, ``low`` to ``high``.
    """

    layout: _core.RowLayout
    kind: str
    codes: NDArray[np.uint8]
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    core: _core.CodedRows

    @classmethod
    def empty(cls, layout: _core.RowLayout, n_rows: int, dtype: str) -> CodedRows:
        """Of ``n_rows`` samples, to be written from the first on."""
        number, n_columns = DTYPES[dtype], layout.logits_offset
        n_bytes = _core.coded_row_bytes(layout, number)
        floats = zeros(n_rows, n_bytes // _FLOAT_BYTES)
        codes = floats.view(np.uint8)
        scale, offset = np.ones(n_columns, np.float32), np.zeros(n_columns, np.float32)
        low, high = np.full((2, n_columns), np.inf, np.float32)
        core = _core.CodedRows(layout, number, codes, scale, offset)
        return cls(layout, dtype, codes, scale, offset, low, -high, core)

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Of the floats."""
        return np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        """As floats."""
        return len(self.codes), self.layout.row_stride

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def nbytes(self) -> int:
        """All of it."""
        tables = (self.scale, self.offset, self.low, self.high)
        return self.codes.nbytes + sum(table.nbytes for table in tables)

    @property
    def at_once(self) -> int:
        """Rows to write at a time."""
        return rows_at_once(self.layout)

    @property
    def read_at_once(self) -> int:
        """Rows that are floats at a time where all are read."""
        return read_at_once(self.layout)

    def __getitem__(self, which: slice | NDArray[Any]) -> NDArray[np.float32]:
        """Those rows as floats, (rows, row_stride)."""
        start, stop, step = which.indices(len(self)) if isinstance(which, slice) else (0, 0, 0)
        if step == 1:
            rows = zeros(max(0, stop - start), self.layout.row_stride)
            self.core.decode(min(start, len(self)), rows)
            return rows
        places = np.ascontiguousarray(np.arange(len(self), dtype=np.uint32)[which])
        rows = zeros(len(places), self.layout.row_stride)
        self.core.gather(places, rows)
        return rows

    def read(self, places: NDArray[np.intp]) -> NDArray[np.float32]:
        """As a source of lazy samples: rows that are samples."""
        return self[places]

    def digests(self, places: NDArray[np.intp], known: KnownDigests | None = None) -> list[bytes]:
        """As a source of lazy samples, in memory."""
        del known
        return [hashlib.sha256(self.codes[place]).digest() for place in places]

    def floats_behind(self) -> NDArray[np.float32]:
        """The base logits, (n, n_outputs), which are no codes, where they lie."""
        at = _core.code_bytes(DTYPES[self.kind], self.layout.logits_offset)
        return self.codes[:, at:].view(np.float32)[:, : self.layout.n_outputs]

    def write(self, first: int, rows: NDArray[np.float32]) -> None:
        """Keep ``rows``, (some, row_stride), behind ``first`` others that were written before.

        Raises:
            ParameterError: a tap is beyond the numbers of the dtype.
        """
        if not len(rows):
            return
        columns = rows[:, : self.layout.logits_offset]
        if self.kind in ("int8", "int4"):
            self._extend(first, columns.min(axis=0), columns.max(axis=0))
        else:
            self._check(columns)
        self.core.encode(first, rows)

    def _check(self, columns: NDArray[np.float32]) -> None:
        limit = _core.code_limit(DTYPES[self.kind])
        largest = max(columns.max(initial=0), -columns.min(initial=0))
        if not largest <= limit:  # or NaN, which has no code
            others = "float32, bfloat16 or int8" if self.kind == "float16" else "float32"
            raise ParameterError(
                f"cache_dtype is {self.kind}, and a tap of the model has {largest:g}, expected at "
                f"most {limit:g}: use {others}"
            )

    def _extend(self, first: int, low: NDArray[np.float32], high: NDArray[np.float32]) -> None:
        """Let the codes span ``low`` to ``high``; ``first`` rows may have to be written anew."""
        lower, higher = ~(low >= self.low), ~(high <= self.high)  # NaN, which has no code, is both
        if not (lower.any() or higher.any()):
            return
        low, high = np.minimum(low, self.low), np.maximum(high, self.high)
        margin = (high.astype(np.float64) - low) * (_MARGIN if first else 0)
        limits = np.finfo(np.float32)
        low = np.maximum(low - margin * lower, limits.min).astype(np.float32)
        high = np.minimum(high + margin * higher, limits.max).astype(np.float32)
        scale = np.empty_like(self.scale)
        span = high.astype(np.float64) - low
        if not (span <= _MOST_SPAN).all():
            raise ParameterError(
                f"cache_dtype is {self.kind}, and a tap of the model spans {span.max():g}, "
                f"expected at most {_MOST_SPAN:g}: use float32"
            )
        _core.code_scales(DTYPES[self.kind], span.astype(np.float32), scale)
        new = _core.CodedRows(self.layout, DTYPES[self.kind], self.codes, scale, low)
        for at in range(0, first, self.read_at_once):
            new.encode(at, self[at : min(first, at + self.read_at_once)])
        for mine, table in zip(
            (self.scale, self.offset, self.low, self.high), (scale, low, low, high), strict=True
        ):
            mine[:] = table

    def standardise(self, mean: NDArray[np.float32], scale: NDArray[np.float32]) -> None:
        """Every row becomes (row - mean) * scale, (row_stride,) each: of codes the tables alone.

        Nothing can be written afterwards.
        """
        first, n_outputs = self.layout.logits_offset, self.layout.n_outputs
        self.offset[:] = (self.offset - mean[:first].astype(np.float64)) * scale[:first]
        self.scale[:] *= scale[:first]
        logits, at = self.floats_behind(), slice(first, first + n_outputs)
        logits -= mean[at]
        logits *= scale[at]
