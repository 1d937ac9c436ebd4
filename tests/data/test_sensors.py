"""Streams as samples: which windows, of which class, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensor_data import CHANNELS, motion, table, walk_run_sit
from skip2lora.backbones.inputs import InputSpec
from skip2lora.data import spool
from skip2lora.data.samples import Table
from skip2lora.data.sensor_features import features_of
from skip2lora.data.sensor_options import Sensors
from skip2lora.data.sensors import describe_sensors, read_sensors
from skip2lora.errors import DataError
from skip2lora.tasks.columns import Wanted

Refused = Callable[..., str]


def read(path: Path, shape: Any = (None, 3), *, required: bool = False, **asked: Any) -> Table:
    inputs = None if shape is None else (InputSpec("x", shape, "float32"),)
    sensors = Sensors(**{"window": 10} | asked)
    return read_sensors(path, sensors, inputs, Wanted(labels_required=required))


def rows(path: Path, n_rows: int, **columns: Any) -> Path:
    x = motion("walk", n_rows)
    return table(path, columns | dict(zip(CHANNELS, x.T.tolist(), strict=True)))


def test_windows_of_a_stream(tmp_path: Path) -> None:
    file = rows(tmp_path / "a.csv", 35)
    x = motion("walk", 35)
    samples = read(file, hop=5)
    values = np.asarray(samples.x)
    assert (values.shape, values.dtype) == ((6, 10, 3), np.float32)
    for number, window in enumerate(values):
        np.testing.assert_allclose(window, x[5 * number : 5 * number + 10], rtol=1e-6)
    assert samples.spans is not None
    assert samples.spans.unit == "rows"
    assert samples.spans.seconds[:2].tolist() == [[0, 10], [5, 15]]
    assert samples.answers.values is None
    assert samples.images == Sensors(window=10, hop=5, channels=CHANNELS, mixed="majority")
    assert len(read(file).x) == 3  # a window apart by default


@pytest.mark.parametrize(
    ("shape", "axes"), [((3, 10), (0, 2, 1)), ((1, 10, 3), None), ((30,), None), (None, None)]
)
def test_how_a_model_takes_windows(shape: Any, axes: Any, tmp_path: Path) -> None:
    file = rows(tmp_path / "a.csv", 30)
    x = np.asarray(read(file, shape).x)
    plain = np.asarray(read(file).x)
    expected = plain if axes is None else plain.transpose(axes)
    np.testing.assert_array_equal(x, expected.reshape(3, *(shape or (30,))))


def test_features_take_the_place_of_rows(tmp_path: Path) -> None:
    file = rows(tmp_path / "a.csv", 30)
    samples = read(file, None, features=("statistics", "spectrum"))
    np.testing.assert_array_equal(
        np.asarray(samples.x), features_of(("statistics", "spectrum"), np.asarray(read(file).x))
    )
    assert samples.images is not None
    assert "features" in samples.images.to_json()


def test_labels_of_most_rows(tmp_path: Path, refused: Refused) -> None:
    labels = ["up"] * 13 + ["down"] * 12 + ["up"] * 10
    file = rows(tmp_path / "a.csv", 35, label=labels)
    samples = read(file, hop=5, required=True)
    assert samples.answers.values is not None
    assert samples.answers.values.tolist() == ["up", "up", "down", "down", "up"]
    assert samples.notes == (
        "3 of 6 windows have several labels, that of most rows counts",
        "1 of 6 windows without one label of most rows left out",
    )
    dropped = read(file, hop=5, required=True, mixed="drop")
    assert dropped.answers.values is not None
    assert dropped.answers.values.tolist() == ["up", "down", "up"]
    assert dropped.spans is not None
    assert dropped.spans.seconds[:, 0].tolist() == [0, 15, 25]
    np.testing.assert_allclose(np.asarray(dropped.x)[2], motion("walk", 35)[25:], rtol=1e-6)
    assert "3 of 6 windows with several labels left out" in dropped.notes
    said = refused(DataError, read, file, hop=5, required=True, mixed="refuse")
    assert "3 of 6 windows have several labels, the first of 5 to 15" in said
    tied = rows(tmp_path / "tied.csv", 10, label=["up"] * 5 + ["down"] * 5)
    said = refused(DataError, read, tied, required=True)
    assert "no window has one label of most of its rows" in said
    times = [f"{1.7e9 + at / 2:.1f}" for at in range(35)]  # a moment is told from the next
    file = rows(tmp_path / "b.csv", 35, time=times, label=labels)
    said = refused(DataError, read, file, hop=5, required=True, mixed="refuse")
    assert "the first of 1700000002.5 to 1700000007.5" in said


def test_all_windows_are_predicted(tmp_path: Path) -> None:
    """Those without one label have an empty one."""
    file = rows(tmp_path / "a.csv", 30, label=["up"] * 15 + ["down"] * 15)
    for mixed in ("majority", "drop", "refuse"):
        samples = read(file, mixed=mixed)
        assert samples.answers.values is not None
        assert samples.answers.values.tolist() == ["up", "", "down"]


def test_groups_cut_streams_and_stay_together(tmp_path: Path) -> None:
    file = walk_run_sit(tmp_path / "a.csv", users=2, n_rows=25)
    samples = read(file, group=("user", "session"), required=True)
    assert len(samples.x) == 2 * 3 * 2  # five rows at the end of each session are left
    assert samples.aside["group"].tolist() == ["u0"] * 6 + ["u1"] * 6
    assert samples.answers.values is not None
    assert samples.answers.values[:6].tolist() == ["run"] * 2 + ["sit"] * 2 + ["walk"] * 2
    assert samples.spans is not None
    np.testing.assert_allclose(samples.spans.seconds[1], [1.7e9 + 0.2, 1.7e9 + 0.4])
    assert samples.images is not None
    assert samples.images.rate == 50


def test_rows_without_times_are_said_to_be_at_a_known_rate(tmp_path: Path) -> None:
    file = rows(tmp_path / "a.csv", 30)
    said = "it has no column of times, its rows are taken as at 50 Hz"
    samples = read(file, rate=50.0)
    assert samples.notes == (said,)
    assert samples.spans is not None
    assert samples.spans.seconds[1].tolist() == [0.2, 0.4]
    assert read(file, rate=50.0, time="none").notes == ()


def test_gaps_cut_windows(tmp_path: Path) -> None:
    times = np.arange(40) / 50
    times[17:] += 2
    file = rows(tmp_path / "a.csv", 40, time=times.tolist())
    samples = read(file)
    assert samples.spans is not None
    np.testing.assert_allclose(samples.spans.seconds[:, 0], [0.0, 2.34, 2.54])
    assert "1 gaps, of over 3 steps, which no window goes over" in samples.notes
    assert samples.aside["group"].tolist() == ["0", "1", "1"]


def test_seconds_are_rows_at_the_rate_of_the_stream(tmp_path: Path) -> None:
    file = rows(tmp_path / "a.csv", 40, time=(np.arange(40) / 50).tolist())
    samples = read(file, window=0.4, hop=0.2)
    assert samples.images is not None
    assert (samples.images.to_json()["window"], samples.images.to_json()["hop"]) == (20, 10)
    assert samples.x.shape == (3, 20, 3)


def test_another_rate(tmp_path: Path) -> None:
    """A stream at 100 Hz for a model at 50 has the windows of one at 50, but for the noise."""
    times = np.arange(400) / 100
    slow = np.sin(2 * np.pi * 0.7 * times)
    fast = table(tmp_path / "fast.csv", {"time": times.tolist(), "x": slow.tolist()})
    even = table(tmp_path / "even.csv", {"time": times[::2].tolist(), "x": slow[::2].tolist()})
    asked = {"rate": 50.0, "window": 20, "hop": 10}
    one, other = (read(file, (20,), **asked) for file in (fast, even))
    assert "resampled to 50 Hz: 1 file" in one.notes
    assert other.notes == ()
    assert one.spans is not None
    assert other.spans is not None
    np.testing.assert_allclose(one.spans.seconds, other.spans.seconds, atol=1e-9)
    np.testing.assert_allclose(np.asarray(one.x), np.asarray(other.x), atol=2e-3)
    jitter = np.random.default_rng(0).uniform(-0.004, 0.004, 400)
    shaken = table(
        tmp_path / "shaken.csv",
        {"time": (times + jitter).tolist(), "x": np.sin(4.39823 * (times + jitter)).tolist()},
    )
    uneven = np.asarray(read(shaken, (20,), **asked).x)
    np.testing.assert_allclose(uneven[:-1], np.asarray(other.x)[: len(uneven) - 1], atol=0.05)


def test_a_window_alone_has_the_numbers_that_it_has_beside_others(tmp_path: Path) -> None:
    times = np.cumsum(np.random.default_rng(1).uniform(0.005, 0.02, 300))
    file = rows(tmp_path / "a.csv", 300, time=times.tolist())
    x = read(file, rate=50.0, hop=3).x
    whole = np.asarray(x)
    for at in (0, 7, len(whole) - 1):
        np.testing.assert_array_equal(np.asarray(x[np.array([at])])[0], whole[at])
    assert x[:4].digests() == x.digests()[:4]
    assert len(set(x.digests())) == len(whole)


def test_uneven_times_need_a_rate(tmp_path: Path, refused: Refused) -> None:
    times = np.cumsum(np.tile([0.01, 0.03], 50))
    file = rows(tmp_path / "a.csv", 100, time=times.tolist())
    said = refused(DataError, read, file)
    assert "its times are uneven, 49.75 Hz on the whole" in said
    assert "add rate=49.75" in said
    assert "its rows come at 49.75 Hz, rate= is 1e+06" in refused(DataError, read, file, rate=1e6)


def test_one_sub_folder_a_class(tmp_path: Path, refused: Refused) -> None:
    for label in ("up", "down"):
        for number in range(2):
            rows(tmp_path / label / f"{number}.csv", 25)
    samples = read(tmp_path, required=True)
    assert samples.answers.values is not None
    assert samples.answers.values.tolist() == ["down"] * 4 + ["up"] * 4
    assert samples.files is not None
    assert samples.files[:3] == ("down/0.csv", "down/0.csv", "down/1.csv")
    assert samples.aside["group"].tolist() == list(samples.files)
    named = read(tmp_path, required=True, label_by="name")
    assert named.answers.values is not None
    assert named.answers.values.tolist() == ["0", "0", "1", "1"] * 2
    rows(tmp_path / "up" / "2.csv", 25, label=["x"] * 25)
    said = refused(DataError, read, tmp_path, required=True)
    assert "labels in a column and in its sub-folders" in said


def test_labels_by_name_of_file(tmp_path: Path, refused: Refused) -> None:
    for name in ("up.1.csv", "up.2.csv", "down.1.csv"):
        rows(tmp_path / name, 25)
    samples = read(tmp_path, required=True, label_by="name")
    assert samples.answers.values is not None
    assert samples.answers.values.tolist() == ["down"] * 2 + ["up"] * 4
    assert "with the answers" in refused(DataError, read, tmp_path, required=True)


def test_files_of_several_rates(tmp_path: Path, refused: Refused) -> None:
    for hertz in (50, 100):
        times = (np.arange(60) / hertz).tolist()
        rows(tmp_path / f"{hertz}.csv", 60, time=times)
    assert "streams of 100 and of 50 Hz" in refused(DataError, read, tmp_path)
    assert "resampled to 50 Hz: 1 file" in read(tmp_path, rate=50.0).notes
    (tmp_path / "50.csv").unlink()
    table(tmp_path / "b.csv", {"time": [0, 0.1], "ax": [1, 2]})
    assert refused(DataError, read, tmp_path).startswith('b.csv: channels= names "ay"')


def test_what_is_too_short(tmp_path: Path, refused: Refused) -> None:
    file = rows(tmp_path / "a.csv", 25, who=["a"] * 5 + ["b"] * 20)
    samples = read(file, group=("who",))
    assert len(samples.x) == 2
    assert "1 of 2 streams, shorter than a window of 10 rows, left out" in samples.notes
    said = refused(DataError, read, file, group=("who",), window=21)
    assert "windows of 21 rows are longer than its streams, of 20 rows at most" in said


def test_a_long_stream_is_not_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    monkeypatch.setattr(spool, "IN_MEMORY", 1 << 16)
    x = np.tile(motion("run", 1000), (40, 1))
    file = tmp_path / "a.csv"
    with file.open("w") as stream:
        stream.write("ax,ay,az\n")
        np.savetxt(stream, x, fmt="%.4f", delimiter=",")
    tracemalloc.start()
    samples = read(file, (100, 3), window=100)
    for at in range(0, len(samples.x), 16):
        samples.x[at : at + 16].read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(samples.x) == 400
    assert peak < 6 << 20  # the rows as text of Python take 20 MB


def test_the_part_for_training_is_described(tmp_path: Path) -> None:
    for part, lengths in (("train", (30, 50)), ("test", (70, 90))):
        for number, length in enumerate(lengths):
            for label in ("walk", "run"):
                rows(tmp_path / part / label / f"{number}.csv", length)
    facts = describe_sensors(tmp_path)
    assert (facts["n_files"], facts["files_a_class"]) == (4, {"walk": 2, "run": 2})
    assert (facts["n_rows"], facts["shortest_rows"], facts["longest_rows"]) == (160, 30, 50)
    assert (facts["n_streams"], facts["n_gaps"], facts["rates_hz"]) == (4, 0, [])
    assert facts["channels"] == CHANNELS
    rows(tmp_path / "alone" / "one.csv", 30)
    assert describe_sensors(tmp_path / "alone")["files_a_class"] is None
