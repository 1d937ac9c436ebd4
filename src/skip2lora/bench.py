"""Timings of this package on this machine, one thread: every method, cache fill, prediction.

Samples and labels are random, as the time of a batch does not depend on them. Every number is the
median of several rounds with the smallest and the largest; within a round everything is measured
once, in turn, so that a machine that changes its pace changes it for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from skip2lora import _core
from skip2lora.adapt import adapt
from skip2lora.adapted import AdaptedModel, NewlyAdapted
from skip2lora.arrays import whole
from skip2lora.backbones.base import Backbone, check_backbone
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.noise import random_samples
from skip2lora.backbones.standins import Headless
from skip2lora.errors import DivergedError, ModelError, ParameterError
from skip2lora.machine import cpu_name
from skip2lora.methods import METHODS, Method
from skip2lora.spread import Spread
from skip2lora.training.costs import Cost, method_cost, skip_cost
from skip2lora.training.jobs import CheckedSamples, Job, NetworkJob
from skip2lora.training.options import resolve_options
from skip2lora.training.skip_job import SkipJob

FAN_WIDTHS = (256, 96, 96, 3)
#: Samples unless told: those of the paper's fan task, fewer where another runtime computes them.
N_SAMPLES, N_SAMPLES_ELSEWHERE = 470, 64
OPEN_SIZE = 64  # of what a model leaves open: height, width, tokens
_NEW_OUTPUTS = 2  # of a model without any
# So small that no network leaves the finite numbers, however long it is timed on random labels.
_LEARNING_RATE = 1e-5
_MOST_SAMPLES = 1_000_000
_MOST_SECONDS = 60  # that the core measures its peak for
_SINGLE = 200  # samples predicted one by one in a round


@dataclass(frozen=True)
class MethodTime:
    """One batch of a method.

    ``operations`` are the floating-point operations of Table 1's compute types
    (skip2lora.training.costs), ``gflops`` those over the median time, ``share_of_peak`` (0 to 1)
    that over the measured peak.
    """

    us_a_batch: Spread
    operations: int
    gflops: float
    share_of_peak: float


@dataclass(frozen=True)
class BenchResult:
    """What :func:`run_bench` measured.

    ``peak_gflops`` is the rate of fused multiply-adds that one core reaches with the kernel table
    in use, two operations each. ``widths`` are those of an ``MLP``'s layers, else of the taps.
    ``cache_fill_ms`` is the forward pass of the frozen layers for all
    samples; ``predict_us`` and ``predict_batched_us`` are ``predict`` of the adapted model as
    called from Python, a sample, alone and in one call for all. ``cache_bytes`` is the payload.
    """

    cpu: str
    kernels: str
    n_threads: int
    widths: tuple[int, ...]
    n_samples: int
    batch_size: int
    rank: int
    rounds: int
    peak_gflops: Spread
    methods: dict[str, MethodTime]
    cache_fill_ms: Spread
    predict_us: Spread
    predict_batched_us: Spread
    cache_bytes: int
    cache_overhead_bytes: int

    @property
    def cache_fill_us_a_sample(self) -> float:
        """The median of the cache fill, a sample."""
        return 1e3 * self.cache_fill_ms.median / self.n_samples


def run_bench(
    model: Backbone | None = None,
    *,
    n_samples: int | None = None,
    batch_size: int = 20,
    rank: int = 4,
    rounds: int = 5,
    seed: int = 0,
    seconds: float = 0.05,
    callback: Callable[[], None] | None = None,
) -> BenchResult:
    """Measure ``model``, by default a fresh 256-96-96-3, on ``n_samples`` random samples.

    Every method of an ``MLP``; of a model of another runtime Skip2-LoRA on cached rows, with that
    model's default optimiser. One measurement lasts at least ``seconds``. ``callback`` is called
    after each round. ``model`` is not changed.

    Raises:
        ParameterError: an option out of range.
        ModelError: no random samples can be made for the model.
        DivergedError: the model gives no finite loss on random samples.
    """
    whole("seed", seed, 0, (1 << 64) - 1)
    if not 0 < seconds <= _MOST_SECONDS:
        raise ParameterError(
            f"seconds is {seconds}, expected above 0 and at most {_MOST_SECONDS}: choose another"
        )
    model = MLP.create(FAN_WIDTHS, seed=seed) if model is None else check_backbone(model)
    native = isinstance(model, MLP)
    if n_samples is None:
        n_samples = N_SAMPLES if native else N_SAMPLES_ELSEWHERE
    whole("rounds", rounds, 1)
    whole("samples", n_samples, 2, _MOST_SAMPLES)
    model = model if model.n_outputs else Headless(model, _NEW_OUTPUTS)
    part = _random_part(model, n_samples, seed)
    works = {
        name: _start(model, part, method, rank=rank, batch_size=batch_size, seed=seed)
        for name, method in METHODS.items()
        if native or method.cache
    }

    def fill() -> NewlyAdapted:
        return adapt(model, part.x, part.y, rank=rank, epochs=1, batch_size=batch_size, seed=seed)

    _round(works, fill, part.x, seconds)  # warms up and is not counted
    measured = []
    for _ in range(rounds):
        measured.append(_round(works, fill, part.x, seconds))
        if callback is not None:
            callback()
    peak = Spread.of([of.peak_gflops for of in measured])
    methods = {
        name: method_time(
            Spread.of([of.us_a_batch[name] for of in measured]),
            work.operations_a_batch(model, METHODS[name], rank),
            peak.median,
        )
        for name, work in works.items()
    }
    return BenchResult(
        cpu_name(), _core.kernels(), 1, _widths(model), n_samples, batch_size, rank, rounds, peak,
        methods,
        Spread.of([of.cache_fill_ms for of in measured]),
        Spread.of([of.predict_us for of in measured]),
        Spread.of([of.predict_batched_us for of in measured]),
        measured[-1].cache_bytes, measured[-1].cache_overhead_bytes,
    )  # fmt: skip


def method_time(us_a_batch: Spread, operations: int, peak_gflops: float) -> MethodTime:
    """The rate that a time and a number of operations come to."""
    gflops = operations / (1e3 * us_a_batch.median)
    return MethodTime(us_a_batch, operations, gflops, gflops / peak_gflops)


@dataclass(frozen=True, eq=False)
class _Work:
    """A method at work, and what an epoch of it is."""

    job: Job
    n_batches: int
    n_seen: int

    def operations_a_batch(self, model: Backbone, method: Method, rank: int) -> int:
        """In the mean over an epoch, whose last batch may be short: all are linear in it."""
        return round(_cost(model, method, self.n_seen, rank).operations / self.n_batches)


def _cost(model: Backbone, method: Method, n_samples: int, rank: int) -> Cost:
    if isinstance(model, MLP):
        return method_cost(method, model.widths, n_samples, rank, epochs=None)
    return skip_cost(model.tap_widths, model.n_outputs, n_samples, rank)


def _widths(model: Backbone) -> tuple[int, ...]:
    return model.widths if isinstance(model, MLP) else tuple(model.tap_widths)


def _random_part(model: Backbone, n_samples: int, seed: int) -> CheckedSamples:
    """Samples of noise and labels by chance."""
    x = random_samples(model, n_samples, open_size=OPEN_SIZE)
    if x is None:
        raise ModelError(
            "the model takes no random numbers of the shapes it tells, expected such samples: use "
            "`skip2lora plan` with data"
        )
    random = np.random.default_rng(seed)
    return CheckedSamples(x, random.integers(0, model.n_outputs, n_samples, dtype=np.int32))


def _start(
    model: Backbone, part: CheckedSamples, method: Method, *, rank: int, batch_size: int, seed: int
) -> _Work:
    """Make the job and run one epoch, which fills the cache if there is one."""
    options = resolve_options(
        model.recipe, model.tap_widths, len(part.x), method=method.name, rank=rank, epochs=1,
        batch_size=batch_size, learning_rate=_LEARNING_RATE, seed=seed, standardize=False,
    )  # fmt: skip
    job: Job
    if isinstance(model, MLP) and not method.skip:
        job = NetworkJob(model, part, options)
    else:
        job = SkipJob(model, part, options)
    seen = job.epoch(_LEARNING_RATE)
    return _Work(job, seen.n_batches, seen.n_seen)


@dataclass(frozen=True)
class _Round:
    peak_gflops: float
    us_a_batch: dict[str, float]
    cache_fill_ms: float
    predict_us: float
    predict_batched_us: float
    cache_bytes: int
    cache_overhead_bytes: int


def _round(
    works: dict[str, _Work],
    fill: Callable[[], NewlyAdapted],
    x: Any,
    seconds: float,
) -> _Round:
    """Everything once. ``fill`` adapts for one epoch from an empty cache."""
    peak = _core.peak_gflops(seconds)
    us = {name: 1e6 * _seconds_a_batch(work, seconds) for name, work in works.items()}
    adapted = fill()
    one, many = _predict_seconds(adapted, x, seconds)
    fill_ms = adapted.timing.cache_fill_ms
    sizes = (adapted.cache_bytes, adapted.cache_overhead_bytes)
    return _Round(peak, us, fill_ms, 1e6 * one, 1e6 * many, *sizes)


def _seconds_a_batch(work: _Work, seconds: float) -> float:
    """Of as many epochs as fit into a measurement, the loop over them included."""
    epochs = 0
    start = time.perf_counter()
    while (took := time.perf_counter() - start) < seconds:
        epoch = work.job.epoch(_LEARNING_RATE)
        if epoch.status != _core.OK:
            raise DivergedError(
                f"the loss is {epoch.loss} on random samples, expected a finite loss: "
                "check the model"
            )
        epochs += 1
    return took / (epochs * work.n_batches)


def _predict_seconds(adapted: AdaptedModel, x: Any, seconds: float) -> tuple[float, float]:
    """``predict`` of samples one by one, and of all in one call: seconds a sample."""
    n_single = min(len(x), _SINGLE)
    start = time.perf_counter()
    for at in range(n_single):
        adapted.predict(x[at : at + 1])
    one = (time.perf_counter() - start) / n_single
    calls = 0
    start = time.perf_counter()
    while (took := time.perf_counter() - start) < seconds:
        adapted.predict(x)
        calls += 1
    return one, took / (calls * len(x))
