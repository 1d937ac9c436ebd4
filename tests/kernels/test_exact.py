"""The exact solver of the core against its objective in float64 and against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from kernels.convex import Problem, in_lanes, lanes_of, problem
from skip2lora import _core

PENALTIES = (1.0, 1e-2, 1e-3, 1e-5)
TOLERANCE, EXCESS = 1e-5, 1e-4  # asked for, and what the objective may have above its least


@pytest.fixture(params=_core.kernel_tables(), autouse=True)
def kernels(request, monkeypatch):
    monkeypatch.setenv("SKIP2_KERNELS", request.param)


def path(of, penalties=PENALTIES, tolerance=TOLERANCE):
    """From the strongest penalty, each starting where the one before ended."""
    dual, (coefficients, products, bias) = of.dual(), of.start()
    for penalty in penalties:
        report = dual.solve(penalty, tolerance, coefficients, products, bias)
        assert report.converged
        yield penalty, report, coefficients, products, bias


def check_path(of, penalties=PENALTIES):
    for penalty, report, coefficients, products, bias in path(of, penalties):
        weights = of.weights_of(coefficients)
        value, _, _ = of.objective(weights, bias, penalty)
        least = of.least(penalty, weights, bias)
        assert value - least <= EXCESS * max(least, 2e-3)
        assert report.objective == pytest.approx(value, rel=2e-4, abs=1e-6)
        logits = in_lanes(of.z @ weights)
        np.testing.assert_allclose(products, logits, rtol=0, atol=2e-3 * np.abs(logits).max())
        assert (coefficients[:, in_lanes(of.weights) == 0] == 0).all()


@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "squared"])
@pytest.mark.parametrize("n_outputs", [1, 3, 13])
def test_the_least_objective(loss, n_outputs):
    check_path(problem(loss, n_outputs=n_outputs))


@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "squared"])
def test_weights_offsets_and_smoothing(loss):
    random = np.random.default_rng(1)
    weights, offsets = random.uniform(0.2, 3, 90), random.normal(size=(90, 4)).astype("f4")
    weights[20:45] = 0  # a fold
    check_path(problem(loss, smoothing=0.1, weights=weights, offsets=offsets))


def test_folds_beside_each_other_are_those_alone():
    of, n = problem(n=150, width=60, n_outputs=3), 150
    folds = np.ones((4, n))
    folds[0, :70] = folds[1, 70:] = folds[2, ::3] = 0
    folds /= folds.sum(axis=1, keepdims=True)
    weights = np.stack([in_lanes(fold) for fold in folds])
    targets, lanes = in_lanes(of.targets), lanes_of(n)
    several = _core.DualProblem(of.panels, _core.SOFTMAX, targets, weights)
    coefficients, products = (np.zeros((12, lanes), np.float32) for _ in range(2))
    bias = np.zeros(12, np.float32)
    alone = [
        (_core.DualProblem(of.panels, _core.SOFTMAX, targets, fold), of.start()) for fold in weights
    ]
    for penalty in PENALTIES:
        reports = several.solve_all(penalty, TOLERANCE, coefficients, products, bias)
        for at, (dual, arrays) in enumerate(alone):
            report = dual.solve(penalty, TOLERANCE, *arrays)
            part = slice(3 * at, 3 * at + 3)
            assert report.objective == reports[at].objective
            assert report.iterations == reports[at].iterations
            for got, own in zip((coefficients, products, bias), arrays, strict=True):
                assert np.array_equal(got[part], own)
            assert (coefficients[part][:, weights[at] == 0] == 0).all()
    with pytest.raises(ValueError, match="several problems"):
        several.solve(1.0, TOLERANCE, coefficients, products, bias)


def test_held_out_samples_change_nothing():
    weights = np.ones(90)
    weights[60:] = 0
    of = problem(weights=weights)
    dropped = problem(weights=weights)
    dropped.targets[60:] = np.roll(dropped.targets[60:], 1, axis=1)
    for one, other in zip(path(of), path(dropped), strict=True):
        assert np.array_equal(one[2], other[2])
        assert np.array_equal(one[4], other[4])


@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "squared"])
def test_a_sample_of_weight_two_is_the_sample_twice(loss):
    random = np.random.default_rng(5)
    counts = random.integers(1, 3, 60)
    of = problem(loss, n=60, n_outputs=3, weights=counts)
    twice = problem(loss, n=60, n_outputs=3)
    twice = Problem(
        np.repeat(of.rows, counts, axis=0),
        np.repeat(of.targets, counts, axis=0),
        loss,
        np.full(counts.sum(), 1 / counts.sum()),
    )
    twice.mean, twice.scale = of.mean, of.scale  # those of weighted columns are another test's
    twice.panels, twice.factor = twice.gram(), of.factor
    _core.gram_finish(twice.panels, of.factor)
    for one, other in zip(path(of), path(twice), strict=True):
        assert one[1].objective == pytest.approx(other[1].objective, rel=EXCESS)
        np.testing.assert_allclose(one[4], other[4], atol=0.02 * np.abs(one[4]).max() + 1e-5)


@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
@pytest.mark.parametrize("n_outputs", [2, 5])
def test_logistic_regression_of_scikit_learn(penalty, n_outputs):
    of = problem(n=80, width=40, n_outputs=n_outputs)
    peer = LogisticRegression(C=1 / (80 * penalty), tol=1e-8, max_iter=10_000)
    peer.fit(of.z, of.targets.argmax(axis=1))
    weights, bias = peer.coef_.T, peer.intercept_
    if n_outputs == 2:  # one logit, whose weights are the difference of two
        weights, bias = np.hstack([-weights, weights]) / 2, np.r_[-bias, bias] / 2
        penalty *= 2
    value, _, _ = of.objective(weights, bias, penalty)
    *_, (_, report, _, _, _) = path(of, (1.0, penalty))
    assert report.objective == pytest.approx(value, rel=EXCESS)


@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
def test_ridge_of_scikit_learn(penalty):
    of = problem("squared", n=80, width=40, n_outputs=3)
    peer = Ridge(alpha=80 * penalty).fit(of.z, of.targets)
    value, _, _ = of.objective(peer.coef_.T, peer.intercept_, penalty)
    *_, (_, report, coefficients, _, bias) = path(of, (1.0, penalty), 1e-7)
    assert report.objective == pytest.approx(value, rel=EXCESS)
    off = of.weights_of(coefficients) - peer.coef_.T
    assert np.linalg.norm(off) <= 1e-2 * np.linalg.norm(peer.coef_)
    np.testing.assert_allclose(bias, peer.intercept_, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "squared"])
def test_one_sample_alone(loss):
    of = problem(loss, n=1, n_outputs=2)
    *_, (_, report, coefficients, products, bias) = path(of, (1.0, 1e-3))
    assert report.objective <= 2e-3
    assert (products == 0).all()
    assert np.isfinite(coefficients).all()
    assert np.isfinite(bias).all()


def test_one_class_alone():
    of = problem(n=40, n_outputs=1)
    *_, (_, report, coefficients, _, _) = path(of, (1.0, 1e-5))
    assert report.objective == 0
    assert (coefficients == 0).all()
    of = problem(n=40, n_outputs=3)
    of.targets[:] = [1, 0, 0]  # of three, the others never
    *_, (_, report, _, _, bias) = path(of, (1.0, 1e-5))
    assert report.objective < 2e-3
    assert bias[0] > max(bias[1:])


def test_constant_columns():
    of = problem(n=50, width=10)
    of.rows[:, :5] = 7
    check_path(Problem(of.rows, of.targets, "softmax", of.weights))
    of.rows[:] = 7
    *_, (_, report, coefficients, products, _) = path(
        Problem(of.rows, of.targets, "softmax", of.weights)
    )
    shares = of.targets.mean(axis=0)
    entropy = -(shares * np.log(np.maximum(shares, 1e-30))).sum()
    assert report.objective == pytest.approx(entropy, rel=EXCESS)
    assert (products == 0).all()
    assert np.isfinite(coefficients).all()


def test_separable_samples_at_a_weak_penalty():
    of = problem(n=60, width=400, n_outputs=3)
    check_path(of, (1.0, 1e-2, 1e-4, 1e-6, 1e-8))


def test_a_thousand_classes():
    of = problem(n=64, width=50, n_outputs=1000)
    reports = [step[1] for step in path(of, (1.0, 1e-2))]
    assert reports[1].objective < reports[0].objective < np.log(1000)


def test_the_order_of_samples_does_not_matter():
    of = problem()
    order = np.random.default_rng(6).permutation(90)
    other = Problem(of.rows[order], of.targets[order], "softmax", of.weights[order])
    for one, again in zip(path(of), path(other), strict=True):
        assert one[1].objective == pytest.approx(again[1].objective, rel=EXCESS)


def test_the_same_bits_again():
    ends = [[step[2].copy(), step[4].copy()] for step in path(problem("sigmoid"))]
    again = [[step[2].copy(), step[4].copy()] for step in path(problem("sigmoid"))]
    assert all(
        np.array_equal(a, b)
        for x, y in zip(ends, again, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_refusals():
    of = problem(n=40, n_outputs=3)
    targets, weights = in_lanes(of.targets), in_lanes(of.weights)
    dual, (coefficients, products, bias) = of.dual(), of.start()
    for penalty, tolerance in ((-1.0, 1e-5), (np.nan, 1e-5), (np.inf, 1e-5), (1.0, -1.0)):
        with pytest.raises(ValueError, match="penalty and tolerance"):
            dual.solve(penalty, tolerance, coefficients, products, bias)
    with pytest.raises(ValueError, match="outputs, lanes"):
        dual.solve(1.0, 1e-5, coefficients[:2], products, bias)
    for bad in (-weights, 0 * weights, weights * np.nan, np.ones_like(weights)):
        with pytest.raises(ValueError, match="out of its range"):  # the last: beyond the samples
            _core.DualProblem(of.panels, _core.SOFTMAX, targets, bad)
    with pytest.raises(ValueError, match="out of its range"):
        _core.DualProblem(of.panels, _core.SOFTMAX, 2 * targets, weights)
    with pytest.raises(ValueError, match="unknown"):
        _core.DualProblem(of.panels, 3, targets, weights)
    with pytest.raises(ValueError, match="outputs, lanes"):
        _core.DualProblem(of.panels, _core.SOFTMAX, targets, weights[:32])
    offsets = np.full_like(targets, np.inf)
    with pytest.raises(ValueError, match="not finite"):
        _core.DualProblem(of.panels, _core.SOFTMAX, targets, weights, offsets).solve(
            1.0, 1e-5, coefficients, products, bias
        )


def test_bytes():
    assert _core.dual_bytes(300, 10) >= 4 * 10 * 320 * 30
    assert _core.dual_bytes(300, 10, 5) > 4 * _core.dual_bytes(300, 10)
