"""Samples of several files or calls, one after the other; some are known by digests alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import Inputs
from skip2lora.data.known import KnownDigests
from skip2lora.data.lazy import LazySamples, digests_of, read
from skip2lora.errors import DataError

DIGEST_BYTES = 32


@dataclass(frozen=True, eq=False)
class Recalled:
    """The source of samples of which only the digests are there, (samples, 32): rows are kept."""

    values: NDArray[np.uint8]
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """(samples,): nothing of them is there."""
        return (len(self.values),)

    def read(self, places: NDArray[np.intp]) -> NDArray[Any]:
        """Never gives any.

        Raises:
            DataError: always.
        """
        raise DataError(
            f"the row of sample {places[0]} is needed and not kept any more, expected it in the "
            "cache beside the adapter: adapt again from all samples"
        )

    def digests(self, places: NDArray[np.intp], known: KnownDigests | None = None) -> list[bytes]:
        """SHA-256 of each of these samples."""
        del known
        return [each.tobytes() for each in self.values[places]]


@dataclass(frozen=True, eq=False)
class Joined:
    """The source of samples of several parts: arrays, named arrays, or what is read lazily."""

    parts: tuple[Any, ...]

    @cached_property
    def _starts(self) -> NDArray[np.intp]:
        return np.cumsum([0, *map(len, self.parts)])

    @property
    def shape(self) -> tuple[int, ...]:
        """(samples, ...) as the last part has it."""
        last = self.parts[-1]
        return (int(self._starts[-1]), *(() if isinstance(last, Inputs) else last.shape[1:]))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the last part."""
        last = self.parts[-1]
        return np.dtype(np.float32) if isinstance(last, Inputs) else last.dtype

    def _of_parts(self, places: NDArray[np.intp]) -> list[tuple[Any, NDArray[np.intp]]]:
        """What is asked of each part, and where in ``places``."""
        owner = np.searchsorted(self._starts, places, side="right") - 1
        asked = []
        for number in np.unique(owner).tolist():
            at = np.flatnonzero(owner == number)
            asked.append((self.parts[number][places[at] - self._starts[number]], at))
        return asked

    def read(self, places: NDArray[np.intp]) -> Any:
        """The samples at ``places``.

        Raises:
            DataError: one of them cannot be read.
        """
        asked = self._of_parts(places)
        order = np.argsort(np.concatenate([at for _, at in asked]))
        return _concatenated([read(part) for part, _ in asked])[order]

    def digests(self, places: NDArray[np.intp], known: KnownDigests | None = None) -> list[bytes]:
        """SHA-256 of each of these samples."""
        digests: list[bytes] = [b""] * len(places)
        for part, at in self._of_parts(places):
            for place, digest in zip(at.tolist(), digests_of(part, known), strict=True):
                digests[place] = digest
        return digests


class Settled(LazySamples):
    """Samples that were checked part by part."""

    def checked(self, check: Callable[[Any], Any]) -> Self:
        """These, as they are."""
        del check
        return self


def joined(parts: Sequence[Any], *, settled: bool = False) -> Any:
    """``parts`` one after the other: an array where all are, else samples that are yet to be read.

    ``settled`` says that a model has checked each of them.

    Raises:
        DataError: samples of several shapes or inputs.
    """
    if len(parts) == 1 and not settled:
        return parts[0]
    if not any(isinstance(part, LazySamples) for part in parts):
        return _concatenated(parts)
    source = Joined(tuple(parts))
    return (Settled if settled else LazySamples).of(source)


def _concatenated(parts: Sequence[Any]) -> Any:
    first = parts[0]
    for part in parts[1:]:
        if _form(part) != _form(first):
            raise DataError(
                f"samples have shapes {_form(first)} and {_form(part)}, expected the same in all "
                "files: pass those of one model"
            )
    if isinstance(first, Inputs):
        names = first.arrays
        return Inputs({name: np.concatenate([of.arrays[name] for of in parts]) for name in names})
    return np.concatenate(parts)


def _form(part: Any) -> Any:
    if isinstance(part, Inputs):
        return {name: array.shape[1:] for name, array in part.arrays.items()}
    return part.shape[1:]
