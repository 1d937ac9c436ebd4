"""A large array in a ``.npz``: read where it is needed, from the file, or unpacked from another."""

from __future__ import annotations

import math
import os
import weakref
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.arrays import as_float32, first_not_finite
from skip2lora.data.known import KnownDigests, Mark
from skip2lora.data.lazy import READ_BYTES, LazySamples, digests_of_parts, runs_of
from skip2lora.data.spool import check_room
from skip2lora.data.spooled import Columns, Gathered
from skip2lora.errors import DataError
from skip2lora.limits import check_bytes
from skip2lora.system import read_into
from skip2lora.tasks.columns import Checked

#: An array of fewer bytes is read at once.
LEAST_BYTES = 1 << 24
_LOCAL_HEADER, _SIGNATURE, _ENCRYPTED = 30, b"PK\3\4", 1
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class Place(NamedTuple):
    """Where an array lies in a file: its header at ``header``, its numbers at ``start``."""

    header: int
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, eq=False)
class StoredArray:
    """An array in a ``file`` that stays open, so that another of its name is not read for it.

    ``bad`` is how many of its values are NaN or infinite as float32, and the sample and column of
    the first, None of none. ``mark`` tells a file that is written to.
    """

    path: Path
    file: FileIO
    place: Place
    bad: tuple[int, int, int] | None
    mark: Mark

    def __post_init__(self) -> None:
        weakref.finalize(self, self.file.close)

    @classmethod
    def open(
        cls, path: Path, member: zipfile.ZipInfo, checked: Checked | None = None
    ) -> StoredArray | None:
        """The array in a ``member`` of a ``.npz``, all of it checked; None if it is read at once.

        That is one that is small, compressed, or anything but plain numbers in the order of the
        samples: whoever reads it says what is wrong with it. What ``checked`` has is not checked.

        Raises:
            BadZipFile: its checksum is another.
        """
        stored = member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & _ENCRYPTED
        if not stored or member.file_size < LEAST_BYTES:
            return None
        with ExitStack() as opened:
            file = opened.enter_context(path.open("rb", buffering=0))
            place = _place(file, member)
            if place is None:
                return None
            mark = Mark.of(file.fileno(), f"{place} {member.CRC:08x}")
            is_sound = checked is not None and checked.has(path, mark, place.shape[0])
            bad = None if is_sound else _check(file, place, member)
            opened.pop_all()
            return cls(path, file, place, bad, mark)

    @property
    def shape(self) -> tuple[int, ...]:
        """(samples, ...)."""
        return self.place.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the file, but float32 of real numbers and of a table."""
        return np.dtype(np.float32) if _as_floats(self.place) else self.place.dtype

    def read(self, places: NDArray[np.intp]) -> NDArray[Any]:
        """The samples at ``places``, (places, ...).

        Raises:
            DataError: the file was changed.
            FileError: they take more than the memory allowed.
        """
        at = self.place
        values = np.empty((len(places), *at.shape[1:]), at.dtype)
        if values.nbytes > READ_BYTES:  # asking costs more than reading a few
            check_bytes(self.path, values.nbytes)
        for run in runs_of(places):
            offset = at.start + int(places[run.start]) * values[:1].nbytes
            _read_into(self.file, values[run], offset)
        is_now = self._look()
        if (is_now.n_bytes, is_now.modified_ns) != (self.mark.n_bytes, self.mark.modified_ns):
            raise _changed()
        return as_float32(values) if _as_floats(at) else values

    def digests(self, places: NDArray[np.intp], known: KnownDigests | None = None) -> list[bytes]:
        """As of an array of these samples; they are not read where ``known`` remembers them.

        That the file is as it was then follows from its mark, with the checksum that was compared
        when it was opened.

        Raises:
            DataError: the file was changed.
        """
        if known is None or self._look() != self.mark:
            return digests_of_parts(self, places)
        hashed = partial(digests_of_parts, self)
        return known.of(self.path, self.place.shape[0], places, self._look, hashed)

    def _look(self) -> Mark:
        return Mark.of(self.file.fileno(), self.mark.about)


@dataclass(frozen=True)
class CheckedHere:
    """Knows one file again that was checked by another process, on this machine or another."""

    mark: Mark

    def has(self, path: Path, mark: Mark, n_samples: int) -> bool:
        """Whether it has the same size, time of change, place of its samples and checksum."""
        del path, n_samples  # it may lie elsewhere, and its samples are part of the mark
        return mark._replace(device=0, inode=0, changed_ns=0) == self.mark._replace(
            device=0, inode=0, changed_ns=0
        )

    def of_file(self, path: Path, about: str, compute: Callable[[], bytes | None]) -> bytes | None:
        """What ``compute`` gives: of other files nothing is known."""
        del path, about
        return compute()


def unpacked(
    path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> NDArray[Any] | LazySamples | None:
    """The array in a large ``member`` that is packed, or in the order of its columns.

    None of one that is small, or anything but plain numbers: it is read at once.

    Raises:
        FileError: there is no room for it.
        zipfile.BadZipFile: it is damaged; or another error of that kind.
    """
    if member.file_size < LEAST_BYTES:
        return None
    with archive.open(member) as stream:
        try:
            shape, in_columns, dtype = _HEADERS[npy.read_magic(stream)](stream)
        except (ValueError, KeyError, SyntaxError, TypeError):
            return None
        place = Place(0, stream.tell(), shape, dtype)
        fits = place.start + math.prod(shape) * dtype.itemsize == member.file_size
        if not fits or not _is_plain(place) or (in_columns and len(shape) > 2):
            return None
        floats = _as_floats(place)
        kind = np.dtype(np.float32) if floats else dtype
        check_room(path, math.prod(shape) * kind.itemsize)
        gathered = Gathered(path, shape[1:], kind)
        if in_columns:
            columns = Columns(shape[0], kind)
            for values in _numbers(stream, place, shape[0] * shape[1], READ_BYTES):
                columns.append(as_float32(values) if floats else values)
            blocks = columns.rows()
        else:
            width = math.prod(shape[1:])
            blocks = _numbers(stream, place, shape[0] * width, width * gathered.n_at_once)
        for block in blocks:
            gathered.append(block.reshape(-1, *shape[1:]))
    return gathered.samples()


def _numbers(stream: IO[bytes], place: Place, count: int, at_once: int) -> Iterator[NDArray[Any]]:
    """``count`` numbers one after the other, some ``at_once``."""
    for at in range(0, count, at_once):
        size = min(at_once, count - at) * place.dtype.itemsize
        content = stream.read(size)
        if len(content) < size:
            raise EOFError("the array ends early")
        yield np.frombuffer(content, place.dtype)


def _is_plain(place: Place) -> bool:
    return len(place.shape) > 1 and 0 not in place.shape and place.dtype.kind in "fiub"


def _as_floats(place: Place) -> bool:
    return place.dtype.kind == "f" or len(place.shape) == 2


def _changed() -> DataError:
    return DataError(
        "the file was changed while it was read, expected it to stay as it is: run it again"
    )


def _read_into(file: FileIO, values: NDArray[Any], offset: int) -> None:
    rest = memoryview(values.reshape(-1).view(np.uint8).data)
    while rest:
        n_read = read_into(file.fileno(), [rest], offset)
        if n_read == 0:
            raise _changed()
        rest, offset = rest[n_read:], offset + n_read


def _place(file: FileIO, member: zipfile.ZipInfo) -> Place | None:
    """Where the array is, None where it is nothing that can be read by samples."""
    file.seek(member.header_offset)
    local = file.read(_LOCAL_HEADER)
    if len(local) < _LOCAL_HEADER or not local.startswith(_SIGNATURE):
        return None
    name, extra = (int.from_bytes(local[at : at + 2], "little") for at in (26, 28))
    header = file.seek(name + extra, os.SEEK_CUR)
    try:
        shape, in_columns, dtype = _HEADERS[npy.read_magic(file)](file)
    except (ValueError, KeyError, SyntaxError, TypeError):
        return None
    start = file.tell()
    place = Place(header, start, shape, dtype)
    fits = start - header + math.prod(shape) * dtype.itemsize == member.file_size
    return place if fits and not in_columns and _is_plain(place) else None


def _check(file: FileIO, place: Place, member: zipfile.ZipInfo) -> tuple[int, int, int] | None:
    """The checksum, and what is not finite, a part at a time."""
    n_samples, width = place.shape[0], math.prod(place.shape[1:])
    head = np.empty(place.start - place.header, np.uint8)
    _read_into(file, head, place.header)
    checksum, count, first = _core.crc32(head), 0, (0, 0)
    size = width * place.dtype.itemsize
    for at in range(0, n_samples, step := max(1, READ_BYTES // size)):
        values = np.empty((min(step, n_samples - at), width), place.dtype)
        _read_into(file, values, place.start + at * size)
        checksum = _core.crc32(values.reshape(-1).view(np.uint8), checksum)
        bad = first_not_finite(as_float32(values)) if _as_floats(place) else None
        if bad is not None:
            first = first if count else (at + bad[1], bad[2])
            count += bad[0]
    if checksum != member.CRC:
        raise zipfile.BadZipFile(f"Bad CRC-32 for file {member.filename!r}")
    return (count, *first) if count else None
