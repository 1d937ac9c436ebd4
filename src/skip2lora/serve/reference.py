"""What is usual at a place: rows of its own samples, how columns compare, its operating states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.arrays import shape_text
from skip2lora.errors import DataError
from skip2lora.training.kmeans import clusters

#: Each of the more modes has the fewer rows, and so no small p-value: docs/drift.md.
MODES = 4
#: Of a mode: among fewer no p-value is small enough to speak for a change soon.
LEAST_IN_MODE = 20
#: A column varies at least by this share of what the columns of its tap do.
FLOOR = 0.1


@dataclass(frozen=True, eq=False)
class Watched:
    """The columns that are watched, of taps that are ``widths`` wide.

    Of taps before ``first`` none, of the others all; of the last one alone ``columns``, where even
    that is too wide.
    """

    widths: tuple[int, ...]
    first: int
    columns: NDArray[np.int64] | None

    @classmethod
    def of(cls, widths: Sequence[int], most: int, seed: int) -> Watched:
        """As many taps, counted from the last one, as have at most ``most`` columns together.

        Of a last tap that is wider ``most`` columns by chance, as neighbours tell the same.
        """
        first = len(widths) - 1
        while first > 0 and sum(widths[first - 1 :]) <= most:
            first -= 1
        columns = None
        if widths[-1] > most:
            random = np.random.Generator(np.random.PCG64(seed))
            columns = np.sort(random.choice(widths[-1], most, replace=False))
        return cls(tuple(widths), first, columns)

    @property
    def parts(self) -> tuple[int, ...]:
        """How many columns of each tap that is watched."""
        return self.widths[self.first :] if self.columns is None else (len(self.columns),)

    def rows(self, taps: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Of each sample what is watched of its ``taps``, each (n, width): (n, columns).

        Raises:
            DataError: taps of other shapes, or a number that is not finite.
        """
        expected = [(len(taps[0]) if taps else 0, width) for width in self.widths]
        if [tap.shape for tap in taps] != expected:
            shown = ", ".join(shape_text(tap.shape) for tap in taps)
            raise DataError(
                f"taps have the shapes {shown}, expected (samples, width) with the widths "
                f"{', '.join(map(str, self.widths))}: use those of the model"
            )
        watched = list(taps[self.first :])
        if self.columns is not None:
            watched = [watched[0][:, self.columns]]
        rows = np.ascontiguousarray(np.concatenate(watched, axis=1), np.float32)
        if not np.isfinite(rows).all():
            row = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
            raise DataError(
                f"the taps of sample {row} are not finite, expected numbers: leave the sample out"
            )
        return rows


@dataclass(frozen=True, eq=False)
class Reference:
    """Rows (n, columns) to compare with, as (x - mean) * scale, and centres (modes, columns)."""

    rows: NDArray[np.float32]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    centres: NDArray[np.float32]

    @classmethod
    def of(cls, rows: NDArray[np.float32], parts: Sequence[int], seed: int) -> Reference:
        """Of rows whose columns are those of taps with so many ``parts``.

        Columns are standardised, but one that is nearly constant is not blown up to more than ten
        times what others of its tap are: it may begin to vary, as a unit that was silent. A tap
        that never varies is left out. Modes are found by k-means, and those of fewer than
        ``LEAST_IN_MODE`` rows given up.
        """
        wide = rows.astype(np.float64)
        mean, deviation = wide.mean(axis=0), wide.std(axis=0)
        deviation[deviation <= 1e-6 * np.abs(mean)] = 0  # rounding
        for tap in np.split(deviation, np.cumsum(parts)[:-1]):
            np.maximum(tap, FLOOR * np.sqrt(np.square(tap).mean()), out=tap)
        scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
        scaled = (wide - mean) * scale
        random = np.random.Generator(np.random.PCG64(seed))
        cluster = clusters(scaled @ scaled.T, min(MODES, len(rows)), random)
        sizes = np.bincount(cluster.astype(np.intp))
        modes = np.flatnonzero(sizes >= min(LEAST_IN_MODE, sizes.max()))
        centres = np.stack([wide[cluster == mode].mean(axis=0) for mode in modes])
        return cls(rows, *(each.astype(np.float32) for each in (mean, scale, centres)))

    def opened(self) -> _core.Novelty:
        """For the core."""
        return _core.Novelty(self.rows, self.mean, self.scale, self.centres)
