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

from skip2lora.arrays import Inputs
from skip2lora.data.known import LEAST_BYTES, KnownDigests, about_of, bytes_of

#: Of samples in memory at a time.
READ_BYTES = 1 << 24


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
