"""Batch norm and ReLU of every kernel table against the oracle."""

import numpy as np
import pytest

import oracle
from kernels.cases import COUNTS, WIDTHS, assert_close, normal

EPS, MOMENTUM = 1e-5, 0.1


def spread(count, width):
    """Inputs whose columns all have a deviation above 0.2, also those of two rows: a column of
    nearly equal values would make any rounding large."""
    rng = np.random.default_rng([7, count, width])
    steps = rng.permuted(np.tile(np.arange(count)[:, None] / 2.0, (1, width)), axis=0)
    z = steps + rng.uniform(-0.05, 0.05, (count, width)) + rng.normal(size=width)
    return z.astype(np.float32)


def sizes_of(z, mean, inverse_std):
    """z_hat with its subtraction made an addition: what rounding in it is relative to."""
    return (np.abs(z) + np.abs(mean)) * inverse_std


def check_backward(table, z, gy, gamma, found, cache, *, batch_statistics, what):
    """found: mean and inverse deviation of the core's own forward pass."""
    expected = oracle.bn_backward(gy, gamma, cache, batch_statistics=batch_statistics)
    z_hat, size_gy = sizes_of(z, *found), np.abs(gy).astype(np.float64)
    scale = np.abs(gamma) * found[1]
    size_gz = scale * size_gy
    if batch_statistics:
        size_gz += scale * (size_gy.mean(axis=0) + z_hat * (size_gy * z_hat).mean(axis=0))
    magnitudes = size_gz, (size_gy * z_hat).sum(axis=0), size_gy.sum(axis=0)
    types = "ys" if batch_statistics else "y"
    every = table.bn_backward(types + "w", z, gy, gamma, *found)
    for name, got, want, size in zip(
        ("gz", "ggamma", "gbeta"), every, expected, magnitudes, strict=True
    ):
        assert_close(got, want, size, f"{name} of {what}")
    gz = table.bn_backward(types, z, gy, gamma, *found)[0]  # gamma and beta frozen
    np.testing.assert_array_equal(gz, every[0])


@pytest.mark.parametrize("count", [count for count in COUNTS if count > 1])
def test_bn_with_statistics_of_the_batch(table, count):
    for width in WIDTHS:
        z, gy = spread(count, width), normal(1, count, width)
        gamma, beta = normal(2, width), normal(3, width)
        running = normal(4, width), np.abs(normal(5, width)) + np.float32(0.5)
        y, mean, inv_std, *moved = table.bn_forward_batch(z, gamma, beta, *running, EPS, MOMENTUM)
        expected, cache = oracle.bn_forward_batch(z, gamma, beta, EPS)
        what = f"({count}, {width})"
        z_hat = sizes_of(z, z.mean(axis=0), cache[1])
        assert_close(y, expected, np.abs(gamma) * z_hat + np.abs(beta), f"y of {what}")
        assert_close(mean, z.mean(axis=0, dtype=np.float64), np.abs(z).mean(axis=0), "mean")
        assert_close(inv_std, cache[1], cache[1], "inverse deviation")
        want_mean, want_var = oracle.bn_running(z, *running, MOMENTUM)
        assert_close(moved[0], want_mean, np.abs(running[0]) + np.abs(z).mean(axis=0), "running")
        assert_close(moved[1], want_var, running[1] + z.var(axis=0), "running")
        assert np.abs(moved[1] - running[1]).max() > 1e-3
        check_backward(
            table, z, gy, gamma, (mean, inv_std), cache, batch_statistics=True, what=what
        )


@pytest.mark.parametrize("count", COUNTS)
def test_bn_with_frozen_statistics(table, count):
    for width in WIDTHS:
        z, gy = normal(0, count, width), normal(1, count, width)
        gamma, beta, running_mean = (normal(i, width) for i in (2, 3, 4))
        running = running_mean, np.abs(normal(5, width)) + np.float32(0.5)
        y, mean, inv_std = table.bn_forward_frozen(z, gamma, beta, *running, EPS)
        expected, cache = oracle.bn_forward_frozen(z, gamma, beta, *running, EPS)
        what = f"({count}, {width})"
        size = np.abs(gamma) * sizes_of(z, running_mean, cache[1]) + np.abs(beta)
        assert_close(y, expected, size, f"y of {what}")
        np.testing.assert_array_equal(mean, running_mean)
        assert_close(inv_std, cache[1], cache[1], "inverse deviation")
        check_backward(
            table, z, gy, gamma, (mean, inv_std), cache, batch_statistics=False, what=what
        )


def test_a_constant_column_stays_finite(table):
    """Its variance is zero: y is beta, and the gradient is centred and not infinite."""
    z, gy = np.full((6, 9), 3.5, np.float32), normal(1, 6, 9)
    gamma, beta, zeros = normal(2, 9), normal(3, 9), np.zeros(9, np.float32)
    y, mean, inv_std, *_ = table.bn_forward_batch(z, gamma, beta, zeros, zeros, EPS, MOMENTUM)
    assert_close(y, np.tile(beta, (6, 1)), 1 + np.abs(beta))
    gz, _, _ = table.bn_backward("yws", z, gy, gamma, mean, inv_std)
    _, cache = oracle.bn_forward_batch(z, gamma, beta, EPS)
    expected = oracle.bn_backward(gy, gamma, cache, batch_statistics=True)[0]
    assert_close(gz, expected, np.abs(gamma) / np.sqrt(EPS) * np.abs(gy).max())


@pytest.mark.parametrize("count", COUNTS)
def test_relu(table, count):
    for width in WIDTHS:
        z, gy = normal(0, count, width).copy(), normal(1, count, width)
        z[0, 0] = 0.0 if width % 2 else -0.0
        y = table.relu_forward(z)
        np.testing.assert_array_equal(y, oracle.relu_forward(z))
        np.testing.assert_array_equal(table.relu_backward(y, gy), oracle.relu_backward(gy, z))


def test_relu_keeps_nan(table):
    for size in range(1, 20):
        z = normal(0, size).copy()
        z[size // 2] = np.nan
        np.testing.assert_array_equal(np.isnan(table.relu_forward(z)), np.isnan(z))
