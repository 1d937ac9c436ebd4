"""Ridge regression of the compiled core against refits in float64 and against scikit-learn."""

import numpy as np
import pytest

from skip2lora import _core

N, WIDTH, OUTPUTS = 90, 30, 3
LANES = 96


@pytest.fixture(params=_core.kernel_tables(), autouse=True)
def kernel_table(request, monkeypatch):
    monkeypatch.setenv("SKIP2_KERNELS", request.param)


def samples(n=N, seed=0):
    """Columns with mean |z|^2 = 1, and targets."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, WIDTH)) @ np.diag(rng.uniform(0.1, 2, WIDTH)) + 0.3
    return z / np.sqrt((z**2).sum(axis=1).mean()), rng.normal(size=(n, OUTPUTS))


def laned(rows):
    """(outputs, lanes) of (samples, outputs)."""
    out = np.zeros((rows.shape[1], LANES), np.float32)
    out[:, : len(rows)] = rows.T
    return out


def gram_of(z):
    """In panels of 32 columns."""
    lanes = -(-len(z) // 32) * 32
    gram = np.full((len(z), lanes), np.nan, np.float32)
    gram[:, : len(z)] = z @ z.T
    return np.ascontiguousarray(gram.reshape(len(z), -1, 32).transpose(1, 0, 2))


def ridge_of(z, shift, weights=None):
    ridge = _core.Ridge(LANES)
    ridge.factorize(gram_of(z), weights, shift)
    return ridge


def solve(ridge, y):
    coefficients, bias = laned(np.full_like(y, np.nan)), np.zeros(y.shape[1], np.float32)
    ridge.solve(laned(y), coefficients, bias)
    return coefficients, bias


def oracle(z, y, shift, weights=None):
    """W and b of the weighted problem, from its normal equations, in float64."""
    weights = np.ones(len(z)) if weights is None else weights.astype(np.float64)
    ones = np.column_stack([z, np.ones(len(z))])
    metric = ones.T @ (weights[:, None] * ones) + np.diag([shift] * z.shape[1] + [0])
    solution = np.linalg.solve(metric, ones.T @ (weights[:, None] * y))
    return solution[:-1], solution[-1]


def outputs_of(solution, z):
    return z @ solution[0] + solution[1]


def objective(solution, z, y, shift, weights):
    losses = ((y - outputs_of(solution, z)) ** 2).sum(axis=1)
    return (
        losses @ (np.ones(len(z)) if weights is None else weights)
        + shift * (solution[0] ** 2).sum()
    )


@pytest.mark.parametrize("shift", [10, 0.1, 1e-3])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_solution(shift, weighted):
    z, y = samples()
    weights = np.random.default_rng(1).uniform(0.2, 3, N).astype(np.float32) if weighted else None
    coefficients, bias = solve(ridge_of(z, shift, weights), y)
    expected = oracle(z, y, shift, weights)
    got = z.T @ coefficients[:, :N].T, bias
    np.testing.assert_allclose(outputs_of(got, z), outputs_of(expected, z), atol=1e-3)
    least = objective(expected, z, y, shift, weights)
    np.testing.assert_allclose(objective(got, z, y, shift, weights), least, rtol=1e-6)
    assert not coefficients[:, N:].any()


def test_a_weight_of_two_is_the_sample_twice():
    z, y = samples(40)
    weights = np.ones(40, np.float32)
    weights[:10] = 2
    coefficients, bias = solve(ridge_of(z, 0.1, weights), y)
    twice = np.vstack([z, z[:10]])
    other, other_bias = solve(ridge_of(twice, 0.1), np.vstack([y, y[:10]]))
    np.testing.assert_allclose(z.T @ coefficients[:, :40].T, twice.T @ other[:, :50].T, atol=1e-5)
    np.testing.assert_allclose(bias, other_bias, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [N, 20])  # more samples than columns, and fewer
def test_what_a_sample_is_told_without_it(weighted, n):
    z, y = samples(n)
    weights = np.random.default_rng(1).uniform(0.2, 3, n).astype(np.float32) if weighted else None
    ridge = ridge_of(z, 0.05, weights)
    coefficients, _ = solve(ridge, y)
    residuals = np.full_like(coefficients, np.nan)
    ridge.leave_one_out(coefficients, residuals)
    for out in range(n):
        rest = np.delete(np.arange(n), out)
        solution = oracle(z[rest], y[rest], 0.05, None if weights is None else weights[rest])
        expected = y[out] - outputs_of(solution, z[out])
        np.testing.assert_allclose(residuals[:, out], expected, atol=2e-4)
    assert not residuals[:, n:].any()


@pytest.mark.parametrize("group", [[5], list(range(80, 90)), [70, 3, 88, 4], list(range(1, 90))])
def test_what_a_group_is_told_without_it(group):
    z, y = samples()
    ridge = ridge_of(z, 0.05)
    coefficients, _ = solve(ridge, y)
    residuals = np.zeros((OUTPUTS, len(group)), np.float32)
    ridge.leave_out(np.array(group, np.uint32), coefficients, residuals)
    rest = np.delete(np.arange(N), group)
    expected = y[group] - outputs_of(oracle(z[rest], y[rest], 0.05), z[group])
    np.testing.assert_allclose(residuals, expected.T, atol=5e-4)


def test_scikit_learn_chooses_the_same_penalty():
    linear_model = pytest.importorskip("sklearn.linear_model")
    z, y = samples()
    y = y * 0.3 + z[:, :OUTPUTS] * 4
    penalties = np.array([30, 3, 0.3, 0.03, 0.003])
    peer = linear_model.RidgeCV(alphas=penalties, store_cv_results=True).fit(z, y)
    losses = []
    for number, penalty in enumerate(penalties):
        ridge = ridge_of(z, float(penalty))
        coefficients, bias = solve(ridge, y)
        residuals = np.zeros_like(coefficients)
        ridge.leave_one_out(coefficients, residuals)
        losses.append(np.mean(residuals[:, :N] ** 2))
        np.testing.assert_allclose(losses[-1], peer.cv_results_[..., number].mean(), rtol=1e-4)
    assert penalties[np.argmin(losses)] == peer.alpha_
    coefficients, bias = solve(ridge_of(z, float(peer.alpha_)), y)
    np.testing.assert_allclose(z.T @ coefficients[:, :N].T, peer.coef_.T, atol=1e-4)
    np.testing.assert_allclose(bias, peer.intercept_, atol=1e-5)


@pytest.mark.parametrize("shift", [10, 1e-4])
def test_samples_that_come_and_go(shift):
    z, y = samples(300)
    gram = (z @ z.T).astype(np.float32)
    rng = np.random.default_rng(2)
    present = list(range(60))
    ridge = ridge_of(z[:60], shift)
    for added in rng.permutation(np.arange(60, 300)):
        ridge.append(np.ascontiguousarray(gram[added, [*present, added]]))
        present.append(int(added))
        gone = int(rng.integers(len(present)))
        ridge.remove(gone)
        del present[gone]
        assert ridge.n_samples == 60
    coefficients, bias = solve(ridge, y[present])
    fresh, fresh_bias = solve(ridge_of(z[present], shift), y[present])
    got = z @ (z[present].T @ coefficients[:, :60].T) + bias
    expected = z @ (z[present].T @ fresh[:, :60].T) + fresh_bias
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_a_new_class_needs_no_new_factor():
    z, y = samples()
    ridge = ridge_of(z, 0.1)
    solve(ridge, y[:, :2])
    coefficients, bias = solve(ridge, y)
    other, other_bias = solve(ridge_of(z, 0.1), y)
    np.testing.assert_array_equal(coefficients, other)
    np.testing.assert_array_equal(bias, other_bias)


def coefficients_of(ridge, **shape):
    return np.zeros((shape.get("outputs", OUTPUTS), shape.get("lanes", LANES)), np.float32)


def bad_calls():
    """Name, what is called with a ridge of N samples, a part of the message."""
    z, y = samples()
    some = np.array([1, 1], np.uint32)
    nan = gram_of(z)
    nan[0, 3, 3] = np.nan
    c, b = coefficients_of(None), np.zeros(OUTPUTS, np.float32)
    return {
        "shift": (lambda r: r.factorize(gram_of(z), None, 0.0), "not above 0"),
        "nan shift": (lambda r: r.factorize(gram_of(z), None, np.nan), "not above 0"),
        "weight": (lambda r: r.factorize(gram_of(z), -np.ones(N, np.float32), 1.0), "not above 0"),
        "weights": (lambda r: r.factorize(gram_of(z), np.ones(3, np.float32), 1.0), "one a sample"),
        "nan": (lambda r: r.factorize(nan, None, 1.0), "not finite"),
        "many": (lambda r: r.factorize(gram_of(np.eye(97)), None, 1.0), "room"),
        "narrow": (lambda r: r.factorize(gram_of(z)[1:].copy(), None, 1.0), "lanes"),
        "double": (lambda r: r.factorize(gram_of(z).astype(float), None, 1.0), "incompatible"),
        "append short": (lambda r: r.append(np.ones(N, np.float32)), "one a sample"),
        "append weight": (lambda r: r.append(np.ones(N + 1, np.float32), 0.0), "not above 0"),
        "append": (lambda r: r.append(-np.ones(N + 1, np.float32)), "positive definite"),
        "remove": (lambda r: r.remove(N), "no such sample"),
        "lanes": (lambda r: r.solve(laned(y), coefficients_of(r, lanes=32), b), "coefficients"),
        "targets": (lambda r: r.solve(laned(y)[:2], c, b), "targets"),
        "bias": (lambda r: r.solve(laned(y), c, b[:2]), "bias"),
        "residuals": (lambda r: r.leave_one_out(c, c[:2]), "residuals"),
        "twice": (lambda r: r.leave_out(some, c, np.zeros((OUTPUTS, 2), np.float32)), "twice"),
        "beyond": (lambda r: r.leave_out(some[:1] * N, c, b[:, None].copy()), "not there"),
        "all": (lambda r: r.leave_out(np.arange(N, dtype=np.uint32), c, c), "all there are"),
        "target": (lambda r: r.solve(laned(np.where(y > 1, np.nan, y)), c, b), "not finite"),
        "none": (lambda r: _core.Ridge(LANES).solve(laned(y), c, b), "too few"),
        "no room": (lambda r: _core.Ridge(0), "capacity"),
    }


@pytest.mark.parametrize("name", bad_calls())
def test_refusals(name):
    z, y = samples()
    call, words = bad_calls()[name]
    ridge = ridge_of(z, 0.1)
    with pytest.raises((ValueError, TypeError), match=words):
        call(ridge)
    if ridge.n_samples:  # what was there still is
        coefficients, _ = solve(ridge, y)
        assert np.isfinite(coefficients).all()


def test_no_room_for_a_further_sample():
    ridge = _core.Ridge(1)
    ridge.append(np.ones(1, np.float32))
    with pytest.raises(ValueError, match="room"):
        ridge.append(np.ones(2, np.float32))
