"""Rows beyond memory: those in a folder are read from it while adapters are trained on them.

Wide rows are read one by one, in the order of any training, each batch announced two batches ahead.
Narrow rows would wait for the disk most of the time: they are read in blocks of neighbours, in
random order, and samples are shuffled inside two blocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.adapters.rows import RowFormat, SkipCache
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.standins import Places, StandIn, runs
from skip2lora.data.lazy import LazySamples
from skip2lora.limits import max_bytes
from skip2lora.methods import METHODS
from skip2lora.tasks.task import Goal
from skip2lora.training.budget import Bounds, capacity_of
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.options import Options

#: Samples of a block, or a few less; and bytes of the widest rows that are read so.
BLOCK, NARROW = 4096, 8192


#: Trains on some samples, by number, and their rows.
Train = Callable[[NDArray[np.intp], _core.RowSource], _core.Epoch]


@dataclass(frozen=True, eq=False)
class RowPlan:
    """The format of the rows of some samples, and how many of those to train on are in memory.

    If ``on_disk`` the others are in a folder, samples to train on and ``held`` ones are places
    there, and no row of the latter is in memory. Of fast models whose samples are in a file, rows
    are computed first (``fills_first``), as these are read in order then.
    """

    format: RowFormat
    capacity: int
    part: CheckedSamples
    held: CheckedSamples | None
    on_disk: bool = False
    fills_first: bool = False

    @property
    def in_blocks(self) -> bool:
        """Whether rows on the disk are read so."""
        return self.on_disk and self.format.row_bytes <= NARROW

    def moments(self, backbone: Backbone, goal: Goal) -> NDArray[np.float64] | None:
        """Mean and variance of the columns, (2, row_stride), by what the folder knows of its files.

        So no row is read for them. They may differ from those of the rows in the last bits, so
        that this is where another order of training changes bits too: of more than a pair of
        blocks. None also of weights, of numbers, whose lack counts, and of taps that are derived.
        """
        places, is_plain = self.part.x, self.part.weight is None and goal.task.name != "regression"
        if not (self.in_blocks and is_plain and len(places) > 3 * BLOCK):
            return None
        base = runs(backbone)
        if tuple(backbone.tap_widths) != tuple(base.tap_widths):
            return None
        of_rows = places.moments()
        if of_rows is None:
            return None
        offsets = RowFormat.of(base, copy_input=True).layout.tap_offsets[self.format.first_tap :]
        moments = np.zeros((2, self.format.layout.row_stride))
        for at, start, width in zip(
            self.format.layout.tap_offsets, offsets, self.format.tap_widths, strict=True
        ):
            moments[:, at : at + width] = of_rows[:, start : start + width]
        return moments

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        part: CheckedSamples,
        held: CheckedSamples | None,
        options: Options,
        goal: Goal,
    ) -> RowPlan:
        """By ``options``; without a limit there, as many as ``SKIP2LORA_MAX_BYTES`` allows.

        Rows that a folder lacks are computed here where not all of them will be in memory.

        Raises:
            FileError, ModelError: the folder cannot be used, or the backbone.
            ParameterError: ``cache_size`` is too small for one row.
        """
        first = range(len(backbone.tap_widths))[METHODS[options.method].adapted].start

        def formatted(*, copied: bool) -> RowFormat:
            return RowFormat.of(
                backbone,
                first,
                n_outputs=goal.n_outputs,
                copy_input=copied,
                dtype=options.cache_dtype,
            )

        n_samples, n_held = len(part.x), 0 if held is None else len(held.x)
        in_parts = isinstance(part.x, LazySamples)
        rows = formatted(copied=copies_input(options, in_parts=in_parts))
        if rows.first_tap_is_input:
            part = part.read()
        capacity = capacity_of(options, rows, n_samples, n_held)
        locate = backbone.locate if isinstance(backbone, StandIn) else None
        if locate is None or fits(rows, capacity, n_samples, n_held):
            in_core = isinstance(part.x, LazySamples) and backbone.network is not None
            in_order = in_core and options.cache_policy == "pin"
            return cls(rows, capacity, part, held, fills_first=in_order)
        rows = formatted(copied=True)  # so that no sample is needed any more
        capacity = kept_beside(options, rows, n_samples)
        part = replace(part, x=locate(part.x, _nobody))
        if held is not None:
            held = replace(held, x=locate(held.x, _nobody))
        return cls(rows, capacity, part, held, True)


def copies_input(options: Options, *, in_parts: bool) -> bool:
    """Whether an input that is a tap is in the rows, too: scaled, or as samples are read in parts.

    Where rows are rounded and not scaled the samples stay as they are, all in memory.
    """
    return options.standardize or (in_parts and options.cache_dtype == "float32")


def fits(rows: RowFormat, capacity: int, n_samples: int, n_held: int = 0) -> bool:
    """Whether all rows are to be in memory and may be: then none is read from a folder."""
    return capacity == n_samples <= max_bytes() // rows.row_bytes - n_held


def kept_beside(options: Bounds, rows: RowFormat, n_samples: int) -> int:
    """Rows of how many samples are in memory where the others are read.

    Raises:
        ParameterError: ``cache_size`` is too small for one row.
    """
    return min(capacity_of(options, rows, n_samples), max_bytes() // rows.row_bytes)


def rows_of_block(batch_size: int) -> int:
    """A multiple of the batch, so that none but the last is short."""
    return batch_size * max(1, BLOCK // batch_size)


def _nobody(_: int) -> None:
    pass


@dataclass(frozen=True, eq=False)
class Blocks:
    """Rows of ``places`` in blocks; the first ones are in ``cache``, all of it, as trained on."""

    backbone: Backbone
    cache: SkipCache
    places: Places
    scale: Callable[[NDArray[np.float32]], None] | None
    batch_size: int

    def epoch(self, trainer: _core.SkipTrainer, train: Train) -> _core.Epoch:
        """Train on all of them: ``train(samples, rows)`` on some, which are there at a time.

        The order follows from the random state of ``trainer``.
        """
        numbers = trainer.copy_state(np.empty(trainer.state_floats, np.float32))
        pairs, epoch = [*self.pairs(numbers[0])], _core.Epoch()
        room = self.cache.format.empty(max(map(_count, pairs)))
        for number, pair in enumerate(pairs):
            began, at, n_read = time.perf_counter(), 0, 0
            for block in pair:
                size = block.stop - block.start
                n_read += self._read(block, room[at : at + size])
                at += size
            for block in (block for after in pairs[number + 1 : number + 2] for block in after):
                self.places[max(block.start, len(self.cache.rows)) : block.stop].announce()
            seconds = time.perf_counter() - began
            samples = np.concatenate([np.arange(of.start, of.stop) for of in pair])
            epoch = epoch.then(train(samples, self._source(room[:at])), n_read, seconds)
            if epoch.status != _core.OK:
                break
        return epoch

    def _source(self, rows: NDArray[np.float32]) -> _core.RowSource:
        there = np.ones(len(rows), np.uint8)
        return _core.RowSource(self.cache.format.layout, rows, there, _none_missing)

    def pairs(self, seed: int) -> Iterator[list[slice]]:
        """Blocks in random order, two at a time; none but the last has a short batch."""
        size, n_samples = rows_of_block(self.batch_size), len(self.places)
        starts = [*range(0, n_samples - size + 1, size)] or [0]
        blocks = [slice(*ends) for ends in zip(starts, [*starts[1:], n_samples], strict=True)]
        order = np.random.Generator(np.random.PCG64(seed)).permutation(len(blocks))
        for at in range(0, len(order), 2):
            yield [blocks[number] for number in sorted(order[at : at + 2])]

    def _read(self, block: slice, rows: NDArray[np.float32]) -> int:
        """Rows of a block, as trained on; how many of them were in the folder alone."""
        n_kept = max(0, min(block.stop, len(self.cache.rows)) - block.start)
        rows[:n_kept] = self.cache.rows[block.start : block.start + n_kept]
        others = self.places[block.start + n_kept : block.stop]
        self.cache.format.compute(self.backbone, others, rows[n_kept:])
        if self.scale is not None:
            self.scale(rows[n_kept:])
        return len(others)


def _none_missing(*_: Any) -> None:
    raise RuntimeError("a row is missing")


def _count(blocks: list[slice]) -> int:
    return sum(block.stop - block.start for block in blocks)


def announcer(places: Places, n_kept: int) -> Callable[[NDArray[np.uint32]], None]:
    """What the core tells of samples to come, the first ``n_kept`` of which are in memory."""

    def announce(samples: Any) -> None:
        places[samples[samples >= n_kept]].announce()

    return announce
