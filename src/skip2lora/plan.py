"""What adapting a model will take, before it runs: memory counted, time from short measurements."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skip2lora import _core
from skip2lora.adapters.rows import FLOAT_BYTES, RowFormat
from skip2lora.adapters.store import CacheFolder
from skip2lora.arrays import Inputs, SamplesLike, size, whole
from skip2lora.backbones.base import Backbone, check_backbone
from skip2lora.backbones.known_rows import RandomRows
from skip2lora.backbones.noise import random_samples
from skip2lora.backbones.standins import Headless
from skip2lora.backbones.taps import SAMPLES_AT_ONCE, Tap
from skip2lora.data.lazy import READ_BYTES, LazySamples
from skip2lora.errors import DivergedError, ParameterError
from skip2lora.limits import available_bytes
from skip2lora.system import held_bytes
from skip2lora.tasks.task import CLASSIFICATION, Goal
from skip2lora.training.beyond import copies_input
from skip2lora.training.costs import skip_cost
from skip2lora.training.exact_memory import exact_memory
from skip2lora.training.folds import N_FOLDS
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import checked
from skip2lora.training.mlp_rule import STEPS, MlpRule
from skip2lora.training.options import Options, asked_of, chosen_recipe, resolve_options
from skip2lora.training.reading_time import seconds_a_row
from skip2lora.training.room import Choice, Memory, Room, choices, n_designs, recipe_of
from skip2lora.training.skip_job import SkipJob
from skip2lora.training.solve_time import solving_seconds

DEFAULT_SAMPLES = 500
_MOST_SAMPLES = (1 << 31) - 1  # INT32_MAX, that of the core
_LEARNING_RATE = 1e-5  # so small that random labels lead nowhere
_MOST_ROW_BYTES = 1 << 26  # of random rows: beyond the caches of most processors
_FILL_SAMPLES = 64  # computed for the measurement, at most
_FILL_SECONDS = 0.5  # about that long, warm-up included: fewer samples of a slow model
_TURNS = 3


@dataclass(frozen=True)
class TapPlan:
    """One tap: ``bytes_a_sample`` in the cache, 0 where it is the sample itself."""

    layer: str
    kind: str
    shape: tuple[int | None, ...]
    width: int
    bytes_a_sample: int


@dataclass(frozen=True)
class Plan:
    """What :func:`plan` found.

    ``us_a_batch`` is the median of training on random rows of this shape, ``gflops`` the rate it
    comes to, ``training_ms`` that time for all batches, those of folds too. ``fill_us_a_sample`` is
    measured on ``n_measured`` samples; it and ``cache_fill_ms`` are None where the size of a sample
    is not known. Other load on the machine comes on top, as CPU time is told where it is shorter.
    ``operations_a_batch`` are those of
    :mod:`skip2lora.training.costs`, of a full batch. Of the exact solver, what is of steps and
    batches is 0, and ``training_ms`` is CPU time of fits on random rows, often fewer; of the
    recipe auto, ``rank`` and ``n_parameters`` are what the result has at most.

    ``choices`` are ways to adapt, the best first, and ``chosen`` is the first that takes at most
    ``limit_bytes``: what was said, or what the process may have; None where none does.
    ``n_rows_read`` rows are read from a folder, each in ``read_us_a_row`` from a cold disk: what
    was measured on a file of 16 MiB there, None where no way reads any, or nothing can be written.
    """

    taps: tuple[TapPlan, ...]
    n_samples: int
    n_outputs: int
    rank: int
    epochs: int
    batch_size: int
    optimizer: str
    standardize: bool
    n_parameters: int
    n_batches: int
    operations_a_batch: int
    memory: Memory
    us_a_batch: float
    gflops: float
    training_ms: float
    fill_us_a_sample: float | None
    cache_fill_ms: float | None
    n_measured: int
    solver: str = "steps"
    recipe: str | None = None
    limit_bytes: int = 0
    choices: tuple[Choice, ...] = ()
    chosen: Choice | None = None
    n_rows_read: int = 0
    read_us_a_row: float | None = None


def plan(
    model: Backbone,
    X: SamplesLike | None = None,
    *,
    n_samples: int | None = None,
    recipe: str | None = None,
    rank: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    optimizer: str | None = None,
    n_outputs: int | None = None,
    keep_outputs: bool = True,
    standardize: bool | None = None,
    cache: bool | CacheFolder | None = None,
    cache_dtype: str = "float32",
    solver: str | None = None,
    penalty: float | None = None,
    cache_samples: int | None = None,
    cache_size: int | str | None = None,
    cache_policy: str | None = None,
    projection: int | None = None,
    projection_from: str | None = None,
    memory: int | str | None = None,
    seconds: float = 0.02,
) -> Plan:
    """Plan Skip2-LoRA on ``X``, or on ``n_samples`` samples, 500 by default.

    ``n_outputs`` are those of the adapted model, more than the model's for new classes; without
    ``keep_outputs``, those that are learned anew. The other
    options are those of :func:`~skip2lora.adapt`, with its defaults: the recipe auto, where none is
    set that it chooses. ``cache`` may be a folder: rows that do not fit are then read from it, and
    how long that takes is tried on its disk. For an ``MLP`` without ``X`` the recipe is its rule
    for samples of no negative numbers, which takes more. The measurements train on random rows for
    about ``seconds`` and run the model on a few samples of ``X``, or random ones. ``model`` is not
    changed. ``memory`` is what the process may take at most, bytes or text such as "512MiB"; by
    default what the machine has left, or the process may have.

    Raises:
        DataError: ``X`` does not fit the model, or so many samples cannot be solved exactly.
        ParameterError: an option out of range, or both ``X`` and ``n_samples``.
    """
    asked = asked_of(locals())
    if X is not None and n_samples is not None:
        raise ParameterError(
            f"n_samples is {n_samples} beside data, expected one of the two: leave it out"
        )
    limit = None if memory is None else size("memory", memory)
    check_backbone(model)
    samples = None if X is None else checked(model, X)
    count = DEFAULT_SAMPLES if n_samples is None else n_samples
    count = whole("samples", count, 1, _MOST_SAMPLES) if samples is None else len(samples)
    goal = Goal(CLASSIFICATION, _more_outputs(model, n_outputs, keep_outputs))
    asked_for, by_steps = _both(model, samples, count, goal, keep_outputs, asked)
    options, of = asked_for.options, asked_for.model
    if options.solver == "exact":
        rows = asked_for.rows
        exact_memory(rows, count, rows.n_outputs, n_designs=n_designs(options))
    fill = _measure_fill(of, samples, count, options, goal)
    held = held_bytes() - count * fill.sample_bytes * fill.loaded
    asked_for, by_steps = (
        room.of_samples(fill.sample_bytes, fill.n_features, held, in_parts=fill.in_parts)
        for room in (asked_for, by_steps)
    )
    done = _Planner(asked_for).finish(seconds, fill)
    limit = available_bytes(held_bytes()) if limit is None else limit
    ways = tuple(choices(asked_for, by_steps, limit))
    chosen = next((way for way in ways if way.peak_bytes <= limit), None)
    done = replace(done, limit_bytes=limit, choices=ways, chosen=chosen)
    if isinstance(cache, CacheFolder) and any(way.n_rows_read for way in ways):
        row_bytes, in_blocks = by_steps.rows.row_bytes, by_steps.in_blocks
        seconds_each = seconds_a_row(cache.path, row_bytes, in_blocks=in_blocks)
        done = replace(done, read_us_a_row=None if seconds_each is None else 1e6 * seconds_each)
    return replace(done, n_rows_read=asked_for.n_rows_read)


def choose(
    model: Backbone,
    X: Any,
    memory: int | str,
    *,
    n_outputs: int | None = None,
    keep_outputs: bool = True,
    **asked: Any,
) -> Choice:
    """How to adapt to checked samples ``X`` within ``memory``, after a pass of one of them.

    ``asked`` are options of :func:`~skip2lora.adapt`, ``n_outputs`` as in :func:`plan`.

    Raises:
        ParameterError: nothing fits, or an option is out of range.
    """
    limit, asked = size("memory", memory), asked_of(asked)
    goal = Goal(CLASSIFICATION, _more_outputs(model, n_outputs, keep_outputs))
    rooms = _both(model, X, len(X), goal, keep_outputs, asked)
    fill = _measure_fill(rooms[0].model, X, len(X), rooms[0].options, goal, most=1)
    held = held_bytes() - len(X) * fill.sample_bytes * fill.loaded
    asked_for, by_steps = (
        room.of_samples(fill.sample_bytes, fill.n_features, held, in_parts=fill.in_parts)
        for room in rooms
    )
    ways = [*choices(asked_for, by_steps, limit)]
    for way in ways:
        if way.peak_bytes <= limit:
            return way
    least = min(way.peak_bytes for way in ways)
    raise ParameterError(
        f"memory is {limit / 1e6:,.0f} MB, but adapting to {len(X):,} samples takes "
        f"{least / 1e6:,.0f} MB or more, {held / 1e6:,.0f} of them this process with the model, "
        "expected room for both: pass fewer samples, or set memory= to more"
    )


def _both(
    model: Backbone, samples: Any, count: int, goal: Goal, keep_outputs: bool, asked: dict[str, Any]
) -> tuple[Room, Room]:
    """As ``asked``, and by steps, without what the process holds."""
    recipe = chosen_recipe(asked)
    of_rule = random_samples(model, 2) if samples is None else samples
    rule = MlpRule.of(model, of_rule, CLASSIFICATION, recipe if keep_outputs else None)
    rooms = []
    of_auto = dict.fromkeys(("recipe", "solver", "penalty"))
    for how in (asked | {"recipe": recipe}, asked | of_auto | {"solver": "steps"}):
        base = rule.backbone if how["recipe"] == "auto" else model
        base = base if keep_outputs else Headless(model, 0)
        options = resolve_options(base.recipe, base.tap_widths, count, **how)
        options = rule.settled(options, count) if how["recipe"] == "auto" else options
        beside = isinstance(asked.get("cache"), CacheFolder)
        rooms.append(Room(base, count, options, goal, 0, 1, 0, beside))
    return rooms[0], rooms[1]


def _more_outputs(model: Backbone, n_outputs: int | None, keep_outputs: bool) -> int | None:
    """Outputs where they are others than the model's, else None."""
    own = model.n_outputs if keep_outputs else 0
    if n_outputs is None and own == 0:
        raise ParameterError(
            "the model has no outputs of its own, or they are left out, expected the number to "
            "learn: say it with classes"
        )
    if n_outputs is not None:
        whole("classes", n_outputs, 1)
    if n_outputs is None or 0 < n_outputs == own:
        return None
    if n_outputs < own:
        raise ParameterError(
            f"classes is {n_outputs}, expected {own} or more, those of the model "
            "and the new ones: correct it"
        )
    return whole("classes", n_outputs, 1 if own == 0 else 2)


@dataclass(frozen=True)
class _Planner:
    room: Room

    def finish(self, seconds: float, fill: _FillCost) -> Plan:
        """Count, and measure a step, or the exact solver on fewer samples."""
        room, rows, options = self.room, self.room.rows, self.room.options
        memory = room.memory()
        n_batches = operations = 0
        a_batch = 0.0
        if options.solver == "exact":
            took = solving_seconds(room.kept, options, room.n_samples, room.goal)
        else:
            n_batches = -(-room.n_samples // options.batch_size) * options.epochs
            a_batch = self._seconds_a_batch(seconds)
            folds = N_FOLDS if options.recipe == STEPS else 1  # which have less each
            took = a_batch * n_batches * folds
            sizes = (rows.tap_widths, rows.n_outputs, options.batch_size, options.rank)
            operations = skip_cost(*sizes).operations
        us = 1e6 * a_batch
        return Plan(
            described(room.model.taps, copied=not rows.first_tap_is_input),
            room.n_samples, rows.n_outputs, room.rank, options.epochs, options.batch_size,
            options.optimizer, options.standardize, room.n_parameters, n_batches, operations,
            memory, us, operations / (1e3 * us) if us else 0.0, 1e3 * took,
            None if fill.seconds is None else 1e6 * fill.seconds,
            None if fill.seconds is None else 1e3 * fill.seconds * self._n_forwards,
            fill.n_samples, options.solver, recipe_of(options),
        )  # fmt: skip

    @property
    def _n_forwards(self) -> int:
        """Of a cache that keeps rows for good; one pass more where all are needed for scaling."""
        capacity, options = self.room.capacity, self.room.options
        if self.room.on_disk:
            return self.room.n_samples
        once = self.room.n_samples if options.standardize else capacity
        return once + (self.room.n_samples - capacity) * options.epochs

    def _seconds_a_batch(self, seconds: float) -> float:
        """The median epoch on random rows, as many as there will be up to 64 MiB."""
        model, options, rows = self.room.model, self.room.options, self.room.rows
        n_rows = max(options.batch_size, _MOST_ROW_BYTES // rows.row_bytes)
        n_rows = min(self.room.n_samples, n_rows)
        stand_in = RandomRows(rows.tap_widths, model.n_outputs)
        x = np.zeros((n_rows, 1), np.float32)
        options = replace(options, standardize=False, cache_samples=None, cache_size=None)
        y = np.arange(n_rows, dtype=np.int32) % rows.n_outputs
        job = SkipJob(stand_in, CheckedSamples(x, y), options, goal=self.room.goal)
        job.epoch(_LEARNING_RATE)  # fills the cache, and is not counted
        took: list[float] = []
        while sum(took) < seconds or not took:
            start, of_cpu = time.perf_counter(), time.process_time()
            epoch = job.epoch(_LEARNING_RATE)
            took.append(min(time.perf_counter() - start, time.process_time() - of_cpu))
            if epoch.status != _core.OK:
                raise DivergedError(
                    f"the loss is {epoch.loss} on random rows, expected a finite loss: check "
                    "the model"
                )
        return statistics.median(took) / epoch.n_batches


@dataclass(frozen=True)
class _FillCost:
    """Seconds a sample, None where no sample could be made, and on how many it was measured.

    ``n_features`` are those of x as the core sees it, ``loaded`` says that all samples were there,
    ``in_parts`` that a part of them is at a time.
    """

    seconds: float | None = None
    n_samples: int = 0
    sample_bytes: int = 0
    n_features: int = 1
    loaded: bool = False
    in_parts: bool = False


def _measure_fill(
    model: Backbone,
    samples: Any,
    count: int,
    options: Options,
    goal: Goal,
    most: int = _FILL_SAMPLES,
) -> _FillCost:
    """Run one sample, then as many others as fit into the time that is left, each once."""
    few = min(count, most)
    some = random_samples(model, few) if samples is None else samples[:few]
    if some is None:
        return _FillCost()

    def seconds(those: Any) -> float:
        part = CheckedSamples(those, np.zeros(len(those), np.int32))
        size = min(options.batch_size, len(those))
        smaller = replace(
            options, rank=1, epochs=1, batch_size=size, cache_samples=None, cache_size=None
        )
        of_cpu = time.process_time()
        job = SkipJob(model, part, smaller, goal=goal)
        took = job.fill_seconds + job.epoch(_LEARNING_RATE).forward_seconds
        return min(took, time.process_time() - of_cpu) / len(those)

    a_sample, n_measured = seconds(some[:1]), 1  # the first run of a runtime plans its memory
    left, times = _FILL_SECONDS - a_sample, list[float]()
    while n_measured < few and left >= a_sample:  # in some turns, of which the middle one counts
        turn = max(1, int(left / _TURNS / max(a_sample, 1e-9)))
        part = some[n_measured : n_measured + turn]
        a_sample = seconds(part)
        times.append(a_sample)
        left, n_measured = left - a_sample * len(part), n_measured + len(part)
    if times:
        a_sample, n_measured = statistics.median(times), n_measured - 1
    lazy = isinstance(samples, LazySamples)
    copied = copies_input(options, in_parts=lazy)
    rows = RowFormat.of(model, n_outputs=goal.n_outputs, copy_input=copied)
    n_features = rows.features(some[:1]).shape[1]
    sample_bytes, loaded = _bytes_of(some) // few, samples is not None and not lazy
    in_parts = lazy and not rows.first_tap_is_input
    if in_parts:  # of which a part is read at a time
        at_once = min(READ_BYTES, SAMPLES_AT_ONCE * sample_bytes)
        sample_bytes = min(sample_bytes, at_once // count)
    return _FillCost(a_sample, n_measured, sample_bytes, n_features, loaded, in_parts)


def _bytes_of(samples: Any) -> int:
    arrays = samples.arrays.values() if isinstance(samples, Inputs) else [samples]
    return sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)


def described(taps: Sequence[Tap], *, copied: bool) -> tuple[TapPlan, ...]:
    """Taps with their bytes in the cache.

    Without ``copied`` the first tap is the sample itself, which the cache does not hold.
    """
    return tuple(
        TapPlan(
            tap.layer, tap.kind, tuple(tap.shape), tap.width,
            0 if number == 0 and not copied else FLOAT_BYTES * tap.width,
        )
        for number, tap in enumerate(taps)
    )  # fmt: skip
