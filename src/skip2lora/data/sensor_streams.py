"""Rows of sensor streams as they are read: put by, and cut where a window must not go over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skip2lora.data.sensor_clock import Clock, Ticks
from skip2lora.data.sensor_files import SensorFile, time_name, unit_of
from skip2lora.data.sensor_options import Sensors
from skip2lora.data.spool import Spool


class Run(NamedTuple):
    """Neighbouring rows of one stream, ``first`` to ``last`` of all, without a gap.

    ``row`` is the first one's number in its file; ``groups`` are what tells its stream apart.
    """

    file: int
    groups: tuple[str, ...]
    first: int
    last: int
    row: int


class Streams:
    """Rows of all files: numbers, times in seconds, labels or targets, and the runs they make."""

    def __init__(self, n_channels: int) -> None:
        self.values = Spool(np.float32, n_channels)
        self.times = Spool(np.float64)
        self.labels, self.targets = Spool(np.int32), Spool(np.float32)
        self.label_names: dict[str, int] = {}  # and their codes
        self.clocks: dict[int, Clock | None] = {}  # of files
        self.n_gaps = 0
        self._starts: list[tuple[int, tuple[str, ...], int, int]] = []

    def add(self, number: int, file: SensorFile, sensors: Sensors) -> None:
        """All rows of a file.

        Raises:
            DataError: its times cannot be used.
        """
        ticks = Ticks(file.time) if file.time is not None else None
        unit, before, key, fresh, row = 1.0, None, None, True, 0
        for part in file.parts:
            n_rows, first = len(part.values), len(self.values)
            begins = np.zeros(n_rows, bool)
            begins[0] = fresh
            if part.groups is not None:
                begins[1:] |= (part.groups[1:] != part.groups[:-1]).any(axis=1)
                begins[0] |= key != tuple(part.groups[0])
            times = part.times
            if times is not None and ticks is not None and file.time is not None:
                if before is None:
                    unit = unit_of(file.time, time_name(sensors.time)[1], times)
                times = times * unit
                begins |= ticks.gaps(times, before, begins.copy(), row)
                before = float(times[-1])
                self.times.append(times)
            for at in np.flatnonzero(begins).tolist():
                groups = () if part.groups is None else tuple(map(str, part.groups[at]))
                self._starts.append((number, groups, first + at, row + at))
            self.values.append(part.values)
            if part.targets is not None:
                self.targets.append(part.targets)
            none = np.full(n_rows, -1, np.int32)
            self.labels.append(none if part.labels is None else self._codes(part.labels))
            key = None if part.groups is None else tuple(part.groups[-1])
            fresh, row = part.ends, row + n_rows
        if ticks is not None:
            self.clocks[number] = ticks.clock()
            self.n_gaps += ticks.n_gaps

    def _codes(self, labels: NDArray[Any]) -> NDArray[np.int32]:
        """Numbers of labels, -1 of a row that has none."""
        words, places = np.unique(labels, return_inverse=True)
        codes = [
            self.label_names.setdefault(word, len(self.label_names)) if word else -1
            for word in words.tolist()
        ]
        return np.array(codes, np.int32)[places]

    def runs(self) -> list[Run]:
        """In the order of their rows."""
        ends = [first for _, _, first, _ in self._starts[1:]] + [len(self.values)]
        return [
            Run(file, groups, first, last, row)
            for (file, groups, first, row), last in zip(self._starts, ends, strict=True)
        ]

    def times_at(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Seconds of ``rows``, which are in order."""
        times = np.empty(len(rows))
        for first in range(0, len(rows), _SEARCHED):
            some = rows[first : first + _SEARCHED]
            at = 0
            while at < len(some):
                low = int(some[at])
                end = int(np.searchsorted(some, low + _SEARCHED))
                block = self.times.rows(low, int(some[end - 1]) + 1)[:, 0]
                times[first + at : first + end] = block[some[at:end] - low]
                at = end
        return times

    def place_of(self, run: Run, times: NDArray[np.float64], *, after: bool) -> NDArray[np.int64]:
        """How many rows of a run lie before each of ``times``; those at a time too if ``after``."""
        places = np.zeros(len(times), np.int64)
        for first in range(run.first, run.last, _SEARCHED):
            block = self.times.rows(first, min(first + _SEARCHED, run.last))[:, 0]
            places += np.searchsorted(block, times, side="right" if after else "left")
        return places


_SEARCHED = 1 << 20  # rows at a time


def majority(
    labels: Spool, first: NDArray[np.int64], last: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The label of most rows of each window, -1 where two have as many, and which are mixed."""
    codes, mixed = np.empty(len(first), np.int32), np.zeros(len(first), bool)
    for at in range(0, len(first), _AT_ONCE):
        some = slice(at, at + _AT_ONCE)
        low, high = int(first[some].min()), int(last[some].max())
        rows = labels.rows(low, high)[:, 0]
        changes = np.concatenate([[0], np.cumsum(rows[1:] != rows[:-1])])
        begin, end = first[some] - low, last[some] - low - 1
        codes[some] = rows[begin]
        mixed[some] = changes[end] != changes[begin]
        for place in np.flatnonzero(mixed[some]).tolist():
            inside = rows[begin[place] : end[place] + 1]
            each, counts = np.unique(inside, return_counts=True)
            most = counts == counts.max()
            codes[at + place] = each[most][0] if most.sum() == 1 else -1
    return codes, mixed


_AT_ONCE = 1024  # windows


def group_names(runs: Sequence[Run], which: NDArray[np.intp]) -> NDArray[np.str_] | None:
    """What held-out splits keep together, of the run of each window: the first group."""
    if not runs or not runs[0].groups:
        return None
    return np.array([run.groups[0] for run in runs], np.str_)[which]
