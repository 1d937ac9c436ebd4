"""What convex fits will take on this machine: all of the work, on fewer samples of random rows."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.adapters.rows import RowFormat
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.known_rows import KnownRows
from skip2lora.tasks.task import PLAIN, TASKS, Goal
from skip2lora.training.auto import AutoJob
from skip2lora.training.exact_job import ExactJob
from skip2lora.training.exact_memory import exact_memory
from skip2lora.training.fits import Fits, trained_rows
from skip2lora.training.folds import folds_for
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.mlp_rule import FIELD, FieldJob
from skip2lora.training.options import Options

# Random samples: at first, at least where rows are wide or outputs many, and their rows at most.
_FIRST, _LEAST, _MOST_PRODUCTS, _MOST_BYTES = 256, 8, 1e6, 1 << 26
_SECONDS = 0.4  # about so long the last measurement may take
_GROWTH = 4  # of the time, at most, with twice the samples
# Rows as networks have them: samples differ in some directions, in each less than in the one
# before, and classes in the first of them. With rows of noise alone fits end sooner.
_PENALTY, _TOLERANCE = 1e-2, 1e-3  # of the fits whose iterations are timed
_DIRECTIONS, _APART, _NOISE = 64, 0.5, 0.3


def solving_seconds(model: Backbone, options: Options, n_samples: int, goal: Goal = PLAIN) -> float:
    """CPU time that fits by ``options`` will take on this machine, for so many samples.

    All of the work is done for a few, then for twice as many as long as that is quick. The Gram
    matrix and each iteration grow with the square of the samples; where columns are the
    coordinates, with the samples. Of one output it is that of numbers, as there are no classes to
    tell apart. How many iterations real samples take is theirs to say.

    Raises:
        DataError: there is not enough memory for so many samples.
    """
    rows = RowFormat.of(model, n_outputs=goal.n_outputs, copy_input=True, dtype=options.cache_dtype)
    solver = exact_memory(rows, n_samples, rows.n_outputs).solver
    few = min(_FIRST, int((_MOST_PRODUCTS / rows.n_outputs) ** 0.5), n_samples)
    most = max(_LEAST, min(n_samples, _MOST_BYTES // rows.row_bytes))
    few = max(_LEAST, min(few, most))
    _Work.of(model, options, few, goal, solver)  # the first run of anything takes longer
    works = [_Work.of(model, options, few, goal, solver)]
    while works[-1].n_samples < most and _GROWTH * works[-1].seconds <= _SECONDS:
        size = min(2 * works[-1].n_samples, most)
        works.append(_Work.of(model, options, size, goal, solver))
    last, times = works[-1], n_samples / works[-1].n_samples
    if times <= 1:
        return last.seconds
    if solver == _core.SOLVE_DUAL:
        squared = min(last.seconds, last.squared_seconds())
        return times**2 * squared + times * (last.seconds - squared)
    if len(works) == 1:
        return times * last.seconds
    a_sample = (last.seconds - works[-2].seconds) / (last.n_samples - works[-2].n_samples)
    return last.seconds + max(0.0, a_sample) * (n_samples - last.n_samples)


@dataclass(frozen=True, eq=False)
class _Work:
    """Fits of ``job`` to ``n_samples`` random rows, in so many ``seconds`` of CPU time."""

    job: ExactJob
    n_samples: int
    iterations: int
    seconds: float

    @classmethod
    def of(cls, model: Backbone, options: Options, few: int, goal: Goal, solver: int) -> _Work:
        """Everything but making the rows."""
        n_outputs = goal.n_outputs or model.n_outputs
        labels = np.arange(few, dtype=np.int32) % max(2, min(n_outputs, few // folds_for(few)))
        rows = RowFormat.of(model, n_outputs=n_outputs, copy_input=True)
        known = KnownRows(model.tap_widths, model.n_outputs, rows.layout)
        answers: NDArray[Any] = labels
        if n_outputs == 1:
            goal = replace(goal, task=TASKS["regression"])
            answers = labels[:, None].astype(np.float32)
        kind = {"auto": AutoJob, FIELD: FieldJob}.get(options.recipe or "", ExactJob)
        part = CheckedSamples(_random_rows(rows, labels), answers)
        job = kind(known, part, options, goal=goal, solver=solver)
        began = time.thread_time()
        for _ in job.candidates() if isinstance(job, AutoJob) else job.path():
            pass
        job.result()
        job.held_out()
        seconds = time.thread_time() - began
        of_points = sum(point.iterations for point in job.points)
        return cls(job, few, job.iterations if isinstance(job, AutoJob) else of_points, seconds)

    def squared_seconds(self) -> float:
        """What of it grows with the square of the samples: the Gram matrix, and iterations."""
        job = self.job
        began = time.thread_time()
        (design,) = job.designs([range(len(job.cache.format.tap_widths))])
        of_gram = time.thread_time() - began
        fits = Fits(design, job.problem, trained_rows(job.problem, job.folds))
        fits.solve(_PENALTY, _TOLERANCE)
        began = time.thread_time()
        iterations = fits.solve(_PENALTY / 10, _TOLERANCE)
        of_each = (time.thread_time() - began) / max(1, iterations)
        return of_gram + self.iterations * of_each


def _random_rows(rows: RowFormat, labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Rows of samples with such ``labels``, (n, row_stride)."""
    random = np.random.Generator(np.random.PCG64(0))
    sizes = np.arange(1, _DIRECTIONS + 1, dtype=np.float32) ** np.float32(-0.5)
    where = random.standard_normal((len(labels), _DIRECTIONS), np.float32)
    classes = random.standard_normal((int(labels.max()) + 1, _DIRECTIONS), np.float32)
    where += _APART * classes[labels]
    table = rows.empty(len(labels))
    mixing = random.standard_normal((_DIRECTIONS, table.shape[1]), np.float32)
    table[:] = random.random(table.shape, np.float32)
    table *= np.float32(_NOISE)
    table += (where * sizes) @ mixing
    return table
