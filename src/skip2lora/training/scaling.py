"""Standardised taps: every column of a row with mean 0 and deviation 1 over the training samples.

Adapters are trained on scaled rows and folded afterwards, so that what is saved and exported works
on the taps as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.adapters.rows import RowFormat

# Of the mean variance of a tap: a column that hardly moved in training must not explode later.
_FLOOR = 1e-3


class _Moments:
    """Mean and variance of columns that come in chunks."""

    def __init__(self) -> None:
        self.count, self.shift, self.total, self.squares = 0, 0.0, 0.0, 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        if self.count == 0:
            self.shift = values[0].astype(np.float64)
        off = values - self.shift  # near the mean: squares of large numbers would cancel
        self.count += len(values)
        self.total = self.total + off.sum(axis=0)
        self.squares = self.squares + (off**2).sum(axis=0)

    def mean(self) -> NDArray[np.float64]:
        return np.asarray(self.shift + self.total / self.count)

    def var(self) -> NDArray[np.float64]:
        return np.asarray(np.maximum(self.squares / self.count - (self.total / self.count) ** 2, 0))


@dataclass(frozen=True, eq=False)
class Scaling:
    """``row`` becomes (row - mean) * scale; both are (row_stride,).

    Outputs are multiplied by ``output_scale``, (n_outputs,), so that what numbers lack at the start
    has deviation 1; ``start`` is its scaled mean, where the bias begins.
    """

    format: RowFormat
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    output_scale: NDArray[np.float32]
    start: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        row_format: RowFormat,
        chunks: Iterable[NDArray[np.float32]],
        targets: NDArray[np.float32] | None = None,
    ) -> Scaling:
        """Statistics over rows that come in chunks, (samples, row_stride) each.

        ``targets``, (samples, n_outputs), are numbers to learn, or None.
        """
        of_rows, missing, at = _Moments(), _Moments(), 0
        first = row_format.layout.logits_offset
        outputs = slice(first, first + row_format.n_outputs)
        for rows in chunks:
            of_rows.add(rows)
            if targets is not None:
                missing.add(targets[at : at + len(rows)] - rows[:, outputs])
            at += len(rows)
        mean, var = of_rows.mean(), of_rows.var()
        scale = np.ones_like(mean)
        for start, width in _places(row_format):
            part = slice(start, start + width)
            floor = _FLOOR * var[part].mean()
            scale[part] = 1 / np.sqrt(var[part] + floor) if floor > 0 else 1
        mean[first:], scale[first:] = 0, 1
        bias = np.zeros(row_format.n_outputs)
        if targets is not None:
            spread = np.sqrt(missing.var())
            scale[outputs] = 1 / np.where(spread > 0, spread, 1)
            bias = missing.mean() * scale[outputs]
        small = (array.astype(np.float32) for array in (mean, scale, scale[outputs], bias))
        return cls(row_format, *small)

    def apply(self, rows: NDArray[np.float32]) -> None:
        """Scale ``rows``, (samples, row_stride), in place."""
        rows -= self.mean
        rows *= self.scale

    def targets(self, targets: NDArray[np.float32]) -> NDArray[np.float32]:
        """Numbers as the scaled outputs should be."""
        return targets * self.output_scale

    def fold(self, adapters: SkipAdapters) -> SkipAdapters:
        """The adapters that do on taps as they are what ``adapters`` do on scaled ones."""
        bias = np.zeros(self.format.n_outputs) if adapters.bias is None else adapters.bias
        bias = bias.astype(np.float64)
        lora_a, lora_b = [], []
        places = _places(self.format)
        for (at, width), a, b in zip(places, adapters.lora_a, adapters.lora_b, strict=True):
            scaled = a.astype(np.float64) * self.scale[at : at + width, None]
            bias -= self.mean[at : at + width].astype(np.float64) @ scaled @ b
            lora_a.append(scaled.astype(np.float32))
            lora_b.append((b / self.output_scale).astype(np.float32))
        return replace(
            adapters,
            lora_a=tuple(lora_a),
            lora_b=tuple(lora_b),
            bias=(bias / self.output_scale).astype(np.float32),
        )

    def unfold(self, adapters: SkipAdapters) -> SkipAdapters:
        """The reverse of :meth:`fold`: the same outputs, from scaled taps."""
        bias = np.zeros(self.format.n_outputs) if adapters.bias is None else adapters.bias
        bias = bias.astype(np.float64)
        lora_a, lora_b = [], []
        places = _places(self.format)
        for (at, width), a, b in zip(places, adapters.lora_a, adapters.lora_b, strict=True):
            bias += self.mean[at : at + width].astype(np.float64) @ a @ b
            lora_a.append((a / self.scale[at : at + width, None]).astype(np.float32))
            lora_b.append((b * self.output_scale).astype(np.float32))
        return replace(
            adapters,
            lora_a=tuple(lora_a),
            lora_b=tuple(lora_b),
            bias=(bias * self.output_scale).astype(np.float32),
        )


def _places(row_format: RowFormat) -> list[tuple[int, int]]:
    """Where each tap starts in a row, and its width."""
    return list(zip(row_format.layout.tap_offsets, row_format.tap_widths, strict=True))
