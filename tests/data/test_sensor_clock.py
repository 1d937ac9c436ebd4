"""Times of streams: gaps, uneven steps, two clocks; rows at another rate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from skip2lora.data.sensor_clock import Clock, Ticks, clock_of, rate_of, resampled
from skip2lora.errors import DataError

Refused = Callable[..., str]


def look(times: np.ndarray, fresh: list[int] | None = None) -> tuple[Ticks, list[int]]:
    ticks, begins = Ticks("t"), np.zeros(len(times), bool)
    begins[fresh or [0]] = True
    return ticks, np.flatnonzero(ticks.gaps(times, None, begins, 0)).tolist()


def test_even_times() -> None:
    ticks, gaps = look(np.arange(100) / 50)
    assert gaps == []
    assert ticks.clock() == Clock(50.0, even=True)
    assert Clock(50.0, even=True).same(49.5)
    assert not Clock(50.0, even=True).same(48.0)
    assert not Clock(50.0, even=False).same(50.0)


def test_a_rate_is_asked_for_or_that_of_the_clocks(refused: Refused) -> None:
    clocks = [None, Clock(50.0, even=True), Clock(49.5, even=True)]
    assert rate_of(None, [None]) is None
    assert rate_of(None, clocks) == 50
    assert rate_of(1e9, [None]) == 1e9
    assert rate_of(49_500.0, clocks) == 49_500
    assert refused(DataError, rate_of, 49_501.0, clocks) == (
        "its rows come at 49.5 Hz, rate= is 49501 Hz, expected 1,000 times that at most: correct "
        "rate=, or tell the unit of the times with time=NAME:ms"
    )
    assert "times are uneven, 50 Hz" in refused(DataError, rate_of, None, [Clock(50.0, even=False)])
    several = [Clock(50.0, even=True), Clock(20.0, even=True)]
    assert "of 50 and of 20 Hz, expected one rate" in refused(DataError, rate_of, None, several)


def test_whole_milliseconds_are_even() -> None:
    clock = look(np.rint(np.arange(300) * 1000 / 60) / 1000)[0].clock()
    assert clock is not None
    assert clock.even
    assert clock.rate == pytest.approx(60, rel=0.001)


def test_a_gap_is_counted() -> None:
    times = np.arange(100) / 50
    times[40:] += 0.05
    times[70:] += 0.03  # not yet one
    ticks, gaps = look(times)
    assert (gaps, ticks.n_gaps) == ([40], 1)


def test_streams_have_clocks_of_their_own() -> None:
    """A stream may begin anywhere, before the one before it ended."""
    times = np.concatenate([np.arange(50), np.arange(50)]) / 50
    ticks, gaps = look(times, [0, 50])
    assert gaps == []
    assert ticks.clock() == Clock(50.0, even=True)


def test_what_jumps_is_uneven() -> None:
    times = np.cumsum(np.tile([0.01, 0.03], 100))
    clock = look(times)[0].clock()
    assert clock == Clock(49.87, even=False)


@pytest.mark.parametrize(("n_steps", "even"), [(99, False), (100, True), (101, True)])
def test_one_uneven_step_in_a_hundred_is_even(n_steps: int, even: bool) -> None:
    times = np.arange(n_steps + 1) / 50
    times[60:] += 0.015
    clock = look(times)[0].clock()
    assert clock is not None
    assert clock.even == clock_of(times)[0].even == even


def test_parts_follow_each_other() -> None:
    ticks, times = Ticks("t"), np.arange(100) / 50
    fresh = np.zeros(50, bool)
    fresh[0] = True
    assert not ticks.gaps(times[:50], None, fresh, 0).any()
    late = times[50:] + 1
    assert np.flatnonzero(ticks.gaps(late, times[49], fresh & False, 50)).tolist() == [0]
    assert ticks.n_gaps == 1


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ([0, 1, 2, 1.5, 3], "runs backwards, from 2 to 1.5 s in row 3 (from 0)"),
        ([0.1, 0.2, 0.3, 1.7e9], "has two clocks, it goes from 0.3 to 1700000000 s in row 3"),
    ],
)
def test_two_clocks(times: list[float], said: str, refused: Refused) -> None:
    assert said in refused(DataError, look, np.array(times, float))


def test_clocks_that_alternate(refused: Refused) -> None:
    ticks, _ = look(np.cumsum(np.tile([0.01, 0.01, 0.2], 30)))
    assert "of 89 steps are over 3 times the usual one (0.01 s)" in refused(DataError, ticks.clock)


def test_a_clock_that_stands_still(refused: Refused) -> None:
    ticks, _ = look(np.full(30, 5.0))
    assert "stands still" in refused(DataError, ticks.clock)
    assert look(np.array([5.0]))[0].clock() is None


def test_more_rows_lie_between() -> None:
    times = np.array([0.0, 0.1, 0.2, 0.3])
    x = np.array([[0, 1], [1, 1], [2, 1], [3, 1]], np.float32)
    np.testing.assert_allclose(
        resampled(times, x, 0.05, 5, 20.0)[:, 0], [0.5, 1.0, 1.5, 2.0, 2.5], atol=1e-6
    )


def test_fewer_rows_are_means() -> None:
    """What is too fast for the new rate is averaged, and does not come back as something slow."""
    times = np.arange(1000) / 200
    fast = np.sin(2 * np.pi * 95 * times)[:, None].astype(np.float32)
    ramp = times[:, None].astype(np.float32)
    assert np.abs(fast[::10]).max() > 0.9  # as rows taken out alone would show it
    assert np.abs(resampled(times, fast, 0.1, 80, 20.0)).max() < 0.2
    np.testing.assert_allclose(
        resampled(times, ramp, 0.1, 80, 20.0)[:, 0], 0.1 + np.arange(80) / 20, atol=1e-5
    )


def test_uneven_rows_lie_on_a_line() -> None:
    times = np.sort(np.random.default_rng(0).uniform(0, 4, 300))
    line = (3 * times - 1)[:, None].astype(np.float32)
    for rate in (10.0, 200.0):
        grid = 0.5 + np.arange(20) / rate
        np.testing.assert_allclose(
            resampled(times, line, 0.5, 20, rate)[:, 0], 3 * grid - 1, atol=1e-4
        )


@pytest.mark.parametrize("seed", range(12))
def test_rows_are_means_of_what_lies_straight_between(seed: int) -> None:
    """As of ten thousand points of the line, over half a step to either side that there is."""
    random = np.random.default_rng(seed)
    times = np.cumsum(random.uniform(0.01, 0.09, 60)) + seed
    x = random.normal(size=(60, 2)).astype(np.float32)
    rate = float(random.uniform(2, 9))  # below that of the stream
    start = float(times[0] + random.uniform(0, 0.2))
    rows = int((times[-1] - start) * rate)
    made = resampled(times, x, start, rows, rate)
    for row in range(rows):
        at = start + row / rate
        half = max(min(at - times[0], times[-1] - at, 0.5 / rate), 1e-3 / rate)
        grid = np.linspace(at - half, at + half, 10_001)
        for channel in range(2):
            want = np.interp(grid, times, x[:, channel].astype(float)).mean()
            assert made[row, channel] == pytest.approx(want, abs=2e-3)


@pytest.mark.parametrize(("uneven", "even"), [(2, True), (3, False)])
def test_one_step_in_a_hundred_may_be_uneven(uneven: int, even: bool) -> None:
    """Of 200; a step is uneven from beyond half of the usual one more or less."""
    steps = np.full(200, 0.5)
    steps[20 * np.arange(1, 1 + uneven)] = 1.0
    steps[100:110] = 0.75  # just not
    times = np.concatenate([[0], np.cumsum(steps)])
    clock = look(times)[0].clock()
    assert clock is not None
    assert clock.even == clock_of(times)[0].even == even
    assert clock_of(times) == (clock, 0.5)
