"""Skip adapters trained on rows (Algorithm 1), and the scaling of their taps.

Standardised taps have in every column mean 0 and deviation 1 over the training samples. Adapters
are trained on scaled rows and folded afterwards, so that what is saved and exported works on the
taps as they are.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.adapters.coded import CodedRows
from skip2lora.adapters.rows import RowFormat, SkipCache, as_they_are, parts
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.taps import SAMPLES_AT_ONCE
from skip2lora.tasks.task import PLAIN, Goal, Task, mean_loss
from skip2lora.training.beyond import Blocks, RowPlan, announcer
from skip2lora.training.budget import CacheUse
from skip2lora.training.jobs import CheckedSamples, Outputs, relative
from skip2lora.training.options import Options

# Of the mean variance of a tap: a column that hardly moved in training must not explode later.
_FLOOR = 1e-3
# Scaling is folded into weights, which then add up terms of mean * scale to a sum of order 1, in
# float32 and in any runtime; and a runtime rounds a tap at its mean, not the same in every batch.
# So the deviation counts as a share of the mean at least: 2^-8, which leaves 16 bits of 24, and
# more until the norm of mean * scale is 2^10 at most, which leaves 14 bits to the sum of all terms.
_BITS = 8
# A tap that moves by less of its size, over all samples and columns, holds rounding alone.
_ROUNDING = 2.0**-16
_TINY = float(np.finfo(np.float32).tiny)


def column_scale(
    mean: NDArray[np.float64], var: NDArray[np.float64], bits: int = _BITS
) -> NDArray[np.float64]:
    """What columns of that mean and variance are multiplied by for a deviation of 1 at most.

    It takes ``bits`` of the 24 of a float32, and two more of the sum of all columns.
    """
    scale = np.ones_like(mean)
    for bit in range(-bits, 0):
        floored = var + (2.0**bit * mean) ** 2
        scale = 1 / np.sqrt(np.where(floored > _TINY, floored, 1))
        away = mean * scale
        if away @ away <= 4.0 ** (bits + 2):
            break
    return scale


def _moments(of: _core.ColumnMoments, width: int) -> tuple[NDArray[np.float64], ...]:
    """Mean and variance of the columns that were added."""
    mean, var = np.empty(width), np.empty(width)
    of.finish(mean, var)
    return mean, var


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
        weight: NDArray[np.float32] | None = None,
    ) -> Scaling:
        """Statistics over rows that come in chunks, (samples, row_stride) each.

        ``targets``, (samples, n_outputs), are numbers to learn, or None. ``weight``, (samples,),
        says how much each counts relative to the others; None: all the same.
        """
        stride, n_outputs, at = row_format.layout.row_stride, row_format.n_outputs, 0
        of_rows, missing = _core.ColumnMoments(stride), _core.ColumnMoments(n_outputs)
        first = row_format.layout.logits_offset
        outputs = slice(first, first + n_outputs)
        for rows in chunks:
            chunk = slice(at, at + len(rows))
            own = None if weight is None else weight[chunk]
            of_rows.add(rows, own)
            if targets is not None:
                missing.add(targets[chunk] - rows[:, outputs], own)
            at += len(rows)
        mean, var = _moments(of_rows, stride)
        lack = None if targets is None else _moments(missing, n_outputs)
        return cls.by(row_format, mean, var, lack)

    @classmethod
    def by(
        cls,
        row_format: RowFormat,
        mean: NDArray[np.float64],
        var: NDArray[np.float64],
        missing: tuple[NDArray[np.float64], ...] | None = None,
    ) -> Scaling:
        """By mean and variance of the columns, and of what numbers lack at the start, if any."""
        first, n_outputs = row_format.layout.logits_offset, row_format.n_outputs
        outputs, scale = slice(first, first + n_outputs), np.ones_like(mean)
        for start, width in places_of(row_format):
            part = slice(start, start + width)
            size, moves = mean[part] @ mean[part] / width, var[part].sum() / width
            floor = _FLOOR * moves if moves > _ROUNDING**2 * size else size
            scale[part] = column_scale(mean[part], var[part] + floor)
        mean[first:], scale[first:] = 0, 1
        bias = np.zeros(n_outputs)
        if missing is not None:
            lack, spread = missing
            spread = np.sqrt(spread)
            scale[outputs] = 1 / np.where(spread > 0, spread, 1)
            bias = lack * scale[outputs]
        small = (array.astype(np.float32) for array in (mean, scale, scale[outputs], bias))
        return cls(row_format, *small)

    def apply(self, rows: NDArray[np.float32] | CodedRows) -> None:
        """Scale ``rows``, (samples, row_stride), in place."""
        if isinstance(rows, CodedRows):
            rows.standardise(self.mean, self.scale)
            return
        _core.scale_rows(rows, self.mean, self.scale)

    def targets(self, targets: NDArray[np.float32]) -> NDArray[np.float32]:
        """Numbers as the scaled outputs should be."""
        return targets * self.output_scale

    def fold(self, adapters: SkipAdapters) -> SkipAdapters:
        """The adapters that do on taps as they are what ``adapters`` do on scaled ones."""
        bias = np.zeros(self.format.n_outputs) if adapters.bias is None else adapters.bias
        bias = bias / self.output_scale.astype(np.float64)
        lora_a, lora_b = [], []
        places = places_of(self.format)
        for (at, width), a, b in zip(places, adapters.lora_a, adapters.lora_b, strict=True):
            lora_a.append(a * self.scale[at : at + width, None])
            lora_b.append(b / self.output_scale)
            # Of the products as they were rounded, so that at the mean nothing is left of that.
            bias -= self.mean[at : at + width].astype(np.float64) @ lora_a[-1] @ lora_b[-1]
        return replace(
            adapters, lora_a=tuple(lora_a), lora_b=tuple(lora_b), bias=bias.astype(np.float32)
        )

    def unfold(self, adapters: SkipAdapters) -> SkipAdapters:
        """The reverse of :meth:`fold`: the same outputs, from scaled taps."""
        bias = np.zeros(self.format.n_outputs) if adapters.bias is None else adapters.bias
        bias = bias.astype(np.float64)
        lora_a, lora_b = [], []
        places = places_of(self.format)
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


def places_of(row_format: RowFormat) -> list[tuple[int, int]]:
    """Where each tap starts in a row, and its width."""
    return list(zip(row_format.layout.tap_offsets, row_format.tap_widths, strict=True))


def has_bias(goal: Goal, options: Options) -> bool:
    """Whether adapters have a bias: scaled taps need one, and some goals."""
    return options.standardize or goal.bias


class SkipJob:
    """Skip adapters on rows (Algorithm 1): Skip-LoRA, Skip2-LoRA, LoRA-Last.

    Rows of the samples held out are computed once, scaled by the statistics of the others, and
    kept, with a Skip-Cache and without: validation never runs the backbone.
    The cache has rows of as many samples to train on as the options say.
    """

    mixed_by_folds, answered = False, None

    def __init__(
        self,
        backbone: Backbone,
        part: CheckedSamples,
        options: Options,
        *,
        goal: Goal = PLAIN,
        held: CheckedSamples | None = None,
        profile: _core.Profile | None = None,
        start: SkipAdapters | None = None,
    ) -> None:
        began = time.perf_counter()
        plan = RowPlan.of(backbone, part, held, options, goal)
        part, held, rows, capacity = plan.part, plan.held, plan.format, plan.capacity
        whole = capacity == len(part.x) and not options.standardize
        known = as_they_are(rows, backbone, part.x) if whole else None
        self.cache = known or SkipCache.of(rows, len(part.x), capacity, options.cache_policy)
        self.rows_kept = plan.on_disk or len(self.cache.rows) == len(part.x)
        self._backbone, self._part, self._goal = backbone, part, goal
        self._format, self._rank, self._bias = rows, options.rank, has_bias(goal, options)
        self._scaling: Scaling | None = None
        self.cache_use: CacheUse | None = CacheUse.of(self.cache, len(part.x), on_disk=plan.on_disk)
        self.n_forwards = 0
        if options.standardize:
            moments = None
            if plan.on_disk and self.cache.tables is None:
                moments = plan.moments(backbone, goal)
            self._scaling = _standardize(self.cache, backbone, part, goal.task, moments)
            self.n_forwards += len(part.x)
        elif isinstance(self.cache.rows, CodedRows) or plan.fills_first:
            # The range of a column is that of all rows.
            self.cache.fill(backbone, part.x[: len(self.cache.rows)])
            self.n_forwards += len(self.cache.rows)
        self._held, in_memory = held, SkipCache.of(rows, 0)
        if held is not None and not plan.on_disk:
            in_memory = self._computed(held.x)
        self._held_cache = in_memory
        self.fill_seconds = time.perf_counter() - began
        self._x = rows.features(part.x)
        self._held_x = self._x[:0] if held is None else rows.features(held.x)
        self._packed = self._packed_at(start, options.seed)
        self.trainer = _core.SkipTrainer(
            self._packed, options.batch_size, options.core_optimizer(), options.seed, profile
        )
        self._y = part.y
        self._weight = None if part.weight is None else relative(part.weight)
        if self._scaling is not None and goal.task.numeric_targets:
            self._y = self._scaling.targets(part.y)
        self._source = self._source_of(plan, options.batch_size)

    def _source_of(self, plan: RowPlan, batch_size: int) -> _core.RowSource | Blocks:
        """Where an epoch takes its rows from."""
        cache, backbone, x = self.cache, self._backbone, self._part.x
        scale = None if self._scaling is None else self._scaling.apply
        if plan.in_blocks and cache.tables is None:
            if not cache.filled.all():
                cache.fill(backbone, x[: len(cache.rows)])
            return Blocks(backbone, cache, x, scale, batch_size)
        n_kept = 0 if cache.tables is not None else len(cache.rows)
        return cache.source(backbone, x, scale, announcer(x, n_kept) if plan.on_disk else None)

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
        trainer, source, weight = self.trainer, self._source, self._weight
        if isinstance(source, Blocks):

            def train(samples: Any, rows: _core.RowSource) -> _core.Epoch:
                of_some = None if weight is None else weight[samples]
                x, y = self._x[: len(samples)], self._y[samples]  # no tap is x
                return trainer.epoch(x, y, rows, learning_rate, of_some)

            epoch = source.epoch(trainer, train)
        else:
            epoch = trainer.epoch(self._x, self._y, source, learning_rate, weight)
        self.n_forwards += epoch.n_forward
        self.cache_use = self.cache_use and self.cache_use.after(epoch)
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
        adapters = self._as_trained()
        logits = np.concatenate(
            [self._logits(adapters, rows, x) for x, rows in self._held_rows(self._held)]
        )
        return mean_loss(self._goal.task, logits, self._held.y, self._held.weight)

    def outputs(self, result: SkipAdapters, *, held_out: bool, with_base: bool) -> Outputs:
        """From rows that are kept; those that the cache lacks are computed once more."""
        adapters = result if self._scaling is None else self._scaling.unfold(result)
        first = self._format.layout.logits_offset
        base, adapted = [], []
        held = self._held_rows(self._held) if held_out and self._held else None
        for x, rows in held or self._training_rows():
            adapted.append(self._logits(adapters, rows, x))
            if with_base:
                of_base = rows[:, first : first + self._format.n_outputs].copy()  # not all of a row
                base.append(self._unscaled(of_base))
        return Outputs(np.concatenate(adapted), np.concatenate(base) if with_base else None)

    def _held_rows(
        self, held: CheckedSamples
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Features and rows of those held out; chunk by chunk where they are not in memory."""
        for some, rows in parts(self._held_cache.rows):
            yield self._held_x[some], rows
        for at in range(len(self._held_cache.rows), len(held.x), SAMPLES_AT_ONCE):
            x = held.x[at : at + SAMPLES_AT_ONCE]
            self._format.compute(self._backbone, x, rows := self._format.empty(len(x)))
            if self._scaling is not None:
                self._scaling.apply(rows)
            yield self._held_x[at : at + len(x)], rows

    def _training_rows(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Features and rows of the samples to train on; those beyond the cache chunk by chunk."""
        tables = self.cache.tables is not None
        whole = not tables and self.cache.filled.all()  # without an epoch they are not
        n_kept = len(self.cache.rows) if whole else 0
        for some, rows in parts(self.cache.rows, 0, n_kept):
            yield self._x[some], rows
        for at in range(n_kept, len(self._x), SAMPLES_AT_ONCE):
            chunk = slice(at, min(at + SAMPLES_AT_ONCE, len(self._x)))
            x = self._part.x[chunk]
            if tables:
                yield self._x[chunk], self.cache.of_tables(chunk, partial(self._those, x))
            else:
                yield self._x[chunk], self._computed(x).rows[:]

    def _those(self, x: Any, which: NDArray[np.bool_]) -> NDArray[np.float32]:
        return self._computed(x[which]).rows[:]

    def _computed(self, x: Any) -> SkipCache:
        """Rows of checked samples, as they are trained on."""
        self.n_forwards += len(x)
        cache = SkipCache.of(self._format, len(x))
        cache.fill(self._backbone, x)
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


def _standardize(
    cache: SkipCache,
    backbone: Backbone,
    part: CheckedSamples,
    task: Task,
    moments: NDArray[np.float64] | None,
) -> Scaling:
    """Compute every row once, for the statistics, and scale those that are kept.

    Only the latter where ``moments``, mean and variance of the columns, are known.
    """
    if moments is not None:
        cache.fill(backbone, part.x[: len(cache.rows)])
        scaling = Scaling.by(cache.format, *moments)
    else:
        targets = part.y if task.name == "regression" else None
        chunks = (rows for _, rows in cache.computed(backbone, part.x))
        scaling = Scaling.of(cache.format, chunks, targets, part.weight)
    scaling.apply(cache.rows)
    cache.filled[:] = 1
    return scaling
