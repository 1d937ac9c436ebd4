"""Which outputs are learned, what they should be, and what becomes of the others."""

from __future__ import annotations

import numpy as np
import pytest

from skip2lora.errors import DataError
from skip2lora.tasks.task import TASKS, sample_losses, softmax
from skip2lora.training.problem import Problem, check_contrast

CLASSES, LABELS, NUMBERS = (TASKS[name] for name in ("classification", "multi-label", "regression"))


def base(n_samples: int, n_outputs: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (n_samples, n_outputs)).astype(np.float32)


def test_classes_that_occur_are_learned() -> None:
    y = np.array([4, 1, 4, 2], np.int32)
    problem = Problem.of(CLASSES, y, base(4, 6), smoothing=0.3)
    assert problem.learned.tolist() == [1, 2, 4]
    expected = 0.7 * np.eye(3)[[2, 0, 2, 1]] + 0.1
    np.testing.assert_allclose(problem.targets, expected)
    assert (problem.offsets == base(4, 6)[:, [1, 2, 4]]).all()
    weighted = Problem.of(CLASSES, y, base(4, 6), weight=np.array([1, 3, 4, 0], "f"))
    assert weighted.learned.tolist() == [1, 4]
    assert weighted.weight.tolist() == [0.125, 0.375, 0.5, 0]
    trained = np.array([True, True, False, True])
    assert Problem.of(CLASSES, y, base(4, 6), trained=~trained | (y == 1)).learned.tolist() == [
        1,
        4,
    ]


def test_labels_that_some_have_are_learned() -> None:
    y = np.array([[0, 1, 1, 0], [0, 1, 0, 1], [0, 1, 0, 1]], np.float32)
    problem = Problem.of(LABELS, y, base(3, 4), smoothing=0.2, base_factor=0.5)
    assert problem.learned.tolist() == [2, 3]
    np.testing.assert_allclose(problem.targets, [[0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    assert (problem.offsets == base(3, 4)[:, 2:] / 2).all()
    numbers = Problem.of(NUMBERS, y, base(3, 4))
    assert numbers.learned.tolist() == [0, 1, 2, 3]
    assert (numbers.targets == y).all()


def test_what_tells_nothing_apart(refused) -> None:
    same = np.tile(np.array([0, 1], "f"), (5, 1))
    message = refused(DataError, Problem.of, LABELS, same, base(5, 4))
    assert "got the same labels in all 5 samples" in message
    message = refused(DataError, check_contrast, np.full(5, 2, np.int32))
    assert "got one class alone in all 5 samples" in message
    assert message.endswith("add some, such as old ones with keep=, or pass solver='steps'")
    assert "in the only sample, expected" in refused(DataError, check_contrast, np.array([1]))
    check_contrast(np.array([2, 2, 0]))


def test_one_class_so_far_is_raised_above_the_others() -> None:
    """Nothing is learned of it; the others are left a mean probability of 1 in n + 1."""
    y, base_logits = np.full(9, 2, np.int32), base(9, 4, seed=3)
    problem = Problem.of(CLASSES, y, base_logits)
    assert problem.learned.tolist() == [2]
    more = problem.settled(base_logits[:, [2]], np.ones(9, bool))
    assert more[[0, 1, 3]].tolist() == [0, 0, 0]
    powers = np.exp((base_logits + more).astype(np.float64))
    others = 1 - powers[:, 2] / powers.sum(axis=1)
    assert others.mean() == pytest.approx(1 / 10, abs=1e-6)


def test_losses_and_accuracy_are_those_of_all_outputs() -> None:
    y = np.array([1, 3, 1, 3, 3], np.int32)
    logits = base(5, 2, seed=1)
    weight = np.array([1, 2, 0, 3, 1], "f")
    problem = Problem.of(CLASSES, y, base(5, 5), weight=weight)
    every = problem.outputs(logits)
    assert (every[:, [1, 3]] == logits).all()
    assert (np.delete(every, [1, 3], axis=1) == np.delete(base(5, 5), [1, 3], axis=1)).all()
    rows = np.array([True, True, False, True, False])
    expected = np.average(sample_losses(CLASSES, every, y)[rows], weights=weight[rows])
    assert problem.mean_loss(logits, rows) == pytest.approx(expected)
    assert problem.accuracy(logits, rows) == (every.argmax(axis=1) == y)[rows].mean()


def test_what_has_no_samples_is_not_predicted_any_more() -> None:
    y = np.array([1, 3] * 10, np.int32)
    known = base(20, 5)
    known[:, 2] += 9  # what the model says of all samples
    problem, logits, trained = (
        Problem.of(CLASSES, y, known),
        base(20, 2, seed=1),
        np.arange(20) < 15,
    )
    more = problem.settled(logits, trained)
    assert more[[0, 2, 4]].tolist() == [0, 0, 0]
    assert more[1] == more[3] > 5
    shares = softmax(problem.outputs(logits + more[problem.learned]).astype(np.float64))[trained]
    assert shares[:, [0, 2, 4]].sum(axis=1).mean() == pytest.approx(1 / 16, rel=1e-5)
    unlikely = Problem.of(CLASSES, y, known - 50 * np.isin(np.arange(5), [0, 2, 4]))
    assert not unlikely.settled(logits, trained).any()  # nothing is wrong with them
    assert not Problem.of(CLASSES, y // 2, known[:, :2]).settled(logits, trained).any()


def test_labels_without_contrast_are_settled_by_their_bias() -> None:
    y = np.zeros((20, 3), np.float32)
    y[:, 1], y[:10, 2] = 1, 1
    known = base(20, 3)
    problem, trained = Problem.of(LABELS, y, known), np.ones(20, bool)
    more = problem.settled(known[:, 2:], trained)
    shares = (1 / (1 + np.exp(-(known.astype(np.float64) + more)))).mean(axis=0)
    assert shares[0] == pytest.approx(1 / 22, rel=1e-5)
    assert shares[1] == pytest.approx(21 / 22, rel=1e-5)
    assert more[2] == 0
    sure = Problem.of(LABELS, y, known + np.array([-9, 9, 0], "f"))
    assert not sure.settled(known[:, 2:], trained).any()


def test_losses_of_numbers_alone_are_of_what_is_scaled() -> None:
    rows, logits = np.array([True, False, True, True]), base(4, 2, seed=1)
    scale = np.array([3.0, 0.5])
    numbers = Problem.of(NUMBERS, base(4, 2, seed=2), base(4, 2))
    labels = Problem.of(LABELS, np.eye(4, 2, dtype=np.float32), base(4, 2))
    plain, scaled = (numbers.losses(logits, rows, each) for each in (None, scale))
    assert np.isnan(plain).tolist() == np.isnan(scaled).tolist() == (~rows).tolist()
    values, answers = numbers.compared(logits, rows)
    want = sample_losses(NUMBERS, values * scale, answers * scale)
    np.testing.assert_allclose(scaled[rows], want, rtol=1e-12)
    assert np.abs(scaled[rows] / plain[rows] - 1).min() > 1e-3
    np.testing.assert_array_equal(labels.losses(logits, rows, scale), labels.losses(logits, rows))
