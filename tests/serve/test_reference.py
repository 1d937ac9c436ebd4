"""What is usual at a place: columns that are watched, how they compare, operating states."""

from __future__ import annotations

import numpy as np
import pytest

from skip2lora.errors import DataError
from skip2lora.serve.reference import LEAST_IN_MODE, MODES, Reference, Watched


def taps(n: int, widths: tuple[int, ...]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(size=(n, width)).astype(np.float32) for width in widths]


@pytest.mark.parametrize(
    ("widths", "most", "first"), [((4, 3, 2), 9, 0), ((4, 3, 2), 8, 1), ((4, 3, 2), 2, 2)]
)
def test_taps_are_left_out_from_the_first_on(
    widths: tuple[int, ...], most: int, first: int
) -> None:
    watched = Watched.of(widths, most, 0)
    each = taps(5, widths)
    assert watched.parts == widths[first:]
    assert np.array_equal(watched.rows(each), np.concatenate(each[first:], axis=1))


def test_of_a_last_tap_that_is_too_wide_some_columns() -> None:
    watched = Watched.of((9, 5000), 300, 7)
    each = taps(3, (9, 5000))
    assert watched.parts == (300,)
    columns = watched.columns
    assert columns is not None
    assert (np.diff(columns) > 0).all()
    assert columns[0] < 200
    assert columns[-1] > 4800
    assert np.array_equal(watched.rows(each), each[1][:, columns])


def test_other_taps_are_refused(refused) -> None:
    watched = Watched.of((4, 3), 9, 0)
    assert "(2, 4), (2, 2)" in refused(DataError, watched.rows, taps(2, (4, 2)))
    assert "(2, 4)" in refused(DataError, watched.rows, taps(2, (4,)))
    refused(DataError, watched.rows, [])
    each = taps(3, (4, 3))
    each[1][2, 0] = np.inf
    assert "sample 2" in refused(DataError, watched.rows, each)


def test_columns_are_standardised_and_none_is_blown_up() -> None:
    rows = np.random.default_rng(1).normal(size=(200, 8)).astype(np.float32)
    rows[:, :4] = rows[:, :4] * [100, 100, 1e-3, 0] + 7
    rows[:, 6:] = 1e5 / 3  # a tap that never varies
    rows[::2, 7] = np.nextafter(rows[0, 7], np.float32(np.inf))  # but by rounding
    of = Reference.of(rows, (4, 2, 2), 0)
    deviation = rows.astype(float).std(axis=0)
    floor = 0.1 * np.sqrt((deviation[:4] ** 2).sum() / 4)
    expected = [*1 / deviation[:2], 1 / floor, 1 / floor, *1 / deviation[4:6], 0, 0]
    assert of.scale == pytest.approx(expected, rel=1e-5)
    assert of.mean == pytest.approx(rows.mean(axis=0), rel=1e-5, abs=1e-5)


def test_each_operating_state_is_a_mode_and_a_few_strays_are_none() -> None:
    random = np.random.default_rng(2)
    states = np.repeat(np.arange(3), 96)[:287]
    rows = 20 * np.eye(6)[states] + random.normal(size=(287, 6))
    rows = np.concatenate([rows, 300 + random.normal(size=(13, 6))]).astype(np.float32)
    of = Reference.of(rows, (6,), 0)
    scaled = ((rows - of.mean) * of.scale)[:, None] - (of.centres - of.mean) * of.scale
    mode = np.square(scaled).sum(axis=2).argmin(axis=1)
    for state in range(3):
        others = set(mode[:287][states != state].tolist())
        assert not others & set(mode[:287][states == state].tolist())
    assert len(of.centres) == MODES - 1
    sizes = np.bincount(mode, minlength=len(of.centres))
    assert sizes.min() >= LEAST_IN_MODE
