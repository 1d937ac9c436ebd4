"""Moments, scaling, Gram matrices and weights of columns against NumPy in float64."""

import numpy as np
import pytest

from kernels.convex import LANES, in_lanes, lanes_of, square
from skip2lora import _core

SIZES = [(1, 1), (2, 16), (31, 17), (32, 300), (70, 33), (97, 530)]


@pytest.fixture(params=_core.kernel_tables(), autouse=True)
def kernels(request, monkeypatch):
    monkeypatch.setenv("SKIP2_KERNELS", request.param)


def rows_of(n, width, seed=0):
    random = np.random.default_rng([seed, n, width])
    return (random.normal(size=(n, width)) * 3 + random.normal(size=width) * 100).astype("f4")


def moments(chunks, weights=None):
    """Mean and variance of chunks of rows, with a weight each."""
    of, at = _core.ColumnMoments(chunks[0].shape[1]), 0
    for chunk in chunks:
        of.add(chunk, None if weights is None else weights[at : at + len(chunk)])
        at += len(chunk)
    mean, var = np.empty(chunks[0].shape[1]), np.empty(chunks[0].shape[1])
    of.finish(mean, var)
    return mean, var, of.total


@pytest.mark.parametrize(("n", "width"), SIZES)
def test_moments(n, width):
    rows = rows_of(n, width)
    mean, var, total = moments(np.array_split(rows, min(n, 3)))
    np.testing.assert_allclose(mean, rows.mean(axis=0, dtype=np.float64), rtol=1e-14)
    np.testing.assert_allclose(var, rows.var(axis=0, dtype=np.float64), rtol=1e-12, atol=1e-12)
    assert total == n


def test_moments_have_the_same_bits_in_every_table(monkeypatch):
    rows, weights = rows_of(70, 33), np.random.default_rng(1).random(70).astype("f4")
    of_table = moments([rows], weights)
    monkeypatch.setenv("SKIP2_KERNELS", "scalar")
    for got, expected in zip(moments([rows], weights), of_table, strict=True):
        assert np.array_equal(got, expected)


def test_weights_of_moments():
    rows, counts = rows_of(40, 20), np.random.default_rng(2).integers(0, 4, 40)
    mean, var, total = moments(np.array_split(rows, 3), counts.astype("f4"))
    again = moments([np.repeat(rows, counts, axis=0)])
    assert total == again[2] == counts.sum()
    np.testing.assert_allclose(mean, again[0], rtol=1e-13)
    np.testing.assert_allclose(var, again[1], rtol=1e-12)
    ones = moments([rows], np.ones(40, "f4"))
    assert all(map(np.array_equal, ones[:2], moments([rows])[:2]))


def test_a_large_offset_does_not_cancel():
    rows = (1e6 + np.random.default_rng(3).normal(size=(500, 4))).astype("f4")
    mean, var, _ = moments(np.array_split(rows, 7))
    np.testing.assert_allclose(var, rows.astype(np.float64).var(axis=0), rtol=1e-12)
    np.testing.assert_allclose(mean, rows.astype(np.float64).mean(axis=0), rtol=1e-15)
    assert (moments([np.full((9, 4), 1e30, "f4")])[1] == 0).all()


def test_scaling_is_numpys():
    rows = rows_of(33, 50)
    mean, scale = rows.mean(axis=0), 1 / rows.std(axis=0)
    expected = (rows - mean) * scale
    _core.scale_rows(rows, mean, scale)
    assert np.array_equal(rows, expected)


def scaled(rows):
    """Mean, scale, and the scaled rows in float64."""
    mean, scale = rows.mean(axis=0), 1 / (rows.std(axis=0) + np.float32(0.1))
    return mean, scale, (rows.astype(np.float64) - mean) * scale


@pytest.mark.parametrize(("n", "width"), SIZES)
def test_gram_matrix(n, width):
    rows = rows_of(n, width + 5)
    mean, scale, z = scaled(rows)
    gram = np.zeros((lanes_of(n) // LANES, n, LANES), np.float32)
    first = 3
    parts = [(first, width // 2), (first + width // 2, width - width // 2)]
    for at, size in parts:  # tap by tap
        if size:
            _core.gram_add(rows, at, size, mean, scale, gram)
    z = z[:, first : first + width]
    expected = z @ z.T
    assert _core.gram_trace(gram) == pytest.approx(np.trace(expected), rel=1e-5)
    _core.gram_finish(gram, 0.5)
    error = np.abs(square(gram) - expected / 2).max()
    assert error <= 2e-6 * np.abs(expected).max()
    assert np.array_equal(square(gram), square(gram).T)
    beyond = gram.transpose(1, 0, 2).reshape(n, -1)[:, n:]
    assert (beyond == 0).all()


@pytest.mark.parametrize(("n", "width"), SIZES)
@pytest.mark.parametrize("n_outputs", [1, 7])
def test_weights_of_columns(n, width, n_outputs):
    rows = rows_of(n, width + 5)
    mean, scale, z = scaled(rows)
    coefficients = np.random.default_rng(4).normal(size=(n, n_outputs)).astype("f4")
    weights = np.full((width, n_outputs), np.nan, np.float32)
    _core.column_weights(rows, 3, width, mean, scale, in_lanes(coefficients), weights)
    z = z[:, 3 : 3 + width]
    expected = z.T @ coefficients
    magnitude = np.abs(z).T @ np.abs(coefficients)
    assert (np.abs(weights - expected) <= 1e-5 * magnitude + 1e-6).all()


def test_refusals():
    rows, mean = rows_of(40, 16), np.zeros(16, "f4")
    gram = np.zeros((2, 40, 32), np.float32)
    with pytest.raises(ValueError, match="those columns"):
        _core.gram_add(rows, 10, 7, mean, mean, gram)
    with pytest.raises(ValueError, match="those columns"):
        _core.gram_add(rows, 0, 0, mean, mean, gram)
    with pytest.raises(ValueError, match="each column"):
        _core.gram_add(rows, 0, 4, mean[:8], mean[:8], gram)
    with pytest.raises(ValueError, match="lanes / 32"):
        _core.gram_add(rows, 0, 4, mean, mean, gram[:1])
    with pytest.raises(ValueError, match="another width"):
        _core.ColumnMoments(15).add(rows)
    with pytest.raises(ValueError, match="weight each"):
        _core.ColumnMoments(16).add(rows, mean)
    with pytest.raises(ValueError, match="no rows"):
        _core.ColumnMoments(16).finish(np.empty(16), np.empty(16))
