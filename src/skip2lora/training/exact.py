"""Convex fits of all taps at once: softmax, sigmoid and squared loss with an L2 penalty.

Every linear map from a tap to the outputs has a rank of at most the number of outputs, so that what
is solved here is a skip adapter. The objective is

    sum_i weight_i loss(base_logits_i + z_i W + bias, answer_i) + penalty / 2 |W|^2

with weights that add up to 1 and a free bias. docs/decisions/0015-exact.md says why it is solved
in the coordinates of the samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.training.design import Design
from skip2lora.training.fits import Fits, held_rows, trained_rows
from skip2lora.training.folds import Folds
from skip2lora.training.problem import Problem

#: From the strongest, whose solution is where the next begins.
PENALTIES = tuple(10.0**-power for power in range(7))
# Newton's decrement, as a share of the objective, at which a fit is done: about twice what is left
# above the least. So less than 1e-4 of the objective is left, and mostly less than 1e-5.
_TOLERANCE = 1e-5
_WORSE = 2  # penalties in a row that were worse than the best, after which the path ends


@dataclass(frozen=True, eq=False)
class Solution:
    """What is best of all samples that are trained on, at one ``penalty``.

    ``coefficients`` are A of W = Z^T A, (learned, lanes), or W, (learned, columns). ``bias`` is of
    all outputs, (n_outputs,), as they are scaled. ``trained``, (n,), are the samples that count,
    and ``loss`` is their weighted mean loss, without the penalty.
    """

    design: Design
    problem: Problem
    penalty: float
    coefficients: NDArray[np.float32]
    bias: NDArray[np.float64]
    trained: NDArray[np.bool_]
    loss: float

    def adapters(self, rank: int | None = None) -> SkipAdapters:
        """As skip adapters on taps as they are, of that rank at most.

        A rank below that of the solution is what :meth:`cut` gives.
        """
        if rank is not None and rank < self.full_rank:
            return self.cut(rank)[0]
        pairs = []
        for weights in self.design.weights_of(self.coefficients):
            width, n_learned = weights.shape
            if n_learned <= self.full_rank:
                pairs.append((weights, np.eye(n_learned, dtype=np.float32)))
            else:
                pairs.append((np.eye(width, dtype=np.float32), weights))
        return self._adapters(pairs, self.full_rank, self.bias)

    @property
    def full_rank(self) -> int:
        """The rank that loses nothing: the largest width of a tap, or outputs if fewer."""
        return min(max(self.design.scaling.format.tap_widths), len(self.problem.learned))

    def cut(self, rank: int) -> tuple[SkipAdapters, float]:
        """Adapters of a smaller rank, and the loss.

        Each tap keeps the ``rank`` directions in which W is largest; then all lora_b are solved
        again at once, at the same penalty, as |A B| = |B| for directions at right angles.
        """
        design, problem = self.design, self.problem
        bases = []
        for weights in design.weights_of(self.coefficients):
            basis = np.zeros((len(weights), rank), np.float32)
            if weights.any():
                left = np.linalg.svd(weights.astype(np.float64), full_matrices=False)[0]
                basis[:, : min(left.shape[1], rank)] = left[:, :rank]
            bases.append(basis)
        hidden = design.projected(bases)
        small = Design.of_columns(hidden, design.scaling, design.solver)
        fits = Fits(small, problem, [self.trained])
        fits.solve(self.penalty, _TOLERANCE)
        together = small.weights_of(fits.solution(0))[0] * np.float32(design.factor**0.5)
        pairs = list(zip(bases, np.split(together, len(bases)), strict=True))
        logits, bias = fits.settled(0)
        loss = problem.mean_loss(logits, self.trained)
        return self._adapters(pairs, rank, bias), loss

    def _adapters(
        self,
        pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
        rank: int,
        bias: NDArray[np.float64],
    ) -> SkipAdapters:
        """Pairs of all taps, (width, r) and (r, learned), with zeros up to ``rank``, folded."""
        n_outputs, scaling = len(bias), self.design.scaling
        lora_a, lora_b = [], []
        for a, b in pairs:
            wide = a if a.shape[1] == rank else np.pad(a, ((0, 0), (0, rank - a.shape[1])))
            lora_a.append(wide)  # large, and copied where it must be
            lora_b.append(np.zeros((rank, n_outputs), np.float32))
            lora_b[-1][: len(b), self.problem.learned] = b
        first_tap = scaling.format.first_tap
        small = bias.astype(np.float32)
        return scaling.fold(SkipAdapters(tuple(lora_a), tuple(lora_b), first_tap, small))


@dataclass(frozen=True, eq=False)
class Point:
    """What one penalty of a path gives.

    ``accuracy`` (0 to 1; of numbers 0) is that of the samples trained on.
    ``held_out``, (n, learned), has what each sample gets from those without its fold, NaN for those
    never held out; ``held_out_loss`` is its weighted mean loss, of numbers in the scale in which
    they are learned. Both are None without folds.
    ``iterations`` are those of all folds.
    """

    penalty: float
    iterations: int
    accuracy: float
    held_out: NDArray[np.float32] | None
    held_out_loss: float | None
    solution: Solution


@dataclass(frozen=True, eq=False)
class Path:
    """Solutions at all penalties, from the strongest; ``best`` has the least held-out loss."""

    points: tuple[Point, ...]

    @property
    def best(self) -> Point:
        """The least held-out loss; the last without folds."""
        return self.points[best_of(self.points)]


def best_of(points: Sequence[Point]) -> int:
    """The place of the least held-out loss; of the last without folds."""
    losses = [point.held_out_loss for point in points]
    known = [loss for loss in losses if loss is not None]
    return losses.index(min(known)) if known else len(losses) - 1


def solve(
    design: Design,
    problem: Problem,
    penalties: Sequence[float] = PENALTIES,
    folds: Folds | None = None,
    *,
    stop_after: int | None = _WORSE,
) -> Path:
    """Solve for all ``penalties``; with folds until ``stop_after`` of them in a row were worse.

    Raises:
        DataError: a fold has all samples of a class.
        DivergedError: the objective became infinite or NaN.
    """
    points: list[Point] = []
    for point in steps(design, problem, penalties, folds):
        points.append(point)
        if stop_after is not None and is_worse(points, stop_after):
            break
    return Path(tuple(points))


def is_worse(points: Sequence[Point], count: int = _WORSE) -> bool:
    """Whether the last ``count`` of ``points`` were worse than one before, held out."""
    losses = [point.held_out_loss for point in points]
    known = [loss for loss in losses if loss is not None]
    return len(known) > count and min(known[-count:]) > min(known)


def steps(
    design: Design,
    problem: Problem,
    penalties: Sequence[float] = PENALTIES,
    folds: Folds | None = None,
) -> Iterator[Point]:
    """As :func:`solve`, a penalty at a time, from the strongest."""
    folds = folds or Folds(np.full(len(design.rows), -1, np.int32), 0)
    # Samples for validation alone are held out of the final fit itself.
    trained = [] if folds.apart else trained_rows(problem, folds)
    fits = Fits(design, problem, [*trained, problem.trained & folds.trained()])
    for penalty in sorted(penalties, reverse=True):
        iterations = fits.solve(penalty, _TOLERANCE)
        logits, bias = fits.settled(-1)
        final = fits.trained[-1]
        solution = Solution(
            design, problem, penalty, fits.solution(-1), bias, final,
            problem.mean_loss(logits, final),
        )  # fmt: skip
        held_out, loss = None, None
        if folds.count:
            held_out = fits.held_out(folds)
            loss = problem.mean_loss(held_out, held_rows(problem, folds), fits.scale)
        accuracy = problem.accuracy(logits, final)
        yield Point(penalty, iterations, accuracy, held_out, loss, solution)
