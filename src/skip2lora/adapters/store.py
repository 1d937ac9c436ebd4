"""A cache that lasts: a folder of shards, and a manifest of what their rows depend on.

Any process may write beside others, on this machine or on another: a shard is there whole or not at
all, and nothing is ever changed in place. docs/cache-format.md has the format.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapters.index import Index
from skip2lora.adapters.shards import (
    DIGEST_BYTES,
    DRAFTS,
    SUFFIX,
    Shard,
    Unsound,
    moments_of,
    overwrite,
    read_into,
    read_shard,
    rows_of_shard,
    write_shard,
)
from skip2lora.data.known import SUFFIX as KNOWN
from skip2lora.data.known import KnownDigests
from skip2lora.errors import DamagedCacheWarning, FileError, ModelError, brief, warn
from skip2lora.files import canonical, make_folder, unreadable, write_bytes
from skip2lora.limits import check_file
from skip2lora.replacing import sweep
from skip2lora.system import ANNOUNCES, announce

MANIFEST = "manifest.json"
_KIND, _VERSION = "skip2lora cache", 1
_NAME = re.compile("[0-9a-f]{40}" + re.escape(SUFFIX))
_MOST_OPEN = 64  # files at a time


@dataclass(frozen=True, eq=False)
class Places:
    """Where the rows of samples are: ``row[i]`` of ``shards[shard[i]]``; both are -1 of none.

    They are indexed as samples are. The files that were read last stay open.
    """

    shards: Sequence[Shard]
    shard: NDArray[np.int32]
    row: NDArray[np.int32]
    files: _Files = field(default_factory=lambda: _Files(), repr=False)

    @classmethod
    def joined(cls, several: Sequence[Places]) -> Places:
        """One behind the other, of one folder."""
        shard, row = (
            np.concatenate(arrays)
            for arrays in ([of.shard for of in several], [of.row for of in several])
        )
        return cls(several[-1].shards, shard, row)

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, which: slice | NDArray[np.integer]) -> Places:
        return Places(self.shards, self.shard[which], self.row[which], self.files)

    @property
    def missing(self) -> NDArray[np.intp]:
        """Numbers of the samples without a row."""
        return np.flatnonzero(self.shard < 0)

    def moments(self) -> NDArray[np.float64] | None:
        """Mean and variance of the columns of their rows, as :func:`moments_of` has them."""
        return moments_of(self.shards, self.shard, self.row)

    def _runs(self) -> Iterator[tuple[slice, Shard, int]]:
        """Neighbours in one file: which of these, of which shard, from which byte on."""
        count = len(self)
        if count and (self.shard == self.shard[0]).all() and self.shard[0] >= 0:
            first = int(self.row[0])
            if np.array_equal(self.row, np.arange(first, first + count)):  # the usual case
                of = self.shards[int(self.shard[0])]
                yield slice(0, count), of, of.offset(first)
                return
        there = np.flatnonzero(self.shard >= 0)
        shard, row = self.shard[there], self.row[there]
        breaks = (np.diff(there) != 1) | (np.diff(shard) != 0) | (np.diff(row) != 1)
        starts = np.flatnonzero(np.r_[len(there) > 0, breaks])
        counts = np.diff(starts, append=len(there))
        for first, number, begin, count in zip(
            there[starts].tolist(), shard[starts].tolist(), row[starts].tolist(), counts.tolist(),
            strict=True,
        ):  # fmt: skip
            of = self.shards[number]
            yield slice(first, first + count), of, of.offset(begin)

    def read(self, out: NDArray[np.float32], rest: NDArray[np.float32] | None = None) -> None:
        """Read rows into ``out``, (samples, row_stride); those that are missing stay as they are.

        With ``rest``, ``out`` takes but the first floats of each row, and ``rest`` the others.

        Raises:
            FileError: a file cannot be read.
        """
        for which, shard, offset in self._runs():
            places = [out[which]]
            if rest is not None:
                places = [of[at] for at in range(which.start, which.stop) for of in (out, rest)]
            try:
                buffers = [memoryview(place.data).cast("B") for place in places]
                if not read_into(self.files.opened(shard.path), buffers, offset):
                    raise FileError(
                        f"{shard.path} ends before its rows do, expected it as it was a moment "
                        "ago: try again"
                    )
            except OSError as error:
                raise unreadable(shard.path, error) from error

    def announce(self) -> None:
        """Let the system begin to read these rows.

        Raises:
            FileError: a file cannot be read.
        """
        if not ANNOUNCES:
            return
        for which, shard, offset in self._runs():
            try:
                file, size = (
                    self.files.opened(shard.path),
                    (which.stop - which.start) * shard.row_bytes,
                )
                announce(file, offset, size)
            except OSError as error:
                raise unreadable(shard.path, error) from error


class _Files:
    """Files that were read last, open: for one thread at a time."""

    def __init__(self) -> None:
        self._open: dict[Path, FileIO] = {}
        weakref.finalize(self, _close, self._open)

    def opened(self, path: Path) -> int:
        """The number of a file that is open."""
        if path not in self._open:
            if len(self._open) == _MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[path] = FileIO(path)
        return self._open[path].fileno()


def _close(files: dict[Path, FileIO]) -> None:
    for file in files.values():
        file.close()


class CacheFolder:
    """A Skip-Cache that outlives the process: ``adapt(model, X, y, cache=CacheFolder(path))``.

    The folder keeps the rows of every sample that ever passed the model, each found by the SHA-256
    of the sample: whatever is adapted next to the same model computes the rows of new samples
    alone. It belongs to one model as it is tapped, one runtime and one kind of machine, and says
    so where another is to use it. Several processes may use it at a time. The format is in
    docs/cache-format.md.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """``path`` need not exist yet."""
        self.path = Path(path)
        #: Digests of samples of files, which are hashed once.
        self.known = KnownDigests(self.path)
        self._lock = threading.RLock()
        self._key, self._row_stride = b"", 0
        self._forget()

    def _forget(self) -> None:
        self._shards: list[Shard] = []
        self._index = Index()
        self._known: set[str] = set()
        self._sound: set[int] = set()
        self._seen: int | None = None  # when the folder was changed, as it was read last

    def __repr__(self) -> str:
        return f"CacheFolder({str(self.path)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """For other processes, which read the folder again."""
        return CacheFolder, (self.path,)

    def claim(self, about: Mapping[str, Any], row_stride: int) -> None:
        """Take the folder for rows of that width, which depend on what ``about`` says; make it.

        Raises:
            FileError: the system refused, or the folder is of something else.
            ModelError: the cache depends on something else; the message says on what.
        """
        about = json.loads(json.dumps({"kind": _KIND, "version": _VERSION, **about}))
        file = make_folder(self.path) / MANIFEST
        for name in (MANIFEST, DRAFTS):  # what killed runs left
            sweep(self.path / name)
        if not file.exists():
            self._check_empty()
            write_bytes(file, (json.dumps(about, indent=1) + "\n").encode())
        self._compare(self._read_manifest(file), about)
        said = {name: value for name, value in about.items() if value is not None}
        key = hashlib.sha256(canonical(said).encode()).digest()
        with self._lock:
            if key != self._key:
                self._forget()
                self._key, self._row_stride = key, row_stride
            self.refresh()

    def copied_to(self, path: Path, samples: Sequence[bytes] = ()) -> CacheFolder:
        """A cache at another place, which then has the rows of samples with these digests too.

        What is there of another model is removed.

        Raises:
            FileError: the system refused, or a row is missing.
        """
        about, copy = (self.path / MANIFEST).read_bytes(), CacheFolder(path)
        file = path / MANIFEST
        if file.exists() and file.read_bytes() != about:
            shutil.rmtree(path)
        if not file.exists():
            make_folder(path)
            write_bytes(file, about)
        copy._key, copy._row_stride = self._key, self._row_stride
        copy.refresh()
        lacking = list(dict.fromkeys(samples))
        lacking = [lacking[at] for at in copy.rows(lacking).missing]
        size = rows_of_shard(4 * self._row_stride)
        for at in range(0, len(lacking), size):
            places = self.rows(some := lacking[at : at + size])
            if len(places.missing):
                raise FileError(
                    f"{self.path} lacks rows that were in it a moment ago, expected them to stay: "
                    "run it again"
                )
            places.read(rows := np.empty((len(some), self._row_stride), np.float32))
            copy.append(some, rows)
        return copy

    def _check_empty(self) -> None:
        try:
            names = sorted(entry.name for entry in self.path.iterdir())
        except OSError as error:
            raise unreadable(self.path, error) from error
        strangers = [name for name in names if not name.startswith(".")]
        if strangers:
            raise FileError(
                f"{self.path} holds {strangers[0]} and no {MANIFEST}, expected an empty folder or "
                "a cache of skip2lora: choose another"
            )

    def _read_manifest(self, file: Path) -> dict[str, Any]:
        check_file(file, "the manifest of a cache")
        try:
            there = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise unreadable(file, error) from error
        except (ValueError, RecursionError):
            there = None
        if not isinstance(there, dict) or there.get("kind") != _KIND:
            raise FileError(
                f"{file} is no manifest of a cache, expected one as skip2lora wrote it: choose "
                "another folder, or remove this one"
            )
        return there

    def _compare(self, there: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        for name in [*about, *(set(there) - set(about))]:
            was, now = there.get(name), about.get(name)
            if was != now:
                raise ModelError(
                    f"the rows in {self.path} are of {name.replace('_', ' ')} {_short(was)}, got "
                    f"{_short(now)}, expected the same, as rows change with it: choose another "
                    "folder, or remove this one"
                )

    def refresh(self) -> None:
        """See what others wrote meanwhile; a file that is no sound shard is dropped, and said."""
        with self._lock:
            try:
                changed = self.path.stat().st_mtime_ns
                if changed == self._seen:
                    return
                names = {path.name for path in self.path.iterdir() if _NAME.fullmatch(path.name)}
            except OSError as error:
                raise unreadable(self.path, error) from error
            for number, shard in enumerate(self._shards):
                if shard.path.name in self._known - names:  # others removed it
                    self._index.drop(number)
            self._known &= names
            for name in sorted(names - self._known):
                self._known.add(name)
                try:
                    self._take(read_shard(self.path / name, self._row_stride, self._key))
                except Unsound as error:
                    _warn(self.path / name, error)
                    _remove(self.path / name)
            self._seen = changed

    def _take(self, shard: Shard) -> int:
        self._shards.append(shard)
        self._index.add(shard.samples, len(self._shards) - 1)
        return len(self._shards) - 1

    def rows(self, samples: Sequence[bytes]) -> Places:
        """Where the rows of samples with these digests are; each shard is checked once."""
        wanted = np.frombuffer(b"".join(samples), np.uint8).reshape(len(samples), DIGEST_BYTES)
        with self._lock:
            while True:
                shard, row = self._index.find(wanted)
                unsure = set(np.unique(shard).tolist()) - self._sound - {-1}
                if not unsure:
                    return Places(self._shards, shard, row)
                for number in unsure:
                    if not self._is_sound(number):
                        self._index.drop(number)
                        _remove(self._shards[number].path)

    def _is_sound(self, number: int) -> bool:
        """Whether a shard is as it was written, which is looked at once; it is said where not."""
        if number not in self._sound:
            try:
                self._shards[number].check_rows()
            except Unsound as error:
                _warn(self._shards[number].path, error)
                return False
            self._sound.add(number)
        return True

    def append(self, samples: Sequence[bytes], rows: NDArray[np.float32]) -> None:
        """Keep rows, (n, row_stride), of samples with these digests, as one more shard.

        Raises:
            FileError: the system refused; what is there stays as it is.
        """
        shard = write_shard(self.path, samples, rows, self._key)
        with self._lock:
            self._known.add(shard.path.name)
            self._sound.add(self._take(shard))

    def forget(self, samples: Sequence[bytes]) -> None:
        """Overwrite every file with rows of samples with these digests; other rows in it stay.

        Raises:
            FileError: the system refused.
        """
        gone = set(samples)
        with self._lock:
            for number, shard in enumerate(list(self._shards)):
                digests = [digest.tobytes() for digest in shard.samples]
                stay = [row for row, digest in enumerate(digests) if digest not in gone]
                if len(stay) == len(shard) or not shard.path.exists():
                    continue
                if stay and self._is_sound(number):
                    rows = np.empty((len(shard), self._row_stride), np.float32)
                    places = np.arange(len(shard), dtype=np.int32)
                    Places([shard], np.zeros_like(places), places).read(rows)
                    self.append([digests[row] for row in stay], rows[stay])
                self._index.drop(number)
                overwrite(shard.path)
            for known in self.path.glob("*" + KNOWN):
                overwrite(known)
            self.known = KnownDigests(self.path)


def _warn(path: Path, why: Unsound) -> None:
    """Say that it is dropped."""
    warn(f"{path} is dropped, as {why}: its rows are computed again", DamagedCacheWarning)


def _remove(path: Path) -> None:
    """Remove a file that is damaged, where we may."""
    with suppress(OSError):
        path.unlink()


def _short(value: Any) -> str:
    return brief(json.dumps(value) if isinstance(value, dict | list) else value)
