"""Which layers are tapped, and the row that each tensor becomes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skip2lora._core import pool
from skip2lora.backbones.taps import (
    Selection,
    Tap,
    averaging,
    check_grid,
    chosen,
    chosen_taps,
    grid_of,
    rows_of,
    tap_of,
    taps_of,
    thinned,
)
from skip2lora.errors import ModelError, ParameterError

LAYERS = ("block0.fc", "block0.out", "block1.fc", "block1.out", "head")


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


@pytest.mark.parametrize(
    ("count", "most", "places"),
    [
        (3, 16, [0, 1, 2]), (3, 3, [0, 1, 2]), (5, 1, [4]), (5, 2, [0, 4]), (5, 3, [0, 2, 4]),
        (10, 4, [0, 3, 6, 9]), (8, 3, [0, 4, 7]), (0, 4, []),
    ],
)  # fmt: skip
def test_layers_are_thinned_evenly(count: int, most: int, places: list[int]) -> None:
    assert thinned(count, most) == places


def test_at_most_16_are_tapped() -> None:
    assert chosen([str(at) for at in range(16)], None) == list(range(16))
    places = chosen([str(at) for at in range(46)], None)
    assert places == list(range(0, 46, 3))


@pytest.mark.parametrize(
    ("taps", "places"),
    [
        (None, [0, 1, 2, 3, 4]), (1, [4]), (2, [0, 4]), (5, [0, 1, 2, 3, 4]), ([0], [0]),
        ([-1, 2, 4], [2, 4]), ([-5], [0]), ("head", [4]), ("block1*", [2, 3]),
        (["*.out", "block1.fc", 0], [0, 1, 2, 3]), (("block?.fc",), [0, 2]),
    ],
)  # fmt: skip
def test_layers_are_chosen(taps: Selection, places: list[int]) -> None:
    assert chosen(LAYERS, taps) == places


@pytest.mark.parametrize(
    ("taps", "said"),
    [
        (0, "taps is 0, expected a number of layers from 1 to 5"),
        (6, "taps is 6, expected a number of layers from 1 to 5"),
        ([5], "taps has layer 5, expected a number from 0 to 4"),
        ([-6], "taps has layer -6, expected a number from 0 to 4"),
        ([], "taps is empty, expected at least one layer"),
        ([True], "taps has True, expected names, patterns or numbers"),
        ([None], "taps has None, expected names, patterns or numbers"),
        (["0"], "block0.fc, block0.out, block1.fc, block1.out, head: see"),
        ("block9.fc", "such as block1.fc, bloc"),
    ],
)
def test_layers_that_are_not_there(taps: Any, said: str) -> None:
    with pytest.raises(ParameterError) as caught:
        chosen(LAYERS, taps)
    assert said in str(caught.value)


def test_a_name_is_no_pattern() -> None:
    """Where a layer is called so."""
    assert chosen(["a", "a*", "ab"], "a*") == [1]
    assert chosen(["a", "ab", "A"], "a*") == [0, 1]


@pytest.mark.parametrize(
    ("channels", "places", "options", "grid"),
    [
        (8, (32, 32), {}, (4, 4)), (8, (2, 9), {}, (2, 4)), (256, (7, 7), {}, (4, 4)),
        (257, (7, 7), {}, (3, 3)), (1024, (7, 7), {}, (2, 2)), (1025, (7, 7), {}, (1, 1)),
        (5000, (7,), {}, (1,)), (1025, (1, 7), {}, (1, 3)), (9, (7, 7), {"most": 36}, (2, 2)),
        (9, (7, 7), {"most": 35}, (1, 1)), (3, (9, None), {"grid": 6}, (6, 6)),
        (3, (9,), {"grid": 1}, (1,)), (3, (9,), {"grid": 7}, (7,)), (3, (1, 2, 3), {}, (1, 2, 3)),
    ],
)  # fmt: skip
def test_a_grid_shrinks_until_a_row_is_narrow(
    channels: int, places: tuple[int | None, ...], options: dict[str, int], grid: tuple[int, ...]
) -> None:
    assert grid_of(channels, places, **options) == grid


@pytest.mark.parametrize(
    ("shape", "options", "kind", "grid", "width"),
    [
        ((7,), {}, "vector", (), 7), ((7,), {"channels_first": True}, "vector", (), 7),
        ((9, 7), {}, "sequence", (), 14), ((None, 7), {}, "sequence", (), 14),
        ((7, 9), {"channels_first": True}, "map", (4,), 28),
        ((9, 8, 7), {}, "map", (4, 4), 112),
        ((7, 9, 8), {"channels_first": True}, "map", (4, 4), 112),
        ((9, 8, 7), {"grid": 2}, "map", (2, 2), 28), ((None, 8, 7), {}, "map", (1, 1), 7),
        ((7, 8, None), {"channels_first": True}, "map", (1, 1), 7),
        ((5, 9, 8, 7), {"most_axes": 2}, "map", (1, 4, 4), 112),
        ((7, 5, 9, 8), {"most_axes": 1, "channels_first": True}, "map", (1, 1, 4), 28),
        ((3, 9, 8, 7), {}, "map", (3, 4, 4), 336),
    ],
)  # fmt: skip
def test_what_a_tensor_is(
    shape: tuple[int | None, ...], options: Any, kind: str, grid: tuple[int, ...], width: int
) -> None:
    tap = tap_of("layer", "tensor", shape, **options)
    assert (tap.kind, tap.grid, tap.width) == (kind, grid, width)
    assert (tap.layer, tap.tensor, tap.shape) == ("layer", "tensor", shape)
    if kind == "map":
        assert tap.channels_last != options.get("channels_first", False)
        known = tuple(9 if size is None else size for size in shape)
        assert rows_of(tap, np.zeros((2, *known), np.float32)).shape == (2, width)


def test_an_unknown_width_is_no_tap() -> None:
    for shape, options in (
        ((None,), {}),
        ((3, None), {}),
        ((None, 4, 4), {"channels_first": True}),
    ):
        with pytest.raises(ModelError, match=r"layer fc has shape .* with an unknown width"):
            _ = tap_of("fc", "t", shape, **options).width


def test_several_taps_and_their_widths() -> None:
    taps = taps_of([("a", "s", (7,), False), ("b", "t", (5, 9, 8), True)], grid=3)
    assert [tap.grid for tap in taps] == [(), (3, 3)]
    assert chosen_taps(taps, None) == ([0, 1], (7, 45))
    assert chosen_taps(taps, "b") == ([1], (45,))


@pytest.mark.parametrize("grid", [1, 64, None])
def test_grids_in_range(grid: int | None) -> None:
    assert check_grid(grid) == (4 if grid is None else grid)


@pytest.mark.parametrize("grid", [0, 65, 2.5])
def test_grids_out_of_range(grid: Any) -> None:
    with pytest.raises(ParameterError, match=r"grid is .* from 1 to 64"):
        check_grid(grid)


def test_neighbours_that_are_averaged_are_those_of_adaptive_pooling() -> None:
    """Start and stop of a cell round outwards: of 7 places 3 cells share two."""
    expected = np.array([[1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1]]) / 3
    np.testing.assert_allclose(averaging(7, 3), expected, rtol=1e-6)
    assert averaging(4, 4).tolist() == np.eye(4).tolist()


def test_a_sequence_is_its_mean_and_first_token() -> None:
    tap = tap_of("layer", "tensor", (5, 3))
    tokens = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 1], [0] * 5], np.float32)
    everything = rows_of(tap, tokens)
    np.testing.assert_allclose(everything[:, :3], tokens.mean(axis=1), rtol=1e-5, atol=1e-6)
    masked = rows_of(tap, tokens, mask)
    assert masked.dtype == np.float32
    np.testing.assert_allclose(masked[0], everything[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(masked[1, :3], tokens[1, :2].mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(masked[2, :3], tokens[2, 4], rtol=1e-5)
    np.testing.assert_array_equal(masked[3, :3], 0)
    np.testing.assert_array_equal(masked[:, 3:], tokens[:, 0])
    vector = tap_of("layer", "tensor", (3,))
    assert rows_of(vector, tokens[:, 0]).tolist() == tokens[:, 0].tolist()
