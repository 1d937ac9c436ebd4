"""A stream of sensors as it comes: rows one by one, windows as soon as they are whole.

The windows are those that :mod:`skip2lora.data.sensors` cuts of the same rows in a file. What tells
whether rows are resampled are the first rows, as many as a window has.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import listing, number_or_none
from skip2lora.data.sensor_clock import GAP, Clock, clock_of, resampled
from skip2lora.data.sensor_files import Roles, no_clock, roles_of, seconds_in, time_name, unit_of
from skip2lora.data.sensor_options import Sensors
from skip2lora.errors import DataError, brief
from skip2lora.tasks.columns import Wanted

_DELIMITERS = (",", ";", "\t", "|", " ")
_PREDICTED = Wanted(labels_required=False)


class LiveWindow(NamedTuple):
    """A window, (rows, channels), from ``start`` to ``end``: seconds, or rows without a clock."""

    values: NDArray[np.float32]
    start: float
    end: float


class _Row(NamedTuple):
    time: float
    values: NDArray[np.float32]
    groups: tuple[str, ...]


class Heading:
    """How the rows of a stream are written: what stands between cells, and names of columns."""

    def __init__(self, line: str, names: Sequence[str] | None) -> None:
        """``line`` is the first of a stream, which names its columns unless ``names`` do.

        Raises:
            DataError: it has numbers and no names, and none are passed.
        """
        self.delimiter = max(_DELIMITERS, key=line.count)
        cells = self.cells(line)
        self.is_row = all(number_or_none(cell) is not None for cell in cells)
        if self.is_row and names is None:
            raise DataError(
                f'its first line is "{brief(line.strip())}", expected names of columns: name '
                "them with channels=, or send them first"
            )
        self.names = cells if names is None else list(names)
        if names is not None and not self.is_row and sorted(cells) == sorted(names):
            self.names = cells

    def cells(self, line: str) -> list[str]:
        """The cells of a line."""
        if self.delimiter == " ":
            return line.split()
        row = next(csv.reader([line.strip("\r\n")], delimiter=self.delimiter), [])
        return [cell.strip() for cell in row]


class Live:
    """Takes lines, gives windows."""

    def __init__(self, heading: Heading, sensors: Sensors, rows: int) -> None:
        """``rows`` are those of a window; ``sensors`` say the rest.

        Raises:
            DataError: a column is not there.
        """
        self._heading, self._sensors, self._rows = heading, sensors, rows
        self._roles: Roles = roles_of(heading.names, sensors, _PREDICTED, strict=False)
        self._hop = sensors.rows("hop", sensors.rate) or rows
        self._unit: float | None = None
        self._clock: Clock | None = None
        self._usual = 0.0
        self._first: list[_Row] = []  # until it is known how even times are
        self._times: list[float] = []
        self._values: list[NDArray[np.float32]] = []
        self._groups: tuple[str, ...] = ()
        self._last: float | None = None  # time of the row before
        self._begin, self._step = 0.0, 0  # of a run: its start, and rows before the next window
        self._dropped = 0  # rows of this run that no window needs any more
        self.n_rows = self.n_gaps = 0

    @property
    def channels(self) -> tuple[str, ...]:
        """The columns of a sample."""
        return tuple(self._heading.names[at] for at in self._roles.channels)

    @property
    def notes(self) -> list[str]:
        """What is to be said of the columns."""
        return no_clock(self._sensors) if self._roles.time is None else []

    def add(self, line: str) -> Iterator[LiveWindow]:
        """The windows that a line completes.

        Raises:
            DataError: it is no row; nothing is taken of it.
        """
        row = self._row(line)
        self.n_rows += 1
        if self._roles.time is None or self._clock is not None:
            yield from self._push(row)
            return
        self._first.append(row)
        if len(self._first) >= max(2, self._rows):
            yield from self._begun()

    def end(self) -> Iterator[LiveWindow]:
        """The windows that were whole but for what might have followed."""
        if self._first:
            yield from self._begun()
        yield from self._windows(ended=True)

    def _row(self, line: str) -> _Row:
        cells, names, roles = self._heading.cells(line), self._heading.names, self._roles
        if len(cells) != len(names):
            raise DataError(
                f'"{brief(line.strip())}" has {len(cells)} cells, expected {len(names)} as there '
                f"are columns ({listing(names)}): correct what sends it"
            )
        numbers = [number_or_none(cells[at]) for at in roles.channels]
        values = np.array([np.nan if n is None else n for n in numbers], np.float32)
        if not np.isfinite(values).all():
            at = roles.channels[int(np.argmin(np.isfinite(values)))]
            raise DataError(
                f'column "{names[at]}" has "{brief(cells[at])}", expected a finite number: correct '
                "what sends it"
            )
        time = float(self.n_rows)
        if roles.time is not None:
            word = np.array([cells[roles.time]], np.str_)
            time = float(seconds_in(word, names[roles.time], lambda _: "the row")[0])
        return _Row(time, values, tuple(cells[at] for at in roles.groups))

    def _begun(self) -> Iterator[LiveWindow]:
        """The windows of the first rows, once there are enough of them to know their clock."""
        rows, self._first = self._first, []
        times = np.array([row.time for row in rows])
        name = self._heading.names[self._roles.time or 0]
        self._unit = unit_of(name, time_name(self._sensors.time)[1], times)
        self._clock, self._usual = clock_of(times * self._unit)
        for row in rows:
            yield from self._push(row)

    def _push(self, row: _Row) -> Iterator[LiveWindow]:
        time = row.time * (self._unit or 1.0)
        timed = self._roles.time is not None
        step = time - self._last if timed and self._last is not None else 0.0
        gap, self._last = step > GAP * self._usual or step < 0, time
        if gap or row.groups != self._groups:
            yield from self._windows(ended=True)
            self.n_gaps += gap
            self._times, self._values, self._step, self._dropped = [], [], 0, 0
        if not self._times and not self._dropped:
            self._begin, self._groups = time, row.groups
        self._times.append(time)
        self._values.append(row.values)
        yield from self._windows(ended=False)

    @property
    def _moved(self) -> bool:
        rate = self._sensors.rate
        return self._clock is not None and rate is not None and not self._clock.same(rate)

    def _windows(self, *, ended: bool) -> Iterator[LiveWindow]:
        """Those that are whole; if the run has ``ended``, without what would follow them."""
        cut = self._resampled if self._moved else self._plain
        while (window := cut(ended)) is not None:
            yield window
            self._step += self._hop
            self._drop()

    def _plain(self, ended: bool) -> LiveWindow | None:
        del ended
        first = self._step - self._dropped
        if first < 0 or len(self._values) < first + self._rows:
            return None
        seconds = self._rows / (self._sensors.rate or 1.0)
        start = self._times[first]
        if self._roles.time is None:
            start = start / (self._sensors.rate or 1.0)
        values = np.stack(self._values[first : first + self._rows])
        return LiveWindow(values, start, start + seconds)

    def _resampled(self, ended: bool) -> LiveWindow | None:
        rate = self._sensors.rate or 1.0
        if not self._times:
            return None
        n_rows = int(np.floor((self._times[-1] - self._begin) * rate + 1e-6)) + 1
        start, half = self._begin + self._step / rate, 0.5 / rate
        end = start + (self._rows - 1) / rate
        if self._step + self._rows > n_rows or not (ended or self._times[-1] >= end + half):
            return None
        times = np.array(self._times)
        first = max(0, int(np.searchsorted(times, start - half, side="right")) - 1)
        last = int(np.searchsorted(times, end + half, side="left")) + 1
        values = resampled(
            times[first:last], np.stack(self._values[first:last]), start, self._rows, rate
        )
        return LiveWindow(values, start, start + self._rows / rate)

    def _drop(self) -> None:
        """Let go of rows that lie before the next window."""
        if self._moved:
            rate = self._sensors.rate or 1.0
            start = self._begin + (self._step - 0.5) / rate
            n_old = int(np.searchsorted(self._times, start, side="right")) - 1
        else:
            n_old = min(self._step - self._dropped, len(self._times))
        if n_old > 0:
            del self._times[:n_old], self._values[:n_old]
            self._dropped += n_old
