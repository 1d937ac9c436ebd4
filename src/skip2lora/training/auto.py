"""The recipe "auto": convex fits of the last tap and of all taps, mixed by how they do held out.

Every candidate is linear in the same columns of the same rows, so that whatever the mix, it is one
set of skip adapters. Nothing is to be set: penalties and the mix are chosen by samples held out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.adapters.merging import mixed, of_rows
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.derived import LOGITS, DerivedTap
from skip2lora.tasks.task import PLAIN, Goal
from skip2lora.training.design import Design
from skip2lora.training.exact import PENALTIES, Point, solve
from skip2lora.training.exact_job import ExactJob
from skip2lora.training.folds import Folds
from skip2lora.training.held_out import HeldOut
from skip2lora.training.jobs import CheckedSamples, Outputs
from skip2lora.training.judged import Judged, crossed, judged
from skip2lora.training.options import Options
from skip2lora.training.stacking import stack_weights

# Where no sample can be held out: what folds choose most often.
_PENALTY = 1e-3
# A candidate that counts for less is left out.
_LEAST = 0.01
# Samples a column of the last tap, from which on these are the quicker coordinates: with 10 classes
# and 32 columns auto took 0.9 of the time for 300 samples by them, 0.75 for 500.
_NARROW = 8
# Weights of a mix are a guess from few samples: they are drawn to equal ones of the candidates of
# all taps, as much as so many samples would: docs/decisions/0017-what-auto-mixes.md.
_EQUAL = 40


@dataclass(frozen=True)
class Tried:
    """A candidate: what samples held out say of it, and what it counts in the mix, 0 to 1.

    ``penalty`` is the one that did best, None of training by steps, ``milliseconds`` what all
    penalties and folds took.
    ``held_out`` is None where no sample could be held out.
    """

    name: str
    held_out: HeldOut | None
    weight: float
    penalty: float | None
    milliseconds: float


@dataclass(frozen=True, eq=False)
class Candidate:
    """``name`` for people; of all taps or the last alone, with so much of the base logits.

    ``squared``: of classes and labels as numbers, by the squared loss.
    """

    name: str
    last: bool
    base_factor: float
    squared: bool = False


def _candidates(n_taps: int, own: bool, numbers: bool) -> list[Candidate]:
    """What is tried; ``own`` says that outputs of the model are among those learned.

    Its logits count half beside all taps. Its numbers count in full in one of two.
    """
    several = [Candidate("last tap", True, 0.0)] if n_taps > 1 else []
    if not numbers:
        several.append(Candidate("all taps, ridge", False, 0.0, squared=True))
    if numbers or not own:
        several.append(Candidate("all taps", False, 0.0))
    if own and numbers:
        several.append(Candidate("all taps beside the model's own outputs", False, 1.0))
    elif own:
        several.append(Candidate("all taps beside half the model's own logits", False, 0.5))
    return several


def _narrow(design: Design) -> Design:
    """In the coordinates of its columns where they are few: the last tap of small models."""
    if design.gram is None or len(design.rows) < _NARROW * design.width:
        return design
    return replace(design, solver=_core.SOLVE_PRIMAL, gram=None)


class AutoJob(ExactJob):
    """Candidates on rows that are computed once, then their mix."""

    mixed_by_folds = True

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
        super().__init__(backbone, part, options, goal=goal, held=held, folds=folds, solver=solver)
        self._n_own = backbone.n_outputs
        self._mix, self._base_factor = np.zeros(0), 1.0
        self.judged_candidates: list[Judged] = []
        self._answered: NDArray[np.float32] | None = None
        self.tried: tuple[Tried, ...] = ()

    def candidates(self) -> Iterator[tuple[int, Point]]:
        """Solve for one candidate after the other, then mix: how many there are, and its best."""
        problem, n_taps = self.problem, len(self.cache.format.tap_widths)
        candidates = self.considered()
        began, seconds = time.perf_counter(), []
        lasts = sorted({of.last for of in candidates}, reverse=True)
        selections = [range(n_taps - 1 if last else 0, n_taps) for last in lasts]
        designs = dict(zip(lasts, map(_narrow, self.designs(selections)), strict=True))
        # Samples for validation alone are answered by the final fits themselves.
        in_the_end = self.folds if self.folds.apart else replace(self.folds, count=0)
        for candidate in candidates:
            of = replace(problem, base_factor=candidate.base_factor, squared=candidate.squared)
            design, penalty = designs[candidate.last], _PENALTY
            if self._task.name == "regression":
                scale = self._unit(candidate.base_factor).astype(np.float32)
                design = replace(design, scaling=replace(design.scaling, output_scale=scale))
            if self.folds.count:
                tried = judged(design, of, PENALTIES, self.folds)
                best = tried.best(self.held_rows)
                penalty, of = tried.penalties[best], replace(of, factor=tried.factors[best])
                self.judged_candidates.append(tried)
            self.points.append(solve(design, of, [penalty], in_the_end).best)
            seconds.append(time.perf_counter() - began)
            yield len(candidates), self.points[-1]
            began = time.perf_counter()
        self._choose(candidates, seconds)

    def considered(self) -> Sequence[Candidate]:
        """What is tried."""
        n_taps, own = len(self.cache.format.tap_widths), bool(self.problem.offsets.any())
        return _candidates(n_taps, own, self._task.name == "regression")

    def _choose(self, candidates: Sequence[Candidate], seconds: Sequence[float]) -> None:
        """The mix of the candidates, by the samples held out."""
        mix = np.eye(len(candidates))[-1]
        worth: list[HeldOut | None] = [None] * len(candidates)
        if self.judged_candidates:
            mix = self._mixed(self.judged_candidates, self.held_rows)[1]
            if self.folds.apart:
                answers = [of.held_out for of in self.points if of.held_out is not None]
                self._answered = np.tensordot(mix, np.stack(answers), 1).astype(np.float32)
            else:
                answers = [self._crossed([of]) for of in self.judged_candidates]
                self._answered = self._crossed(self.judged_candidates)
            worth = [self.judged(of) for of in answers]
        self.tried = tuple(
            Tried(candidate.name, of, float(weight), point.penalty, 1e3 * took)
            for candidate, of, weight, point, took in zip(
                candidates, worth, mix, self.points, seconds, strict=True
            )
        )
        self._mix = mix
        self._base_factor = float(mix @ [each.base_factor for each in candidates])

    def _mixed(
        self, several: Sequence[Judged], rows: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The mix of ``several`` that ``rows``, (n,), choose: held-out logits and its weights.

        Each is at the penalty with the least loss. Numbers count in the scale in which they are
        learned.
        """
        problem = self.problem
        parts = np.stack([of.held_out[of.best(rows)] for of in several])
        if len(several) == 1:
            return parts[0], np.ones(1)
        compared = [problem.compared(logits, rows) for logits in parts]
        values, answers = np.stack([logits for logits, _ in compared]), compared[0][1]
        numbers = self._task.name == "regression"
        if numbers:
            scale = self._unit(0.0)
            values, answers = values * scale, answers * scale
        mix = stack_weights(self._task, values, answers, problem.weight[rows])
        if not numbers:  # these tell candidates apart well
            of_all = [not candidate.last for candidate in self.considered()]
            mix += _EQUAL / len(answers) * np.array(of_all) / sum(of_all)
            mix /= mix.sum()
        mix[mix < _LEAST] = 0
        mix /= mix.sum()
        return np.tensordot(mix, parts, 1).astype(np.float32), mix

    def _crossed(self, several: Sequence[Judged]) -> NDArray[np.float32]:
        """Held-out logits of the mix of ``several``, each as the other folds choose it."""
        return crossed(self.folds, self.held_rows, lambda rows: self._mixed(several, rows)[0])

    def _unit(self, base_factor: float) -> NDArray[np.float64]:
        """What gives each number to learn beside so much of the base logits a deviation of 1.

        One that is the same everywhere gets the size 1: the rounding of its mean is no deviation.
        """
        rows, weight = self.folds.trained(), self.problem.weight
        missing = (self._answers - np.float64(base_factor) * self._base_logits())[rows]
        shares = (weight[rows] / weight[rows].sum())[:, None]
        spread = np.sqrt((shares * (missing - (shares * missing).sum(axis=0)) ** 2).sum(axis=0))
        size = np.abs(missing).max(axis=0)
        spread = np.where(spread > np.finfo(np.float32).eps * size, spread, size)
        return np.asarray(1 / np.where(spread > 0, spread, 1))

    def held_out_logits(self) -> NDArray[np.float32] | None:
        """Of the mix."""
        return self._answered

    @property
    def iterations(self) -> int:
        """Of all candidates, penalties and folds."""
        judging = sum(each.iterations for each in self.judged_candidates)
        return judging + sum(each.iterations for each in self.points)

    @property
    def derived(self) -> tuple[DerivedTap, ...]:
        """Taps that the result has before those of the model."""
        same = self._base_factor == 1 or not self.problem.offsets.any()
        return () if same else (DerivedTap(LOGITS),)

    def result(self) -> tuple[SkipAdapters, float | None]:
        """The mix as one set of adapters, of full rank."""
        parts = [
            (point.solution.adapters(), weight)
            for point, weight in zip(self.points, self._mix, strict=True)
            if weight
        ]
        factor = None
        if self.derived:
            factor = np.ones(self._n_own)
            learned = self.problem.learned
            factor[learned[learned < self._n_own]] = self._base_factor
        adapters, weights = zip(*parts, strict=True)
        return mixed(adapters, weights, self.cache.format.tap_widths, factor), None

    def outputs(self, result: SkipAdapters, *, held_out: bool, with_base: bool) -> Outputs:
        """From the rows; what the logits add comes from the base logits in them."""
        n_derived = len(result.lora_a) - len(self.cache.format.tap_widths)
        own = replace(result, lora_a=result.lora_a[n_derived:], lora_b=result.lora_b[n_derived:])
        outputs = super().outputs(
            of_rows(own), held_out=held_out, with_base=with_base or n_derived > 0
        )
        if n_derived and outputs.base is not None:
            outputs.adapted[:] += (
                outputs.base[:, : self._n_own] @ result.lora_a[0] @ result.lora_b[0]
            )
        return outputs if with_base else replace(outputs, base=None)
