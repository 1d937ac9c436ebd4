"""Rows of streams put by, the runs that they make, and the label of most rows of a window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from skip2lora.data import sensor_streams as module
from skip2lora.data.sensor_files import Part, SensorFile
from skip2lora.data.sensor_options import Sensors
from skip2lora.data.sensor_streams import Run, Streams, group_names, majority
from skip2lora.data.spool import Spool


def parts(n_rows: int, sizes: Sequence[int], **columns: np.ndarray) -> list[Part]:
    x = np.arange(n_rows, dtype=np.float32)[:, None]
    ends = np.cumsum(sizes)
    return [
        Part(x[end - size : end], **{name: of[end - size : end] for name, of in columns.items()})
        for size, end in zip(sizes, ends, strict=True)
    ]


def added(*files: list[Part], timed: bool = True) -> Streams:
    streams = Streams(1)
    for number, each in enumerate(files):
        file = SensorFile(("x",), iter(each), "t" if timed else None)
        streams.add(number, file, Sensors(time="t:s" if timed else None))
    return streams


@pytest.mark.parametrize("sizes", [[12], [5, 7], [1] * 12])
def test_runs(sizes: list[int]) -> None:
    """Rows of one stream up to a gap; the same whatever parts they come in."""
    who = np.array([["ann"]] * 5 + [["bob"]] * 7)
    times = np.concatenate([np.arange(5), 3 + np.arange(4), 16 + np.arange(3)]).astype(float)
    streams = added(parts(12, sizes, times=times, groups=who))
    assert streams.n_gaps == 1
    assert streams.runs() == [
        Run(0, ("ann",), 0, 5, 0), Run(0, ("bob",), 5, 9, 5), Run(0, ("bob",), 9, 12, 9),
    ]  # fmt: skip
    names = group_names(streams.runs(), np.array([0, 1]))
    assert names is not None
    assert names.tolist() == ["ann", "bob"]


def test_a_gap_ends_a_run() -> None:
    times = np.concatenate([np.arange(5), 9 + np.arange(4)]).astype(float)
    streams = added(parts(9, [3, 6], times=times))
    assert (streams.n_gaps, streams.runs()) == (1, [Run(0, (), 0, 5, 0), Run(0, (), 5, 9, 5)])


def test_times_of_a_file_that_names_no_column_of_times_are_not_looked_at() -> None:
    streams = added(parts(10, [6, 4], times=np.arange(10.0)), timed=False)
    assert not streams.clocks
    assert streams.n_gaps == 0
    assert len(streams.runs()) == 1


def test_files_and_series_are_streams() -> None:
    first = [Part(np.ones((2, 1), np.float32), ends=True), Part(np.ones((3, 1), np.float32))]
    streams = added(first, parts(4, [4]), timed=False)
    assert streams.runs() == [Run(0, (), 0, 2, 0), Run(0, (), 2, 5, 2), Run(1, (), 5, 9, 0)]
    assert group_names(streams.runs(), np.array([0])) is None
    assert group_names([], np.array([], np.intp)) is None
    one = group_names([Run(0, ("left", "top"), 0, 5, 0)], np.array([0, 0]))
    assert one is not None
    assert one.tolist() == ["left", "left"]


def test_times_are_searched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SEARCHED", 4)
    streams = added(parts(20, [20], times=np.arange(20) / 2))
    run = streams.runs()[0]
    asked = np.array([-1.0, 0.0, 2.0, 2.25, 9.5, 99.0])
    assert streams.place_of(run, asked, after=False).tolist() == [0, 0, 4, 5, 19, 20]
    assert streams.place_of(run, asked, after=True).tolist() == [0, 1, 5, 5, 20, 20]
    rows = np.array([0, 1, 7, 7, 19])
    assert streams.times_at(rows).tolist() == [0.0, 0.5, 3.5, 3.5, 9.5]


def test_the_label_of_most_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    labels = Spool(np.int32)
    labels.append([0, 0, 0, 1, 1, 1, 1, -1, -1, 2])
    first = np.array([0, 2, 1, 2, 6, 7])
    codes, mixed = majority(labels, first, first + np.array([3, 4, 4, 2, 3, 3]))
    assert codes.tolist() == [0, 1, -1, -1, -1, -1]
    assert mixed.tolist() == [False, True, True, True, True, True]


def test_labels_have_numbers() -> None:
    words = np.array(["up", "", "down", "up"])
    streams = added(parts(4, [2, 2], labels=words), timed=False)
    assert streams.label_names == {"up": 0, "down": 1}
    assert streams.labels.rows(0, 4)[:, 0].tolist() == [0, -1, 1, 0]
