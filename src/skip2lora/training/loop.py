"""Cache and labels to adapters (Algorithm 1); network and data to network.

The loop over the batches of an epoch is in C, without the interpreter lock; the loop over epochs
is here, so that Ctrl-C stops within an epoch and a callback can follow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from skip2lora import _core
from skip2lora.adapters.adapters import Result, SkipAdapters
from skip2lora.adapters.projected import Projections, folded
from skip2lora.adapters.rows import SkipCache
from skip2lora.backbones.base import Backbone, check_backbone
from skip2lora.backbones.derived import DerivedTap, with_derived
from skip2lora.backbones.ends import PAIR
from skip2lora.backbones.known_rows import KnownRows
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.standins import Binary
from skip2lora.data.lazy import LazySamples
from skip2lora.errors import DataError, DivergedError, ParameterError
from skip2lora.methods import METHODS
from skip2lora.tasks.task import PLAIN, Goal
from skip2lora.training.auto import AutoJob, Tried
from skip2lora.training.budget import CacheUse
from skip2lora.training.checkpoint import Keeper, run_of
from skip2lora.training.exact import best_of
from skip2lora.training.exact_job import ExactJob
from skip2lora.training.fit import Fit, measure_fit
from skip2lora.training.held_out import HeldOut
from skip2lora.training.jobs import CheckedSamples, Job, NetworkJob
from skip2lora.training.mlp_rule import FIELD, STEPS, FieldJob, judged_steps
from skip2lora.training.options import Options, n_held_out
from skip2lora.training.skip_job import SkipJob
from skip2lora.training.watch import NOBODY, Course, Watch
from skip2lora.training.watch import Callback as Callback
from skip2lora.training.watch import EpochReport as EpochReport


@dataclass(frozen=True)
class History:
    """One value an epoch, as in :class:`EpochReport`, and what was done in all.

    ``best_epoch``, from 1, is the one whose result was kept: the last, or the one with the smallest
    validation loss. ``n_forwards`` counts the samples that passed the frozen model: each once with
    a full Skip-Cache, without one those trained on once an epoch and those held out once; 0 where
    the whole network is run. ``cache`` counts hits and misses of training by steps.

    Of the exact solver there is one value for each of ``penalties``, which it tries from the
    strongest on, ``validation_loss`` that of samples held out by folds, of numbers in the scale in
    which they are learned. ``best_epoch`` is then the
    number of ``penalty``, the one taken, ``held_out`` what those samples say of it (None where
    none could be), ``iterations`` counts those of all folds and penalties, and ``rank_loss`` is
    what a smaller rank adds to the loss of the samples trained on, None where none was asked for.

    Of the recipe auto there is one value for each candidate in ``tried``, at its best penalty, and
    one ``validation_loss``, that of their mix, as ``held_out`` is.
    """

    loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    validation_loss: tuple[float, ...]
    best_epoch: int
    n_batches: int
    n_forwards: int
    solver: str = "steps"
    penalties: tuple[float, ...] = ()
    penalty: float | None = None
    held_out: HeldOut | None = None
    iterations: int = 0
    rank_loss: float | None = None
    tried: tuple[Tried, ...] = ()
    cache: CacheUse | None = None


@dataclass(frozen=True)
class Timing:
    """Milliseconds that training took.

    ``cache_fill_ms`` is the forward pass of the frozen layers for rows that the cache lacked,
    ``training_ms`` everything else in the loop over batches, or in the fits, those of folds too,
    ``total_ms`` all from checked samples to adapters, validation and callbacks included.
    """

    cache_fill_ms: float
    training_ms: float
    total_ms: float


@dataclass(frozen=True, eq=False)
class Trained:
    """A result and how it came about.

    ``measure(names, n_base)`` tells how good it is, as :func:`measure_fit`; the samples pass the
    model for that unless ``rows_kept`` says that there are rows of all. ``derived`` are taps that
    ``adapters`` have before those of the model, ``projections`` what they have in place of these.
    """

    adapters: Result
    history: History
    timing: Timing
    measure: Callable[[Sequence[str], int], Fit]
    rows_kept: bool
    cache_bytes: int = 0
    cache_overhead_bytes: int = 0
    derived: tuple[DerivedTap, ...] = ()
    projections: Projections = ()

    def on(self, model: Backbone) -> tuple[Backbone, Result]:
        """``model`` with the derived taps, and the adapters for its taps as they are.

        One logit that stands for two classes is one column.
        """
        adapters = self.adapters
        if not isinstance(adapters, SkipAdapters):
            return model, adapters
        if self.projections:
            adapters = folded(adapters, self.projections, len(self.derived))
        if not self.derived:
            return model, adapters
        if isinstance(model, Binary):
            first, *others = adapters.lora_a
            adapters = replace(adapters, lora_a=(PAIR @ first, *others))
        return with_derived(model, self.derived), adapters

    def after_fill(self, began: float, filled: float, n_forwards: int) -> Trained:
        """The same, where rows of ``n_forwards`` samples were computed before it.

        From ``began`` to ``filled``, seconds of ``time.perf_counter``.
        """
        timing = Timing(
            1e3 * (filled - began),
            self.timing.training_ms + self.timing.cache_fill_ms,  # copied and scaled
            1e3 * (time.perf_counter() - began),
        )
        return replace(self, history=replace(self.history, n_forwards=n_forwards), timing=timing)


def train(
    backbone: Backbone,
    part: CheckedSamples,
    options: Options,
    *,
    goal: Goal = PLAIN,
    watch: Watch = NOBODY,
    profile: _core.Profile | None = None,
    start: SkipAdapters | None = None,
) -> Trained:
    """Train on checked samples.

    ``profile`` counts where the time goes, ``watch`` says who follows. Neither changes a bit of the
    result. ``start`` are skip adapters to go on from, of the same rank and outputs; the optimiser
    starts anew.

    Raises:
        DataError: samples held out, or the others, have weight 0 alone.
        FileError, ModelError: of the checkpoint, as ``Keeper`` raises them.
        ParameterError: the method needs another backbone or goal.
        DivergedError: the loss became infinite or NaN.
    """
    began = time.perf_counter()
    method = METHODS[options.method]
    training, held = stratified_split(part, options)
    keeper = None
    if watch.checkpoint is not None and options.solver == "steps":
        keeper = Keeper(watch.checkpoint, run_of(backbone, part, options, goal))
    job: Job | ExactJob
    if options.solver == "exact":
        kinds = {"auto": AutoJob, FIELD: FieldJob}
        job = kinds.get(options.recipe or "", ExactJob)(
            backbone, training, options, goal=goal, held=held
        )
    elif method.skip:
        job = SkipJob(
            backbone, training, options, goal=goal, held=held, profile=profile, start=start,
        )  # fmt: skip
    elif goal != PLAIN or options.standardize:
        raise ParameterError(
            f"got new_classes, another task or standardize with {method.name}, expected labels "
            "that the model knows: use skip2-lora"
        )
    elif isinstance(backbone, MLP):
        job = NetworkJob(backbone, training, options, held=held, profile=profile)
    else:
        raise ParameterError(
            f"{method.name} needs a backward pass through the network, which "
            f"{type(backbone).__name__} does not have: use skip2-lora"
        )
    if isinstance(job, AutoJob):
        done = _choose(job, watch.callback)
    elif isinstance(job, ExactJob):
        done = _solve(job, watch.callback)
    else:
        chosen = held is not None and options.recipe != STEPS
        done = run(job, options, watch.callback, validated=chosen, keeper=keeper)
        if options.recipe == STEPS and isinstance(job, SkipJob):
            tried = judged_steps(job, done.result, training, held, options, goal)
            history = replace(done.history, held_out=tried.held_out, tried=(tried,))
            done = replace(done, history=history, rest=done.rest + tried.milliseconds / 1e3)
    timing = Timing(1e3 * done.fill, 1e3 * done.rest, 1e3 * (time.perf_counter() - began))

    def measure(names: Sequence[str], n_base: int) -> Fit:
        return measure_fit(job, done.result, goal.task, training, held, names=names, n_base=n_base)

    derived = job.derived if isinstance(job, AutoJob) else ()
    return Trained(
        done.result, done.history, timing, measure, job.rows_kept, *job.cache_bytes, derived
    )


def train_on_rows(
    cache: SkipCache,
    part: CheckedSamples,
    options: Options,
    *,
    goal: Goal = PLAIN,
    watch: Watch = NOBODY,
    start: SkipAdapters | None = None,
) -> Trained:
    """As :func:`train` by skip adapters, but no sample passes the frozen model any more.

    ``part.x`` are rows of ``cache``, which has the first tap copied; they stay as they are.
    The adapters start at its taps, all of them.

    Raises:
        DivergedError: the loss became infinite or NaN.
    """
    rows, first_tap = cache.format, cache.format.first_tap
    known = KnownRows(rows.tap_widths, rows.n_outputs, rows.layout)
    if start is not None:
        start = replace(start, first_tap=0)
    options = replace(options, method="skip2-lora")
    done = train(known, part, options, goal=goal, watch=watch, start=start)
    adapters = replace(cast(SkipAdapters, done.adapters), first_tap=first_tap)
    return replace(done, adapters=adapters)


def stratified_split(
    part: CheckedSamples, options: Options
) -> tuple[CheckedSamples, CheckedSamples | None]:
    """The part to train on, and the part held out: the same share of each class, by chance.

    Samples of the old domain have their share in both. Samples for validation alone are that part.

    Raises:
        DataError: all samples of one part have weight 0.
    """
    if part.validation is not None:
        return replace(part, validation=None), part.validation
    if not options.validation:
        return part, None
    samples, labels = part.x, part.y
    random = np.random.Generator(np.random.PCG64([options.seed, len(samples)]))
    shuffled = random.permutation(len(samples))
    order = labels[shuffled] if labels.ndim == 1 else labels[shuffled][:, 0]
    domain = np.zeros(len(samples)) if part.old is None else part.old
    by_class = shuffled[np.lexsort((order, domain[shuffled]))]
    # Every k-th of the samples sorted by class, at evenly spaced places.
    n_held = n_held_out(len(samples), options.validation)
    places = ((np.arange(n_held) + 0.5) * len(samples) / n_held).astype(np.int64)
    held = np.zeros(len(samples), bool)
    held[by_class[places]] = True
    if part.weight is not None and not (part.weight[held].any() and part.weight[~held].any()):
        raise DataError(
            f"{np.count_nonzero(part.weight)} of {len(samples)} samples have a weight above 0, "
            f"validation {options.validation:g} leaves a part without one, expected some to train "
            "and some to validate: leave validation out"
        )
    return part[~held], part[held]


@dataclass(frozen=True, eq=False)
class _Run:
    result: Any
    history: History
    fill: float  # seconds of frozen forward
    rest: float  # seconds of everything else in the epochs


def run(
    job: Job,
    options: Options,
    callback: Callback | None,
    *,
    validated: bool = False,
    keeper: Keeper | None = None,
) -> _Run:
    """All epochs, or with early stopping as many as bring something better.

    ``validated`` says that samples are held out, which choose the epoch. With a ``keeper`` those
    that it has are not done again.
    """
    course = Course() if keeper is None else keeper.begin(job)
    total = fill = job.fill_seconds
    patience = options.epochs if options.patience is None else options.patience
    with nullcontext() if keeper is None else keeper:
        while (number := len(course.losses)) < options.epochs and number - course.best <= patience:
            start = time.perf_counter()
            epoch = job.epoch(options.rate(number))
            total += time.perf_counter() - start
            fill += epoch.forward_seconds
            if epoch.status != _core.OK:
                raise _diverged("loss", number + 1, options)
            course.losses.append(epoch.loss)
            course.accuracies.append(epoch.accuracy)
            course.n_batches = epoch.n_batches
            if validated and course.is_best(job.validation_loss()):
                course.best_result = job.result()
            if keeper is not None:
                keeper.keep()
            if callback is not None:
                last = course.validation[-1] if validated else None
                report = (number + 1, options.epochs, epoch.loss, epoch.accuracy, last, job.result)
                callback(EpochReport(*report))
    n_done, validation = len(course.losses), tuple(course.validation)
    history = History(
        tuple(course.losses), tuple(course.accuracies), validation,
        course.best + 1 if validation else n_done, n_done * course.n_batches, job.n_forwards,
        cache=job.cache_use,
    )  # fmt: skip
    result = course.best_result or job.result()
    for array in result.tensors().values():
        if not np.isfinite(array).all():  # the last step may overflow
            raise _diverged("result", n_done, options)
    return _Run(result, history, fill, total - fill)


def _solve(job: ExactJob, callback: Callback | None) -> _Run:
    """All penalties, or as many as bring something better; a callback sees each as an epoch."""
    start, points = time.perf_counter(), job.points
    for point in job.path():
        if callback is not None:
            number, of = len(points), len(job.penalties)
            report = (point.solution.loss, point.accuracy, point.held_out_loss)
            callback(EpochReport(number, of, *report, lambda: job.result()[0]))
    result, rank_loss = job.result()
    held_out_losses = [each.held_out_loss for each in points]
    best = best_of(points)
    history = History(
        tuple(each.solution.loss for each in points), tuple(each.accuracy for each in points),
        tuple(loss for loss in held_out_losses if loss is not None), best + 1, 0, job.n_forwards,
        solver="exact", penalties=tuple(each.penalty for each in points),
        penalty=points[best].penalty, held_out=job.held_out(),
        iterations=sum(each.iterations for each in points), rank_loss=rank_loss,
    )  # fmt: skip
    return _Run(result, history, job.fill_seconds, time.perf_counter() - start)


def _choose(job: AutoJob, callback: Callback | None) -> _Run:
    """All candidates, then their mix; a callback sees each candidate as an epoch."""
    start = time.perf_counter()
    for number, (count, point) in enumerate(job.candidates(), 1):
        if callback is not None:
            report = (point.solution.loss, point.accuracy, None, point.solution.adapters)
            callback(EpochReport(number, count, *report))
    result, _ = job.result()
    held_out = job.held_out()
    history = History(
        tuple(point.solution.loss for point in job.points),
        tuple(point.accuracy for point in job.points),
        () if held_out is None else (held_out.loss,), len(job.points), 0, job.n_forwards,
        solver="exact", held_out=held_out, tried=job.tried,
        iterations=job.iterations,
    )  # fmt: skip
    return _Run(result, history, job.fill_seconds, time.perf_counter() - start)


def _diverged(what: str, epoch: int, options: Options) -> DivergedError:
    rate = options.learning_rate
    unscaled = METHODS[options.method].skip and not options.standardize
    scale = ", or standardize=True for samples in large units" if unscaled else ""
    return DivergedError(
        f"the {what} is not finite in epoch {epoch} at learning_rate {rate:g}, "
        f"expected a finite {what}: try {rate / 10:g}{scale}"
    )


def checked(backbone: Backbone, X: Any) -> Any:
    """Samples that ``backbone`` can be trained on.

    Raises:
        DataError: they do not fit it.
        ParameterError: ``backbone`` is no model, or one with adapters in its layers.
    """
    check_backbone(backbone)
    if isinstance(backbone, MLP) and any(layer.lora_a is not None for layer in backbone.layers):
        raise ParameterError(
            "the model has adapters in its layers, expected none: pass model.merged()"
        )
    return X.checked(backbone.check) if isinstance(X, LazySamples) else backbone.check(X)
