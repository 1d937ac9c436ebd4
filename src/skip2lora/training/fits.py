"""The same convex problem fitted to several choices of its samples, such as all but each fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.adapters.rows import for_core
from skip2lora.errors import DataError, DivergedError, warn
from skip2lora.training.design import LANES, Design, in_lanes, square, zeros
from skip2lora.training.exact_memory import MOST_FACTORED, lanes_of
from skip2lora.training.folds import Folds
from skip2lora.training.problem import Problem

# Iterations of a fit x outputs, beside its samples, from which on a factor is the quicker way: an
# iteration is n^2 products an output, the factor n^3 / 6.
_FACTOR_FROM = 1 / 3


class Fits:
    """The same problem on other samples each, ``trained``, (n,), from the strongest penalty on.

    Their arrays follow each other. In the coordinates of the samples all are solved side by side;
    in those of the columns they share a metric, a matrix that says how far to go. Squared loss has
    a closed form: where iterations have become many, they begin there, and confirm it.
    """

    def __init__(
        self, design: Design, problem: Problem, trained: Sequence[NDArray[np.bool_]]
    ) -> None:
        self._problem, self.trained = problem, trained
        self.scale, lanes = design.scaling.output_scale[problem.learned], design.lanes
        targets, self._offsets = (
            in_lanes(of * self.scale, lanes) for of in (problem.targets, problem.offsets)
        )
        weight = zeros(len(trained), lanes)
        for of_fit, rows in zip(weight, trained, strict=True):
            shares = np.where(rows, problem.weight, 0)
            of_fit[: len(rows)] = shares / shares.sum()
        loss, n_rows = problem.loss, len(trained) * len(targets)
        offsets = self._offsets if self._offsets.any() else None
        self._products, self._bias = zeros(n_rows, lanes), np.zeros(n_rows, np.float32)
        self._metric: _core.Metric | None = None
        self._closed: _ClosedForm | None = None
        self._many_iterations = False  # from then on, as weaker penalties take more
        if design.gram is not None:
            if loss == _core.SQUARED and len(trained[0]) <= MOST_FACTORED:
                self._closed = _ClosedForm(design.gram, targets - self._offsets, weight)
            self.coefficients = zeros(n_rows, lanes)
            self._dual = _core.DualProblem(design.gram, loss, targets, weight, offsets)
            return
        self.coefficients = zeros(n_rows, design.width)
        self._primals = [
            _core.PrimalProblem(
                for_core(design.rows), design.places, design.scaling.mean, design.unit_scale, loss,
                targets, of_fit, offsets,
            )
            for of_fit in weight
        ]  # fmt: skip
        self._metric = _core.Metric(self._primals[-1], design.subset)

    def _part(self, fit: int) -> tuple[NDArray[np.float32], ...]:
        """Coefficients, products and bias of one, as views."""
        n_learned = len(self._problem.learned)
        at = slice(fit * n_learned, (fit + 1) * n_learned)
        return self.coefficients[at], self._products[at], self._bias[at]

    def solve(self, penalty: float, tolerance: float) -> int:
        """Go on to ``penalty``; the number of iterations of all fits.

        Warns of a fit that ends far from its least objective.

        Raises:
            DivergedError: the objective is infinite or NaN.
        """
        if self._metric is None:
            if self._closed is not None and self._many_iterations and penalty > 0:
                for fit in range(len(self.trained)):
                    self._closed.solve(fit, penalty, *self._part(fit))
            reports = self._dual.solve_all(
                penalty, tolerance, self.coefficients, self._products, self._bias
            )
        else:
            last = len(self._primals) - 1
            self._metric.factorize(self._primals[last], penalty, *self._part(last))
            reports = [
                self._metric.solve(primal, penalty, tolerance, *self._part(fit))
                for fit, primal in enumerate(self._primals)
            ]
        if not np.isfinite([report.objective for report in reports]).all():
            raise DivergedError(
                f"the objective is not finite at penalty {penalty:g}, expected a finite one: "
                "check the samples, or try a stronger penalty"
            )
        if not all(report.converged for report in reports):
            warn(
                f"a fit at penalty {penalty:g} is not solved after "
                f"{max(report.iterations for report in reports):,} iterations, expected it to be: "
                "others may be better, try a stronger penalty",
            )
        iterations = sum(report.iterations for report in reports)
        of_each = iterations * len(self._problem.learned) / len(reports)
        self._many_iterations |= of_each > _FACTOR_FROM * len(self.trained[0])
        return iterations

    def settled(
        self, fit: int, factor: float | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Learned outputs of all samples, (n, learned), and the bias of all outputs, as scaled.

        By default times the factor of the problem.
        """
        problem, fit = self._problem, fit % len(self.trained)
        factor = problem.factor if factor is None else factor
        own = self._part(fit)[2] * np.float32(factor)
        logits = self._solved(fit) * np.float32(factor)
        bias = problem.settled(logits, self.trained[fit])
        logits += bias[problem.learned]  # of numbers there is none
        bias[problem.learned] += own
        return logits.astype(np.float32), bias

    def _solved(self, fit: int) -> NDArray[np.float32]:
        """Learned outputs as they are solved for, (n, learned)."""
        _, products, own = self._part(fit)
        lanes = products + self._offsets + own[:, None]
        return np.asarray(lanes[:, : len(self.trained[fit])].T / self.scale)

    def solution(self, fit: int) -> NDArray[np.float32]:
        """Coefficients, times the factor of the problem, as a copy."""
        return self._part(fit % len(self.trained))[0] * np.float32(self._problem.factor)

    def held_out(self, folds: Folds, factor: float | None = None) -> NDArray[np.float32]:
        """What each sample gets from the fit without its fold, (n, learned); NaN for others.

        ``factor`` is that of :meth:`settled`.
        """
        return self._of_folds(folds, lambda fold: self.settled(fold, factor)[0])

    def scores(self, folds: Folds) -> NDArray[np.float32]:
        """As :meth:`held_out`, as they are solved for."""
        return self._of_folds(folds, self._solved)

    def _of_folds(
        self, folds: Folds, outputs: Callable[[int], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """``outputs`` of the fit without its fold for each sample, (n, learned)."""
        chosen = np.full((len(folds.of), len(self._problem.learned)), np.nan, np.float32)
        for fold in range(folds.count):
            rows = folds.of == fold
            chosen[rows] = outputs(fold)[rows]
        return chosen


class _ClosedForm:
    """Least squares of each fit by one factor of its samples' Gram matrix.

    ``targets`` are less the offsets, (learned, lanes), ``weight`` is (fits, lanes).
    """

    def __init__(
        self,
        gram: NDArray[np.float32],
        targets: NDArray[np.float32],
        weight: NDArray[np.float32],
    ) -> None:
        self._gram, self._targets, self._weight = gram, targets, weight

    def solve(
        self,
        fit: int,
        penalty: float,
        coefficients: NDArray[np.float32],
        products: NDArray[np.float32],
        bias: NDArray[np.float32],
    ) -> None:
        """Write coefficients, (learned, lanes), their products and the bias, (learned,).

        Nothing where the matrix has no factor, as rounded as it is: iterations begin elsewhere.
        """
        at = np.flatnonzero(self._weight[fit])
        own = square(len(at))
        rows = self._gram[at // LANES, :, at % LANES]  # of the matrix, which is symmetric
        for panel, first in enumerate(range(0, len(at), LANES)):
            of_panel = rows[first : first + LANES][:, at]
            own[panel, :, : len(of_panel)] = of_panel.T
        ridge = _core.Ridge(len(at))
        try:
            ridge.factorize(own, np.ascontiguousarray(self._weight[fit, at]), penalty)
        except ValueError:
            return
        wanted, solved = (zeros(len(coefficients), lanes_of(len(at))) for _ in range(2))
        wanted[:, : len(at)] = self._targets[:, at]
        ridge.solve(wanted, solved, bias)
        coefficients[:] = 0
        coefficients[:, at] = solved[:, : len(at)]
        products[:, : rows.shape[1]] = solved[:, : len(at)] @ rows


def trained_rows(problem: Problem, folds: Folds) -> list[NDArray[np.bool_]]:
    """Samples that are trained on without each fold, (n,).

    Raises:
        DataError: a class has all its samples in one fold, or one fold has all with a weight.
    """
    trained = [problem.trained & folds.trained(fold) for fold in range(folds.count)]
    for fold, rows in enumerate(trained):
        if not rows.any():
            raise DataError(
                f"fold {fold} (from 0) holds out all samples with a weight above 0, expected some "
                "to train on: use fewer folds, or give more samples a weight"
            )
        if problem.task.numeric_targets:
            continue
        lacking = np.setdiff1d(problem.learned, problem.answers[rows])
        if len(lacking):
            raise DataError(
                f"fold {fold} (from 0) holds out all samples of class {lacking[0]}, expected some "
                "to train on: use fewer folds"
            )
    return trained


def held_rows(problem: Problem, folds: Folds) -> NDArray[np.bool_]:
    """Samples that are held out and count, (n,)."""
    return folds.held_out & (problem.weight > 0)
