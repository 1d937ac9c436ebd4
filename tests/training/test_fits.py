"""Fits of one problem to several choices of its samples: what they refuse, and their factor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from skip2lora.errors import DataError
from skip2lora.tasks.task import sample_losses
from skip2lora.training.design import Design
from skip2lora.training.exact import solve
from skip2lora.training.fits import Fits, held_rows, trained_rows
from skip2lora.training.folds import Folds
from skip2lora.training.problem import Problem
from training.convex_rows import Rows


def problem_of(rows: Rows, **options: Any) -> tuple[Design, Problem]:
    (design,) = Design.nested(rows.rows, rows.scaling, [(0, 1)])
    return design, Problem.of(rows.task, rows.y, rows.base_logits, **options)


def test_a_fold_with_all_samples_of_a_class(refused: Any) -> None:
    rows = Rows.random("classification")
    _, problem = problem_of(rows)
    of = np.where(rows.y == 2, 1, np.arange(61) % 2 * 2).astype(np.int32)
    message = refused(DataError, trained_rows, problem, Folds(of, 3))
    assert "fold 1 (from 0) holds out all samples of class 2, expected some to train on" in message


def test_a_fold_with_all_weights(refused: Any) -> None:
    rows = Rows.random("regression")
    _, problem = problem_of(rows, weight=(np.arange(61) < 5).astype(np.float32))
    folds = Folds((np.arange(61) // 31).astype(np.int32), 2)
    message = refused(DataError, trained_rows, problem, folds)
    assert "fold 0 (from 0) holds out all samples with a weight above 0" in message


def test_samples_without_a_weight_are_held_out_of_nothing() -> None:
    rows = Rows.random("regression")
    _, problem = problem_of(rows, weight=(np.arange(61) % 3).astype(np.float32))
    folds = Folds((np.arange(61) % 2 - (np.arange(61) < 9)).astype(np.int32), 2)
    held = held_rows(problem, folds)
    assert held.tolist() == [bool(k % 3 and (k >= 9 or k % 2)) for k in range(61)]


def test_scores_are_as_solved_and_held_out_logits_their_multiple() -> None:
    rows = Rows.random("classification", base=0.0)
    design, problem = problem_of(rows)
    problem = replace(problem, squared=True, factor=3.0)
    folds = Folds(np.where(np.arange(61) < 4, -1, np.arange(61) % 4).astype(np.int32), 4)
    fits = Fits(design, problem, trained_rows(problem, folds))
    fits.solve(1e-2, 1e-5)
    scores = fits.scores(folds)
    assert (np.isnan(scores).any(axis=1) == (folds.of < 0)).all()
    np.testing.assert_allclose(fits.held_out(folds), 3 * scores, rtol=1e-5)
    np.testing.assert_allclose(fits.held_out(folds, 7.0), 7 * scores, rtol=1e-5)


def test_a_fit_that_is_not_solved_is_told() -> None:
    design, problem = problem_of(Rows.random("classification"))
    assert design.gram is not None
    design.gram[:] *= 1e25  # no step is short enough
    with pytest.warns(UserWarning, match="a fit at penalty 0.001 is not solved after"):
        solve(design, problem, [1e-3])


def test_a_solution_of_the_squared_loss_is_times_its_factor() -> None:
    rows = Rows.random("classification", base=0.0)
    (design,) = Design.nested(rows.rows, rows.scaling, [(0, 1)])
    plain = replace(Problem.of(rows.task, rows.y, rows.base_logits), squared=True)
    one, seven = (
        solve(design, replace(plain, factor=factor), [1e-2]).best for factor in (1.0, 7.0)
    )
    outputs = rows.outputs(one.solution.adapters())
    np.testing.assert_allclose(
        rows.outputs(seven.solution.adapters()), 7 * outputs, rtol=1e-4, atol=1e-4
    )
    cut = rows.outputs(seven.solution.cut(2)[0])
    np.testing.assert_allclose(cut, 7 * rows.outputs(one.solution.cut(2)[0]), rtol=1e-3, atol=1e-3)
    assert seven.solution.loss == pytest.approx(
        sample_losses(rows.task, 7 * outputs, rows.y).mean(), rel=1e-4
    )


def test_classes_without_samples_stay_behind_scores_that_became_logits() -> None:
    """At most a mean probability of 1 in n + 1, whatever the factor."""
    rows = Rows.random("classification", n_outputs=6, base=3.0)
    (design,) = Design.nested(rows.rows, rows.scaling, [(0, 1)])
    problem = replace(
        Problem.of(rows.task, rows.y, rows.base_logits), base_factor=0.0, squared=True, factor=9.0
    )
    point = solve(design, problem, [1e-2]).best
    outputs = rows.outputs(point.solution.adapters())
    outputs[:, problem.learned] -= rows.base_logits[:, problem.learned]
    shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    others = np.delete(shares, problem.learned, axis=1).sum(axis=1).mean()
    assert others == pytest.approx(1 / 62, rel=1e-3)


@pytest.mark.parametrize("offset", [0.0, 2.0])
def test_squared_loss_begins_at_its_closed_form(offset: float) -> None:
    """Once iterations are many; those that follow confirm it, and it is the least there is."""
    rows = Rows.random("regression", base=offset)
    weight = (np.arange(61) % 3).astype(np.float32)
    design, problem = problem_of(rows, weight=weight)
    folds = Folds((np.arange(61) % 4).astype(np.int32), 4)
    trained = [*trained_rows(problem, folds), problem.trained]
    fits, slow = Fits(design, problem, trained), Fits(design, problem, trained)
    slow._closed = None
    many = [(fits.solve(10.0**-at, 1e-5), slow.solve(10.0**-at, 1e-5)) for at in range(6)]
    assert many[0][0] == many[0][1]
    assert many[5][0] <= 3 * len(trained) < many[5][1] / 2
    # By hand: (Z' w Z + penalty) W = Z' w (y - base - bias), with the mean of what is missing 0.
    gram = design.gram.transpose(1, 0, 2).reshape(61, -1)[:, :61].astype(np.float64)
    shares = np.where(folds.of != 1, problem.weight, 0)
    shares /= shares.sum()
    at = np.flatnonzero(shares)
    missing = (problem.targets - problem.offsets) * fits.scale
    system = np.block([
        [gram[np.ix_(at, at)] + np.diag(1e-5 / shares[at]), np.ones((len(at), 1))],
        [np.ones((1, len(at))), np.zeros((1, 1))],
    ])  # fmt: skip
    wanted = np.vstack([missing[at], np.zeros((1, missing.shape[1]))])
    *alpha, bias = np.linalg.solve(system, wanted)
    expected = (gram[:, at] @ np.array(alpha) + bias) / fits.scale + problem.offsets
    np.testing.assert_allclose(
        fits._solved(1), expected, rtol=1e-3, atol=2e-3 * np.abs(expected).max()
    )


def test_no_closed_form_of_a_matrix_without_a_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    """It iterates then, to the same solution; and where there is no penalty."""
    rows = Rows.random("regression")
    design, problem = problem_of(rows)
    fits = Fits(design, problem, [problem.trained])
    fits._many_iterations = True

    class Unfit:
        def __init__(self, count: int) -> None:
            pass

        def factorize(self, *_: Any) -> None:
            raise ValueError("not positive definite")

    fits.solve(0.0, 1e-3)
    with_factor = Fits(design, problem, [problem.trained])
    with_factor._many_iterations = True
    assert with_factor.solve(0.1, 1e-6) <= 3
    monkeypatch.setattr("skip2lora._core.Ridge", Unfit)
    without = Fits(design, problem, [problem.trained])
    without._many_iterations = True
    assert without.solve(0.1, 1e-6) > 3
    np.testing.assert_allclose(without._solved(0), with_factor._solved(0), atol=1e-2)
