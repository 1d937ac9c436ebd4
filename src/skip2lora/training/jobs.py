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
from skip2lora.adapters.rows import RowFormat, SkipCache
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.taps import SAMPLES_AT_ONCE
from skip2lora.methods import METHODS, Method
from skip2lora.tasks.task import PLAIN, Goal, Task, mean_loss
from skip2lora.training.options import Options
from skip2lora.training.scaling import Scaling


@dataclass(frozen=True, eq=False)
class CheckedSamples:
    """Checked samples and labels, (n,), or targets, (n, n_outputs)."""

    x: Any
    y: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a result and the base model give for the same samples, (samples, n_outputs) each."""

    adapted: NDArray[np.float32]
    base: NDArray[np.float32] | None = None


class Job(Protocol):
    """One method at work on the samples to train on, and on those held out.

    ``n_forwards`` samples passed the frozen model so far. ``fill_seconds`` is what the rows took
    that were computed before the first epoch. ``rows_kept``: after an epoch there are rows of all.
    """

    n_forwards: int
    fill_seconds: float
    rows_kept: bool

    @property
    def cache_bytes(self) -> tuple[int, int]:
        """Payload and overhead of the rows that are kept."""

    def epoch(self, learning_rate: float) -> _core.Epoch:
        """Train one epoch; what the core says of it."""

    def result(self) -> Result:
        """A copy of what is being trained."""

    def validation_loss(self) -> float:
        """Mean loss of the samples held out, as it is now."""

    def outputs(self, result: Any, *, held_out: bool, with_base: bool) -> Outputs:
        """For the samples held out, or else those to train on; ``result`` is of this job."""


def has_bias(goal: Goal, options: Options) -> bool:
    """Whether adapters have a bias: scaled taps need one, and some goals."""
    return options.standardize or goal.bias


class SkipJob:
    """Skip adapters on rows (Algorithm 1): Skip-LoRA, Skip2-LoRA, LoRA-Last.

    Rows of the samples held out are computed once, scaled by the statistics of the others, and
    kept, with a Skip-Cache and without: validation never runs the backbone.
    ``capacity`` limits the cache to the rows of so many samples.
    """

    def __init__(
        self,
        backbone: Backbone,
        part: CheckedSamples,
        options: Options,
        *,
        goal: Goal = PLAIN,
        held: CheckedSamples | None = None,
        capacity: int | None = None,
        profile: _core.Profile | None = None,
        start: SkipAdapters | None = None,
    ) -> None:
        adapted = range(len(backbone.tap_widths))[METHODS[options.method].adapted]
        rows = RowFormat.of(
            backbone,
            adapted.start,
            n_outputs=goal.n_outputs,
            copy_input=options.standardize,
        )
        if capacity is None:
            capacity = len(part.x) if options.cache else 0
        self.cache = SkipCache.of(rows, len(part.x), capacity)
        self.rows_kept = len(self.cache.rows) == len(part.x)
        self._backbone, self._part, self._goal = backbone, part, goal
        self._format, self._rank, self._bias = rows, options.rank, has_bias(goal, options)
        self._scaling: Scaling | None = None
        self.n_forwards = 0
        began = time.perf_counter()
        if options.standardize:
            self._scaling = _standardize(self.cache, backbone, part, goal.task)
            self.n_forwards += len(part.x)
        self._held = held
        self._held_cache = SkipCache.of(rows, 0) if held is None else self._computed(held.x)
        self.fill_seconds = time.perf_counter() - began
        self._x = rows.features(part.x)
        self._held_x = self._x[:0] if held is None else rows.features(held.x)
        self._packed = self._packed_at(start, options.seed)
        self._trainer = _core.SkipTrainer(
            self._packed, options.batch_size, options.core_optimizer(), options.seed, profile
        )
        self._y = part.y
        if self._scaling is not None and goal.task.numeric_targets:
            self._y = self._scaling.targets(part.y)
        self._source = row_source(self.cache, backbone, part.x, self._scaling)

    def _packed_at(self, start: SkipAdapters | None, seed: int) -> _core.SkipAdapter:
        """Adapters as the core trains them, at ``start`` or random."""
        packed = _core.SkipAdapter(
            self._format.layout, self._rank, self._goal.task.loss, self._bias
        )
        packed.init(seed)
        if self._scaling is not None:
            packed.set_bias(self._scaling.start)
        if start is not None:
            scaled = start if self._scaling is None else self._scaling.unfold(start)
            scaled.pack_into(packed)
        return packed

    @property
    def cache_bytes(self) -> tuple[int, int]:
        """Payload and overhead of all rows that are kept, those held out among them."""
        (payload, overhead), (held, beside) = self.cache.n_bytes, self._held_cache.n_bytes
        return payload + held, overhead + beside

    def epoch(self, learning_rate: float) -> _core.Epoch:
        """Train one epoch; what the core says of it."""
        epoch = self._trainer.epoch(self._x, self._y, self._source, learning_rate)
        self.n_forwards += epoch.n_forward
        return epoch

    def result(self) -> SkipAdapters:
        """A copy of the adapters, as they work on the taps as they are."""
        adapters = self._as_trained()
        return adapters if self._scaling is None else self._scaling.fold(adapters)

    def _as_trained(self) -> SkipAdapters:
        """A copy of the adapters, as they work on the rows that are kept."""
        return SkipAdapters.unpack(self._packed, self._format, self._rank, bias=self._bias)

    def validation_loss(self) -> float:
        """Mean loss of the samples held out, from their rows."""
        if self._held is None:
            raise RuntimeError("no samples are held out")
        logits = self._logits(self._as_trained(), self._held_cache.rows, self._held_x)
        return mean_loss(self._goal.task, logits, self._held.y)

    def outputs(self, result: SkipAdapters, *, held_out: bool, with_base: bool) -> Outputs:
        """From rows that are kept; those that the cache lacks are computed once more."""
        adapters = result if self._scaling is None else self._scaling.unfold(result)
        held = held_out and self._held is not None
        first = self._format.layout.logits_offset
        base, adapted = [], []
        held_rows = [(self._held_x, self._held_cache.rows)]
        for x, rows in held_rows if held else self._training_rows():
            adapted.append(self._logits(adapters, rows, x))
            base.append(self._unscaled(rows[:, first : first + self._format.n_outputs]))
        return Outputs(np.concatenate(adapted), np.concatenate(base) if with_base else None)

    def _training_rows(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Features and rows of the samples to train on; those beyond the cache chunk by chunk."""
        n_kept = len(self.cache.rows)
        if n_kept:
            yield self._x[:n_kept], self.cache.rows
        for at in range(n_kept, len(self._x), SAMPLES_AT_ONCE):
            chunk = slice(at, at + SAMPLES_AT_ONCE)
            yield self._x[chunk], self._computed(self._part.x[chunk]).rows

    def _computed(self, x: Any) -> SkipCache:
        """Rows of checked samples, as they are trained on."""
        self.n_forwards += len(x)
        cache = SkipCache.of(self._format, len(x))
        for _ in _fill(cache, self._backbone, x):
            pass
        if self._scaling is not None:
            self._scaling.apply(cache.rows)
        return cache

    def _logits(
        self, adapters: SkipAdapters, rows: NDArray[np.float32], features: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Outputs in the unit of the answers; ``adapters`` work on the rows that are kept."""
        return self._unscaled(adapters.logits_from_rows(self._format, rows, features))

    def _unscaled(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        return outputs if self._scaling is None else outputs / self._scaling.output_scale


def _standardize(cache: SkipCache, backbone: Backbone, part: CheckedSamples, task: Task) -> Scaling:
    """Compute every row once, for the statistics, and scale those that are kept."""
    targets = part.y if task.name == "regression" else None
    scaling = Scaling.of(cache.format, _fill(cache, backbone, part.x), targets)
    scaling.apply(cache.rows)
    cache.filled[:] = 1
    return scaling


def _fill(cache: SkipCache, backbone: Backbone, x: Any) -> Iterator[NDArray[np.float32]]:
    """Rows of all samples, chunk by chunk; the first ones into the cache, as many as it holds."""
    cached = cache.rows
    spare = cache.format.empty(min(SAMPLES_AT_ONCE, len(x))) if len(cached) < len(x) else cached
    for at in range(0, len(x), SAMPLES_AT_ONCE):
        stop = min(at + SAMPLES_AT_ONCE, len(x))
        rows = cached[at:stop] if stop <= len(cached) else spare[: stop - at]
        cache.format.compute(backbone, x[at:stop], rows)
        if stop > len(cached) > at:
            cached[at:] = rows[: len(cached) - at]
        yield rows


class NetworkJob:
    """Methods that run through the network, by one row of compute types a layer.

    Where nothing below the last layer changes (FT-Last), that layer alone is the network and its
    input is the tap of a row, cached or not. No row stays true while the network changes, so the
    samples held out pass the changed network once an epoch.
    """

    fill_seconds = 0.0
    rows_kept = False

    def __init__(
        self,
        model: MLP,
        part: CheckedSamples,
        options: Options,
        *,
        held: CheckedSamples | None = None,
        capacity: int | None = None,
        profile: _core.Profile | None = None,
    ) -> None:
        n_layers = len(model.layers)
        method = METHODS[options.method]
        self.cache: SkipCache | None = None
        self.n_forwards = 0
        self._source = None
        self._start = n_layers - 1 if method.freezes_below else 0
        self._model, self._method, self._part, self._held = model, method, part, held
        if self._start:
            if capacity is None:
                capacity = len(part.x) if options.cache else 0
            self.cache = SkipCache.create(
                model, len(part.x), first_tap=self._start, capacity=capacity
            )
            self._source = row_source(self.cache, model, part.x)
        rank = options.rank if method.lora_last else 0
        self._arrays = [
            (*layer.copy()[:-2], *lora)
            for layer, lora in zip(
                model.layers, _fresh_lora(model, rank, options.seed), strict=True
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
        epoch = self._trainer.epoch(part.x, part.y, self._source, learning_rate)
        self.n_forwards += epoch.n_forward
        return epoch

    @property
    def cache_bytes(self) -> tuple[int, int]:
        """Payload and overhead of the rows that are kept."""
        return self.cache.n_bytes if self.cache else (0, 0)

    def validation_loss(self) -> float:
        """Mean loss of the samples held out, which pass the network as it is now."""
        if self._held is None:
            raise RuntimeError("no samples are held out")
        return mean_loss(PLAIN.task, self.result().logits(self._model, self._held.x), self._held.y)

    def outputs(
        self, result: TunedNetwork | LayerAdapters, *, held_out: bool, with_base: bool
    ) -> Outputs:
        """Of the network after, and before: the samples pass each once."""
        x = self._held.x if held_out and self._held is not None else self._part.x
        adapted = result.logits(self._model, x)
        return Outputs(adapted, self._model.logits(x) if with_base else None)

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
