"""Rows that come one by one give the windows that they give in a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensor_data import CHANNELS, motion, table
from skip2lora.backbones.inputs import InputSpec
from skip2lora.data.sensor_live import Heading, Live, LiveWindow
from skip2lora.data.sensor_options import Sensors
from skip2lora.data.sensors import read_sensors
from skip2lora.errors import DataError
from skip2lora.tasks.columns import Wanted

Refused = Callable[..., str]
ROWS = 10


def live(text: str, *, names: Any = None, **asked: Any) -> list[LiveWindow]:
    first, *lines = text.splitlines()
    heading = Heading(first, names)
    stream = Live(heading, Sensors(**asked), ROWS)
    lines = [first, *lines] if heading.is_row else lines
    windows = [window for line in lines for window in stream.add(line)]
    return [*windows, *stream.end()]


def stream(path: Path, n_rows: int = 60, **columns: Any) -> Path:
    x = motion("walk", n_rows)
    return table(path, columns | dict(zip(CHANNELS, x.T.tolist(), strict=True)))


EVEN = np.arange(60) / 50
GAP = EVEN + np.where(np.arange(60) > 23, 2.0, 0.0)
UNEVEN = np.cumsum(np.random.default_rng(0).uniform(0.005, 0.035, 60))


@pytest.mark.parametrize(
    ("columns", "asked"),
    [
        ({}, {}),
        ({}, {"hop": 3}),
        ({}, {"hop": 17}),
        ({}, {"rate": 50.0, "hop": 0.1}),
        ({"time": EVEN}, {"rate": 50.0, "hop": 4}),
        ({"time": GAP}, {"rate": 50.0, "hop": 4}),
        ({"time": UNEVEN}, {"rate": 50.0, "hop": 4}),
        ({"time": UNEVEN}, {"rate": 20.0, "hop": 4}),
        ({"time": EVEN}, {"rate": 20.0, "hop": 4}),
        ({"time": EVEN}, {"rate": 125.0, "hop": 30}),
        ({"time": 1000 * GAP}, {"rate": 20.0, "time": "time:ms"}),
        ({"who": ["a"] * 27 + ["b"] * 33}, {"group": ("who",), "hop": 4}),
    ],
)
def test_windows_are_those_of_the_file(columns: Any, asked: Any, tmp_path: Path) -> None:
    path = stream(tmp_path / "a.csv", **columns)
    inputs = (InputSpec("x", (ROWS, 3), "float32"),)
    wanted = Wanted(labels_required=False)
    samples = read_sensors(path, Sensors(window=ROWS, **asked), inputs, wanted)
    windows = live(path.read_text(), **asked)
    assert len(windows) == len(samples.x) > 1
    np.testing.assert_array_equal([window.values for window in windows], np.asarray(samples.x))
    assert samples.spans is not None
    np.testing.assert_allclose(
        [(window.start, window.end) for window in windows], samples.spans.seconds, atol=1e-9
    )


def test_a_window_comes_with_its_last_row() -> None:
    stream = Live(Heading("ax,ay", None), Sensors(hop=5), ROWS)
    counts = [len([*stream.add(f"{at},{-at}")]) for at in range(20)]
    assert np.flatnonzero(counts).tolist() == [9, 14, 19]


def test_columns_are_matched_by_name() -> None:
    text = "\n".join(["b;note;a", *(f"{at};-;{10 * at}" for at in range(10))])
    (window,) = live(text, channels=("a", "b"))
    assert window.values[3].tolist() == [30, 3]


@pytest.mark.parametrize("between", [",", ";", "\t", " ", "|"])
def test_rows_without_names(between: str, refused: Refused) -> None:
    text = "\n".join(between.join(map(str, (at, 10 * at))) for at in range(10))
    (window,) = live(text, names=["a", "b"], channels=("b",))
    assert window.values[3].tolist() == [30]
    said = refused(DataError, live, text)
    assert "expected names of columns: name them with channels=, or send them first" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1,2", '"1,2" has 2 cells, expected 3 as there are columns (t, a, b)'),
        ("0,x,2", 'column "a" has "x", expected a finite number'),
        ("0,1,nan", 'column "b" has "nan", expected a finite number'),
        ("soon,1,2", 'column "t" has "soon", expected a time'),
        ("", "has "),
    ],
)
def test_a_bad_line_leaves_no_trace(line: str, said: str, refused: Refused) -> None:
    asked: dict[str, Any] = {"time": "t", "rate": 50.0}
    lines = [f"{at / 50},{at},{-at}" for at in range(40)]
    whole = live("\n".join(["t,a,b", *lines]), **asked)
    stream = Live(Heading("t,a,b", None), Sensors(**asked), ROWS)
    windows = []
    for at, each in enumerate(lines):
        if at in (3, 25):
            assert said in refused(DataError, lambda: [*stream.add(line)])
        windows += stream.add(each)
    assert len(windows) == len(whole) == 4
    np.testing.assert_array_equal([w.values for w in windows], [w.values for w in whole])


def test_a_clock_that_is_set_back_begins_anew() -> None:
    times = [*(at / 50 for at in range(25)), *(at / 50 for at in range(25))]
    text = "\n".join(["t,a", *(f"{time},{at}" for at, time in enumerate(times))])
    windows = live(text, time="t", rate=50.0)
    assert [window.values[0, 0] for window in windows] == [0, 10, 25, 35]


def test_a_clock_that_stands_still(refused: Refused) -> None:
    text = "\n".join(["t,a", *(f"5,{at}" for at in range(20))])
    assert "stand still" in refused(DataError, live, text, time="t", rate=50.0)


def test_old_rows_are_let_go_of() -> None:
    for asked in ({"hop": 3}, {"hop": 25}, {"time": "t", "rate": 20.0}):
        stream = Live(Heading("t,a", None), Sensors(channels=("a",), **asked), ROWS)
        for at in range(5000):
            [*stream.add(f"{at / 50},{at}")]
        assert len(stream._values) < 60
