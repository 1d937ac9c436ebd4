"""What adapting takes in memory, counted before it runs, and the ways of it that fit into less."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from skip2lora import _core
from skip2lora.adapters.coded import read_at_once
from skip2lora.adapters.projected import BYTES_AT_ONCE, projected_widths
from skip2lora.adapters.rows import FLOAT_BYTES, RowFormat, SkipCache
from skip2lora.adapters.shards import rows_of_shard
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.known_rows import RandomRows
from skip2lora.backbones.taps import SAMPLES_AT_ONCE
from skip2lora.errors import DataError, ParameterError
from skip2lora.methods import METHODS
from skip2lora.system import highest_bytes
from skip2lora.tasks.task import Goal
from skip2lora.training.beyond import NARROW, copies_input, fits, kept_beside, rows_of_block
from skip2lora.training.budget import capacity_of
from skip2lora.training.exact_memory import exact_memory
from skip2lora.training.mlp_rule import FIELD, STEPS
from skip2lora.training.options import Options
from skip2lora.training.projection import FIRST, FIRST_BYTES
from skip2lora.training.skip_job import has_bias

#: Numbers of each tap that a way keeps where nothing larger fits.
FEW_COLUMNS = 16
_DOUBLE_BYTES = 8
# This part of a limit stays free, as what a process holds is known to a few percent.
_SPARE = 32
# Of a sample whose row is in a folder: its place, and its digest as the index has it.
_PLACE_BYTES = 8 + 80


@dataclass(frozen=True)
class Memory:
    """Bytes. All are exact but ``fill_bytes``, ``process_bytes`` and so ``peak_bytes``.

    ``samples_bytes`` are those of X, of samples that are read where they are needed those of the
    part that is there while the cache is filled, 0 where the size of a sample is not known
    (``in_parts`` says so). ``cache_bytes`` is
    the payload, ``cache_overhead_bytes`` its padding and flags. ``saved_bytes`` are the trained
    numbers as a file holds them, ``adapter_bytes`` the same as the fused step holds them, with what
    makes few columns of the taps;
    ``optimizer_bytes`` is the optimiser's state, ``workspace_bytes`` the room of a step and an
    epoch. ``fill_bytes`` estimates the room of a chunk of samples on its way into the cache, or of
    whole rows that few columns are found from, beyond the cache that follows.
    ``process_bytes`` is what this process holds with the model loaded, runtime and interpreter
    included, ``highest_bytes`` the most it held so far; ``peak_bytes`` is the larger of that and of
    what adapting adds.
    """

    samples_bytes: int
    cache_bytes: int
    cache_overhead_bytes: int
    saved_bytes: int
    adapter_bytes: int
    optimizer_bytes: int
    workspace_bytes: int
    fill_bytes: int
    process_bytes: int
    highest_bytes: int = 0
    in_parts: bool = False

    @property
    def adapting_bytes(self) -> int:
        """Beyond the model: samples and cache, and the larger of filling and training."""
        training = self.adapter_bytes + self.optimizer_bytes + self.workspace_bytes
        cache = self.cache_bytes + self.cache_overhead_bytes
        if self.in_parts:
            return cache + max(self.samples_bytes + self.fill_bytes, training)
        return self.samples_bytes + cache + max(self.fill_bytes, training)

    @property
    def peak_bytes(self) -> int:
        """Estimate of the whole process."""
        return max(self.highest_bytes, self.process_bytes + self.adapting_bytes)


@dataclass(frozen=True)
class Choice:
    """One way to adapt: ``options`` beside those asked for, and what all then takes at most.

    ``capacity`` are the samples whose rows are kept in memory; ``n_rows_read`` are read from a
    folder in all epochs, beside those that stay, once.
    """

    name: str
    options: Mapping[str, Any]
    capacity: int
    peak_bytes: int
    n_rows_read: int = 0


def recipe_of(options: Options) -> str | None:
    """As one asks for it."""
    return "auto" if options.recipe in ("auto", STEPS, FIELD) else options.recipe


def n_designs(options: Options) -> int:
    """Selections of taps that are solved for: the recipe auto tries the last one alone, too."""
    return 2 if options.recipe == "auto" else 1


def n_parameters(rows: RowFormat, rank: int, bias: bool) -> int:
    """Numbers of skip adapters on such rows."""
    widths, n_outputs = rows.tap_widths, rows.n_outputs
    return (sum(widths) + len(widths) * n_outputs) * rank + n_outputs * bias


@dataclass(frozen=True)
class Room:
    """What adapting ``model`` to ``n_samples`` samples takes, by ``options``.

    A sample has ``sample_bytes`` in memory, and ``n_features`` as the core sees it. ``held_bytes``
    are what the process holds without samples. ``beside_folder`` says that rows are kept in a
    CacheFolder too, from which training by steps reads those that memory has no room for;
    ``in_parts`` that samples are read where they are needed, a part at a time.
    """

    model: Backbone
    n_samples: int
    options: Options
    goal: Goal
    sample_bytes: int
    n_features: int
    held_bytes: int
    beside_folder: bool = False
    in_parts: bool = False

    def of_samples(
        self, sample_bytes: int, n_features: int, held: int, *, in_parts: bool = False
    ) -> Room:
        """With what one is, and what the process holds beside them."""
        return replace(
            self, sample_bytes=sample_bytes, n_features=n_features, held_bytes=held,
            in_parts=in_parts,
        )  # fmt: skip

    @property
    def kept(self) -> Backbone:
        """What has taps as they are kept: the model, or few columns of its taps."""
        if self.options.projection is None:
            return self.model
        return RandomRows(self._widths, self.model.n_outputs)

    @property
    def _widths(self) -> tuple[int, ...]:
        """Of the taps, as they are kept."""
        method, model = METHODS[self.options.method], self.model
        return projected_widths(method, model.tap_widths, self.options.projection, None)

    @property
    def rows(self) -> RowFormat:
        """Of what is kept."""
        return self._format(copied=self._copied or self.on_disk)

    @property
    def _copied(self) -> bool:
        return copies_input(self.options, in_parts=self.in_parts)

    def _format(self, *, copied: bool) -> RowFormat:
        return RowFormat.of(
            self.kept, n_outputs=self.goal.n_outputs, copy_input=copied,
            dtype=self.options.cache_dtype,
        )  # fmt: skip

    @property
    def on_disk(self) -> bool:
        """Whether some rows are read from the folder."""
        if not self.beside_folder or self.options.solver != "steps":
            return False
        rows, count = self._format(copied=self._copied), self.n_samples
        return not fits(rows, capacity_of(self.options, rows, count), count)

    @property
    def n_rows_read(self) -> int:
        """From the folder, in all epochs."""
        return (self.n_samples - self.capacity) * self.options.epochs * self.on_disk

    @property
    def in_blocks(self) -> bool:
        """Whether rows that are read are neighbours."""
        return self.rows.row_bytes <= NARROW

    @property
    def _whole(self) -> RowFormat:
        """Of rows as the model gives them."""
        return RowFormat.of(self.model, n_outputs=self.goal.n_outputs, copy_input=True)

    @property
    def rank(self) -> int:
        """Of the result, at most."""
        exact = self.options.solver == "exact"
        return min(self.options.rank, self.rows.n_outputs) if exact else self.options.rank

    @property
    def n_parameters(self) -> int:
        """Of the result, at most."""
        rows, rank = self._whole, self.rank
        if self.options.solver == "steps":
            moved = self.options.projection is not None  # by means, which end in the bias
            return n_parameters(rows, rank, moved or has_bias(self.goal, self.options))
        count = n_parameters(rows, rank, bias=True)
        if recipe_of(self.options) == "auto" and self.model.n_outputs:  # a tap of its logits
            count += (self.model.n_outputs + rows.n_outputs) * rank
        return count

    @property
    def capacity(self) -> int:
        """Samples whose rows are kept.

        Raises:
            ParameterError: ``cache_size`` is too small for one.
        """
        if self.on_disk:
            return kept_beside(self.options, self.rows, self.n_samples)
        return capacity_of(self.options, self.rows, self.n_samples)

    def memory(self) -> Memory:
        """All of it.

        Raises:
            DataError: so many samples cannot be solved exactly.
            ParameterError: ``cache_size`` is too small for one row.
        """
        rows, capacity, options = self.rows, self.capacity, self.options
        payload, saved = capacity * rows.payload_bytes, FLOAT_BYTES * self.n_parameters
        whole = capacity == self.n_samples
        beside, each = SkipCache.costs(
            rows, self.n_samples, "pin" if whole else options.cache_policy
        )
        if options.solver == "exact":
            factored = options.recipe == "auto" or self.goal.task.name == "regression"
            exact = exact_memory(
                rows, self.n_samples, rows.n_outputs, n_designs=n_designs(options),
                factored=factored,
            )  # fmt: skip
            adapters, state, work = saved, 0, exact.workspace_bytes
            if rows.dtype != "float32":
                few = min(self.n_samples, read_at_once(rows.layout))
                work += few * FLOAT_BYTES * rows.layout.row_stride
        else:
            bias = has_bias(self.goal, options)
            adapter = _core.SkipAdapter(rows.layout, options.rank, self.goal.task.loss, bias)
            of = options.core_optimizer()
            trainer = _core.SkipTrainer(adapter, options.batch_size, of, 0, None)
            step = trainer.workspace_bytes(self.n_samples, self.n_features)
            if options.recipe == STEPS:  # of those held out, and the others, in turn
                step += 2 * self.n_samples * (rows.row_bytes + 1)
            adapters, state, work = adapter.n_bytes, trainer.state_bytes, step
        cache_bytes = (beside if capacity else 0) + capacity * each
        in_parts = self.in_parts and not rows.first_tap_is_input
        sample_bytes = self.sample_bytes
        if self.in_parts and not in_parts:
            sample_bytes = FLOAT_BYTES * rows.tap_widths[0]
        return Memory(
            self.n_samples * sample_bytes, payload,
            cache_bytes - payload, saved, adapters + self._projection_bytes, state,
            work + self._reading_bytes(rows),
            max(self._fill_bytes(rows, whole=whole), self._first_bytes - cache_bytes),
            self.held_bytes, highest_bytes(), in_parts and whole,
        )  # fmt: skip

    def _fill_bytes(self, rows: RowFormat, *, whole: bool) -> int:
        """Taps as the runtime gives them, and rows on their way that are not kept."""
        scaled = self.options.standardize
        chunk = min(SAMPLES_AT_ONCE, self.n_samples) if scaled else self.options.batch_size
        passed, taps = min(chunk, self.model.samples_at_once), self._whole
        given = 0 if self.model.network else FLOAT_BYTES * (sum(taps.tap_widths) + taps.n_outputs)
        n_bytes = passed * given + (0 if whole or not scaled else chunk * rows.row_bytes)
        if self.options.projection is not None:  # of whole rows, some at a time
            n_bytes += min(chunk * taps.row_bytes, BYTES_AT_ONCE)
        if self.beside_folder:  # of a shard that is not written yet
            n_bytes += min(self.n_samples, rows_of_shard(taps.row_bytes)) * taps.row_bytes
        return n_bytes

    def _reading_bytes(self, rows: RowFormat) -> int:
        """Where rows on the disk are, and two blocks of narrow ones as floats."""
        if not self.on_disk:
            return 0
        block = min(self.n_samples, 2 * rows_of_block(self.options.batch_size))
        of_blocks = block * FLOAT_BYTES * rows.layout.row_stride if self.in_blocks else 0
        return self.n_samples * _PLACE_BYTES + of_blocks

    @property
    def _projection_bytes(self) -> int:
        """Of the matrices that make few columns of taps, which the core has once more."""
        pairs = zip(self.model.tap_widths, self._widths, strict=True)
        return 2 * FLOAT_BYTES * sum(wide * (few + 1) for wide, few in pairs if few < wide)

    @property
    def _first_bytes(self) -> int:
        """Of whole rows that few columns are found from, and one tap of them three times."""
        if self.options.projection is None:
            return 0
        taps = self._whole
        n_first = min(self.n_samples, FIRST, FIRST_BYTES // taps.row_bytes)
        n_first = min(self.n_samples, max(self.options.projection, n_first))
        return n_first * (taps.row_bytes + 3 * _DOUBLE_BYTES * max(taps.tap_widths))


def choices(asked: Room, steps: Room, limit: int) -> Iterator[Choice]:
    """As ``asked``, in int8, by ``steps``, few numbers of each tap, as many rows as fit, or none.

    They are in the order in which they lose something. What cannot be is left out.
    """
    options, whole = asked.options, "float32"
    exact = options.solver == "exact" or options.recipe in ("auto", STEPS, FIELD)
    free = steps.options.cache_samples is None and steps.options.cache_size is None
    small: dict[str, Any] = {"cache_dtype": "int8"}
    with suppress(DataError):
        yield _choice("as asked", {}, asked)
    if exact and free and options.cache_dtype == whole:
        with suppress(DataError):
            yield _choice("as asked, int8", small, asked)
    of_steps: dict[str, Any] = {"solver": "steps"} if options.solver == "exact" else {}
    if options.recipe in ("auto", STEPS, FIELD):
        of_steps = {"solver": "steps", "recipe": None}
    if of_steps:
        yield _choice("by steps", of_steps, steps)
    if not free:
        return
    if options.cache_dtype == whole:
        yield _choice("by steps, int8", of_steps | small, steps)
    if options.projection is None and max(asked.model.tap_widths) > FEW_COLUMNS:
        with suppress(DataError):
            few = {"projection": FEW_COLUMNS}
            yield _choice(f"{FEW_COLUMNS} numbers of each tap", few, asked)
    others = ("rows of some", "no rows kept")
    if steps.beside_folder:
        others = ("some rows on disk", "all rows on disk")
    none = replace(steps, options=replace(steps.options, cache_samples=0))
    left = limit - limit // _SPARE - none.memory().peak_bytes
    if left > 0:
        with suppress(ParameterError):  # not one row
            yield _choice(f"by steps, {others[0]}", of_steps | {"cache_size": left}, steps)
    yield _choice(f"by steps, {others[1]}", of_steps | {"cache_samples": 0}, steps)


def _choice(name: str, options: Mapping[str, Any], room: Room) -> Choice:
    """``room`` with those of ``options`` that it does not have."""
    limits = {name: value for name, value in options.items() if name not in ("solver", "recipe")}
    room = replace(room, options=replace(room.options, **limits))
    peak = room.memory().peak_bytes
    return Choice(name, options, room.capacity, peak, room.n_rows_read)
