"""The columns of a convex fit: taps of rows, scaled as they are read, and their Gram matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.adapters.coded import CodedRows
from skip2lora.adapters.rows import RowFormat, for_core, parts
from skip2lora.backbones.taps import SAMPLES_AT_ONCE
from skip2lora.training.exact_memory import lanes_of
from skip2lora.training.problem import shares_of
from skip2lora.training.skip_job import Scaling, places_of

LANES = _core.SAMPLE_LANES
_ALIGN_BYTES = 64  # S2_ALIGN


def in_lanes(of_samples: NDArray[np.floating], lanes: int) -> NDArray[np.float32]:
    """(n, outputs) as the core reads it: (outputs, lanes), zero where there is no sample."""
    table = zeros(of_samples.shape[1], lanes)
    table[:, : len(of_samples)] = of_samples.T
    return table


def square(n_samples: int) -> NDArray[np.float32]:
    """Room for a Gram matrix, (lanes / 32, n, 32): panels of its columns."""
    lanes = lanes_of(n_samples)
    return zeros(lanes // LANES * n_samples, LANES).reshape(-1, n_samples, LANES)


def _copy(gram: NDArray[np.float32]) -> NDArray[np.float32]:
    copy = square(gram.shape[1])
    copy[:] = gram
    return copy


def zeros(n_rows: int, lanes: int) -> NDArray[np.float32]:
    """Zeros, (n_rows, lanes), aligned for the kernels."""
    spare = _ALIGN_BYTES // 4
    floats = np.zeros(n_rows * lanes + spare, np.float32)
    start = -floats.ctypes.data % _ALIGN_BYTES // 4
    return floats[start : start + n_rows * lanes].reshape(n_rows, lanes)


@dataclass(frozen=True, eq=False)
class Design:
    """The scaled columns z of ``taps`` in ``rows``, (n, row_stride), which stay as they are.

    z is the root of ``factor`` times (row - mean) * scale of ``scaling``, so that the mean of
    |z|^2 over the samples is 1, and a penalty means the same for every model. ``gram`` is z z^T in
    panels of 32 columns, (lanes / 32, n, 32), for the ``solver`` that needs it.
    """

    rows: NDArray[np.float32] | CodedRows
    scaling: Scaling
    taps: tuple[int, ...]
    solver: int
    gram: NDArray[np.float32] | None
    factor: float

    @classmethod
    def nested(
        cls,
        rows: NDArray[np.float32] | CodedRows,
        scaling: Scaling,
        selections: Sequence[Sequence[int]],
        *,
        weight: NDArray[np.floating] | None = None,
        tap_weights: Sequence[float] | None = None,
        solver: int = _core.SOLVE_DUAL,
    ) -> list[Design]:
        """One design a selection, numbers of taps of the row format, each more than the one before.

        The Gram matrix of the next goes on from that of the last. ``weight``, (n,), counts samples
        in the mean of |z|^2, 0 leaves one out. ``tap_weights``, one a tap, multiply its columns.
        """
        scaling = _weighted(scaling, tap_weights)
        shares, at = shares_of(len(rows), weight), np.arange(len(rows))
        gram = square(len(rows)) if solver == _core.SOLVE_DUAL else None
        core, designs = for_core(rows), list[Design]()
        done: set[int] = set()
        size = 0.0
        for taps in selections:
            for tap in sorted({*taps} - done):
                first, width = places_of(scaling.format)[tap]
                if gram is None:
                    size += _size(rows, first, width, scaling, shares)
                else:
                    _core.gram_add(core, first, width, scaling.mean, scaling.scale, gram)
            done |= set(taps)
            own = gram
            if gram is not None:
                if len(designs) + 1 < len(selections):
                    own = _copy(gram)
                size = float(shares @ gram[at // LANES, at, at % LANES])
            factor = 1 / size if size > 0 else 1.0
            if own is not None:
                _core.gram_finish(own, factor)
            designs.append(cls(rows, scaling, tuple(sorted(done)), solver, own, factor))
        return designs

    @classmethod
    def of_columns(cls, columns: NDArray[np.float32], scaling: Scaling, solver: int) -> Design:
        """Of ``columns``, (n, width), as they are, for outputs scaled as by ``scaling``."""
        n_samples, width = columns.shape
        n_outputs = scaling.format.n_outputs
        layout = _core.RowLayout((width,), n_outputs, False)
        own = RowFormat((width,), n_outputs, 0, False, layout)
        rows = own.empty(n_samples)
        rows[:, :width] = columns
        mean = np.zeros(layout.row_stride, np.float32)
        scaling = replace(scaling, format=own, mean=mean, scale=np.ones_like(mean))
        gram = None
        if solver == _core.SOLVE_DUAL:
            gram = square(n_samples)
            _core.gram_add(rows, 0, width, scaling.mean, scaling.scale, gram)
            _core.gram_finish(gram, 1.0)
        return cls(rows, scaling, (0,), solver, gram, 1.0)

    @property
    def width(self) -> int:
        """Columns in all."""
        return sum(self.scaling.format.tap_widths[tap] for tap in self.taps)

    @property
    def places(self) -> list[tuple[int, int]]:
        """Where each of its taps starts in a row, and its width."""
        places = places_of(self.scaling.format)
        return [places[tap] for tap in self.taps]

    @property
    def subset(self) -> NDArray[np.uint32] | None:
        """Samples whose Hessian stands for that of all, or None: all columns do."""
        if self.solver != _core.SOLVE_SUBSET:
            return None
        order = np.random.Generator(np.random.PCG64(0)).permutation(len(self.rows))
        return np.sort(order[: _core.subset_size(len(order))]).astype(np.uint32)

    @property
    def unit_scale(self) -> NDArray[np.float32]:
        """What columns are multiplied by to be z, (row_stride,)."""
        return self.scaling.scale * np.float32(self.factor**0.5)

    @property
    def lanes(self) -> int:
        """Of arrays whose samples lie side by side."""
        return lanes_of(len(self.rows))

    def weights_of(self, coefficients: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """W of every tap of the row format, (width, outputs), for columns scaled by ``scaling``.

        ``coefficients`` are A of W = Z^T A, (outputs, lanes), or without a Gram matrix W itself,
        (outputs, columns). Taps left out have zeros.
        """
        weights, start, core = [], 0, for_core(self.rows)
        for tap, (first, width) in enumerate(places_of(self.scaling.format)):
            of_tap = np.zeros((width, len(coefficients)), np.float32)
            if tap in self.taps and self.gram is None:
                of_tap[:] = coefficients[:, start : start + width].T
                of_tap *= np.float32(self.factor**0.5)
                start += width
            elif tap in self.taps:
                _core.column_weights(
                    core, first, width, self.scaling.mean, self.scaling.scale, coefficients, of_tap,
                )  # fmt: skip
                of_tap *= np.float32(self.factor)
            weights.append(of_tap)
        return weights

    def projected(self, bases: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Z of each tap times its basis, (width, columns): (n, all columns), side by side."""
        n_columns = sum(basis.shape[1] for basis in bases)
        projected = np.empty((len(self.rows), n_columns), np.float32)
        for some, rows in parts(self.rows):
            start = 0
            for (first, width), basis in zip(places_of(self.scaling.format), bases, strict=True):
                at, to = slice(first, first + width), slice(start, start + basis.shape[1])
                scaled = (rows[:, at] - self.scaling.mean[at]) * self.scaling.scale[at]
                projected[some, to] = scaled @ basis * np.float32(self.factor**0.5)
                start = to.stop
        return projected


def _weighted(scaling: Scaling, tap_weights: Sequence[float] | None) -> Scaling:
    """With the columns of each tap multiplied by its weight."""
    if tap_weights is None:
        return scaling
    scale = scaling.scale.copy()
    for (first, width), weight in zip(places_of(scaling.format), tap_weights, strict=True):
        scale[first : first + width] *= np.float32(weight)
    return replace(scaling, scale=scale)


def _size(
    rows: NDArray[np.float32] | CodedRows,
    first: int,
    width: int,
    scaling: Scaling,
    shares: NDArray[np.float64],
) -> float:
    """The mean of the squares of these scaled columns, added up."""
    at, total = slice(first, first + width), 0.0
    for start in range(0, len(rows), SAMPLES_AT_ONCE):
        some = slice(start, start + SAMPLES_AT_ONCE)
        scaled = (rows[some][:, at] - scaling.mean[at]) * scaling.scale[at]
        total += float(shares[some] @ np.einsum("ij,ij->i", scaled, scaled, dtype=np.float64))
    return total
