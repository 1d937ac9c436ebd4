"""Projected taps: of each tap a few columns, (tap - mean) . A, where A stays as it was found.

What adapters learn on them is folded into ordinary adapters: those of the taps as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.adapters.rows import RowFormat
from skip2lora.arrays import whole
from skip2lora.backbones.base import Taps
from skip2lora.backbones.standins import SameOutputs
from skip2lora.data.known import KnownDigests
from skip2lora.data.lazy import LazySamples, digests_of
from skip2lora.errors import ParameterError
from skip2lora.methods import Method

#: How A is found: what varies most with the answers (partial least squares), what varies most
#: (principal components), or by chance.
KINDS = ("pls", "pca", "random")
#: Of whole rows that are there at a time.
BYTES_AT_ONCE = 1 << 24


@dataclass(frozen=True, eq=False)
class Projection:
    """Of one tap: its ``mean``, (tap_width,), and ``matrix``, A, (tap_width, rank)."""

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and other processes: the core's network is made again."""
        return Projection, (self.mean, self.matrix)

    @cached_property
    def _core(self) -> tuple[_core.Network, _core.RowLayout]:
        """A as a layer without bias: a row has the same bits in any batch, as BLAS would not."""
        width, rank = self.matrix.shape
        no_bias = np.zeros(rank, np.float32)
        layer = (self.matrix, no_bias, None, None, None, None, None, None)
        return _core.Network([layer], 1e-5, 0.0), _core.RowLayout([width], rank, True)

    def of(self, tap: NDArray[np.float32]) -> NDArray[np.float32]:
        """(tap - mean) . A, (samples, rank)."""
        network, layout = self._core
        rows = np.zeros((len(tap), layout.row_stride), np.float32)
        network.forward(np.subtract(tap, self.mean, order="C"), layout, 0, rows)
        at = layout.logits_offset
        return rows[:, at : at + self.matrix.shape[1]]


#: One a tap; None leaves it as it is.
Projections = tuple[Projection | None, ...]


@dataclass(frozen=True, eq=False)
class Projected(SameOutputs):
    """``backbone`` whose taps are projected: its samples may still be unread."""

    projections: Projections

    @property
    def fingerprint(self) -> str:
        """That of ``backbone``, marked."""
        state = hashlib.sha256()
        for each in self.projections:
            arrays = () if each is None else (each.mean, each.matrix)
            state.update(b"".join(array.tobytes() for array in arrays))
        return f"{self.backbone.fingerprint}-projected-{state.hexdigest()[:16]}"

    @property
    def tap_widths(self) -> tuple[int, ...]:
        """The rank of each projection, or the width of what is left as it is."""
        pairs = zip(self.projections, self.backbone.tap_widths, strict=True)
        return tuple(width if of is None else of.matrix.shape[1] for of, width in pairs)

    @property
    def first_tap_is_input(self) -> bool:
        """No: samples may be unread."""
        return False

    @property
    def reads(self) -> bool:
        """Yes: a few at a time."""
        return True

    def forward(self, x: Any) -> Taps:
        """Projected taps and base logits of checked samples, read or not."""
        full = RowFormat.of(self.backbone, copy_input=True)
        at_once = max(1, BYTES_AT_ONCE // full.row_bytes)
        rows = full.empty(min(at_once, len(x)))
        out = [np.empty((len(x), width), np.float32) for width in self.tap_widths]
        logits, first = np.empty((len(x), self.n_outputs), np.float32), full.layout.logits_offset
        places = list(zip(full.layout.tap_offsets, full.tap_widths, strict=True))
        for at in range(0, len(x), at_once):
            some = slice(at, min(at + at_once, len(x)))
            part = rows[: some.stop - at]
            full.compute(self.backbone, x[some], part)
            for values, of, (start, width) in zip(out, self.projections, places, strict=True):
                tap = part[:, start : start + width]
                values[some] = tap if of is None else of.of(tap)
            logits[some] = part[:, first : first + self.n_outputs]
        return Taps(tuple(out), logits)


@dataclass(frozen=True, eq=False)
class Numbered:
    """Samples by their numbers, part after part, for a model that has computed some of them."""

    parts: tuple[Any, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """One number a sample, (samples,)."""
        return (sum(len(part) for part in self.parts),)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        return np.dtype(np.int64)

    def read(self, places: NDArray[np.intp]) -> NDArray[Any]:
        """The numbers themselves."""
        return places

    def digests(self, places: NDArray[np.intp], known: KnownDigests | None = None) -> list[bytes]:
        """Of the samples behind them."""
        digests = [b""] * len(places)
        for at, part in self.within(places):
            for place, digest in zip(at, digests_of(part, known), strict=True):
                digests[place] = digest
        return digests

    def within(self, places: NDArray[np.intp]) -> list[tuple[NDArray[np.intp], Any]]:
        """Of each part the samples that are there, and where they are in ``places``."""
        pairs, start = [], 0
        for part in self.parts:
            at = np.flatnonzero((places >= start) & (places < start + len(part)))
            if len(at):
                pairs.append((at, part[places[at] - start]))
            start += len(part)
        return pairs


class FirstRows:
    """Rows of samples that have passed before: each is given once, then there is none any more.

    So a limit of the cache holds, and what has passed counts as its row's first look-up. Sample
    ``numbers[i]`` of ``n_samples`` has row i of ``taps``.
    """

    def __init__(self, numbers: NDArray[np.intp], n_samples: int, taps: Taps) -> None:
        self._row = np.full(n_samples, -1, np.intp)
        self._row[numbers] = np.arange(len(numbers))
        self._n_left, self._arrays = len(numbers), (*taps.taps, taps.base_logits)

    def __len__(self) -> int:
        return self._n_left

    def take(self, places: NDArray[np.intp], out: Sequence[NDArray[np.float32]]) -> NDArray[Any]:
        """Put those of the samples at ``places`` into ``out``; which of them there are none of."""
        row = self._row[places]
        known = np.flatnonzero(row >= 0)
        if len(known):
            for values, of in zip(out, self._arrays, strict=True):
                values[known] = of[row[known]]
            self._n_left -= len(np.unique(row[known]))
            self._row[places[known]] = -1
            if not self._n_left:
                self._arrays = ()
        return np.flatnonzero(row < 0)


@dataclass(frozen=True, eq=False)
class Begun(SameOutputs):
    """``backbone`` that computed some samples before: those are ``Numbered``, and pass once.

    ``first`` are rows of some of ``samples``. ``n_computed`` is how many have passed since, in its
    only place.
    """

    samples: Numbered
    first: FirstRows
    n_computed: list[int]

    @property
    def reads(self) -> bool:
        """Yes: ``backbone`` reads what is not known."""
        return True

    def looked_up(self, x: Any) -> tuple[Any, bool]:
        """As they are: samples are known by their numbers."""
        return x, False

    @property
    def locate(self) -> None:
        """No: samples are known by their numbers."""
        return

    def forward(self, x: LazySamples) -> Taps:
        """Known rows, and those of the others, from ``backbone``."""
        several = [np.empty((len(x), width), np.float32) for width in self.tap_widths]
        several.append(np.empty((len(x), self.n_outputs), np.float32))
        missing = self.first.take(x.places, several)
        for at, part in self.samples.within(x.places[missing]):
            taps = self.backbone.forward(part)
            for values, of in zip(several, (*taps.taps, taps.base_logits), strict=True):
                values[missing[at]] = of
            self.n_computed[0] += len(at)
        return Taps(tuple(several[:-1]), several[-1])


def folded(
    adapters: SkipAdapters, projections: Sequence[Projection | None], n_derived: int = 0
) -> SkipAdapters:
    """The adapters that do on taps as they are what ``adapters`` do on projected ones.

    These have ``n_derived`` taps before those that ``projections`` are of.
    """
    of_taps = [*[None] * n_derived, *projections][adapters.first_tap :]
    if not any(of_taps):
        return adapters
    bias = np.zeros(adapters.n_outputs) if adapters.bias is None else adapters.bias
    bias, lora_a = bias.astype(np.float64), []
    for of, a, b in zip(of_taps, adapters.lora_a, adapters.lora_b, strict=True):
        if of is None:
            lora_a.append(a)
            continue
        lora_a.append((of.matrix.astype(np.float64) @ a).astype(np.float32))
        # Of the product as it was rounded, so that at the mean nothing is left of that.
        bias -= of.mean.astype(np.float64) @ lora_a[-1] @ b
    return replace(adapters, lora_a=tuple(lora_a), bias=bias.astype(np.float32))


def projected_widths(
    method: Method, tap_widths: Sequence[int], rank: int | None, kind: str | None
) -> tuple[int, ...]:
    """Widths of the taps as rows have them, with a projection to ``rank`` or without.

    Raises:
        ParameterError: it is wider than every tap, or beside a method of no rows; or ``kind`` is
            set without it.
    """
    if rank is None:
        if kind is not None:
            raise ParameterError(
                f"projection_from is {kind} without a projection, expected both: set projection, "
                "or leave projection_from out"
            )
        return tuple(tap_widths)
    if not method.skip:
        raise ParameterError(
            f"projection is {rank} with method {method.name}, which trains through the network, "
            "expected one of skip adapters: use skip2-lora, or leave projection out"
        )
    widest = max(tap_widths[method.adapted])
    rank = whole("projection", rank, 1, max(1, widest - 1), f"less than the widest tap, {widest}")
    return tuple(min(width, rank) for width in tap_widths)
