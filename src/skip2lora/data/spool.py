"""Rows of numbers that are appended and then read by place: in memory, or in a temporary file."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.errors import FileError
from skip2lora.system import read_at

#: Bytes of numbers that stay in memory; more go to a file, which the system removes with us.
IN_MEMORY = 1 << 24
_PLACES = ("/var/tmp",)  # noqa: S108, a file without a name; /tmp is memory on many systems


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

    def append(self, values: NDArray[Any] | Sequence[Any]) -> None:
        """Add rows, (rows, width) or (rows,) of one number each.

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
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=_folder())  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            for part in self._parts:
                self._file.write(part.data)
            self._file.flush()
        except OSError as error:
            raise FileError(
                f"{_folder()} cannot hold the numbers of a long stream ({error.strerror}), "
                "expected room for them: free some, or set TMPDIR to another folder"
            ) from error
        self._parts, self._in_memory = [], 0

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Rows ``first`` to ``last``, (last - first, width), not to be changed."""
        if self._file is None:
            if len(self._parts) > 1:
                self._parts = [np.concatenate(self._parts)]
            whole = self._parts[0] if self._parts else np.empty((0, self.width), self.dtype)
            return whole[first:last]
        if self._parts:
            self._write()
        size = self.width * self.dtype.itemsize
        content = read_at(self._file.fileno(), (last - first) * size, first * size)
        return np.frombuffer(content, self.dtype).reshape(-1, self.width)


def _folder() -> str:
    asked = os.environ.get("TMPDIR")
    there = [place for place in _PLACES if Path(place).is_dir() and os.access(place, os.W_OK)]
    return tempfile.gettempdir() if asked or not there else there[0]
