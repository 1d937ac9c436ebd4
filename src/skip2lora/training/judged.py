"""What samples held out say of each penalty, and answers to them that they had no part in choosing.

The least of several losses is smaller than what it is the loss of: a penalty that is chosen by the
same samples that judge it looks better than it is. So the answers to each fold are those of the
penalty that the other folds choose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skip2lora.training.design import Design
from skip2lora.training.fits import Fits, held_rows, trained_rows
from skip2lora.training.folds import Folds
from skip2lora.training.problem import Problem
from skip2lora.training.stacking import best_factor

# Of Newton's decrement: a small part of the loss is all that tells penalties apart.
_ROUGH = 1e-3
_RISE = 1.01  # of the least held-out loss, after which a weaker penalty will not do better


def least(losses: NDArray[np.float64], weight: NDArray[np.float64], rows: NDArray[np.bool_]) -> int:
    """Which of several, ``losses`` are (several, n), has the least over ``rows``, (n,)."""
    return int((losses[:, rows] @ weight[rows]).argmin())


@dataclass(frozen=True, eq=False)
class Judged:
    """Of each of ``penalties``, from the strongest: what samples held out say.

    ``held_out``, (penalties, n, learned), are logits, NaN of samples never held out, and
    ``losses``, (penalties, n), what a penalty is chosen by, each counted by ``weight``, (n,);
    numbers are in the scale in which they are learned. ``factors`` are those of the problem.
    """

    penalties: tuple[float, ...]
    held_out: NDArray[np.float32]
    losses: NDArray[np.float64]
    weight: NDArray[np.float64]
    factors: tuple[float, ...]
    iterations: int

    def best(self, rows: NDArray[np.bool_]) -> int:
        """The place of the penalty with the least loss over ``rows``, (n,)."""
        return least(self.losses, self.weight, rows)


def judged(design: Design, problem: Problem, penalties: Sequence[float], folds: Folds) -> Judged:
    """Penalties by samples held out alone, from the strongest until the loss rises.

    Scores of the squared loss become logits by the factor that suits those held out best.

    Raises:
        DataError, DivergedError: as :func:`~skip2lora.training.exact.solve`.
    """
    fits = Fits(design, problem, trained_rows(problem, folds))
    rows = held_rows(problem, folds)
    known = rows & problem.known  # samples for validation alone may have other labels
    lowest, iterations = np.inf, 0
    tried: list[float] = []
    held_out, losses, factors = [], [], []
    for penalty in sorted(penalties, reverse=True):
        iterations += fits.solve(penalty, _ROUGH)
        factor, by = 1.0, None
        if problem.squared:
            scores = fits.scores(folds)
            by = 0.5 * ((scores - problem.targets) ** 2).sum(axis=1)
            if known.any():
                answers = problem.compared(scores, known, others=False)
                factor = best_factor(problem.task, *answers, problem.weight[known])
        logits = fits.held_out(folds, factor)
        tried.append(penalty)
        held_out.append(logits)
        losses.append(problem.losses(logits, rows, fits.scale) if by is None else by)
        factors.append(factor)
        loss = float(losses[-1][rows] @ problem.weight[rows])
        lowest = min(lowest, loss)
        if loss > _RISE * lowest:
            break
    return Judged(
        tuple(tried), np.stack(held_out), np.stack(losses), problem.weight, tuple(factors),
        iterations,
    )  # fmt: skip


def crossed(
    folds: Folds,
    rows: NDArray[np.bool_],
    answers: Callable[[NDArray[np.bool_]], NDArray[np.floating]],
) -> NDArray[np.float32]:
    """Held-out answers, (n, learned), each as the others of ``rows``, (n,), would choose them.

    ``answers(others)`` are those to all samples, (n, learned), chosen by ``others``, (n,). Samples
    for validation alone choose for themselves, as there are no others.
    """
    parts = []
    for fold in range(folds.count):
        others = rows & (folds.of != fold)
        parts.append(answers(others if others.any() else rows))
    logits = np.full(parts[0].shape, np.nan, np.float32)
    for fold, part in enumerate(parts):
        at = folds.of == fold
        logits[at] = part[at]
    return logits
