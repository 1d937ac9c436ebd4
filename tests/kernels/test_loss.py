"""Softmax cross entropy of every kernel table against the oracle: its own exp and log included."""

from itertools import product

import numpy as np
import pytest

import oracle
from kernels.cases import COUNTS, OUTPUTS, assert_close, normal


def check(table, logits, labels, *, tolerance=1e-6):
    """The polynomials err by about 1e-7, and a probability is at most 1."""
    loss, correct, grad = table.loss(logits, labels)
    want, want_grad = oracle.softmax_cross_entropy(logits, labels)
    what = f"{logits.shape}"
    assert_close(loss, want, 1 + want, f"loss of {what}", tolerance)
    assert_close(grad, want_grad, 1 / len(logits), f"gradient of {what}", tolerance)
    assert correct == np.count_nonzero(logits.argmax(axis=1) == labels)
    return loss, grad


@pytest.mark.parametrize("n_outputs", [1, *OUTPUTS, 96])
def test_loss(table, n_outputs):
    for count, scale in product((*COUNTS, 16, 64, 65), (0.1, 3, 30)):
        logits = normal(1, count, n_outputs, scale=scale)
        rng = np.random.default_rng([2, count])
        _, grad = check(table, logits, rng.integers(0, n_outputs, count))
        assert_close(grad.sum(axis=1), np.zeros(count), 1 / count, "sum of a sample's gradient")


def test_exp_and_log_over_their_range(table):
    """Two classes t apart: the gradient of the other class is exp(-t) / (1 + exp(-t)) relative to
    itself, so small probabilities show the whole range of exp; the loss shows log."""
    for start in np.arange(-80, 80, 10.0):
        apart = np.linspace(start, start + 10, 1001, dtype=np.float32)
        logits = np.stack([np.zeros_like(apart), apart], axis=1)
        _, _, grad = table.loss(logits, np.zeros(len(apart), int))
        share = 1 / len(apart)
        exact = 1 / (1 + np.exp(-apart.astype(np.float64)))
        assert_close(grad[:, 1], exact * share, exact * share, "probability", 4e-7)
        for label in (0, 1):
            some = np.ascontiguousarray(logits[::50])
            check(table, some, np.full(len(some), label))
    for apart in np.linspace(-80, 80, 321):  # one sample alone: no mean hides an error
        check(table, np.array([[0, apart]], np.float32), [0], tolerance=1.5e-7)


def test_log_of_many_classes(table):
    """Equal logits: the sum of the exponentials is the number of classes."""
    for n_outputs in (*range(1, 40), 1000, 4096):
        logits = np.full((3, n_outputs), 2.5, np.float32)
        loss, _ = check(table, logits, np.zeros(3, int))
        assert_close(loss, np.log(n_outputs), max(1, np.log(n_outputs)), "log", 2e-7)


@pytest.mark.parametrize(
    "logits",
    [
        [[1e4, 0.0, 0.0]],
        [[-1e4, 0.0, 0.0]],
        [[0.0, 1e4, -1e4]],
        [[3e38, 0.0, 1.0]],
        [[-3e38, 0.0, 1.0]],
        [[1e30, 1e30, 1e30]],
        [[-1e30, -1e30, -1e30]],
        [[3e38, 3e38, 3e38]],
        [[0.0, 0.0, 0.0]],
        [[-0.0, 0.0, -0.0]],
        [[1e-40, 0.0, -1e-40]],
        [[1e4, 0.0, 0.0], [80.0, -80.0, 0.0], [5e3, 5e3, -5e3]],
    ],
    ids=str,
)
def test_extreme_logits_stay_finite_and_close(table, logits):
    logits = np.array(logits, np.float32)
    for label in range(3):
        labels = np.full(len(logits), label)
        loss, grad = check(table, logits, labels)
        assert np.isfinite(loss)
        assert np.isfinite(grad).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_logits_that_are_not_finite_are_not_hidden(table, value, label):
    """Algorithm 1 stops at a loss that is not finite: it must show what spoils the gradient."""
    for place in range(3):
        logits = normal(1, 4, 3).copy()
        logits[2, place] = value
        labels = np.array([0, 1, label, 2])
        loss, _, grad = table.loss(logits, labels)
        assert not np.isfinite(loss) or np.isfinite(grad).all(), f"{value} at {place}"


def test_a_tie_goes_to_the_first_class(table):
    logits = np.array([[1, 1, 0], [0, 2, 2], [3, 3, 3]], np.float32)
    assert table.loss(logits, [0, 1, 0])[1] == 3
    assert table.loss(logits, [1, 2, 2])[1] == 0
