from __future__ import annotations

import numpy as np
import pytest

from skip2lora._core import pool
from skip2lora.backbones.taps import Tap, averaging, rows_of


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("places", [(9, 8), (7, 4), (130, 131), (1, 90000)])
def test_maps_of_any_size(places: tuple[int, int], channels_last: bool) -> None:
    """One by one and together."""
    channels, grid = 17, (min(4, places[0]), min(3, places[1]))
    values = np.random.default_rng(0).normal(size=(2, channels, *places)).astype(np.float32)
    rows, columns = (averaging(n, kept) for n, kept in zip(places, grid, strict=True))
    want = np.einsum("ncij,gi,hj->ncgh", values.astype(np.float64), rows, columns)
    shape = (*places, channels) if channels_last else (channels, *places)
    tap = Tap("layer", "tensor", "map", shape, channels_last, grid)
    given = np.moveaxis(values, 1, -1).copy() if channels_last else values
    made = rows_of(tap, given)
    assert made.shape == (2, tap.width)
    np.testing.assert_allclose(made, want.reshape(2, -1), rtol=0, atol=2e-6)
    assert rows_of(tap, given[1:])[0].tobytes() == made[1].tobytes()


@pytest.mark.parametrize("kind", ["float32", "int8", "uint8", "int16"])
@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        ((1, 9, 8, 17), (4, 4)),
        ((1, 1, 1, 1), (1, 1)),
        ((6, 5, 3, 2), (5, 3)),
        ((2, 113, 30, 48), (4, 3)),
        ((7, 9, 30, 1), (4, 4)),
        ((7, 9, 32, 1), (4, 4)),
        ((5, 8, 12, 1), (4, 4)),
        ((5, 1, 9001, 1), (1, 4)),
        ((0, 4, 4, 3), (2, 2)),
    ],
)
def test_pooling_in_the_core(
    shape: tuple[int, int, int, int], grid: tuple[int, int], kind: str
) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=shape) if kind == "float32" else random.integers(-99, 99, shape)
    values = values.astype(kind)
    rows = np.full((shape[0], shape[3] * grid[0] * grid[1]), np.nan, np.float32)
    pool(values, grid, 0.5, 3, rows)
    down, along = (averaging(n, kept) for n, kept in zip(shape[1:3], grid, strict=True))
    exact = np.einsum("nijc,gi,hj->ncgh", 0.5 * (values.astype(np.float64) - 3), down, along)
    np.testing.assert_allclose(rows, exact.reshape(rows.shape), rtol=1e-5, atol=1e-5)


def test_pooling_refuses_what_does_not_fit() -> None:
    values, rows = np.zeros((1, 4, 4, 2), np.float32), np.zeros((1, 8), np.float32)
    with pytest.raises(ValueError, match="a place for each cell"):
        pool(values, (2, 1), 1.0, 0, rows)
    with pytest.raises(ValueError, match="a place for each cell"):
        pool(values, (2, 2), 1.0, 0, np.zeros((2, 8), np.float32))
    with pytest.raises(ValueError, match="int16"):
        pool(values.astype(np.float64), (2, 2), 1.0, 0, rows)
    with pytest.raises(ValueError, match="more of them than a map has places"):
        pool(values[:, :1], (2, 2), 1.0, 0, rows)
    with pytest.raises(TypeError):
        pool(values[:, :, ::2], (2, 2), 1.0, 0, rows)
