"""Penalties by samples held out alone, and answers that no sample had a part in choosing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

import oracle_exact
import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora import _core
from skip2lora.tasks.task import sample_losses
from skip2lora.training.design import Design
from skip2lora.training.exact import PENALTIES, solve
from skip2lora.training.folds import Folds, block_folds
from skip2lora.training.judged import crossed, judged, least
from skip2lora.training.problem import Problem
from training.convex_rows import Rows


def test_weaker_penalties_are_not_tried_once_the_held_out_loss_rises() -> None:
    """Labels by chance: the stronger the penalty, the better."""
    rows = Rows.random("classification")
    y = np.random.default_rng(0).integers(0, 4, len(rows.y)).astype(np.int32)
    (design,) = Design.nested(rows.rows, rows.scaling, [(0, 1)])
    problem, folds = Problem.of(rows.task, y, rows.base_logits), block_folds(y)
    every = judged(design, problem, PENALTIES, folds)
    first = judged(design, problem, PENALTIES[:4], folds)
    assert every.penalties == first.penalties
    assert len(every.penalties) < len(PENALTIES)
    assert every.iterations == first.iterations
    path = solve(design, problem, PENALTIES, folds, stop_after=None)
    best = every.best(folds.held_out)
    assert every.penalties[best] == path.best.penalty
    assert every.losses[best].mean() == pytest.approx(path.best.held_out_loss, rel=0.01)


@pytest.mark.parametrize("solver", [_core.SOLVE_DUAL, _core.SOLVE_PRIMAL])
@pytest.mark.parametrize("task", ["classification", "multi-label"])
def test_scores_of_the_squared_loss_are_logits_by_the_factor_that_suits_them(
    task: str, solver: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skip2lora.training.judged._ROUGH", 1e-7)
    rows = Rows.random(task, base=0.0)
    labels = (np.argsort(np.argsort(rows.rows[:, 1])) * 4 // 61).astype(np.int32)
    rows = replace(rows, y=labels if task == "classification" else np.eye(4, dtype="f")[labels])
    (design,) = Design.nested(rows.rows, rows.scaling, [(0, 1)], solver=solver)
    problem = replace(Problem.of(rows.task, rows.y, rows.base_logits), squared=True)
    folds = block_folds(rows.y, rows.task)
    of = judged(design, problem, [1e-2, 1e-3], folds)
    assert max(of.factors) > 1
    z = rows.columns(design)
    targets = (np.eye(4)[rows.y] if rows.y.ndim == 1 else rows.y) - 0.5
    for penalty, logits, losses, factor in zip(
        of.penalties, of.held_out, of.losses, of.factors, strict=True
    ):
        scores = np.zeros_like(targets)
        for fold in range(4):
            rest = folds.of != fold
            weight = rest / rest.sum()
            w, b, _ = oracle_exact.solve("squared", z, targets, weight, penalty)
            scores[~rest] = (z @ w + b)[~rest]

        def loss(by: float, scores: Any = scores) -> float:
            return float(sample_losses(rows.task, by * scores, rows.y).mean())

        best = minimize_scalar(loss, bounds=(0, 100), method="bounded").x
        assert factor == pytest.approx(best, rel=0.01)
        np.testing.assert_allclose(logits, best * scores, atol=0.02 * best)
        np.testing.assert_allclose(losses, 0.5 * ((scores - targets) ** 2).sum(1), atol=0.02)


def test_the_least_is_that_of_the_rows_asked() -> None:
    losses = np.array([[1.0, 1.0, 9.0, np.nan], [2.0, 2.0, 0.0, np.nan]])
    even = np.full(4, 0.25)
    assert least(losses, even, np.array([True, True, False, False])) == 0
    assert least(losses, even, np.array([True, True, True, False])) == 1
    assert least(losses, np.array([0.5, 0.45, 0.05, 0]), np.array([True, True, True, False])) == 0


def test_each_fold_is_answered_as_the_others_choose() -> None:
    folds = Folds(np.array([0, 1, 2, 0, -1], np.int32), 3)
    counts = np.array([True, True, True, False, False])
    asked: list[list[bool]] = []

    def answers(others: np.ndarray) -> np.ndarray:
        asked.append(others.tolist())
        return np.full((5, 2), len(asked), np.float32)

    logits = crossed(folds, counts, answers)
    assert asked == [
        [False, True, True, False, False],
        [True, False, True, False, False],
        [True, True, False, False, False],
    ]
    assert logits[:4, 0].tolist() == [1, 2, 3, 1]
    assert np.isnan(logits[4]).all()


def test_samples_of_one_fold_choose_for_themselves() -> None:
    asked: list[int] = []

    def answers(others: np.ndarray) -> np.ndarray:
        asked.append(int(others.sum()))
        return np.ones((7, 1), np.float32)

    folds = Folds.validation(5, 2)
    logits = crossed(folds, folds.held_out, answers)
    assert asked == [2]
    assert np.isnan(logits[:5]).all()


@pytest.mark.parametrize("unknown", [10, 4])
def test_samples_for_validation_may_have_a_class_that_no_other_has(unknown: int) -> None:
    """The factor of ridge is that of the others; where there are none, scores stay as they are."""
    backbone = NumpyBackbone([9, 16, 5, 3], first_tap_is_input=True)
    x = np.random.default_rng(0).normal(size=(60, 9)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    told = np.where(np.arange(10) < unknown, 2, y[:10])
    adapted = s2.adapt(backbone, x[10:], y[10:], validation_data=(x[:10], told))
    worth = adapted.history.held_out
    assert worth is not None
    assert worth.value == pytest.approx(adapted.score(x[:10], told))
    assert worth.value <= 1 - unknown / 10
