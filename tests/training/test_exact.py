"""Solutions against the float64 oracle and scikit-learn, their folds, cuts to a smaller rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import oracle_exact
from skip2lora import _core
from skip2lora.tasks.task import sample_losses
from skip2lora.training.design import Design
from skip2lora.training.exact import PENALTIES, Point, is_worse, solve, steps
from skip2lora.training.folds import Folds, block_folds
from skip2lora.training.problem import Problem
from training.convex_rows import LOSS_OF, Rows

TASKS = list(LOSS_OF)
EXCESS = 1e-4  # of the objective, above the best in float64


SOLVERS = (_core.SOLVE_DUAL, _core.SOLVE_PRIMAL, _core.SOLVE_SUBSET)


def solved(
    rows: Rows, taps: tuple[int, ...] = (0, 1), solver: int = SOLVERS[0], **options: Any
) -> tuple[Design, Problem]:
    (design,) = Design.nested(rows.rows, rows.scaling, [taps], solver=solver)
    return design, Problem.of(rows.task, rows.y, rows.base_logits, **options)


def best(
    design: Design,
    problem: Problem,
    z: np.ndarray,
    penalty: float,
    weight: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """Learned outputs of the oracle, and its objective; numbers in their scaled unit."""
    unit = design.scaling.output_scale[problem.learned].astype(np.float64)
    weight = problem.weight if weight is None else weight / weight.sum()
    on = weight > 0
    loss, targets, offsets = (
        LOSS_OF[problem.task.name],
        problem.targets * unit,
        problem.offsets * unit,
    )
    w, b, value = oracle_exact.solve(loss, z[on], targets[on], weight[on], penalty, offsets[on])
    return offsets + z @ w + b, value


def objective(
    design: Design, problem: Problem, outputs: np.ndarray, weights: np.ndarray, penalty: float
) -> float:
    unit = design.scaling.output_scale[problem.learned]
    value, _ = oracle_exact.losses(
        LOSS_OF[problem.task.name], outputs * unit, problem.targets * unit
    )
    return float(problem.weight @ value + penalty / 2 * (weights.astype(np.float64) ** 2).sum())


@pytest.mark.parametrize(("taps", "base"), [((1,), 0.0), ((0, 1), 1.0)])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("task", TASKS)
def test_solutions_are_the_oracles(
    task: str, solver: int, taps: tuple[int, ...], base: float
) -> None:
    rows = Rows.random(task, base=base)
    design, problem = solved(rows, taps, solver)
    z = rows.columns(design)
    for point in solve(design, problem, [1.0, 1e-2, 1e-4]).points:
        _, least = best(design, problem, z, point.penalty)
        weights = np.concatenate(design.weights_of(point.solution.coefficients))
        of_z = weights / design.factor**0.5
        outputs = rows.outputs(point.solution.adapters())[:, problem.learned]
        reached = objective(design, problem, outputs.astype(np.float64), of_z, point.penalty)
        assert least - 1e-7 <= reached <= least + EXCESS * max(least, 1e-3)
        assert point.held_out is point.held_out_loss is None


@pytest.mark.parametrize("penalty", [1.0, 1e-3])
def test_classes_are_those_of_scikit_learn(penalty: float) -> None:
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    rows = Rows.random("classification", base=0)
    design, problem = solved(rows)
    z = rows.columns(design)
    peer = linear.LogisticRegression(C=1 / (penalty * len(z)), tol=1e-8, max_iter=100000).fit(
        z, rows.y
    )
    theirs = oracle_exact.objective(
        "softmax", z, problem.targets, problem.weight, penalty, peer.coef_.T, peer.intercept_
    )[0]
    (point,) = solve(design, problem, [penalty]).points
    weights = np.concatenate(design.weights_of(point.solution.coefficients)) / design.factor**0.5
    outputs = rows.outputs(point.solution.adapters()).astype(np.float64)
    ours = objective(design, problem, outputs, weights, penalty)
    assert abs(ours - theirs) <= EXCESS * theirs


def test_numbers_are_those_of_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    rows = Rows.random("regression", base=0)
    design, problem = solved(rows)
    z = rows.columns(design)
    peer = linear.Ridge(alpha=0.01 * len(z)).fit(z, rows.y)
    (point,) = solve(design, problem, [0.01]).points
    ours = rows.outputs(point.solution.adapters())
    np.testing.assert_allclose(ours, peer.predict(z), atol=2e-2 * rows.y.std())


def test_weights_of_samples_are_copies_of_them() -> None:
    rows = Rows.random("classification")
    counts = np.random.default_rng(2).integers(0, 3, len(rows.y))
    design = Design.nested(rows.rows, rows.scaling, [(0, 1)], weight=counts)[0]
    problem = Problem.of(rows.task, rows.y, rows.base_logits, weight=counts.astype(np.float32))
    again = Rows(rows.task, rows.format, rows.format.empty(counts.sum()), np.repeat(rows.y, counts))
    again.rows[:] = np.repeat(rows.rows, counts, axis=0)
    twice = Design.nested(again.rows, rows.scaling, [(0, 1)])[0]
    other = Problem.of(rows.task, again.y, again.base_logits)
    assert twice.factor == pytest.approx(design.factor)
    one, two = (solve(*of, [1e-2]).points[0].solution for of in ((design, problem), (twice, other)))
    assert one.loss == pytest.approx(two.loss, rel=1e-3)
    np.testing.assert_allclose(
        rows.outputs(one.adapters()), rows.outputs(two.adapters()), atol=0.02
    )


# --- folds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("task", TASKS)
def test_what_is_held_out_comes_from_the_other_folds(task: str, solver: int) -> None:
    rows = Rows.random(task)
    design, problem = solved(rows, solver=solver)
    folds = block_folds(rows.y, rows.task)
    assert folds.count == 4
    z = rows.columns(design)
    unit = design.scaling.output_scale[problem.learned]
    for point in steps(design, problem, [0.1, 1e-2], folds):
        held_out = np.full((len(z), len(problem.learned)), np.nan)
        for fold in range(4):
            weight = folds.trained(fold).astype(np.float64)
            outputs, _ = best(design, problem, z, point.penalty, weight)
            held_out[folds.of == fold] = outputs[folds.of == fold]
        np.testing.assert_allclose(point.held_out * unit, held_out, atol=0.05)
        unit = design.scaling.output_scale if task == "regression" else 1
        losses = sample_losses(rows.task, problem.outputs(point.held_out) * unit, rows.y * unit)
        assert point.held_out_loss == pytest.approx(losses.mean())


def test_numbers_in_large_units_do_not_choose_alone() -> None:
    rows = Rows.random("regression", n_outputs=2, n_classes=2)
    folds = block_folds(rows.y, rows.task)
    one = solve(*solved(rows), folds=folds)
    rows.y[:, 0] *= 1000
    rows.base_logits[:, 0] *= 1000
    other = solve(*solved(rows), folds=folds)
    assert [point.penalty for point in one.points] == [point.penalty for point in other.points]
    for a, b in zip(one.points, other.points, strict=True):
        assert a.held_out_loss == pytest.approx(b.held_out_loss, rel=1e-3)


def test_samples_for_validation_alone_have_no_say() -> None:
    rows = Rows.random("classification")
    design, problem = solved(rows, trained=np.arange(61) < 41)
    folds = Folds.validation(41, 20)
    (point,) = solve(design, problem, [1e-2], folds).points
    assert np.isnan(point.held_out[:41]).all()
    outputs = rows.outputs(point.solution.adapters())
    np.testing.assert_allclose(point.held_out[41:], outputs[41:, problem.learned], atol=1e-4)
    weight = folds.trained().astype(np.float64)
    expected, _ = best(design, problem, rows.columns(design), 1e-2, weight)
    np.testing.assert_allclose(point.held_out[41:], expected[41:], atol=0.05)
    assert not point.solution.coefficients[:, 41:].any()


def test_samples_that_are_never_held_out() -> None:
    rows = Rows.random("classification")
    design, problem = solved(rows)
    of = np.where(np.arange(61) % 3 == 0, 0, -1).astype(np.int32)
    (point,) = solve(design, problem, [1e-2], Folds(of, 1)).points
    assert (np.isnan(point.held_out).any(axis=1) == (of < 0)).all()
    assert point.solution.trained.all()


def test_the_path_ends_when_it_gets_worse() -> None:
    rows = Rows.random("classification", n_samples=40)
    rows.y[:] = np.random.default_rng(5).integers(0, 4, 40)  # nothing can be learned
    design, problem = solved(rows)
    folds = block_folds(rows.y, rows.task)
    path = solve(design, problem, folds=folds)
    assert path.best.penalty >= 0.1
    assert [point.penalty for point in path.points] == list(PENALTIES[: len(path.points)])
    assert len(path.points) < 6
    assert len(solve(design, problem, PENALTIES[:4], folds, stop_after=None).points) == 4
    losses = [point.held_out_loss for point in path.points]
    assert min(losses) == path.best.held_out_loss
    assert is_worse(path.points)
    assert not is_worse(path.points[:-1])


def test_the_same_bits_again() -> None:
    rows = Rows.random("classification")
    folds = block_folds(rows.y, rows.task)

    def point() -> Point:
        return solve(*solved(rows), [1.0, 1e-3], folds).points[-1]

    one, two = point(), point()
    assert one.held_out.tobytes() == two.held_out.tobytes()
    for a, b in zip(
        one.solution.adapters(2).tensors().values(), two.solution.adapters(2).tensors().values(),
        strict=True,
    ):  # fmt: skip
        assert a.tobytes() == b.tobytes()


# --- adapters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("widths", "rank"), [((7, 40), 4), ((2, 3), 3), ((9, 1), 4)])
def test_the_full_rank_is_the_least_that_loses_nothing(widths, rank) -> None:
    rows = Rows.random("classification", widths=widths, n_outputs=6)
    design, problem = solved(rows)
    (point,) = solve(design, problem, [1e-2]).points
    adapters = point.solution.adapters()
    assert adapters.rank == point.solution.full_rank == rank
    outputs = rows.outputs(adapters)
    assert (outputs[:, 4:] == rows.base_logits[:, 4:]).all()  # classes without samples
    expected, _ = best(design, problem, rows.columns(design), 1e-2)
    shift = problem.settled(expected, np.ones(61, bool))[problem.learned]
    np.testing.assert_allclose(outputs[:, :4], expected + shift, atol=0.05)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("task", TASKS)
def test_a_smaller_rank_is_the_best_of_its_directions(task: str, solver: int) -> None:
    rows = Rows.random(task)
    design, problem = solved(rows, solver=solver)
    solution = solve(design, problem, [1e-2]).points[0].solution
    every, unit = np.ones(61, bool), design.scaling.output_scale[problem.learned]
    losses = []
    for rank in (1, 2, 3):
        adapters, loss = solution.cut(rank)
        assert adapters.rank == rank
        outputs = rows.outputs(adapters)[:, problem.learned]
        assert problem.mean_loss(outputs, every) == pytest.approx(loss, rel=1e-3)
        losses.append(loss)
        weights = design.weights_of(solution.coefficients)
        z, hidden = rows.columns(design), []
        for tap, at in enumerate((slice(0, 7), slice(7, 47))):
            hidden.append(z[:, at] @ np.linalg.svd(weights[tap].astype("d"))[0][:, :rank])
        expected, _ = best(design, problem, np.concatenate(hidden, axis=1), 1e-2)
        np.testing.assert_allclose(outputs * unit, expected, atol=0.05)
    assert losses[0] > losses[1] > losses[2] > 0.998 * solution.loss
    if task == "classification":  # whose weights add up to 0: one direction is none
        assert losses[2] == pytest.approx(solution.loss, rel=1e-3)
    assert solution.adapters(9).rank == 4


def test_taps_that_are_left_out_have_no_adapter() -> None:
    rows = Rows.random("classification")
    design, problem = solved(rows, (1,))
    solution = solve(design, problem, [1e-2]).points[0].solution
    for adapters in (solution.adapters(), solution.adapters(2)):
        assert not (adapters.lora_a[0] @ adapters.lora_b[0]).any()
        assert (adapters.lora_a[1] @ adapters.lora_b[1]).any()
