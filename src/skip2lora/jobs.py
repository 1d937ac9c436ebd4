"""Jobs: one method at work on one set of samples, an epoch a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.adapters import LayerAdapters, Result, SkipAdapters, TunedNetwork
from skip2lora.backbones import Backbone
from skip2lora.backbones.mlp import MLP
from skip2lora.cache import SkipCache
from skip2lora.methods import Method
from skip2lora.options import Options
from skip2lora.rows import native

# status, loss, correct, samples seen, batches, forwards, seconds in forward
Epoch = tuple[int, float, int, int, int, int, float]


@dataclass(frozen=True, eq=False)
class Part:
    """Checked samples, (n, features), and labels, (n,)."""

    x: NDArray[np.float32]
    y: NDArray[np.int32]


class Job(Protocol):
    """One method at work on one set of samples."""

    cache: SkipCache | None

    def epoch(self, learning_rate: float) -> Epoch:
        """Train one epoch; what the core says of it."""

    def result(self) -> Result:
        """A copy of what is being trained."""


class SkipJob:
    """Skip adapters on rows (Algorithm 1): Skip-LoRA, Skip2-LoRA, LoRA-Last."""

    cache: SkipCache | None

    def __init__(
        self, backbone: Backbone, part: Part, method: Method, rank: int, options: Options,
        capacity: int, profile: _core.Profile | None = None,
    ) -> None:  # fmt: skip
        first_tap = method.adapted_layers(len(backbone.tap_widths)).start
        cache = SkipCache.create(backbone, len(part.x), first_tap=first_tap, capacity=capacity)
        self.cache, self._format = cache, cache.format
        self._rank, self._part = rank, part
        self._packed = _core.SkipAdapter(self._format.layout, rank)
        self._packed.init(options.seed)
        self._source = row_source(cache, backbone, part.x)
        self._trainer = _core.SkipTrainer(
            self._packed, options.batch_size, options.core_optimizer(), options.seed, profile
        )

    def epoch(self, learning_rate: float) -> Epoch:
        """Train one epoch; what the core says of it."""
        part = self._part
        return self._trainer.epoch(part.x, part.y, self._source, learning_rate)

    def result(self) -> SkipAdapters:
        """A copy of the adapters."""
        return SkipAdapters.unpack(self._packed, self._format, self._rank)


class NetworkJob:
    """Methods that run through the network, by one row of compute types a layer.

    Where nothing below the last layer changes (FT-Last), that layer alone is the network and its
    input is the tap of a row, cached or not.
    """

    def __init__(
        self, model: MLP, part: Part, method: Method, rank: int, options: Options, capacity: int,
        profile: _core.Profile | None = None,
    ) -> None:  # fmt: skip
        n_layers = len(model.layers)
        self.cache: SkipCache | None = None
        self._source = None
        self._start = n_layers - 1 if method.freezes_below else 0
        self._model, self._method, self._part = model, method, part
        if self._start:
            self.cache = SkipCache.create(
                model, len(part.x), first_tap=self._start, capacity=capacity
            )
            self._source = row_source(self.cache, model, part.x)
        with_lora = method.lora_last != ""
        self._arrays = [
            (*layer.copy()[:-2], *lora)
            for layer, lora in zip(
                model.layers,
                _fresh_lora(model, rank if with_lora else 0, options.seed),
                strict=True,
            )
        ]
        self._network = _core.Network(self._arrays[self._start :], model.bn_eps, model.bn_momentum)
        self._trainer = _core.NetworkTrainer(
            self._network, _rows(model, method)[self._start :], options.batch_size,
            options.core_optimizer(), options.seed, profile,
        )  # fmt: skip

    def epoch(self, learning_rate: float) -> Epoch:
        """Train one epoch; what the core says of it."""
        part = self._part
        return self._trainer.epoch(part.x, part.y, self._source, learning_rate)

    def result(self) -> TunedNetwork | LayerAdapters:
        """A copy of the network, or of the adapters beside its layers."""
        copies = [
            tuple(None if a is None else a.copy(order="K") for a in of) for of in self._arrays
        ]
        model = self._model.with_layers(copies)
        if self._method.tunes_network:
            return TunedNetwork(model.merged(), n_trained(model, self._method))
        return LayerAdapters(model)


def _rows(model: MLP, method: Method) -> list[tuple[int, int, int]]:
    """The rows of ``method``, with nothing to do where no batch norm follows a layer."""
    rows = zip(model.layers, method.rows(len(model.layers)), strict=True)
    return [(fc, lora, 0 if layer.gamma is None else bn) for layer, (fc, lora, bn) in rows]


def row_source(cache: SkipCache, backbone: Backbone, x: NDArray[np.float32]) -> _core.RowSource:
    """Rows of ``x`` out of ``cache``, or computed by ``backbone`` where it lacks them."""

    def compute(indices: NDArray[np.uint32], rows: NDArray[np.float32]) -> None:
        cache.format.compute(backbone, x[indices], rows)

    forward = native(backbone) or compute
    return _core.RowSource(cache.format.layout, cache.rows, cache.filled, forward)


def _fresh_lora(
    model: MLP, rank: int, seed: int
) -> list[tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]]:
    """New adapters beside each layer, or none for rank 0.

    They start as the skip adapters do: lora_a uniform in +-1/sqrt(n_in), lora_b zero.
    """
    if rank == 0:
        return [(None, None)] * len(model.layers)
    layout = _core.RowLayout(model.tap_widths, model.n_outputs, True)
    packed = _core.SkipAdapter(layout, rank)
    packed.init(seed)
    pairs: list[tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]] = []
    for number, layer in enumerate(model.layers):
        n_in, n_out = layer.weight.shape
        lora_a = np.empty((n_in, rank), np.float32)
        packed.get(number, lora_a, np.empty((rank, model.n_outputs), np.float32))
        pairs.append((np.asfortranarray(lora_a), np.zeros((rank, n_out), np.float32)))
    return pairs


_TENSORS = {
    "w": ("weight",),
    "b": ("bias",),
    "lora w": ("lora_a", "lora_b"),
    "bn w": ("gamma", "beta"),
}


def n_trained(model: MLP, method: Method) -> int:
    """Numbers of ``model`` that ``method`` trains."""
    total = 0
    for layer, (fc, lora, bn) in zip(model.layers, method.letters(len(model.layers)), strict=True):
        keys = [*fc, *(f"lora {letter}" for letter in lora), *(f"bn {letter}" for letter in bn)]
        names = [name for key in keys for name in _TENSORS.get(key, ())]
        arrays = [getattr(layer, name) for name in names]
        total += sum(array.size for array in arrays if array is not None)
    return total
