"""Rows of taps, made on the module's device as its layers read their inputs."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skip2lora.backbones.taps import averaging
from skip2lora.backbones.torch_layers import Key, Place, call_hooks, layers_of
from skip2lora.errors import ModelError

_LARGE_MAP = 400  # places from which rows of a map are added up first


def rows(place: Place, tensor: Tensor, n_samples: int, mask: Tensor | None) -> Tensor:
    """What the tensor of a place becomes, (n_samples, width) float32 on its device.

    The same numbers as :func:`skip2lora.backbones.taps.rows_of` gives.
    """
    values = (tensor.dequantize() if tensor.is_quantized else tensor).float()
    values = values.movedim(place.axis, 0)
    values = values.reshape(n_samples, -1, *values.shape[1:])  # (n_samples, parts, ...)
    tap = place.tap
    if tap.kind == "vector":
        return values.reshape(n_samples, -1)
    if tap.kind == "sequence":
        return _sequence_rows(values.reshape(n_samples, -1, values.shape[-1]), mask)
    if tap.channels_last:
        values = values[:, 0].movedim(-1, 1)
    elif values.ndim == 2 + len(tap.grid) + 1:
        # One part, or more axes than pooling takes.
        values = values[:, 0] if values.shape[1] == 1 else values.mean(dim=1)
    else:
        values = values.movedim(1, 2)
    return _averages(values, tap.grid).reshape(n_samples, -1)


def _averages(values: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Maps (samples, channels, ...) averaged over a grid, several times as fast as its pooling."""
    kept, places = 2, tuple(values.shape[2:])
    if len(grid) > 1 and math.prod(places) > _LARGE_MAP and places[0] % grid[0] == 0:
        values = values.unflatten(2, (grid[0], -1)).mean(dim=3)
        kept, places, grid = 3, places[1:], grid[1:]
    return values.flatten(kept) @ _matrix(places, grid, values.device)


@functools.lru_cache(maxsize=256)
def _matrix(places: tuple[int, ...], grid: tuple[int, ...], device: torch.device) -> Tensor:
    """What averages all places at once, (places, kept places)."""
    matrices = [averaging(size, kept) for size, kept in zip(places, grid, strict=True)]
    whole = functools.reduce(np.kron, matrices).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(whole.T)).to(device)


def _sequence_rows(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of the tokens that count, then the first token."""
    if mask is None or mask.shape != values.shape[:2]:
        mean = values.mean(dim=1)
    else:
        weights = mask.to(values)[:, :, None]
        mean = (values * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    return torch.cat([mean, values[:, 0]], dim=1)


class Reader:
    """Collects the rows of all taps, batch by batch: ``taps[k]`` is (samples, width of tap k)."""

    def __init__(
        self, module: nn.Module, places: Sequence[Place], n_samples: int, stack: ExitStack
    ) -> None:
        self.taps: list[NDArray[np.float32]] = [
            np.empty((n_samples, place.tap.width), np.float32) for place in places
        ]
        self._name = type(module).__name__
        self._places = {
            place.key: (place, tap) for place, tap in zip(places, self.taps, strict=True)
        }
        self._batch = slice(0, 0)
        self._mask: Tensor | None = None
        self._read: set[Key] = set()
        layers = layers_of(module)
        names = dict.fromkeys(place.key.module for place in places)
        self._calls = call_hooks({name: layers[name] for name in names}, stack, self._seen)

    def start(self, batch: slice, mask: Tensor | None) -> None:
        """Get ready for one forward pass; ``mask`` is 1 for the tokens that count."""
        self._batch, self._mask = batch, mask
        self._read.clear()
        self._calls.clear()

    def _seen(self, key: Key, tensor: Tensor) -> None:
        if key in self._places:
            place, tap = self._places[key]
            made = rows(place, tensor, self._batch.stop - self._batch.start, self._mask)
            # Copied at once: the module may change the tensor in place later on.
            torch.from_numpy(tap)[self._batch] = made
            self._read.add(key)

    def finish(self) -> None:
        """After a forward pass.

        Raises:
            ModelError: it did not call a layer that has a tap.
        """
        missing = [key.name for key in self._places if key not in self._read]
        if missing:
            raise ModelError(
                f"{self._name} did not call layer {missing[0]} for samples {self._batch.start} to "
                f"{self._batch.stop - 1}, expected the same layers for every sample: leave it out "
                "with taps="
            )
