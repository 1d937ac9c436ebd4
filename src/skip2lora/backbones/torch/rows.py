"""Rows of taps, made on the module's device as its layers read their inputs."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skip2lora._core import pool
from skip2lora.backbones.taps import averaging
from skip2lora.backbones.torch.frozen import Frozen
from skip2lora.backbones.torch.network import Key, Place, call_hooks
from skip2lora.errors import ModelError

Rows = NDArray[np.float32]


def write_rows(place: Place, tensor: Tensor, mask: Tensor | None, out: Rows) -> None:
    """What the tensor of a place becomes, to ``out`` (samples, width).

    The same numbers as :func:`skip2lora.backbones.taps.rows_of` gives. Tensors are mostly as they
    should be, and every operation costs as much as averaging a small map.
    """
    values, n_samples = tensor, len(out)
    if values.requires_grad:  # of a module that turns gradients on
        values = values.detach()
    if values.dtype != torch.float32:
        values = (values.dequantize() if values.is_quantized else values).float()
    axis, outer, inner = place.layout
    if axis:
        values = values.movedim(axis, 0)
    if outer > 1:
        values = _samples_outermost(values, outer if inner > 1 else -1, inner, n_samples)
    tap, parts = place.tap, values.shape[0] // n_samples
    if tap.kind == "vector":
        out[:] = values.reshape(n_samples, -1).numpy(force=True)
    elif tap.kind == "sequence":
        _write_sequence(values.reshape(n_samples, -1, values.shape[-1]), mask, out)
    elif tap.channels_last:
        _write_averages(values.movedim(-1, 1), tap.grid, out)
    elif parts == 1:
        _write_averages(values, tap.grid, out)
    else:
        values = values.reshape(n_samples, parts, *values.shape[1:])
        # More axes than pooling takes are averaged away, other parts are places.
        more = values.ndim > 2 + len(tap.grid)
        _write_averages(values.mean(dim=1) if more else values.movedim(1, 2), tap.grid, out)


def _samples_outermost(values: Tensor, outer: int, inner: int, n_samples: int) -> Tensor:
    """The first axis, ``outer`` x samples x ``inner`` places, in the order of the samples."""
    rest = values.shape[1:]
    apart = values.reshape(outer, n_samples, inner, *rest).transpose(0, 1)
    return apart.reshape(-1, *rest)


def _write_averages(values: Tensor, grid: tuple[int, ...], out: Rows) -> None:
    """Maps (samples, channels, ...) averaged over a grid; by the core from the main memory."""
    if values.device.type != "cpu" or len(grid) > 2:
        for size, cells in zip(values.shape[2:], grid, strict=True):  # the first axis becomes last
            values = values.movedim(2, -1) @ _matrix(size, cells, values.device)
        out[:] = values.reshape(out.shape).numpy(force=True)
        return
    samples, channels, *places = values.shape
    height, width = (1, *places)[-2:]
    maps = (samples * channels, height, width, 1)
    if not values.is_contiguous():
        values = values.movedim(1, -1).contiguous()
        maps = (samples, height, width, channels)
    grid_2d = (grid[0] if len(grid) > 1 else 1, grid[-1])
    pool(values.numpy().reshape(maps), grid_2d, 1.0, 0, out.reshape(maps[0], -1))


@functools.lru_cache(maxsize=256)
def _matrix(size: int, cells: int, device: torch.device) -> Tensor:
    """What averages the last axis, (size, cells)."""
    return torch.from_numpy(np.ascontiguousarray(averaging(size, cells).T)).to(device)


def _write_sequence(values: Tensor, mask: Tensor | None, out: Rows) -> None:
    """Mean of the tokens that count, then the first token."""
    if mask is None or mask.shape != values.shape[:2]:
        mean = values.mean(dim=1)
    else:
        weights = mask.to(values)[:, :, None]
        mean = (values * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    width = values.shape[-1]
    out[:, :width] = mean.numpy(force=True)
    out[:, width:] = values[:, 0].numpy(force=True)


class Reader:
    """Collects the rows of all taps, batch by batch: ``taps[k]`` is (samples, width of tap k)."""

    def __init__(self, frozen: Frozen, places: Sequence[Place], n_samples: int) -> None:
        self.taps: list[Rows] = [
            np.empty((n_samples, place.tap.width), np.float32) for place in places
        ]
        self._name = frozen.name
        self._places = {place.key: place for place in places}
        self._rows: dict[Key, Rows] = {}  # of this batch, where they are still missing
        self._batch = slice(0, 0)
        self._mask: Tensor | None = None
        parts = {place.key.module: frozen.part(place.key.module) for place in places}
        layers = {name: part for name, part in parts.items() if part is not None}
        self._calls = call_hooks(layers, frozen.stack, self._seen)

    def start(self, batch: slice, mask: Tensor | None) -> None:
        """Get ready for one forward pass; ``mask`` is 1 for the tokens that count."""
        self._batch, self._mask = batch, mask
        self._rows = {key: tap[batch] for key, tap in zip(self._places, self.taps, strict=True)}
        self._calls.clear()

    def _seen(self, key: Key, tensor: Tensor) -> None:
        """Make the rows at once: the module may change the tensor in place later on."""
        rows = self._rows.pop(key, None)
        if rows is not None:
            write_rows(self._places[key], tensor, self._mask, rows)

    def finish(self) -> None:
        """After a forward pass.

        Raises:
            ModelError: it did not call a layer that has a tap.
        """
        if self._rows:
            missing = next(iter(self._rows)).name
            raise ModelError(
                f"{self._name} did not call layer {missing} for samples {self._batch.start} to "
                f"{self._batch.stop - 1}, expected the same layers for every sample: leave it out "
                "with taps="
            )
