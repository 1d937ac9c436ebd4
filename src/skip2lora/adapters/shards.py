"""A shard: the rows of some samples in one file, whole or not there, which NumPy alone can read.

Five arrays follow each other as ``.npy``: rows, digests of the samples, mean and sum of squared
deviations of each column, a checksum of the rows, and a seal of all the rest. docs/cache-format.md
says it in full. No size in a file is believed: all follow from its length and the width of a row.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core, system
from skip2lora.replacing import put, refusals, room

#: Of each array in the file, so that rows begin at a multiple of 64 bytes.
HEADER_BYTES = 128
#: Of a sample: SHA-256.
DIGEST_BYTES = 32
SUFFIX, _SEAL_BYTES = ".npy", 32
#: Bytes of a row up to which it is a narrow one: more of these stand in a shard.
NARROW = 8192
_MANY, _FEW = 4096, 256  # rows of a shard, of narrow and of wide ones
_BUFFERS = 1024  # that the system fills in one call, at most
# Bytes at once: that are written, and that are read for a checksum, few enough for the processor.
_PIECE, _CHECKED = 1 << 20, 1 << 18
#: What drafts are named after, so that whoever comes next sweeps what a killed run left.
DRAFTS = "shard"


def rows_of_shard(row_bytes: int) -> int:
    """How many rows of that width a shard has when it is full."""
    return _MANY if row_bytes <= NARROW else _FEW


class Unsound(Exception):  # noqa: N818, it never leaves this package
    """A file is no shard of this cache, or damaged; the text says how."""


@dataclass(frozen=True, eq=False)
class Shard:
    """What a file says of itself: rows are (n, row_stride) float32 behind the first header.

    ``samples`` are digests, (n, 32); ``mean`` and ``squares``, (row_stride,) each, are those of the
    columns: their means, and the sums of squared deviations from these.
    """

    path: Path
    samples: NDArray[np.uint8]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    checksum: int = field(repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def row_bytes(self) -> int:
        """Of one row, with its padding."""
        return 4 * len(self.mean)

    def offset(self, row: int) -> int:
        """Where in the file a row begins."""
        return HEADER_BYTES + row * self.row_bytes

    def check_rows(self) -> None:
        """Compare the checksum of the rows.

        Raises:
            Unsound: it differs, or the file cannot be read.
        """
        left, checksum, room = len(self) * self.row_bytes, 0, memoryview(bytearray(_CHECKED))
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(HEADER_BYTES)
                while left > 0:
                    count = file.readinto(room[: min(left, _CHECKED)])
                    if not count:
                        break
                    checksum, left = _core.crc32(room[:count], checksum), left - count
        except OSError as error:
            raise Unsound(error.strerror or str(error)) from error
        if left or checksum != self.checksum:
            raise Unsound("its rows do not match their checksum")


def moments_of(
    shards: Sequence[Shard], shard: NDArray[np.int32], row: NDArray[np.int32]
) -> NDArray[np.float64] | None:
    """Mean and variance of the columns of these rows, (2, row_stride), by those of ``shards``.

    Row i is ``row[i]`` of shard ``shard[i]``, -1 for none. None where there is none, a shard has
    other rows too, or one is here twice. Shards are joined by name, whatever was read first: Chan,
    Golub and LeVeque (1979), equation 2.1.
    """
    numbers = np.unique(shard).tolist()
    several = [shards[number] for number in numbers if number >= 0]
    pairs = shard.astype(np.int64) << 32 | row
    if not several or len(several) < len(numbers) or len(np.unique(pairs)) < len(row):
        return None
    if sum(map(len, several)) != len(row):
        return None
    count, mean, squares = 0, np.zeros_like(several[0].mean), np.zeros_like(several[0].mean)
    for each in sorted(several, key=lambda of: of.path.name):
        total, off = count + len(each), each.mean - mean
        mean += off * (len(each) / total)
        squares += each.squares + off * off * (count * len(each) / total)
        count = total
    return np.stack([mean, squares / count])


def write_shard(
    folder: Path, samples: Sequence[bytes], rows: NDArray[np.float32], key: bytes
) -> Shard:
    """Write rows, (n, row_stride), of samples with these digests; the file is whole or not there.

    ``key`` stands for all that the rows depend on. The name is made of the digests and the key, so
    that whoever writes the same rows writes the same file.

    Raises:
        FileError: the system refused; what was there stays.
    """
    names = np.frombuffer(b"".join(samples), np.uint8).reshape(len(samples), DIGEST_BYTES)
    data = np.ascontiguousarray(rows, "<f4")
    of_columns, mean, var = _core.ColumnMoments(data.shape[1]), *np.empty((2, data.shape[1]))
    of_columns.add(data)
    of_columns.finish(mean, var)
    name = hashlib.sha256(key + names.tobytes()).hexdigest()[:40] + SUFFIX
    shard = Shard(folder / name, names, mean, var * len(data), _core.crc32(data.data.cast("B")))
    with refusals(folder), room(folder / DRAFTS) as place:
        draft = place / name
        with draft.open("wb") as file:
            file.write(_header("<f4", data.shape))
            data.tofile(file)
            file.write(_tail(shard, key))
        system.sync(draft)
        put(draft, shard.path)
    return shard


def read_shard(path: Path, row_stride: int, key: bytes) -> Shard:
    """What a file says of itself; its rows are not read.

    Raises:
        Unsound: it has another length than a shard with such rows can have, or another seal.
    """
    try:
        with path.open("rb") as file:
            size, fixed = os.fstat(file.fileno()).st_size, _size(0, row_stride)
            n_rows, rest = divmod(size - fixed, _size(1, row_stride) - fixed)
            if n_rows < 1 or rest:
                raise Unsound(f"it has {size:,} bytes, which no number of rows takes")
            header = file.read(HEADER_BYTES)
            file.seek(4 * n_rows * row_stride, os.SEEK_CUR)
            tail = file.read()
    except OSError as error:
        raise Unsound(error.strerror or str(error)) from error
    samples, moments, checksum = (
        np.frombuffer(tail, kind, count, start)
        for kind, count, start in (
            ("u1", n_rows * DIGEST_BYTES, HEADER_BYTES),
            ("<f8", 2 * row_stride, 2 * HEADER_BYTES + n_rows * DIGEST_BYTES),
            ("<u4", 1, 3 * HEADER_BYTES + n_rows * DIGEST_BYTES + 16 * row_stride),
        )
    )
    mean, squares = moments.reshape(2, row_stride)
    shard = Shard(path, samples.reshape(n_rows, DIGEST_BYTES), mean, squares, int(checksum[0]))
    end = len(tail) - HEADER_BYTES - _SEAL_BYTES
    is_sealed = tail[end:] == _end(key, memoryview(tail)[:end])
    if header != _header("<f4", (n_rows, row_stride)) or not is_sealed:
        raise Unsound("its seal is not that of this cache")
    return shard


def read_into(file: int, buffers: list[memoryview], offset: int) -> bool:
    """Fill bytes one behind the other from ``offset`` of a file on; False where it ends before."""
    at = 0
    while at < len(buffers):
        count = system.read_into(file, buffers[at : at + _BUFFERS], offset)
        if not count:
            return False
        offset += count
        while at < len(buffers) and count >= len(buffers[at]):
            count, at = count - len(buffers[at]), at + 1
        if count:
            buffers[at] = buffers[at][count:]
    return True


def _size(n_rows: int, row_stride: int) -> int:
    """Of a file, in bytes."""
    return 5 * HEADER_BYTES + n_rows * (4 * row_stride + DIGEST_BYTES) + 16 * row_stride + 4 + 32


def _header(kind: str, shape: tuple[int, ...]) -> bytes:
    """What stands before an array in version 1.0 of ``.npy``."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    room = HEADER_BYTES - 10
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", room) + text.ljust(room - 1) + b"\n"


def _tail(shard: Shard, key: bytes) -> bytes:
    """All that stands behind the rows."""
    moments = np.ascontiguousarray([shard.mean, shard.squares], "<f8")
    parts = [
        _header("|u1", shard.samples.shape), shard.samples.tobytes(),
        _header("<f8", moments.shape), moments.tobytes(),
        _header("<u4", (1,)), struct.pack("<I", shard.checksum),
    ]  # fmt: skip
    sealed = b"".join(parts)
    return sealed + _end(key, sealed)


def _end(key: bytes, sealed: bytes | memoryview) -> bytes:
    """The seal of what stands between it and the rows."""
    seal = hashlib.sha256(key)
    seal.update(sealed)
    return _header("|u1", (_SEAL_BYTES,)) + seal.digest()


def overwrite(path: Path) -> None:
    """Write zeros over a file and remove it.

    Raises:
        FileError: the system refused.
    """
    with refusals(path):
        with path.open("r+b") as file:
            left = os.fstat(file.fileno()).st_size
            while left > 0:
                left -= file.write(bytes(min(left, _PIECE)))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
