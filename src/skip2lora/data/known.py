"""Digests of the samples of a file, remembered in a folder until the file is changed.

To hash a wide sample at every call takes more time than to find its row. As in git's index, a file
is the one that was hashed if device, inode, size and both times are the same, to the nanosecond;
and so that a change within one tick of the clock is seen, only what was hashed some time after the
last change is remembered. Any doubt means that samples are hashed again.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skip2lora.errors import FileError
from skip2lora.files import write_bytes

#: Of the files that remember, in the folder of a cache.
SUFFIX = ".known"
#: After its last change, for which a file is hashed again: longer than a tick of any file system.
MARGIN_NS = 5_000_000_000
_BYTES = 32  # of a digest
_HEAD = 2  # rows before the digests: of what file they are, and a seal


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
            is_now.st_dev, is_now.st_ino, is_now.st_size, is_now.st_mtime_ns, is_now.st_ctime_ns,
            about,
        )  # fmt: skip


class _Remembered:
    """Digests of ``n_samples`` of one file, (n_samples, 32), 0 of those that are not known."""

    def __init__(self, place: Path, mark: Mark, n_samples: int) -> None:
        said = f"{os.uname().nodename} {tuple(mark)}".encode()
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
        for file in self._files.values():
            if file.is_new:
                file.join(_Remembered(file.place, file.mark, len(file.digests)))
                with suppress(FileError):  # of a cache that may be read alone
                    write_bytes(file.place, file.content())
                file.is_new = False


def _several(digests: NDArray[np.uint8]) -> list[bytes]:
    whole = digests.tobytes()
    return [whole[at : at + _BYTES] for at in range(0, len(whole), _BYTES)]
