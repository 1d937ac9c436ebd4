"""What adapting a model will take, before it runs: memory counted, time from short measurements."""

from __future__ import annotations

import math
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skip2lora import _core
from skip2lora.adapters.rows import FLOAT_BYTES, RowFormat
from skip2lora.arrays import Inputs, SamplesLike, whole
from skip2lora.backbones.base import Backbone, check_backbone
from skip2lora.backbones.noise import random_samples
from skip2lora.backbones.standins import Headless, RandomRows
from skip2lora.backbones.taps import SAMPLES_AT_ONCE, Tap
from skip2lora.data.lazy import READ_BYTES, LazySamples
from skip2lora.errors import DivergedError, ParameterError
from skip2lora.tasks.task import CLASSIFICATION, Goal
from skip2lora.training.costs import skip_cost
from skip2lora.training.exact import PENALTIES
from skip2lora.training.exact_job import estimated_seconds
from skip2lora.training.exact_memory import CANDIDATES, exact_memory
from skip2lora.training.folds import N_FOLDS
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import checked
from skip2lora.training.mlp_rule import FIELD, STEPS, MlpRule
from skip2lora.training.options import Options, asked_of, chosen_recipe, resolve_options
from skip2lora.training.skip_job import SkipJob, has_bias

DEFAULT_SAMPLES = 500
_MOST_SAMPLES = (1 << 31) - 1  # INT32_MAX, that of the core
_LEARNING_RATE = 1e-5  # so small that random labels lead nowhere
_MOST_ROW_BYTES = 1 << 26  # of random rows: beyond the caches of most processors
_FILL_SAMPLES = 64  # computed for the measurement, at most
_FILL_SECONDS = 0.5  # about that long, warm-up included: fewer samples of a slow model


@dataclass(frozen=True)
class TapPlan:
    """One tap: ``bytes_a_sample`` in the cache, 0 where it is the sample itself."""

    layer: str
    kind: str
    shape: tuple[int | None, ...]
    width: int
    bytes_a_sample: int


@dataclass(frozen=True)
class Memory:
    """Bytes. All are exact but ``fill_bytes``, ``process_bytes`` and so ``peak_bytes``.

    ``samples_bytes`` are those of X, 0 where the size of a sample is not known. ``cache_bytes`` is
    the payload, ``cache_overhead_bytes`` its padding and flags. ``saved_bytes`` are the trained
    numbers as a file holds them, ``adapter_bytes`` the same as the fused step holds them;
    ``optimizer_bytes`` is the optimiser's state, ``workspace_bytes`` the room of a step and an
    epoch. ``fill_bytes`` estimates the room of a chunk of samples on its way into the cache.
    ``process_bytes`` is the peak of this process with the model loaded, runtime and interpreter
    included; ``peak_bytes`` adds what adapting allocates beyond it.
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

    @property
    def adapting_bytes(self) -> int:
        """Beyond the model: samples and cache, and the larger of filling and training."""
        training = self.adapter_bytes + self.optimizer_bytes + self.workspace_bytes
        cache = self.cache_bytes + self.cache_overhead_bytes
        return self.samples_bytes + cache + max(self.fill_bytes, training)

    @property
    def peak_bytes(self) -> int:
        """Estimate of the whole process."""
        return self.process_bytes + self.adapting_bytes


@dataclass(frozen=True)
class Plan:
    """What :func:`plan` found.

    ``us_a_batch`` is the median of training on random rows of this shape, ``gflops`` the rate it
    comes to, ``training_ms`` that time for all batches, those of folds too. ``fill_us_a_sample`` is
    measured on ``n_measured`` samples; it and ``cache_fill_ms`` are None where the size of a sample
    is not known. Other load on the machine comes on top. ``operations_a_batch`` are those of
    :mod:`skip2lora.training.costs`, of a full batch. Of the exact solver, what is of steps and
    batches is 0, and ``training_ms`` is a guess from fewer samples of random numbers; of the
    recipe auto, ``rank`` and ``n_parameters`` are what the result has at most.
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
    cache_dtype: str = "float32",
    solver: str | None = None,
    penalty: float | None = None,
    seconds: float = 0.02,
) -> Plan:
    """Plan Skip2-LoRA on ``X``, or on ``n_samples`` samples, 500 by default.

    ``n_outputs`` are those of the adapted model, more than the model's for new classes; without
    ``keep_outputs``, those that are learned anew. The other
    options are those of :func:`~skip2lora.adapt`, with its defaults: the recipe auto, where none is
    set that it chooses. For an ``MLP`` without ``X`` that is its rule for samples of no negative
    numbers, which takes more. The measurements train on random rows for about ``seconds`` and run
    the model on a few samples of ``X``, or random ones. ``model`` is not changed.

    Raises:
        DataError: ``X`` does not fit the model, or so many samples cannot be solved exactly.
        ParameterError: an option out of range, or both ``X`` and ``n_samples``.
    """
    asked = asked_of(locals())
    if X is not None and n_samples is not None:
        raise ParameterError(
            f"n_samples is {n_samples} beside data, expected one of the two: leave it out"
        )
    check_backbone(model)
    samples = None if X is None else checked(model, X)
    asked["recipe"] = chosen_recipe(asked)
    of_rule = random_samples(model, 2) if samples is None else samples
    rule = MlpRule.of(model, of_rule, CLASSIFICATION, asked["recipe"] if keep_outputs else None)
    model = rule.backbone if keep_outputs else Headless(model, 0)
    count = DEFAULT_SAMPLES if n_samples is None else n_samples
    count = whole("samples", count, 1, _MOST_SAMPLES) if samples is None else len(samples)
    options = resolve_options(model.recipe, model.tap_widths, count, **asked)
    options = rule.settled(options, count)
    goal = Goal(CLASSIFICATION, _more_outputs(model, n_outputs))
    planner = _Planner(model, count, options, goal)
    if options.solver == "exact":
        exact_memory(planner.rows(), count, planner.rows().n_outputs, n_designs=_n_designs(options))
    return planner.finish(seconds, _measure_fill(model, samples, count, options, goal))


def _recipe(options: Options) -> str | None:
    """As one asks for it."""
    return "auto" if options.recipe in ("auto", STEPS, FIELD) else options.recipe


def _n_designs(options: Options) -> int:
    """Selections of taps that are solved for: the recipe auto tries the last one alone, too."""
    return 2 if options.recipe == "auto" else 1


def _more_outputs(model: Backbone, n_outputs: int | None) -> int | None:
    """Outputs where they are others than the model's, else None."""
    if n_outputs is None and model.n_outputs == 0:
        raise ParameterError(
            "the model has no outputs of its own, or they are left out, expected the number to "
            "learn: say it with classes"
        )
    if n_outputs is not None:
        whole("classes", n_outputs, 1)
    if n_outputs is None or 0 < n_outputs == model.n_outputs:
        return None
    if n_outputs < model.n_outputs:
        raise ParameterError(
            f"classes is {n_outputs}, expected {model.n_outputs} or more, those of the model "
            "and the new ones: correct it"
        )
    return whole("classes", n_outputs, 1 if model.n_outputs == 0 else 2)


def _n_parameters(rows: RowFormat, rank: int, bias: bool) -> int:
    widths, n_outputs = rows.tap_widths, rows.n_outputs
    return (sum(widths) + len(widths) * n_outputs) * rank + n_outputs * bias


@dataclass(frozen=True)
class _Work:
    """What training takes once there are rows; of the exact solver there are no batches."""

    rank: int
    n_parameters: int
    seconds: float
    adapter_bytes: int
    workspace_bytes: int
    optimizer_bytes: int = 0
    n_batches: int = 0
    operations_a_batch: int = 0
    seconds_a_batch: float = 0.0


@dataclass(frozen=True)
class _Planner:
    model: Backbone
    n_samples: int
    options: Options
    goal: Goal

    def rows(self) -> RowFormat:
        return RowFormat.of(
            self.model, n_outputs=self.goal.n_outputs, copy_input=self.options.standardize,
            dtype=self.options.cache_dtype,
        )  # fmt: skip

    def finish(self, seconds: float, fill: _FillCost) -> Plan:
        """Count, and measure a step, or the exact solver on fewer samples."""
        rows, options = self.rows(), self.options
        work = self._exact(rows) if options.solver == "exact" else self._steps(rows, seconds, fill)
        payload, samples_bytes = rows.payload_bytes, self.n_samples * fill.sample_bytes
        memory = Memory(
            samples_bytes=samples_bytes,
            cache_bytes=self.n_samples * payload,
            cache_overhead_bytes=self.n_samples * (rows.row_bytes - payload + 1) + rows.table_bytes,
            saved_bytes=FLOAT_BYTES * work.n_parameters,
            adapter_bytes=work.adapter_bytes,
            optimizer_bytes=work.optimizer_bytes,
            workspace_bytes=work.workspace_bytes,
            fill_bytes=self._fill_bytes(rows),
            process_bytes=_process_bytes() - samples_bytes * fill.loaded,
        )
        us, operations = 1e6 * work.seconds_a_batch, work.operations_a_batch
        return Plan(
            described(self.model.taps, copied=not rows.first_tap_is_input),
            self.n_samples, rows.n_outputs, work.rank, options.epochs, options.batch_size,
            options.optimizer, options.standardize, work.n_parameters, work.n_batches, operations,
            memory, us, operations / (1e3 * us) if us else 0.0, 1e3 * work.seconds,
            None if fill.seconds is None else 1e6 * fill.seconds,
            None if fill.seconds is None else 1e3 * fill.seconds * self.n_samples,
            fill.n_samples, options.solver, _recipe(options),
        )  # fmt: skip

    def _steps(self, rows: RowFormat, seconds: float, fill: _FillCost) -> _Work:
        size, rank = self.options.batch_size, self.options.rank
        bias = has_bias(self.goal, self.options)
        adapter = _core.SkipAdapter(rows.layout, rank, self.goal.task.loss, bias)
        trainer = _core.SkipTrainer(adapter, size, self.options.core_optimizer(), 0, None)
        n_batches = -(-self.n_samples // size) * self.options.epochs
        a_batch = self._seconds_a_batch(seconds)
        n_trainings = N_FOLDS if self.options.recipe == STEPS else 1  # folds have less each
        return _Work(
            rank, _n_parameters(rows, rank, bias), a_batch * n_batches * n_trainings,
            adapter.n_bytes,
            trainer.workspace_bytes(self.n_samples, fill.n_features), trainer.state_bytes,
            n_batches, skip_cost(rows.tap_widths, rows.n_outputs, size, rank).operations, a_batch,
        )  # fmt: skip

    def _exact(self, rows: RowFormat) -> _Work:
        rank = min(self.options.rank, rows.n_outputs)
        n_parameters = _n_parameters(rows, rank, bias=True)
        if _recipe(self.options) == "auto" and self.model.n_outputs:  # a tap of its logits
            n_parameters += (self.model.n_outputs + rows.n_outputs) * rank
        n_penalties = len(PENALTIES) if self.options.penalty is None else 1
        return _Work(
            rank, n_parameters,
            estimated_seconds(rows, self.goal.task, self.n_samples, n_penalties)
            * (CANDIDATES if self.options.recipe == "auto" else 1),
            FLOAT_BYTES * n_parameters,
            exact_memory(
                rows, self.n_samples, rows.n_outputs, n_designs=_n_designs(self.options)
            ).workspace_bytes,
        )  # fmt: skip

    def _fill_bytes(self, rows: RowFormat) -> int:
        """Taps as the runtime gives them, and statistics in double precision."""
        scaled = self.options.standardize
        chunk = min(SAMPLES_AT_ONCE, self.n_samples) if scaled else self.options.batch_size
        given = 0 if self.model.network else FLOAT_BYTES * (sum(rows.tap_widths) + rows.n_outputs)
        return chunk * (given + 2 * 8 * rows.layout.row_stride * scaled)

    def _seconds_a_batch(self, seconds: float) -> float:
        """The median epoch on random rows, as many as there will be up to 64 MiB."""
        model, size = self.model, self.options.batch_size
        row_bytes = self.rows().row_bytes
        n_rows = min(self.n_samples, max(size, _MOST_ROW_BYTES // row_bytes))
        stand_in = RandomRows(model.tap_widths, model.n_outputs)
        x = np.zeros((n_rows, 1), np.float32)
        options = replace(self.options, standardize=False)
        y = np.arange(n_rows, dtype=np.int32) % self.rows().n_outputs
        job = SkipJob(stand_in, CheckedSamples(x, y), options, goal=self.goal)
        job.epoch(_LEARNING_RATE)  # fills the cache, and is not counted
        took: list[float] = []
        while sum(took) < seconds or not took:
            start = time.perf_counter()
            epoch = job.epoch(_LEARNING_RATE)
            took.append(time.perf_counter() - start)
            if epoch.status != _core.OK:
                raise DivergedError(
                    f"the loss is {epoch.loss} on random rows, expected a finite loss: check "
                    "the model"
                )
        return statistics.median(took) / epoch.n_batches


@dataclass(frozen=True)
class _FillCost:
    """Seconds a sample, None where no sample could be made, and on how many it was measured.

    ``n_features`` are those of x as the core sees it, ``loaded`` says that all samples were there.
    """

    seconds: float | None = None
    n_samples: int = 0
    sample_bytes: int = 0
    n_features: int = 1
    loaded: bool = False


def _measure_fill(
    model: Backbone, samples: Any, count: int, options: Options, goal: Goal
) -> _FillCost:
    """Run one sample, then as many others as fit into the time that is left, each once."""
    few = min(count, _FILL_SAMPLES)
    some = random_samples(model, few) if samples is None else samples[:few]
    if some is None:
        return _FillCost()

    def seconds(those: Any) -> float:
        part = CheckedSamples(those, np.zeros(len(those), np.int32))
        size = min(options.batch_size, len(those))
        smaller = replace(options, rank=1, epochs=1, batch_size=size)
        job = SkipJob(model, part, smaller, goal=goal)
        return (job.fill_seconds + job.epoch(_LEARNING_RATE).forward_seconds) / len(those)

    a_sample, n_measured = seconds(some[:1]), 1  # the first run of a runtime plans its memory
    left = min(few - 1, int((_FILL_SECONDS - a_sample) / max(a_sample, 1e-9)))
    if left > 0:
        a_sample, n_measured = seconds(some[1 : 1 + left]), left
    rows = RowFormat.of(model, n_outputs=goal.n_outputs)
    n_features = rows.features(some[:1]).shape[1]
    sample_bytes, loaded = _bytes_of(some) // few, samples is not None
    if isinstance(samples, LazySamples):  # of which a part is read at a time
        sample_bytes, loaded = min(sample_bytes, READ_BYTES // count), False
    return _FillCost(a_sample, n_measured, sample_bytes, n_features, loaded=loaded)


def _bytes_of(samples: Any) -> int:
    arrays = samples.arrays.values() if isinstance(samples, Inputs) else [samples]
    return sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)


def _process_bytes() -> int:
    """The most memory this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


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
