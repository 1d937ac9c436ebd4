"""Samples as a reader finds them: an array of a few, and in a temporary file where they are many.

So what a packed or written file holds is never in memory at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import as_float32, first_not_finite
from skip2lora.data.known import KnownDigests
from skip2lora.data.lazy import READ_BYTES, LazySamples, digests_of_parts
from skip2lora.data.spool import Spool
from skip2lora.limits import check_bytes

BLOCK_BYTES = 1 << 20  # of samples that are put together at a time
_TOGETHER = 4096  # rows of text


@dataclass(frozen=True, eq=False)
class SpooledArray:
    """The source of samples of ``shape``, (samples, ...), that lie in a ``spool``, from ``path``.

    ``bad`` is how many of their values are NaN or infinite, and the sample and column of the first,
    None of none.
    """

    path: Path
    spool: Spool
    shape: tuple[int, ...]
    bad: tuple[int, int, int] | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the numbers."""
        dtype: np.dtype[Any] = self.spool.dtype
        return dtype

    def read(self, places: NDArray[np.intp]) -> NDArray[Any]:
        """The samples at ``places``, (places, ...).

        Raises:
            FileError: they take more than the memory allowed.
        """
        values = np.empty((len(places), *self.shape[1:]), self.dtype)
        if values.nbytes > READ_BYTES:
            check_bytes(self.path, values.nbytes)
        self.spool.gather(values.reshape(len(places), self.spool.width), places)
        return values

    def digests(self, places: NDArray[np.intp], known: KnownDigests | None = None) -> list[bytes]:
        """As of an array of these samples."""
        return digests_of_parts(self, places, known)


class Gathered:
    """Samples of one ``shape`` from ``path``, a block at a time; numbers become ``dtype``."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: Any = np.float32) -> None:
        self.path, self.shape = path, shape
        self._spool = Spool(dtype, math.prod(shape))
        self._row_bytes: int = math.prod(shape) * np.dtype(dtype).itemsize
        self._waiting: list[NDArray[Any]] = []
        self._n_samples, self._n_bad, self._first = 0, 0, (0, 0)

    def __len__(self) -> int:
        return self._n_samples

    @property
    def n_at_once(self) -> int:
        """Samples of a block."""
        return max(1, BLOCK_BYTES // max(1, self._row_bytes))

    @property
    def bad(self) -> tuple[int, int, int] | None:
        """How many values are NaN or infinite, and the sample and column of the first."""
        return (self._n_bad, *self._first) if self._n_bad else None

    def add(self, sample: NDArray[Any]) -> None:
        """Add one, (*shape).

        Raises:
            FileError: as :meth:`append`.
        """
        self._waiting.append(sample)
        if len(self._waiting) == self.n_at_once:
            self._put()

    def _put(self) -> None:
        several, self._waiting = self._waiting, []
        if several:
            self.append(np.stack(several))

    def append(self, samples: NDArray[Any]) -> None:
        """Add some, (samples, *shape), which nobody changes any more.

        Raises:
            FileError: the disk is full, or nothing can be written there.
        """
        rows = samples.reshape(len(samples), self._spool.width)
        if self._spool.dtype == np.float32:
            rows = as_float32(rows)
            bad = first_not_finite(rows)
            if bad is not None:
                self._first = self._first if self._n_bad else (len(self) + bad[1], bad[2])
                self._n_bad += bad[0]
        self._n_samples += len(rows)
        if rows.size:
            self._spool.append(rows)

    def samples(self) -> NDArray[Any] | LazySamples:
        """All of them, (samples, *shape)."""
        self._put()
        shape = (len(self), *self.shape)
        if not self._spool.on_disk:
            return self._spool.rows(0, len(self._spool)).reshape(shape)
        return LazySamples.of(SpooledArray(self.path, self._spool, shape, self.bad))


class Columns:
    """Columns of ``n_rows`` numbers that come one after the other, and go as rows."""

    def __init__(self, n_rows: int, dtype: Any = np.float32) -> None:
        self.n_rows = n_rows
        self._spool = Spool(dtype)

    def append(self, values: NDArray[Any]) -> None:
        """Add numbers of the column that is not whole yet, or of the next, (rows,)."""
        self._spool.append(values)

    def rows(self) -> Iterator[NDArray[Any]]:
        """All rows, some at a time, (rows, columns)."""
        width = len(self._spool) // max(1, self.n_rows)
        step = max(1, READ_BYTES // max(1, width * self._spool.dtype.itemsize))
        for at in range(0, self.n_rows, step):
            stop = min(at + step, self.n_rows)
            rows = np.empty((stop - at, width), self._spool.dtype)
            for column in range(width):
                start = column * self.n_rows
                rows[:, column] = self._spool.rows(start + at, start + stop)[:, 0]
            yield rows


class Words:
    """Text in some columns of each row of ``source``, kept a part at a time."""

    def __init__(self, source: Path, n_columns: int) -> None:
        self._source, self._n_columns = source, n_columns
        self._rows: list[list[str]] = []
        self._parts: list[NDArray[np.str_]] = []
        self._n_rows = self._longest = 0

    def append(self, row: list[str]) -> None:
        """Add the text of a row.

        Raises:
            FileError: all of it takes more than the memory allowed.
        """
        self._rows.append(row)
        if len(self._rows) == _TOGETHER:
            self._put()

    def _put(self) -> None:
        part = np.array(self._rows, np.str_).reshape(len(self._rows), self._n_columns)
        self._rows, self._n_rows = [], self._n_rows + len(part)
        self._longest = max(self._longest, part.dtype.itemsize)
        check_bytes(self._source, self._n_rows * self._longest * self._n_columns)
        self._parts.append(part)

    def all(self) -> NDArray[np.str_]:
        """All of it, (rows, columns)."""
        self._put()
        return np.concatenate(self._parts)
