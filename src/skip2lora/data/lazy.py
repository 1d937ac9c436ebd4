"""Samples that are read where they are needed, a chunk at a time: they are never there all at once.

A reader gives them in the place of an array: they have a length and are indexed like one, which
reads nothing. :func:`read` makes an array of a part. Each sample has a digest, by which a cache
knows it again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import Inputs, first_not_finite
from skip2lora.data.known import LEAST_BYTES, KnownDigests, about_of, bytes_of

#: Of samples in memory at a time.
READ_BYTES = 1 << 24
_HASHED_BYTES = 1 << 20  # of samples that are read to be hashed, few enough for the processor


class Source(Protocol):
    """Where samples come from: a file that is read by places, or a folder of files."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(samples, ...), as an array of all would have it."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers of a sample."""

    def read(self, places: NDArray[np.intp]) -> NDArray[Any]:
        """The samples at ``places``, (places, ...).

        Raises:
            DataError: one of them cannot be read, or is not finite.
        """

    def digests(self, places: NDArray[np.intp], known: KnownDigests | None) -> list[bytes]:
        """SHA-256 of what each of these samples is made from, which need not be read for it.

        ``known`` remembers those of files that were not changed.

        Raises:
            DataError: one of them is not there.
        """


class CheckedSource(Source, Protocol):
    """Samples of which all were looked at."""

    @property
    def bad(self) -> tuple[int, int, int] | None:
        """How many values are not finite, the sample and the column of the first; None of none."""


@dataclass(frozen=True, eq=False)
class LazySamples:
    """Those at ``places`` of ``source``, as ``check`` of a model takes them; none is read yet."""

    source: Source
    places: NDArray[np.intp]
    check: Callable[[Any], Any] | None = None

    @classmethod
    def of(cls, source: Source) -> LazySamples:
        """All of ``source``."""
        return cls(source, np.arange(source.shape[0]))

    def __len__(self) -> int:
        return len(self.places)

    @property
    def shape(self) -> tuple[int, ...]:
        """(samples, ...), before ``check``."""
        return (len(self), *self.source.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Before ``check``."""
        return self.source.dtype

    def __getitem__(self, which: slice | NDArray[np.integer] | NDArray[np.bool_]) -> LazySamples:
        return replace(self, places=self.places[which])

    def checked(self, check: Callable[[Any], Any]) -> LazySamples:
        """As a model takes them: ``check`` is called with each part that is read.

        Raises:
            DataError: the first sample does not fit.
        """
        check(self[:1].read())
        return replace(self, check=check)

    def read(self) -> Any:
        """All of these as an array, or as what ``check`` makes of it.

        Raises:
            DataError: one of them cannot be read, or does not fit the model.
        """
        values = self.source.read(self.places)
        return values if self.check is None else self.check(values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of these, for whoever takes arrays alone."""
        return np.asarray(self.read(), dtype, copy=copy)

    def digests(self, known: KnownDigests | None = None) -> list[bytes]:
        """SHA-256 of each, which ``known`` may remember."""
        return self.source.digests(self.places, known)


@dataclass(frozen=True, eq=False)
class Picked:
    """The source of some ``columns`` of tables of another ``source``."""

    source: CheckedSource
    columns: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, ...]:
        """(samples, columns)."""
        return (self.source.shape[0], len(self.columns))

    @property
    def dtype(self) -> np.dtype[Any]:
        """As of the other."""
        return self.source.dtype

    @property
    def bad(self) -> tuple[int, int, int] | None:
        """What is not finite in these columns."""
        count, first, every = 0, (0, 0), LazySamples.of(self)
        for part in parts_of(every, len(every)) if self.source.bad else ():
            bad = first_not_finite(self.read(every.places[part]))
            if bad is not None:
                first = first if count else (part.start + bad[1], bad[2])
                count += bad[0]
        return (count, *first) if count else None

    def read(self, places: NDArray[np.intp]) -> NDArray[Any]:
        """The samples at ``places``, (places, columns).

        Raises:
            DataError, FileError: as of the other.
        """
        return np.ascontiguousarray(self.source.read(places)[:, self.columns])

    def digests(self, places: NDArray[np.intp], known: KnownDigests | None = None) -> list[bytes]:
        """As of an array of these samples."""
        return digests_of_parts(self, places, known)


def runs_of(places: NDArray[np.intp]) -> Iterator[slice]:
    """Where in ``places`` neighbours stand one after the other, to be read in one go."""
    ends = (np.flatnonzero(np.diff(places) != 1) + 1).tolist()
    for first, last in zip([0, *ends], [*ends, len(places)], strict=True):
        if first < last:
            yield slice(first, last)


def parts_of(x: Any, most: int) -> Iterator[slice]:
    """Neighbouring samples of ``x``, ``most`` at a time, or fewer of what is large once read."""
    if isinstance(x, LazySamples):
        n_bytes = math.prod(x.shape[1:]) * x.dtype.itemsize
        most = min(most, max(1, READ_BYTES // max(1, n_bytes)))
    for at in range(0, len(x), most):
        yield slice(at, at + most)


def read(x: Any) -> Any:
    """``x`` itself, or the array that it stands for."""
    return x.read() if isinstance(x, LazySamples) else x


def digests_of(x: Any, known: KnownDigests | None = None) -> list[bytes]:
    """SHA-256 of each of checked samples: of the bytes, types and shapes of its numbers.

    ``known`` remembers those of files that were not changed, and of wide samples in arrays.
    """
    if isinstance(x, LazySamples):
        return x.digests(known)
    arrays = x.arrays if isinstance(x, Inputs) else {"": x}
    n_bytes = sum(array[:1].nbytes for array in arrays.values())
    if known is None or n_bytes < LEAST_BYTES or not len(x):
        return _hashed(arrays)

    def some(places: NDArray[np.intp]) -> list[bytes]:
        whole = len(places) == len(x)
        return _hashed(arrays if whole else {name: of[places] for name, of in arrays.items()})

    return known.of_arrays(arrays, some)


def digests_of_parts(
    source: Source, places: NDArray[np.intp], known: KnownDigests | None = None
) -> list[bytes]:
    """SHA-256 of each of these samples, as of an array, of which a part is read at a time."""
    n_bytes = math.prod(source.shape[1:]) * source.dtype.itemsize
    step = max(1, _HASHED_BYTES // n_bytes)
    parts = (places[at : at + step] for at in range(0, len(places), step))
    return [digest for part in parts for digest in digests_of(source.read(part), known)]


def _hashed(arrays: Mapping[str, NDArray[Any]]) -> list[bytes]:
    """SHA-256 of each sample of these."""
    hashes: list[Any] = []
    for name, array in arrays.items():
        hashes = hashes or [hashlib.sha256() for _ in range(len(array))]
        about = about_of(name, array)
        for of, content in zip(hashes, bytes_of(array), strict=True):
            of.update(about)
            of.update(content.data)
    return [of.digest() for of in hashes]
