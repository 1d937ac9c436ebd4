"""Weights of a stack, against scipy's constrained minimiser."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from skip2lora.tasks.task import TASKS, Task, sample_losses
from skip2lora.training.stacking import best_factor, stack_weights


def answers_of(task: Task, random: np.random.Generator, n_samples: int) -> np.ndarray:
    if task.name == "classification":
        return random.integers(0, 4, n_samples).astype(np.int32)
    if task.name == "multi-label":
        return random.integers(0, 2, (n_samples, 4)).astype(np.float32)
    return random.normal(size=(n_samples, 4)).astype(np.float32)


def candidates(task: Task, answers: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Three that know something of the answers, and differ in how much and how loudly."""
    truth = np.eye(4)[answers] if answers.ndim == 1 else 2 * answers - (task.name != "regression")
    noise = random.normal(size=(3, len(answers), 4))
    loud = np.array([0.5, 2.0, 6.0])[:, None, None]
    return (loud * truth + [[[1.5]], [[2.0]], [[4.0]]] * noise).astype(np.float32)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
@pytest.mark.parametrize("seed", range(4))
def test_the_loss_is_as_small_as_scipy_makes_it(task: Task, seed: int, weighted: bool) -> None:
    random = np.random.default_rng(seed)
    answers = answers_of(task, random, 60)
    logits = candidates(task, answers, random)
    weight = random.gamma(1.0, size=60).astype(np.float32) if weighted else None

    def loss(mix: np.ndarray) -> float:
        outputs = np.tensordot(mix, logits.astype(np.float64), 1)
        return float(np.average(sample_losses(task, outputs, answers), weights=weight))

    mix = stack_weights(task, logits, answers, weight)
    assert mix.sum() == pytest.approx(1)
    assert (mix >= 0).all()
    peer = minimize(
        loss, [1 / 3] * 3, method="SLSQP", bounds=[(0, 1)] * 3, tol=1e-12,
        constraints={"type": "eq", "fun": lambda mix: mix.sum() - 1},
    )  # fmt: skip
    assert loss(mix) == pytest.approx(peer.fun, rel=1e-7)
    np.testing.assert_allclose(mix, peer.x, atol=1e-3)


def test_some_mixes_lie_inside_and_some_on_the_edge() -> None:
    """Otherwise the test above would not see that faces are tried."""
    counts = set()
    for task in TASKS.values():
        for seed in range(4):
            random = np.random.default_rng(seed)
            answers = answers_of(task, random, 60)
            mix = stack_weights(task, candidates(task, answers, random), answers)
            counts.add(int(np.count_nonzero(mix > 1e-6)))
    assert len(counts) > 1


def test_the_same_candidate_twice_is_no_trouble() -> None:
    random = np.random.default_rng(0)
    answers = answers_of(TASKS["classification"], random, 60)
    one, two, _ = candidates(TASKS["classification"], answers, random)
    alone = stack_weights(TASKS["classification"], np.stack([one, two]), answers)
    mix = stack_weights(TASKS["classification"], np.stack([one, one, two]), answers)
    assert mix[0] + mix[1] == pytest.approx(alone[0], abs=1e-3)


def test_a_candidate_that_is_never_wrong_is_taken_alone() -> None:
    answers = np.int32([0, 1, 0, 1])
    right = 8 * np.eye(2, dtype=np.float32)[answers]
    np.testing.assert_allclose(
        stack_weights(TASKS["classification"], np.stack([right, -right]), answers),
        [1, 0],
        atol=1e-6,
    )
    assert stack_weights(TASKS["classification"], right[None], answers).tolist() == [1.0]


@pytest.mark.parametrize("task", ["classification", "multi-label"])
@pytest.mark.parametrize("seed", range(3))
def test_a_factor_is_that_of_the_least_loss(task: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    answers = answers_of(TASKS[task], random, 60)
    scores = candidates(TASKS[task], answers, random)[1]
    weight = random.gamma(1.0, size=60)

    def loss(factor: float) -> float:
        losses = sample_losses(TASKS[task], factor * scores, answers)
        return float(np.average(losses, weights=weight))

    for size in (0.1, 1, 30):  # of scores, in any unit
        factor = best_factor(TASKS[task], size * scores, answers, weight)
        best = minimize_scalar(loss, bounds=(0, 20), method="bounded", options={"xatol": 1e-8})
        assert factor * size == pytest.approx(best.x, rel=1e-3)
    assert best_factor(TASKS[task], -scores, answers, weight) == pytest.approx(0, abs=1e-12)


def test_a_factor_is_finite_where_no_answer_is_wrong() -> None:
    answers = np.arange(40, dtype=np.int32) % 2
    scores = np.eye(2)[answers] - 0.5
    factor = best_factor(TASKS["classification"], scores, answers)
    loss = sample_losses(TASKS["classification"], factor * scores, answers).mean()
    assert 1 / 41 / 3 < loss <= 1 / 41
