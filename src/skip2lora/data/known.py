"""Digests of samples, remembered in a folder: of a file until it is changed, of arrays by sums.

To hash a wide sample at every call takes more time than to find its row. As in git's index, a file
is the one that was hashed if device, inode, size and both times are the same, to the nanosecond;
and so that a change within one tick of the clock is seen, only what was hashed some time after the
last change is remembered. Any doubt means that samples are hashed again. One file with many samples
has a memory of its own; files of one sample each share one.

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
_ARRAYS, _FILES = "arrays" + SUFFIX, "files" + SUFFIX
_NPY_BYTES = 128  # of such a file, before its rows
_MOST_PAIRS = 1 << 20  # that are remembered in one


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
    def of(cls, file: int | Path, about: str) -> Mark:
        """Of a file that is open, or has that path, as it is now.

        Raises:
            OSError: it is not there.
        """
        is_now = file.stat() if isinstance(file, Path) else os.fstat(file)
        return cls(
            is_now.st_dev, is_now.st_ino, is_now.st_size, is_now.st_mtime_ns,
            system.changed_ns(is_now), about,
        )  # fmt: skip

    def said(self) -> bytes:
        """All of it, and on which machine."""
        return f"{system.node_name()} {tuple(self)}".encode()


class _Remembered:
    """Digests of ``n_samples`` of one file, (n_samples, 32), 0 of those that are not known."""

    def __init__(self, place: Path, mark: Mark, n_samples: int) -> None:
        self.place, self.mark, self.is_new = place, mark, False
        self._of = hashlib.sha256(mark.said()).digest()
        self.digests = np.zeros((n_samples, _BYTES), np.uint8)
        with suppress(OSError, ValueError, EOFError):
            if place.stat().st_size == _NPY_BYTES + _BYTES * (_HEAD + n_samples):
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
        self._pairs: dict[str, _Pairs] = {}

    def has(self, path: Path, mark: Mark, n_samples: int) -> bool:
        """Whether samples of that file are known: it was read and checked before they were."""
        return bool(self._file(path.resolve(), mark, n_samples).digests.any())

    def of_arrays(
        self,
        arrays: Mapping[str, NDArray[Any]],
        compute: Callable[[NDArray[np.intp]], list[bytes]],
    ) -> list[bytes]:
        """SHA-256 of the samples of ``arrays`` by name, (samples, ...); ``compute`` hashes some."""
        memory = self._memory(_ARRAYS)
        there, sums = memory.of, _sums_of(arrays, memory.key)
        unknown = [at for at, of in enumerate(sums) if of not in there]
        if unknown:
            digests = compute(np.array(unknown))
            memory.add({sums[at]: of for at, of in zip(unknown, digests, strict=True)})
            own = dict(zip(unknown, digests, strict=True))  # where no more are remembered
            return [own[at] if at in own else there[of] for at, of in enumerate(sums)]
        return [there[of] for of in sums]

    def of_file(self, path: Path, about: str, compute: Callable[[], bytes | None]) -> bytes | None:
        """32 bytes that ``compute`` gives of a small file and what ``about`` says.

        None is not remembered.

        Raises:
            OSError: it is not there.
        """
        memory, mark = self._memory(_FILES), Mark.of(path, about)
        sha256 = hashlib.sha256(memory.key + mark.said()).digest()
        there = memory.of.get(sha256)
        if there is None:
            began, there = time.time_ns(), compute()
            is_old = began - mark.changed_ns > MARGIN_NS
            if there is not None and is_old and Mark.of(path, about) == mark:
                memory.add({sha256: there})
        return there

    def _memory(self, name: str) -> _Pairs:
        if name not in self._pairs:
            self._pairs[name] = _Pairs.read(self._folder / name)
        return self._pairs[name]

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

    def look_again(self) -> None:
        """See what others remembered meanwhile."""
        self.write()
        self._files, self._pairs = {}, {}

    def write(self) -> None:
        """Put what is new into the folder."""
        for memory in self._pairs.values():
            memory.write()
        for file in self._files.values():
            if file.is_new:
                file.join(_Remembered(file.place, file.mark, len(file.digests)))
                with suppress(FileError):  # of a cache that may be read alone
                    write_bytes(file.place, file.content())
                file.is_new = False


class _Pairs:
    """Digests ``of`` samples by other ones, which come of a ``key`` that is made here or there.

    Both are kept one behind the other, what they are found by first.
    """

    def __init__(self, place: Path, key: bytes) -> None:
        self._place, self.key, self._is_new = place, key, False
        self.of: dict[bytes, bytes] = {}

    @classmethod
    def read(cls, place: Path) -> _Pairs:
        """What the file has; of none, or a damaged one, nothing and a new key."""
        with suppress(OSError, ValueError):
            content = place.read_bytes()
            rows = _several(np.frombuffer(content[_NPY_BYTES:], np.uint8).reshape(-1, _BYTES))
            pairs = cls(place, b"".join(rows[:1]))
            pairs.of = dict(zip(rows[_HEAD::2], rows[_HEAD + 1 :: 2], strict=True))
            if pairs._content() == content:
                return pairs
        return cls(place, secrets.token_bytes(_BYTES))

    def add(self, new: Mapping[bytes, bytes]) -> None:
        """Remember these while there is room."""
        if len(self.of) + len(new) <= _MOST_PAIRS:
            self.of |= new
            self._is_new = True

    def write(self) -> None:
        """Put them into the file, beside what others wrote with the same key."""
        if not self._is_new:
            return
        others = _Pairs.read(self._place)
        if others.key == self.key:
            self.of = others.of | self.of
        elif others.of:  # who came first stays
            return
        with suppress(FileError):  # of a cache that may be read alone
            write_bytes(self._place, self._content())
        self._is_new = False

    def _content(self) -> bytes:
        """As ``.npy``, (2 + 2 * pairs, 32): the key, a seal, and both of each pair."""
        digests = b"".join(part for pair in self.of.items() for part in pair)
        seal = hashlib.sha256(self.key + digests).digest()
        rows = np.frombuffer(self.key + seal + digests, np.uint8).reshape(-1, _BYTES)
        np.save(file := io.BytesIO(), rows)
        return file.getvalue()


def _sums_of(arrays: Mapping[str, NDArray[Any]], key: bytes) -> list[bytes]:
    """Of each sample by that key, with how it lies in memory."""
    words = np.frombuffer(hashlib.shake_256(key).digest(4 * _KEY_WORDS), "<u4").astype(np.uint32)
    hashes: list[Any] = []
    for name, array in arrays.items():
        samples = bytes_of(array)
        blocks = -(-samples.shape[1] // _BLOCK_BYTES)
        sums = np.empty((len(samples), blocks, _SUMS), np.uint64)
        _core.block_sums(samples, words, sums)
        hashes = hashes or [hashlib.sha256() for _ in samples]
        about, sums = about_of(name, array), sums.astype("<u8", copy=False)
        for each, of_sample in zip(hashes, sums, strict=True):
            each.update(about)
            each.update(of_sample.data)
    return [each.digest() for each in hashes]


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
