"""The exact solver at work on one set of samples: rows once, then penalties from the strongest."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.adapters.rows import RowFormat, SkipCache, as_they_are, parts
from skip2lora.backbones.base import Backbone
from skip2lora.errors import DataError
from skip2lora.methods import METHODS
from skip2lora.tasks.task import PLAIN, Goal, Task
from skip2lora.training.copies import copies_in
from skip2lora.training.design import Design
from skip2lora.training.exact import PENALTIES, Point, best_of, is_worse, steps
from skip2lora.training.exact_memory import exact_memory
from skip2lora.training.fits import held_rows
from skip2lora.training.folds import Folds, block_folds, folds_for, numbered
from skip2lora.training.held_out import HeldOut
from skip2lora.training.jobs import CheckedSamples, Outputs
from skip2lora.training.judged import crossed, least
from skip2lora.training.options import Options
from skip2lora.training.problem import Problem, learned_outputs
from skip2lora.training.skip_job import Scaling


class ExactJob:
    """A convex fit of all taps of the method, on rows that are computed once.

    Rows of the samples held out stand after those to train on, and have no weight in the end.
    ``folds`` are by default blocks of neighbouring rows, ``solver`` the quickest that fits.
    """

    rows_kept = True
    mixed_by_folds = False

    def __init__(
        self,
        backbone: Backbone,
        part: CheckedSamples,
        options: Options,
        *,
        goal: Goal = PLAIN,
        held: CheckedSamples | None = None,
        folds: Folds | None = None,
        solver: int | None = None,
    ) -> None:
        first_tap = range(len(backbone.tap_widths))[METHODS[options.method].adapted].start
        rows = RowFormat.of(
            backbone, first_tap, n_outputs=goal.n_outputs, copy_input=True,
            dtype=options.cache_dtype,
        )  # fmt: skip
        self._options, self._task, self._n_trained = options, goal.task, len(part.x)
        self._answers, self._weight, self._old = _joined(part, held)
        self.folds = folds or folds_of(goal.task, part, held)
        learned = learned_outputs(goal.task, part.y, part.weight, rows.n_outputs)
        n_designs = 2 if options.recipe == "auto" else 1
        memory = exact_memory(rows, len(self._answers), len(learned), n_designs=n_designs)
        self._solver = memory.solver if solver is None else solver
        chosen = options.penalty is not None or options.recipe not in (None, "paper")
        if not self.folds.count and not chosen:
            raise DataError(
                f"none of the {len(part.x)} samples can be held out to choose the penalty, as no "
                "class has two, expected more: collect them, or pass penalty=0.001"
            )
        began = time.perf_counter()
        known = as_they_are(rows, backbone, part.x) if held is None else None
        self.cache = known or SkipCache.of(rows, len(self._answers))
        if known is None:
            self.cache.fill(backbone, part.x)
        if held is not None:
            self.cache.fill(backbone, held.x, len(part.x))
        self.n_forwards = len(self._answers)
        self.fill_seconds = time.perf_counter() - began
        copies = copies_in(self.cache) if folds is None else None
        if copies is not None:
            self.folds = folds_of(goal.task, part, held, copies=copies)
        self.points: list[Point] = []

    @property
    def cache_bytes(self) -> tuple[int, int]:
        """Payload and overhead of all rows."""
        return self.cache.n_bytes

    @property
    def penalties(self) -> tuple[float, ...]:
        """Those that may be tried, the strongest first."""
        return PENALTIES if self._options.penalty is None else (self._options.penalty,)

    @cached_property
    def scaling(self) -> Scaling:
        """Of the taps, and of numbers to learn, by the samples to train on."""
        part = slice(self._n_trained)
        targets = self._answers[part] if self._task.name == "regression" else None
        weight = None if self._weight is None else self._weight[part]
        chunks = (rows for _, rows in parts(self.cache.rows, 0, self._n_trained))
        return Scaling.of(self.cache.format, chunks, targets, weight)

    @cached_property
    def problem(self) -> Problem:
        """What is to be learned, beside all of the base logits."""
        return Problem.of(
            self._task, self._answers, self._base_logits(), weight=self._weight,
            trained=self.folds.trained(),
        )  # fmt: skip

    @property
    def held_rows(self) -> NDArray[np.bool_]:
        """Samples that are held out and count, (n,)."""
        return held_rows(self.problem, self.folds)

    def designs(self, selections: Sequence[Sequence[int]]) -> list[Design]:
        """Columns of each selection of taps, each with more than the one before."""
        weight = np.where(self.folds.trained(), self.problem.weight, 0)
        return Design.nested(
            self.cache.rows, self.scaling, selections, weight=weight, solver=self._solver
        )

    def path(self) -> Iterator[Point]:
        """Solve for one penalty after the other, until two in a row were worse than the best."""
        (design,) = self.designs([range(len(self.cache.format.tap_widths))])
        for point in steps(design, self.problem, self.penalties, self.folds):
            self.points.append(point)
            yield point
            if is_worse(self.points):
                break

    def _base_logits(self) -> NDArray[np.float32]:
        return self.cache.base_logits

    def result(self) -> tuple[SkipAdapters, float | None]:
        """The adapters of the best penalty so far, and what a rank asked for adds to the loss."""
        solution = self.points[best_of(self.points)].solution
        if self._options.rank >= solution.full_rank:
            return solution.adapters(), None
        adapters, loss = solution.cut(self._options.rank)
        return adapters, loss - solution.loss

    def held_out(self) -> HeldOut | None:
        """What samples held out say of the best penalty, new ones; None where none are."""
        return self.judged(self.held_out_logits())

    def held_out_logits(self) -> NDArray[np.float32] | None:
        """Held-out logits, (n, learned), each as the other folds choose; None of none."""
        if not self.folds.count:
            return None
        rows, problem = self.held_rows, self.problem
        scale = self.scaling.output_scale[problem.learned]
        held_out = [point.held_out for point in self.points if point.held_out is not None]
        losses = np.stack([problem.losses(logits, rows, scale) for logits in held_out])
        return crossed(
            self.folds, rows, lambda others: held_out[least(losses, problem.weight, others)]
        )

    @property
    def answered(self) -> NDArray[np.float32] | None:
        """All outputs for samples held out, (n, n_outputs), NaN for others; None of none."""
        logits = self.held_out_logits()
        return None if logits is None else self.problem.outputs(logits)

    def judged(self, logits: NDArray[np.float32] | None) -> HeldOut | None:
        """What held-out ``logits``, (n, learned), of new samples are worth; None of none."""
        if logits is None:
            return None
        rows, problem = self.held_rows, self.problem
        if self._old is not None and (rows & ~self._old).any():
            rows &= ~self._old
        held_out = HeldOut.of(
            self._task, problem.outputs(logits)[rows], self._answers[rows], self.folds.count,
            problem.weight[rows],
        )  # fmt: skip
        return replace(held_out, notes=self.folds.notes)

    def outputs(self, result: SkipAdapters, *, held_out: bool, with_base: bool) -> Outputs:
        """From the rows."""
        at = slice(self._n_trained, None) if held_out else slice(self._n_trained)
        adapted = [
            result.logits_from_rows(self.cache.format, rows, np.zeros((len(rows), 1), np.float32))
            for _, rows in parts(self.cache.rows, *at.indices(len(self._answers))[:2])
        ]
        return Outputs(
            np.concatenate(adapted), self._base_logits()[at].copy() if with_base else None
        )


def _joined(
    part: CheckedSamples, held: CheckedSamples | None
) -> tuple[NDArray[Any], NDArray[np.float32] | None, NDArray[np.bool_] | None]:
    """Answers, weights, and which are of the old domain, of both."""
    if held is None:
        return part.y, part.weight, part.old
    weight, old = None, None
    if part.weight is not None or held.weight is not None:
        weight = np.concatenate(
            [_or(each.weight, np.ones(len(each.y), "f")) for each in (part, held)]
        )
    if part.old is not None or held.old is not None:
        old = np.concatenate([_or(each.old, np.zeros(len(each.y), "?")) for each in (part, held)])
    return np.concatenate([part.y, held.y]), weight, old


def _or(array: NDArray[Any] | None, other: NDArray[Any]) -> NDArray[Any]:
    return other if array is None else array


def folds_of(
    task: Task,
    part: CheckedSamples,
    held: CheckedSamples | None,
    most: int | None = None,
    *,
    copies: NDArray[np.int64] | None = None,
) -> Folds:
    """One of the samples held out, or else blocks of rows, or of groups, that have a weight.

    ``most`` are how many folds there may be, by default as many as suit the samples of both
    domains. Those of the old domain lie behind the new ones, and are cut into blocks of their own.
    ``copies``, (n,), number samples that are the same, so that none judges what its copy taught.
    """
    if held is not None:
        n_trained, n_known = len(part.y), 0
        if copies is not None:
            n_known = int(np.isin(copies[n_trained:], copies[:n_trained]).sum())
        return Folds.validation(n_trained, len(held.y), n_known)
    counts = np.ones(len(part.y), np.bool_) if part.weight is None else part.weight > 0
    spent = np.zeros_like(counts) if part.spent is None else part.spent & counts
    old = np.zeros_like(counts) if part.old is None else part.old
    of, n_folds = np.full(len(counts), -1, np.int32), 0
    most = folds_for(len(counts)) if most is None else most
    notes = dict[str, None]()
    for domain, groups in ((~old, part.group), (old, None)):
        at = np.flatnonzero(counts & domain & ~spent)
        if len(at):
            groups = None if groups is None else groups[at]
            same = None if copies is None else copies[at]
            blocks = block_folds(
                part.y[at], task, n_folds=most, groups=groups, names=part.names, copies=same
            )
            of[at], n_folds = blocks.of, max(n_folds, blocks.count)
            most = blocks.count or most  # no fold of old samples alone
            notes |= dict.fromkeys(blocks.notes)
    if spent.any():
        note = f"{spent.sum():,} samples that the projection is found from are never held out"
        notes[note] = None
    if copies is not None and part.group is None:
        n_folds = _with_copies(of, copies, counts)
    return Folds(of, n_folds, tuple(notes))


def _with_copies(
    of: NDArray[np.int32], copies: NDArray[np.int64], counts: NDArray[np.bool_]
) -> int:
    """Put samples of either domain into the fold of the first one like them; how many folds are.

    Those of which one that ``counts`` is always trained on are never held out.
    """
    _, first, same = np.unique(copies[counts], return_index=True, return_inverse=True)
    own = of[counts]
    always = np.zeros(len(first), np.bool_)
    always[same[own < 0]] = True
    of[counts] = np.where(always, np.int32(-1), own[first])[same]
    return numbered(of)
