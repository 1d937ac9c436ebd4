"""Rows of numbers that are appended and then read by place: in memory, or in a temporary file."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.data.lazy import runs_of
from skip2lora.errors import FileError
from skip2lora.limits import check_bytes
from skip2lora.system import read_into

#: Bytes of numbers that stay in memory; more go to a file, which the system removes with us.
IN_MEMORY = 1 << 24
_PLACES = ("/var/tmp",)  # noqa: S108, a file without a name; /tmp is memory on many systems
_SPARE = 1 << 26  # bytes of the disk that stay free for others


class Spool:
    """Rows of ``width`` numbers of one type."""

    def __init__(self, dtype: Any, width: int = 1) -> None:
        self.dtype, self.width = np.dtype(dtype), width
        self._parts: list[NDArray[Any]] = []
        self._in_memory = 0  # bytes
        self._n_rows = 0
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return self._n_rows

    @property
    def on_disk(self) -> bool:
        """Whether there are more than stay in memory."""
        return self._file is not None

    def append(self, values: NDArray[Any] | Sequence[Any]) -> None:
        """Add rows, (rows, width) or (rows,) of one number each; an array is not to be changed.

        Raises:
            FileError: the disk is full, or nothing can be written there.
        """
        rows = np.ascontiguousarray(values, self.dtype).reshape(-1, self.width)
        self._n_rows += len(rows)
        self._parts.append(rows)
        self._in_memory += rows.nbytes
        if self._in_memory > IN_MEMORY:
            self._write()

    def _write(self) -> None:
        try:
            _check_room(self._in_memory)
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=_folder())  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            for part in self._parts:
                self._file.write(part.data)
            self._file.flush()
        except OSError as error:
            raise FileError(
                f"{_folder()} cannot hold the numbers of a long stream or table "
                f"({error.strerror}), expected room for them: free some, or set TMPDIR to another "
                "folder"
            ) from error
        self._parts, self._in_memory = [], 0

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Rows ``first`` to ``last``, (last - first, width), not to be changed."""
        if self._file is None:
            if len(self._parts) > 1:
                self._parts = [np.concatenate(self._parts)]
            whole = self._parts[0] if self._parts else np.empty((0, self.width), self.dtype)
            return whole[first:last]
        values = np.empty((last - first, self.width), self.dtype)
        self.read(values, first)
        return values

    def read(self, values: NDArray[Any], first: int) -> None:
        """Put rows from ``first`` on into ``values``, (rows, width) and contiguous."""
        if self._file is None:
            values[...] = self.rows(first, first + len(values))
            return
        self._fill(_bytes_of(values), first, self._whole())

    def gather(self, values: NDArray[Any], places: NDArray[np.intp]) -> None:
        """Put the rows at ``places`` into ``values``, (places, width) and contiguous."""
        if self._file is None:
            values[...] = self.rows(0, len(self))[places]
            return
        descriptor, out = self._whole(), _bytes_of(values)
        size = self.width * self.dtype.itemsize
        for run in runs_of(places):
            part = out[run.start * size : run.stop * size]
            self._fill(part, int(places[run.start]), descriptor)

    def _whole(self) -> int:
        """The number of the file, which has all rows then."""
        if self._parts:
            self._write()
        if self._file is None:
            raise RuntimeError("all rows are in memory")
        return self._file.fileno()

    def _fill(self, out: memoryview, first: int, descriptor: int) -> None:
        offset = first * self.width * self.dtype.itemsize
        while out:
            n_read = read_into(descriptor, [out], offset)
            if n_read == 0:
                raise EOFError(f"row {first} of {len(self)} is not there")
            out, offset = out[n_read:], offset + n_read


def _bytes_of(values: NDArray[Any]) -> memoryview:
    return memoryview(values.reshape(-1).view(np.uint8).data)


def check_room(source: str | os.PathLike[str], n_bytes: int) -> None:
    """Refuse a file whose numbers, of so many bytes, have room neither in memory nor on the disk.

    Raises:
        FileError: they have none.
    """
    if n_bytes <= IN_MEMORY:
        check_bytes(source, n_bytes)
        return
    try:
        _check_room(n_bytes)
    except OSError as error:
        raise FileError(
            f"{source} takes {n_bytes / 1e6:,.0f} MB while it is read, expected room for them in "
            f"{_folder()}: free some, or set TMPDIR to another folder"
        ) from error


def _check_room(n_bytes: int) -> None:
    """Raise OSError where the disk would be full then."""
    if shutil.disk_usage(_folder()).free < n_bytes + _SPARE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _folder() -> str:
    asked = os.environ.get("TMPDIR")
    there = [place for place in _PLACES if Path(place).is_dir() and os.access(place, os.W_OK)]
    return tempfile.gettempdir() if asked or not there else there[0]
