"""The clock of sensor streams: gaps, uneven times, two clocks; rows at another rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skip2lora.errors import DataError

#: A step of more than so many usual ones is a gap: no window goes over it.
GAP = 3.0
_UNEVEN, _MOST_UNEVEN = 0.5, 0.01  # of a usual step; the share of steps beyond that
_SAME_RATE = 0.02  # of a rate
_MOST_GAPS, _FEWEST_STEPS = 0.2, 20  # the share of steps, of at least so many
_YEAR_S = 3.2e7
_MOST_TIMES = 1000  # as many rows as there are, between which there is but a line


@dataclass(frozen=True)
class Clock:
    """What the times of a file are like: ``rate`` in Hz of its steps, and whether they are even."""

    rate: float
    even: bool

    def same(self, rate: float) -> bool:
        """Whether rows at ``rate`` are these rows."""
        return self.even and math.isclose(self.rate, rate, rel_tol=_SAME_RATE)


def rate_of(asked: float | None, clocks: Iterable[Clock | None]) -> float | None:
    """The rate of rows in Hz: what is ``asked``, or that of all ``clocks`` that there are.

    Raises:
        DataError: they have several, or uneven times, or far fewer rows than asked.
    """
    there = [clock for clock in clocks if clock is not None]
    if not there:
        return asked
    if asked is not None:
        slowest = min(clock.rate for clock in there)
        if asked > _MOST_TIMES * slowest:
            raise DataError(
                f"its rows come at {slowest:g} Hz, rate= is {asked:g} Hz, expected {_MOST_TIMES:,} "
                "times that at most: correct rate=, or tell the unit of the times with time=NAME:ms"
            )
        return asked
    rate = there[0].rate
    uneven = next((clock for clock in there if not clock.even), None)
    if uneven is not None:
        raise DataError(
            f"its times are uneven, {uneven.rate:g} Hz on the whole, expected even ones, or a rate "
            f"to resample to: add rate={uneven.rate:g}"
        )
    other = next((clock for clock in there if not clock.same(rate)), None)
    if other is not None:
        raise DataError(
            f"it has streams of {rate:g} and of {other.rate:g} Hz, expected one rate, or which to "
            f"resample to: add rate={rate:g}"
        )
    return rate


class Ticks:
    """Looks at the times of one file, in seconds, as they come."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._usual: float | None = None
        self._n_steps = self._n_uneven = self.n_gaps = 0
        self._total = 0.0

    def gaps(
        self, times: NDArray[np.float64], before: float | None, fresh: NDArray[np.bool_], row: int
    ) -> NDArray[np.bool_]:
        """Which rows stand behind a gap; ``fresh`` ones begin a stream; ``row`` is the first's.

        Raises:
            DataError: they run backwards, or there are two clocks.
        """
        last = times[0] if before is None else before
        steps = np.diff(times, prepend=last)
        steps[fresh] = np.nan
        back = np.flatnonzero(steps < 0)
        if len(back):
            at = int(back[0])
            raise DataError(
                f'column "{self._name}" runs backwards, from {_text(times[at] - steps[at])} to '
                f"{_text(times[at])} s in row {row + at} (from 0), expected times in order: sort "
                "the rows, or name the columns that tell streams apart with group="
            )
        known = steps[np.isfinite(steps)]
        if self._usual is None and (known > 0).any():
            self._usual = float(np.median(known[known > 0]))
        if self._usual is None:
            self._n_steps += len(known)
            return np.zeros(len(times), bool)
        behind = np.nan_to_num(steps) > GAP * self._usual
        if (known > _YEAR_S).any():
            at = int(np.nanargmax(steps))
            raise DataError(
                f'column "{self._name}" has two clocks, it goes from '
                f"{_text(times[at] - steps[at])} to {_text(times[at])} s in row {row + at} (from "
                "0), expected one: remove the rows before the clock was set"
            )
        within = known[known <= GAP * self._usual]
        self.n_gaps += int(behind.sum())
        self._n_steps += len(within)
        self._total += float(within.sum())
        self._n_uneven += int((np.abs(within - self._usual) > _UNEVEN * self._usual).sum())
        return behind

    def clock(self) -> Clock | None:
        """What they were like; None of too few to tell.

        Raises:
            DataError: so many gaps that there must be two clocks.
        """
        n_all = self._n_steps + self.n_gaps
        if self._total == 0:
            if self._n_steps > 1:
                raise DataError(
                    f'column "{self._name}" stands still, expected times that go on: name another '
                    "with time=, or time=none for even rows"
                )
            return None
        if n_all >= _FEWEST_STEPS and self.n_gaps > _MOST_GAPS * n_all:
            raise DataError(
                f'column "{self._name}" has two clocks, {self.n_gaps} of {n_all} steps are over '
                f"{GAP:g} times the usual one ({self._usual:g} s), expected one: name the columns "
                "that tell streams apart with group=, or time=none for even rows"
            )
        rate = float(f"{self._n_steps / self._total:.4g}")
        return Clock(rate, self._n_uneven <= _MOST_UNEVEN * self._n_steps)


def clock_of(times: NDArray[np.float64]) -> tuple[Clock, float]:
    """The clock of a few rows of a stream that is not all there, and their usual step.

    Raises:
        DataError: it stands still.
    """
    steps = np.diff(times)
    if not (steps > 0).any():
        raise DataError(
            "its times stand still, expected times that go on: name another column with time=, or "
            "time=none for even rows"
        )
    usual = float(np.median(steps[steps > 0]))
    within = steps[(steps >= 0) & (steps <= GAP * usual)]
    n_uneven = int((np.abs(within - usual) > _UNEVEN * usual).sum())
    rate = float(f"{len(within) / within.sum():.4g}")
    return Clock(rate, n_uneven <= _MOST_UNEVEN * len(within)), usual


def _text(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def resampled(
    times: NDArray[np.float64], values: NDArray[np.float32], start: float, rows: int, rate: float
) -> NDArray[np.float32]:
    """``rows`` at ``rate`` from ``start`` on of what lies straight between rows, (rows, channels).

    ``times`` (n,) are in order, ``values`` (n, channels); both reach half a step beyond. Each row
    is the mean over its step, so that what is faster than ``rate`` can show is averaged and not
    mistaken for something slower; where ``rate`` is above that of the stream it is the value.
    """
    grid = start + np.arange(rows) / rate - times[0]
    at = times - times[0]
    numbers = values.astype(np.float64)
    n_steps = np.median(np.diff(at)) * rate if len(at) > 1 else 1.0
    if n_steps >= 1 - _SAME_RATE:  # no more rows than asked for: nothing to average
        columns = [np.interp(grid, at, column) for column in numbers.T]
        return np.stack(columns, axis=1).astype(np.float32)
    # At the ends of a stream there is less to either side, and at its very end a value alone.
    half = np.clip(np.minimum(grid - at[0], at[-1] - grid), 1e-3 / rate, 0.5 / rate)
    areas = _area(at, numbers, grid + half) - _area(at, numbers, grid - half)
    return np.asarray(areas / (2 * half)[:, None], np.float32)


def _area(
    times: NDArray[np.float64], values: NDArray[np.float64], ends: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The integral from the first time to each of ``ends``, (ends, channels)."""
    steps = np.diff(times)[:, None]
    whole = np.concatenate(
        [np.zeros((1, values.shape[1])), np.cumsum(steps * (values[1:] + values[:-1]) / 2, axis=0)]
    )
    place = np.clip(np.searchsorted(times, ends, side="right") - 1, 0, len(times) - 2)
    inside = (ends - times[place])[:, None]
    slope = (values[place + 1] - values[place]) / np.maximum(steps[place], 1e-300)
    return whole[place] + inside * (values[place] + slope * inside / 2)
