"""Digests of samples, remembered in a folder: of a file until it is changed, of arrays by sums.

To hash a wide sample at every call takes more time than to find its row. As in git's index, a file
is the one that was hashed if device, inode, size and both times are the same, to the nanosecond;
and so that a change within one tick of the clock is seen, only what was hashed some time after the
last change is remembered. Any doubt means that samples are hashed again.

Of an array nothing tells that it is the same but all its bytes. So they are summed up with a key
that the folder alone has (``_core.block_sums``, NH of UMAC), at the speed of memory: two samples
that were not made for that key have the same sums with a probability of 2^-128.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core, system
from skip2lora.errors import FileError
from skip2lora.files import write_bytes

#: Of the files that remember, in the folder of a cache.
SUFFIX = ".known"
#: After its last change, for which a file is hashed again: longer than a tick of any file system.
MARGIN_NS = 5_000_000_000
_BYTES = 32  # of a digest
_HEAD = 2  # rows before the digests: of what file they are, and a seal
#: A sample of fewer bytes in an array is hashed at once.
LEAST_BYTES = 4096
_BLOCK_BYTES, _KEY_WORDS, _SUMS = 4096, 1030, 4  # as in bindings/digest.hpp
_ARRAYS, _NPY_BYTES = "arrays" + SUFFIX, 128  # the file, and what stands before its rows
_MOST_ARRAYS = 1 << 20  # samples that are remembered


class Mark(NamedTuple):
    """What tells a file from another, or from itself before a change.

    ``about`` is what its samples depend on beside: where they lie, and a checksum of them.
    """

    device: int
    inode: int
    n_bytes: int
    modified_ns: int
    changed_ns: int
    about: str

    @classmethod
    def of(cls, descriptor: int, about: str) -> Mark:
        """Of an open file, as it is now."""
        is_now = os.fstat(descriptor)
        return cls(
            is_now.st_dev, is_now.st_ino, is_now.st_size, is_now.st_mtime_ns,
            system.changed_ns(is_now), about,
        )  # fmt: skip


class _Remembered:
    """Digests of ``n_samples`` of one file, (n_samples, 32), 0 of those that are not known."""

    def __init__(self, place: Path, mark: Mark, n_samples: int) -> None:
        said = f"{system.node_name()} {tuple(mark)}".encode()
        self.place, self.mark, self.is_new = place, mark, False
        self._of = hashlib.sha256(said).digest()
        self.digests = np.zeros((n_samples, _BYTES), np.uint8)
        with suppress(OSError, ValueError, EOFError):
            if place.stat().st_size == len(self.content()):
                there = np.load(io.BytesIO(place.read_bytes()), allow_pickle=False)
                digests = there[_HEAD:]
                if there[:_HEAD].tobytes() == self._of + self._seal(digests):
                    self.digests = digests.copy()

    def join(self, other: _Remembered) -> None:
        """Take over what others wrote meanwhile."""
        here = self.digests.any(axis=1)
        self.digests[~here] = other.digests[~here]

    def _seal(self, digests: NDArray[np.uint8]) -> bytes:
        return hashlib.sha256(self._of + digests.tobytes()).digest()

    def content(self) -> bytes:
        """As ``.npy``, (2 + samples, 32)."""
        head = np.frombuffer(self._of + self._seal(self.digests), np.uint8).reshape(_HEAD, _BYTES)
        np.save(file := io.BytesIO(), np.concatenate([head, self.digests]))
        return file.getvalue()


class KnownDigests:
    """Remembers in ``folder``; nothing is lost but time if it cannot be written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[Path, _Remembered] = {}
        self._arrays: _Arrays | None = None

    def has(self, path: Path, mark: Mark, n_samples: int) -> bool:
        """Whether samples of that file are known: it was read and checked before they were."""
        return bool(self._file(path.resolve(), mark, n_samples).digests.any())

    def of_arrays(
        self,
        arrays: Mapping[str, NDArray[Any]],
        compute: Callable[[NDArray[np.intp]], list[bytes]],
    ) -> list[bytes]:
        """SHA-256 of the samples of ``arrays`` by name, (samples, ...); ``compute`` hashes some."""
        if self._arrays is None:
            self._arrays = _Arrays.read(self._folder / _ARRAYS)
        there, sums = self._arrays.sha256, self._arrays.sums_of(arrays)
        unknown = [at for at, of in enumerate(sums) if of not in there]
        if unknown:
            digests = compute(np.array(unknown))
            self._arrays.add({sums[at]: of for at, of in zip(unknown, digests, strict=True)})
            own = dict(zip(unknown, digests, strict=True))  # where no more are remembered
            return [own[at] if at in own else there[of] for at, of in enumerate(sums)]
        return [there[of] for of in sums]

    def of(
        self,
        path: Path,
        n_samples: int,
        places: NDArray[np.intp],
        look: Callable[[], Mark],
        compute: Callable[[NDArray[np.intp]], list[bytes]],
    ) -> list[bytes]:
        """SHA-256 of the samples at ``places`` of the ``n_samples`` in the file at ``path``.

        ``look`` tells what file it is now, ``compute`` hashes some of its samples.
        """
        mark, began = look(), time.time_ns()
        file = self._file(path.resolve(), mark, n_samples)
        unknown = np.unique(places[~file.digests[places].any(axis=1)])
        if not len(unknown):
            return _several(file.digests[places])
        if began - mark.changed_ns <= MARGIN_NS:
            return compute(places)
        digests = np.frombuffer(b"".join(compute(unknown)), np.uint8).reshape(-1, _BYTES)
        if look() != mark:
            return compute(places)
        file.digests[unknown], file.is_new = digests, True
        return _several(file.digests[places])

    def _file(self, path: Path, mark: Mark, n_samples: int) -> _Remembered:
        there = self._files.get(path)
        if there is None or there.mark != mark:
            name = hashlib.sha256(os.fsencode(path)).hexdigest()[:40] + SUFFIX
            there = _Remembered(self._folder / name, mark, n_samples)
            self._files[path] = there
        return there

    def write(self) -> None:
        """Put what is new into the folder."""
        if self._arrays is not None:
            self._arrays.write()
        for file in self._files.values():
            if file.is_new:
                file.join(_Remembered(file.place, file.mark, len(file.digests)))
                with suppress(FileError):  # of a cache that may be read alone
                    write_bytes(file.place, file.content())
                file.is_new = False


class _Arrays:
    """SHA-256 of samples by their sums with the ``key`` of one file, which is made here or there.

    Both are kept one behind the other, sums first.
    """

    def __init__(self, place: Path, key: bytes) -> None:
        self._place, self._key, self._is_new = place, key, False
        words = hashlib.shake_256(key).digest(4 * _KEY_WORDS)
        self._words = np.frombuffer(words, "<u4").astype(np.uint32)
        self.sha256: dict[bytes, bytes] = {}

    @classmethod
    def read(cls, place: Path) -> _Arrays:
        """What the file has; of none, or a damaged one, nothing and a new key."""
        with suppress(OSError, ValueError):
            content = place.read_bytes()
            rows = _several(np.frombuffer(content[_NPY_BYTES:], np.uint8).reshape(-1, _BYTES))
            of = cls(place, b"".join(rows[:1]))
            of.sha256 = dict(zip(rows[_HEAD::2], rows[_HEAD + 1 :: 2], strict=True))
            if of._content() == content:
                return of
        return cls(place, secrets.token_bytes(_BYTES))

    def sums_of(self, arrays: Mapping[str, NDArray[Any]]) -> list[bytes]:
        """Of each sample, with how it lies in memory."""
        hashes: list[Any] = []
        for name, array in arrays.items():
            samples = bytes_of(array)
            blocks = -(-samples.shape[1] // _BLOCK_BYTES)
            sums = np.empty((len(samples), blocks, _SUMS), np.uint64)
            _core.block_sums(samples, self._words, sums)
            hashes = hashes or [hashlib.sha256() for _ in samples]
            about, sums = about_of(name, array), sums.astype("<u8", copy=False)
            for each, of_sample in zip(hashes, sums, strict=True):
                each.update(about)
                each.update(of_sample.data)
        return [each.digest() for each in hashes]

    def add(self, new: Mapping[bytes, bytes]) -> None:
        """Remember these, sums to SHA-256, while there is room."""
        if len(self.sha256) + len(new) <= _MOST_ARRAYS:
            self.sha256 |= new
            self._is_new = True

    def write(self) -> None:
        """Put them into the file, beside what others wrote with the same key."""
        if not self._is_new:
            return
        others = _Arrays.read(self._place)
        if others._key == self._key:
            self.sha256 = others.sha256 | self.sha256
        elif others.sha256:  # who came first stays
            return
        with suppress(FileError):  # of a cache that may be read alone
            write_bytes(self._place, self._content())
        self._is_new = False

    def _content(self) -> bytes:
        """As ``.npy``, (2 + 2 * samples, 32): the key, a seal, and both of each sample."""
        digests = b"".join(part for pair in self.sha256.items() for part in pair)
        seal = hashlib.sha256(self._key + digests).digest()
        rows = np.frombuffer(self._key + seal + digests, np.uint8).reshape(-1, _BYTES)
        np.save(file := io.BytesIO(), rows)
        return file.getvalue()


def bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Of each sample of (samples, ...) in one row."""
    whole = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return whole.reshape(len(array), array[:1].nbytes)


def about_of(name: str, array: NDArray[Any]) -> bytes:
    """What the bytes of a sample of (samples, ...) mean, of the input of that name."""
    return f"{name} {array.dtype.str} {array.shape[1:]}".encode()


def _several(digests: NDArray[np.uint8]) -> list[bytes]:
    whole = digests.tobytes()
    return [whole[at : at + _BYTES] for at in range(0, len(whole), _BYTES)]
