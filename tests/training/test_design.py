"""Columns and Gram matrices against their definition."""

from __future__ import annotations

import numpy as np
import pytest

from skip2lora import _core
from skip2lora.training.design import LANES, Design, in_lanes
from training.convex_rows import Rows


def square(design: Design) -> np.ndarray:
    n = len(design.rows)
    return design.gram.transpose(1, 0, 2).reshape(n, -1)[:, :n]


@pytest.mark.parametrize("n_samples", [5, 32, 61])
def test_nested_designs_are_those_of_each_selection(n_samples: int) -> None:
    rows = Rows.random("classification", n_samples=n_samples, widths=(7, 40, 3))
    nested = Design.nested(rows.rows, rows.scaling, [(2,), (2, 0), range(3)])
    assert [design.taps for design in nested] == [(2,), (0, 2), (0, 1, 2)]
    before = rows.rows.copy()
    for design in nested:
        z = rows.columns(design)
        np.testing.assert_allclose(square(design), z @ z.T, atol=3e-6)
        assert np.trace(square(design)) == pytest.approx(n_samples, rel=1e-5)
        alone = Design.nested(rows.rows, rows.scaling, [design.taps])[0]
        np.testing.assert_allclose(square(alone), square(design), atol=3e-6)
    assert (rows.rows == before).all()


def test_weights_of_samples_count_in_the_size_of_columns() -> None:
    rows = Rows.random("classification")
    weight = np.arange(61.0)
    (design,) = Design.nested(rows.rows, rows.scaling, [(0, 1)], weight=weight)
    z = rows.columns(design, weight / weight.sum())
    np.testing.assert_allclose(square(design), z @ z.T, atol=1e-5)


def test_weights_of_taps_multiply_their_columns() -> None:
    rows = Rows.random("classification")
    (design,) = Design.nested(rows.rows, rows.scaling, [(0, 1)], tap_weights=(3.0, 0.5))
    plain = Design.nested(rows.rows, rows.scaling, [(0, 1)])[0]
    z = rows.columns(plain) * np.repeat([3.0, 0.5], rows.format.tap_widths)
    z /= np.sqrt((z**2).sum() / len(z))
    np.testing.assert_allclose(square(design), z @ z.T, atol=3e-6)


def test_weights_and_projections() -> None:
    rows = Rows.random("classification")
    (design,) = Design.nested(rows.rows, rows.scaling, [(1,)])
    random = np.random.default_rng(1)
    coefficients = in_lanes(random.normal(size=(61, 4)), design.lanes)
    z = rows.columns(design)
    left_out, weights = design.weights_of(coefficients)
    assert left_out.shape == (7, 4)
    assert not left_out.any()
    expected = z.T @ coefficients[:, :61].T * np.sqrt(design.factor)
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-4)
    bases = [np.zeros((7, 2), np.float32), random.normal(size=(40, 2)).astype(np.float32)]
    hidden = design.projected(bases)
    np.testing.assert_allclose(hidden[:, 2:], z @ bases[1], atol=1e-5)
    small = Design.of_columns(hidden, design.scaling, design.solver)
    np.testing.assert_allclose(square(small), hidden @ hidden.T, atol=1e-5)


@pytest.mark.parametrize("solver", [_core.SOLVE_PRIMAL, _core.SOLVE_SUBSET])
def test_without_a_gram_matrix(solver: int) -> None:
    rows, weight = Rows.random("classification", n_samples=300), np.arange(300.0)
    plain = Design.nested(rows.rows, rows.scaling, [(1,), (0, 1)], weight=weight)
    own = Design.nested(rows.rows, rows.scaling, [(1,), (0, 1)], weight=weight, solver=solver)
    for one, other in zip(plain, own, strict=True):
        assert other.gram is None
        assert other.factor == pytest.approx(one.factor, rel=1e-5)
        assert other.width == sum(width for _, width in other.places)
    z = rows.columns(own[1], weight / weight.sum())
    weights = np.random.default_rng(0).normal(size=(4, 47)).astype(np.float32)
    by_tap = np.concatenate(own[1].weights_of(weights))
    np.testing.assert_allclose(by_tap, weights.T * own[1].factor ** 0.5, rtol=1e-6)
    at = own[1].places[1][0]
    scaled = (rows.rows[:, at:] - rows.scaling.mean[at:]) * own[1].unit_scale[at:]
    np.testing.assert_allclose(scaled[:, :40], z[:, 7:], atol=1e-5)
    subset = own[1].subset
    assert (subset is None) == (solver == _core.SOLVE_PRIMAL)
    if subset is not None:
        assert len(np.unique(subset)) == len(subset) == _core.subset_size(300)


def test_columns_that_do_not_move() -> None:
    rows = Rows.random("classification", widths=(3,))
    rows.rows[:, :3] = 7
    (design,) = Design.nested(rows.rows, rows.scaling, [(0,)])
    assert not design.gram.any()
    assert design.factor == 1


def test_lanes() -> None:
    table = in_lanes(np.arange(6.0).reshape(3, 2), LANES)
    assert table.shape == (2, LANES)
    assert table.ctypes.data % 64 == 0
    assert table[:, :3].tolist() == [[0, 2, 4], [1, 3, 5]]
    assert not table[:, 3:].any()
