"""What an ``MLP`` of classes learns by where nothing was asked for: a fixed rule, not a choice.

Samples held out of one recording of a fan did not tell which recipe does best on another of the
same fan, so nothing is chosen by them. Samples without negative numbers, such as spectra, get two
logarithms of them as further taps, and Adam. Others get batch-norm statistics of the field, three
powers of them as further taps, and a convex fit, if they are enough to do without what the model
says; a few go as with any model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from skip2lora import _core
from skip2lora.adapters.rows import SkipCache
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.derived import LOG, LOG_CENTRED, POWERS, Derived
from skip2lora.backbones.field_mlp import FieldMLP
from skip2lora.backbones.known_rows import KnownRows
from skip2lora.backbones.mlp import MLP
from skip2lora.data.lazy import LazySamples, parts_of, read
from skip2lora.tasks.task import CLASSIFICATION, Goal, Task
from skip2lora.training.auto import AutoJob, Candidate, Tried
from skip2lora.training.copies import copies_in
from skip2lora.training.exact_job import folds_of
from skip2lora.training.folds import N_FOLDS
from skip2lora.training.held_out import HeldOut
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.options import DEFAULT_BATCH_SIZE, Options, resolve_options
from skip2lora.training.problem import Problem
from skip2lora.training.skip_job import Scaling, SkipJob

#: Recipes that ``auto`` stands for here; nobody asks for them by name.
STEPS, FIELD = "auto by steps", "auto of the field"
RANK, LEARNING_RATE, EPOCHS = 8, 0.003, 30
#: A few samples pass more often than ``EPOCHS`` times: so many steps at least, in all.
LEAST_STEPS = 1000
#: Of the convex fit; samples that it needs, for each output in the mean.
SMOOTHING, ENOUGH = 0.1, 30


@dataclass(frozen=True, eq=False)
class MlpRule:
    """``backbone`` takes the place of the network, ``recipe`` that of auto; None for no rule."""

    backbone: Backbone
    recipe: str | None = None

    @classmethod
    def of(cls, model: Backbone, samples: Any, task: Task, recipe: str | None) -> MlpRule:
        """The rule for checked ``samples`` of the field, (samples, features), if there is one.

        There is for the ``recipe`` auto, where an ``MLP`` learns classes beside its own outputs.
        """
        if recipe != "auto" or task is not CLASSIFICATION or not isinstance(model, MLP):
            return cls(model)
        if all((read(samples[part]) >= 0).all() for part in parts_of(samples, len(samples))):
            return cls(Derived.of(model, (LOG, LOG_CENTRED), samples), STEPS)
        if len(samples) < ENOUGH * model.n_outputs:
            return cls(model)
        network = FieldMLP.of(model, read(samples)) if model.batch_norm else model
        return cls(Derived.of(network, POWERS, samples), FIELD)

    def settled(self, options: Options, n_samples: int) -> Options:
        """``options`` of the recipe auto as the rule has them, for so many samples to train on."""
        if self.recipe is None or options.recipe != "auto":
            return options
        if self.recipe == FIELD:
            return replace(options, recipe=FIELD)
        steps = -(-n_samples // min(DEFAULT_BATCH_SIZE, n_samples))
        own = resolve_options(
            self.backbone.recipe, self.backbone.tap_widths, n_samples, seed=options.seed,
            validation=options.validation, optimizer="adam", cache_dtype=options.cache_dtype,
            rank=min(RANK, options.rank), projection=options.projection,
            projection_from=None if options.projection is None else options.projection_from,
            learning_rate=LEARNING_RATE, standardize=True,
            epochs=max(EPOCHS, math.ceil(LEAST_STEPS / steps)),
        )  # fmt: skip
        return replace(own, recipe=STEPS)


class FieldJob(AutoJob):
    """One convex fit of all taps in place of the model's own logits.

    Columns are divided by the root of their deviation: between taps as they are, where the largest
    decide, and standardised ones, where those that hardly move count as much and more is forgotten.
    """

    @cached_property
    def scaling(self) -> Scaling:
        """Of the taps: the root of what standardises them."""
        whole = super().scaling
        return replace(whole, scale=np.sqrt(whole.scale))

    @cached_property
    def problem(self) -> Problem:
        """With smoothed labels."""
        return replace(super().problem, smoothing=SMOOTHING)

    def considered(self) -> Sequence[Candidate]:
        """One."""
        return [
            Candidate(
                "all taps and powers of the sample, field statistics", last=False, base_factor=0.0
            )
        ]


def judged_steps(
    job: SkipJob,
    result: Any,
    part: CheckedSamples,
    held: CheckedSamples | None,
    options: Options,
    goal: Goal,
) -> Tried:
    """What samples held out say of the ``result`` of a job by ``options``; they chose nothing."""
    began = time.perf_counter()
    worth = None
    if held is None and job.rows_kept:
        worth = _by_folds(job.cache, part, options, goal)
    elif held is not None:
        logits = job.outputs(result, held_out=True, with_base=False).adapted
        old = held.old
        if old is not None and not old.all():  # new samples are what is judged
            held, logits = held[~old], logits[~old]
        worth = HeldOut.of(goal.task, logits, held.y, 1, held.weight)
    took = 1e3 * (time.perf_counter() - began)
    return Tried("all taps and logarithms of the sample, by steps", worth, 1.0, None, took)


def _by_folds(
    cache: SkipCache, part: CheckedSamples, options: Options, goal: Goal
) -> HeldOut | None:
    """What training by ``options`` without each block in turn says of the samples in it.

    ``cache`` has the rows of ``part``, scaled or not, with the first tap copied. None where no
    sample can be held out, or where a block's training does not end.
    """
    rows = cache.format
    folds = folds_of(goal.task, part, None, N_FOLDS, copies=copies_in(cache))
    known = KnownRows(rows.tap_widths, rows.n_outputs, rows.layout)
    samples = cache.rows if isinstance(cache.rows, np.ndarray) else LazySamples.of(cache.rows)
    on_rows = replace(part, x=samples)
    logits = np.zeros((len(part.y), rows.n_outputs), np.float32)
    judged = folds.held_out if part.old is None else folds.held_out & ~part.old
    for fold in range(folds.count):
        held = folds.of == fold
        adapted = _without(known, on_rows, held, options, goal)
        if adapted is None:
            return None
        logits[held] = adapted
    if not judged.any() or not np.isfinite(logits).all():
        return None
    weight = None if part.weight is None else part.weight[judged]
    worth = HeldOut.of(goal.task, logits[judged], part.y[judged], folds.count, weight)
    return replace(worth, notes=folds.notes)


def _without(
    known: KnownRows, on_rows: CheckedSamples, held: Any, options: Options, goal: Goal
) -> Any:
    """Outputs for those held out, by training on the others; None where that does not end.

    Two copies of the rows are there meanwhile, and no longer.
    """
    fewer = replace(options, batch_size=min(options.batch_size, int((~held).sum())))
    job = SkipJob(known, on_rows[~held], fewer, goal=goal, held=on_rows[held])
    for epoch in range(options.epochs):
        if job.epoch(options.rate(epoch)).status != _core.OK:
            return None
    return job.outputs(job.result(), held_out=True, with_base=False).adapted
