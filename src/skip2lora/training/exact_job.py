"""The exact solver at work on one set of samples: rows once, then penalties from the strongest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.adapters.rows import FLOAT_BYTES, RowFormat, SkipCache
from skip2lora.backbones.base import Backbone
from skip2lora.errors import DataError
from skip2lora.limits import VARIABLE, max_bytes
from skip2lora.methods import METHODS
from skip2lora.tasks.task import PLAIN, Goal, Task
from skip2lora.training.design import Design, lanes_of
from skip2lora.training.exact import PENALTIES, Point, best_of, is_worse, steps
from skip2lora.training.folds import N_FOLDS, Folds, block_folds
from skip2lora.training.held_out import HeldOut
from skip2lora.training.jobs import CheckedSamples, Outputs
from skip2lora.training.options import Options
from skip2lora.training.problem import Problem, learned_outputs
from skip2lora.training.skip_job import Scaling

# Of the random samples whose time is taken for an estimate, at most and at least.
_FEW_SAMPLES, _FEW_BYTES, _FEW_PRODUCTS, _LEAST_SAMPLES = 256, 1 << 26, 1e6, 2 * N_FOLDS
_PAIRS = 8  # steps that the solver remembers
_VECTORS = 14 + 3 * _PAIRS  # of as many floats as samples and outputs, that a fit has at once


@dataclass(frozen=True)
class ExactMemory:
    """Bytes beyond the rows: the Gram matrix, all folds at work, and W of all taps."""

    gram_bytes: int
    fits_bytes: int
    weights_bytes: int

    @classmethod
    def of(cls, rows: RowFormat, n_samples: int, n_learned: int) -> ExactMemory:
        """For ``n_samples`` samples of which ``n_learned`` outputs are learned."""
        lanes = lanes_of(n_samples)
        return cls(
            FLOAT_BYTES * n_samples * lanes,
            FLOAT_BYTES * (N_FOLDS + 1) * _VECTORS * n_learned * lanes,
            2 * FLOAT_BYTES * sum(rows.tap_widths) * n_learned,
        )

    @property
    def n_bytes(self) -> int:
        """All of it."""
        return self.gram_bytes + self.fits_bytes + self.weights_bytes


def check_memory(rows: RowFormat, n_samples: int, n_learned: int) -> None:
    """Refuse what does not fit before a sample is computed.

    Raises:
        DataError: rows and solver take more than :func:`~skip2lora.limits.max_bytes`.
    """

    def needed(count: int) -> int:
        return count * rows.row_bytes + ExactMemory.of(rows, count, n_learned).n_bytes

    limit = max_bytes()
    if needed(n_samples) <= limit:
        return
    fits, beyond = 0, n_samples
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        fits, beyond = (middle, beyond) if needed(middle) <= limit else (fits, middle)
    raise DataError(
        f"{n_samples:,} samples of {sum(rows.tap_widths):,} columns take "
        f"{needed(n_samples) / 1e6:,.1f} MB to be solved exactly, expected at most "
        f"{limit / 1e6:,.1f} MB, which {fits:,} samples take: pass fewer, tap fewer layers, or set "
        f"{VARIABLE} to more"
    )


class ExactJob:
    """A convex fit of all taps of the method, on rows that are computed once.

    Rows of the samples held out stand after those to train on, and have no weight in the end.
    ``folds`` are by default blocks of neighbouring rows.
    """

    rows_kept = True

    def __init__(
        self,
        backbone: Backbone,
        part: CheckedSamples,
        options: Options,
        *,
        goal: Goal = PLAIN,
        held: CheckedSamples | None = None,
        folds: Folds | None = None,
    ) -> None:
        first_tap = range(len(backbone.tap_widths))[METHODS[options.method].adapted].start
        rows = RowFormat.of(backbone, first_tap, n_outputs=goal.n_outputs, copy_input=True)
        self._options, self._task, self._n_trained = options, goal.task, len(part.x)
        self._answers, self._weight, self._old = _joined(part, held)
        self._folds = folds or _folds(goal.task, part, held)
        learned = learned_outputs(goal.task, part.y, part.weight, rows.n_outputs)
        check_memory(rows, len(self._answers), len(learned))
        if not self._folds.count and options.penalty is None:
            raise DataError(
                f"none of the {len(part.x)} samples can be held out to choose the penalty, as no "
                "class has two, expected more: collect them, or pass penalty=0.001"
            )
        began = time.perf_counter()
        self.cache = SkipCache.of(rows, len(self._answers))
        self.cache.fill(backbone, part.x)
        if held is not None:
            self.cache.fill(backbone, held.x, len(part.x))
        self.n_forwards = len(self._answers)
        self.fill_seconds = time.perf_counter() - began
        self.points: list[Point] = []

    @property
    def cache_bytes(self) -> tuple[int, int]:
        """Payload and overhead of all rows."""
        return self.cache.n_bytes

    @property
    def penalties(self) -> tuple[float, ...]:
        """Those that may be tried, the strongest first."""
        return PENALTIES if self._options.penalty is None else (self._options.penalty,)

    def path(self) -> Iterator[Point]:
        """Solve for one penalty after the other, until two in a row were worse than the best."""
        rows, answers = self.cache.format, self._answers
        trained = self._folds.trained()
        numbers = self._task.name == "regression"
        targets = answers[: self._n_trained] if numbers else None
        own = None if self._weight is None else self._weight[: self._n_trained]
        scaling = Scaling.of(rows, [self.cache.rows[: self._n_trained]], targets, own)
        problem = Problem.of(
            self._task, answers, self._base_logits(), weight=self._weight, trained=trained
        )
        taps = range(len(rows.tap_widths))
        (design,) = Design.nested(
            self.cache.rows, scaling, [taps], weight=np.where(trained, problem.weight, 0)
        )
        for point in steps(design, problem, self.penalties, self._folds):
            self.points.append(point)
            yield point
            if is_worse(self.points):
                break

    def _base_logits(self) -> NDArray[np.float32]:
        first = self.cache.format.layout.logits_offset
        return self.cache.rows[:, first : first + self.cache.format.n_outputs]

    def result(self) -> tuple[SkipAdapters, float | None]:
        """The adapters of the best penalty so far, and what a rank asked for adds to the loss."""
        solution = self.points[best_of(self.points)].solution
        if self._options.rank >= solution.full_rank:
            return solution.adapters(), None
        adapters, loss = solution.cut(self._options.rank)
        return adapters, loss - solution.loss

    def held_out(self) -> HeldOut | None:
        """What samples held out say of the best penalty, new ones; None where none are."""
        point = self.points[best_of(self.points)]
        if point.held_out is None:
            return None
        rows = self._folds.held_out & ~np.isnan(point.held_out[:, 0])
        if self._old is not None and (rows & ~self._old).any():
            rows &= ~self._old
        logits = point.solution.problem.outputs(point.held_out)[rows]
        weight = None if self._weight is None else self._weight[rows]
        return HeldOut.of(self._task, logits, self._answers[rows], self._folds.count, weight)

    def outputs(self, result: SkipAdapters, *, held_out: bool, with_base: bool) -> Outputs:
        """From the rows."""
        at = slice(self._n_trained, None) if held_out else slice(self._n_trained)
        rows = self.cache.rows[at]
        adapted = result.logits_from_rows(
            self.cache.format, rows, np.zeros((len(rows), 1), np.float32)
        )
        return Outputs(adapted, self._base_logits()[at].copy() if with_base else None)


def _joined(
    part: CheckedSamples, held: CheckedSamples | None
) -> tuple[NDArray[Any], NDArray[np.float32] | None, NDArray[np.bool_] | None]:
    """Answers, weights, and which are of the old domain, of both."""
    if held is None:
        return part.y, part.weight, part.old
    weights = [each.weight for each in (part, held) if each.weight is not None]
    old = [each.old for each in (part, held) if each.old is not None]
    return (
        np.concatenate([part.y, held.y]),
        np.concatenate(weights) if weights else None,
        np.concatenate(old) if old else None,
    )


def _folds(task: Task, part: CheckedSamples, held: CheckedSamples | None) -> Folds:
    """One of the samples held out, or else blocks of neighbouring rows that have a weight.

    Samples of the old domain lie behind the new ones, and are cut into blocks of their own.
    """
    if held is not None:
        return Folds.validation(len(part.y), len(held.y))
    counts = np.ones(len(part.y), np.bool_) if part.weight is None else part.weight > 0
    old = np.zeros_like(counts) if part.old is None else part.old
    of, n_folds = np.full(len(counts), -1, np.int32), 0
    notes: tuple[str, ...] = ()
    for domain in (~old, old):
        at = np.flatnonzero(counts & domain)
        if len(at):
            blocks = block_folds(part.y[at], task)
            of[at], n_folds = blocks.of, max(n_folds, blocks.count)
            notes += blocks.notes
    return Folds(of, n_folds, notes)


def estimated_seconds(rows: RowFormat, task: Task, n_samples: int, n_penalties: int) -> float:
    """What solving will take on this machine, from a few random samples of that format.

    The Gram matrix and each iteration grow with the square of the samples.
    """
    few = min(_FEW_SAMPLES, int((_FEW_PRODUCTS / rows.n_outputs) ** 0.5), n_samples)
    few = max(_LEAST_SAMPLES, min(few, _FEW_BYTES // rows.row_bytes))
    random = np.random.Generator(np.random.PCG64(0))
    table = rows.empty(few)
    table[:] = random.random(table.shape, np.float32)
    labels = np.arange(few, dtype=np.int32) % max(2, min(rows.n_outputs, few // N_FOLDS))
    answers = np.eye(labels.max() + 1, rows.n_outputs, dtype=np.float32)[labels]
    folds = block_folds(labels)
    scaling = Scaling.of(rows, [table], None)
    began = time.perf_counter()
    problem = Problem.of(task, answers if task.numeric_targets else labels, np.zeros_like(answers))
    (design,) = Design.nested(table, scaling, [range(len(rows.tap_widths))])
    for _ in steps(design, problem, PENALTIES[:n_penalties], folds):
        pass
    return (time.perf_counter() - began) * (n_samples / few) ** 2
