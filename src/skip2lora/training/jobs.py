"""Jobs: one method at work on one set of samples, an epoch a call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.adapters.adapters import LayerAdapters, Result, SkipAdapters, TunedNetwork
from skip2lora.adapters.rows import RowFormat
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.taps import SAMPLES_AT_ONCE
from skip2lora.methods import Method
from skip2lora.tasks.task import PLAIN, Goal, Task
from skip2lora.training.cache import SkipCache
from skip2lora.training.options import Options
from skip2lora.training.scaling import Scaling


@dataclass(frozen=True, eq=False)
class Part:
    """Checked samples and labels, (n,), or targets, (n, n_outputs)."""

    x: Any
    y: NDArray[Any]


class Job(Protocol):
    """One method at work on one set of samples.

    ``n_filled`` rows were computed before the first epoch, in ``fill_seconds``.
    """

    cache: SkipCache | None
    n_filled: int
    fill_seconds: float

    def epoch(self, learning_rate: float) -> _core.Epoch:
        """Train one epoch; what the core says of it."""

    def result(self) -> Result:
        """A copy of what is being trained."""


class SkipJob:
    """Skip adapters on rows (Algorithm 1): Skip-LoRA, Skip2-LoRA, LoRA-Last."""

    cache: SkipCache | None
    n_filled = 0
    fill_seconds = 0.0

    def __init__(
        self, backbone: Backbone, part: Part, method: Method, rank: int, options: Options,
        capacity: int, goal: Goal = PLAIN, profile: _core.Profile | None = None,
        start: SkipAdapters | None = None,
    ) -> None:  # fmt: skip
        first_tap = method.adapted_layers(len(backbone.tap_widths)).start
        rows = RowFormat.of(
            backbone, first_tap, n_outputs=goal.n_outputs, copy_input=goal.standardize
        )
        cache = SkipCache.of(rows, len(part.x), capacity)
        self.cache, self._format, self._rank, self._goal = cache, rows, rank, goal
        self._scaling: Scaling | None = None
        self._y = part.y
        if goal.standardize:
            began = time.perf_counter()
            scaling = self._scaling = _standardize(cache, backbone, part, goal.task)
            self._y = scaling.targets(part.y) if goal.task.numeric_targets else part.y
            self.n_filled, self.fill_seconds = len(part.x), time.perf_counter() - began
        self._x = rows.features(part.x)
        self._packed = _core.SkipAdapter(rows.layout, rank, goal.task.loss, goal.bias)
        self._packed.init(options.seed)
        if self._scaling is not None:
            self._packed.set_bias(self._scaling.start)
        if start is not None:
            scaled = start if self._scaling is None else self._scaling.unfold(start)
            scaled.pack_into(self._packed)
        self._source = row_source(cache, backbone, part.x, self._scaling)
        self._trainer = _core.SkipTrainer(
            self._packed, options.batch_size, options.core_optimizer(), options.seed, profile
        )

    def epoch(self, learning_rate: float) -> _core.Epoch:
        """Train one epoch; what the core says of it."""
        return self._trainer.epoch(self._x, self._y, self._source, learning_rate)

    def result(self) -> SkipAdapters:
        """A copy of the adapters, as they work on the taps as they are."""
        bias = self._goal.bias
        adapters = SkipAdapters.unpack(self._packed, self._format, self._rank, bias=bias)
        return adapters if self._scaling is None else self._scaling.fold(adapters)


def _standardize(cache: SkipCache, backbone: Backbone, part: Part, task: Task) -> Scaling:
    """Compute every row once, for the statistics, and scale those that are kept."""
    targets = part.y if task.name == "regression" else None
    scaling = Scaling.of(cache.format, _fill(cache, backbone, part.x), targets)
    scaling.apply(cache.rows)
    cache.filled[:] = 1
    return scaling


def _fill(cache: SkipCache, backbone: Backbone, x: Any) -> Iterator[NDArray[np.float32]]:
    """Rows of all samples, chunk by chunk; the first ones into the cache, as many as it holds."""
    kept = cache.rows
    spare = cache.format.empty(min(SAMPLES_AT_ONCE, len(x))) if len(kept) < len(x) else kept
    for at in range(0, len(x), SAMPLES_AT_ONCE):
        stop = min(at + SAMPLES_AT_ONCE, len(x))
        rows = kept[at:stop] if stop <= len(kept) else spare[: stop - at]
        cache.format.compute(backbone, x[at:stop], rows)
        if stop > len(kept) > at:
            kept[at:] = rows[: len(kept) - at]
        yield rows


class NetworkJob:
    """Methods that run through the network, by one row of compute types a layer.

    Where nothing below the last layer changes (FT-Last), that layer alone is the network and its
    input is the tap of a row, cached or not.
    """

    n_filled = 0
    fill_seconds = 0.0

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

    def epoch(self, learning_rate: float) -> _core.Epoch:
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


def row_source(
    cache: SkipCache, backbone: Backbone, x: Any, scaling: Scaling | None = None
) -> _core.RowSource:
    """Rows of ``x`` out of ``cache``, or computed by ``backbone`` where it lacks them."""

    def compute(indices: NDArray[np.uint32], rows: NDArray[np.float32]) -> None:
        cache.format.compute(backbone, x[indices], rows)
        if scaling is not None:
            scaling.apply(rows)

    forward = (backbone.network if scaling is None else None) or compute
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
        packed.unpack(number, lora_a, np.empty((rank, model.n_outputs), np.float32))
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
