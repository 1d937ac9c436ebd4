"""Jobs: one method at work on one set of samples, an epoch a call; those through the network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.adapters.adapters import LayerAdapters, Result, TunedNetwork
from skip2lora.adapters.rows import RowFormat, SkipCache
from skip2lora.backbones.mlp import MLP
from skip2lora.data.lazy import read
from skip2lora.methods import METHODS, Method
from skip2lora.tasks.task import PLAIN, Task, mean_loss
from skip2lora.training.budget import CacheUse, capacity_of
from skip2lora.training.options import Options


@dataclass(frozen=True, eq=False)
class CheckedSamples:
    """Checked samples and labels, (n,), or targets, (n, n_outputs).

    ``weight``, (n,), says how much each sample counts relative to the others: finite, 0 or more,
    not all 0. None: all the same. ``old``, (n,), marks samples of the old domain; None: there are
    none. ``group``, (n,), numbers what is held out together, new samples alone; None: not known.
    ``validation`` are other samples, for validation alone. ``row``, (n,), is the number of each
    sample among those that were passed, -1 of others; None: they are in order. ``spent``, (n,),
    marks those whose answers had a part in what their rows hold, so that they judge nothing.
    ``names`` are those of the classes or labels, for notes.
    """

    x: Any
    y: NDArray[Any]
    weight: NDArray[np.float32] | None = None
    old: NDArray[np.bool_] | None = None
    group: NDArray[np.int64] | None = None
    validation: CheckedSamples | None = None
    row: NDArray[np.int64] | None = None
    spent: NDArray[np.bool_] | None = None
    names: tuple[str, ...] | None = None

    def read(self) -> CheckedSamples:
        """With all samples in memory, for what takes them as one table."""
        return replace(self, x=read(self.x))

    def __getitem__(self, which: Any) -> CheckedSamples:
        """Those of a slice, or of an array of places or of one bool a sample."""
        several = (self.weight, self.old, self.group, self.row, self.spent)
        weight, old, group, row, spent = (None if of is None else of[which] for of in several)
        x, y = self.x[which], self.y[which]
        return CheckedSamples(x, y, weight, old, group, self.validation, row, spent, self.names)


def weighed(part: CheckedSamples, weight: NDArray[np.float32] | None) -> CheckedSamples:
    """With such weights; samples of weight 0 are left out."""
    weighted = replace(part, weight=weight)
    return weighted if weight is None or weight.all() else weighted[weight > 0]


def relative(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """With mean 1, as the core takes weights: so a learning rate means what it did."""
    return np.asarray(weight / weight.mean(dtype=np.float64), np.float32)


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a result and the base model give for the same samples, (samples, n_outputs) each."""

    adapted: NDArray[np.float32]
    base: NDArray[np.float32] | None = None


class Job(Protocol):
    """One method at work on the samples to train on, and on those held out.

    ``n_forwards`` samples passed the frozen model so far; ``cache_use`` counts look-ups of those to
    train on, None where there are no rows. ``fill_seconds`` is what the rows took
    that were computed before the first epoch. ``rows_kept``: after an epoch there are rows of all.
    ``mixed_by_folds``: the result is chosen by samples held out in turn, so that these judge it.
    """

    n_forwards: int
    cache_use: CacheUse | None
    fill_seconds: float
    rows_kept: bool
    mixed_by_folds: bool

    @property
    def trainer(self) -> _core.SkipTrainer | _core.NetworkTrainer:
        """What the epochs of the core change."""

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

    @property
    def answered(self) -> NDArray[np.float32] | None:
        """All outputs for samples held out of folds, (n, n_outputs), NaN for others; or None."""


class NetworkJob:
    """Methods that run through the network, by one row of compute types a layer.

    Where nothing below the last layer changes (FT-Last), that layer alone is the network and its
    input is the tap of a row, cached or not. No row stays true while the network changes, so the
    samples held out pass the changed network once an epoch.
    """

    fill_seconds = 0.0
    rows_kept = False
    mixed_by_folds, answered = False, None

    def __init__(
        self,
        model: MLP,
        part: CheckedSamples,
        options: Options,
        *,
        held: CheckedSamples | None = None,
        profile: _core.Profile | None = None,
        task: Task = PLAIN.task,
    ) -> None:
        n_layers = len(model.layers)
        method = METHODS[options.method]
        part, held = part.read(), None if held is None else held.read()
        self.cache: SkipCache | None = None
        self.cache_use: CacheUse | None = None
        self.n_forwards = 0
        self._source = None
        self._start = n_layers - 1 if method.freezes_below else 0
        self._model, self._method, self._part, self._held = model, method, part, held
        self._weight = None if part.weight is None else relative(part.weight)
        if self._start:
            rows = RowFormat.of(model, self._start, dtype=options.cache_dtype)
            capacity = capacity_of(options, rows, len(part.x))
            self.cache = SkipCache.of(rows, len(part.x), capacity, options.cache_policy)
            self.cache_use = CacheUse.of(self.cache, len(part.x), on_disk=False)
            if options.cache_dtype != "float32":  # the range of a column is that of all rows
                self.cache.fill(model, part.x[: len(self.cache.rows)])
                self.n_forwards += len(self.cache.rows)
            self._source = self.cache.source(model, part.x)
        rank = options.rank if method.lora_last else 0
        self._arrays = [
            (*layer.copy()[:-2], *lora)
            for layer, lora in zip(
                model.layers, _fresh_lora(model, rank, options.seed), strict=True
            )
        ]
        self._network = _core.Network(self._arrays[self._start :], model.bn_eps, model.bn_momentum)
        self.trainer = _core.NetworkTrainer(
            self._network, _rows(model, method)[self._start :], options.batch_size,
            options.core_optimizer(), options.seed, profile, task.loss,
        )  # fmt: skip

    def epoch(self, learning_rate: float) -> _core.Epoch:
        """Train one epoch; what the core says of it."""
        part = self._part
        epoch = self.trainer.epoch(part.x, part.y, self._source, learning_rate, self._weight)
        self.n_forwards += epoch.n_forward
        self.cache_use = self.cache_use and self.cache_use.after(epoch)
        return epoch

    @property
    def cache_bytes(self) -> tuple[int, int]:
        """Payload and overhead of the rows that are kept."""
        return self.cache.n_bytes if self.cache else (0, 0)

    def validation_loss(self) -> float:
        """Mean loss of the samples held out, which pass the network as it is now."""
        if self._held is None:
            raise RuntimeError("no samples are held out")
        logits = self.result().logits(self._model, self._held.x)
        return mean_loss(PLAIN.task, logits, self._held.y, self._held.weight)

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
