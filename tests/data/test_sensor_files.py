"""Files of streams: which columns are what, times in their units, rows a part at a time."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensor_data import table
from skip2lora.data import sensor_files as module
from skip2lora.data.sensor_files import Part, SensorFile, unit_of
from skip2lora.data.sensor_formats import open_stream
from skip2lora.data.sensor_options import Sensors
from skip2lora.errors import DataError
from skip2lora.tasks.columns import Columns, Wanted

Refused = Callable[..., str]
OPTIONAL = Wanted(labels_required=False)


def read(path: Path, wanted: Wanted = OPTIONAL, **asked: Any) -> tuple[SensorFile, list[Part]]:
    with open_stream(path, Sensors(**asked), wanted) as file:
        return file, list(file.parts)


def columns(n_rows: int = 10) -> dict[str, Any]:
    return {
        "time": [at / 10 for at in range(n_rows)], "who": ["ann"] * n_rows,
        "x": range(n_rows), "y": [-at for at in range(n_rows)], "z": [0.5] * n_rows,
        "label": ["up"] * n_rows,
    }  # fmt: skip


def test_columns_are_told_apart(tmp_path: Path) -> None:
    file, parts = read(table(tmp_path / "a.csv", columns()), group=("who",))
    assert (file.channels, file.time, file.label, file.groups) == (
        ("x", "y", "z"), "time", "label", ("who",),
    )  # fmt: skip
    (part,) = parts
    np.testing.assert_array_equal(part.values[3], np.float32([3, -3, 0.5]))
    assert part.times is not None
    assert part.labels is not None
    assert part.groups is not None
    np.testing.assert_allclose(part.times, np.arange(10) / 10)
    assert (part.labels[9], part.groups[9].tolist()) == ("up", ["ann"])


def test_channels_are_matched_by_name(tmp_path: Path) -> None:
    """Columns in another order, and others beside them."""
    path = table(tmp_path / "a.csv", {"note": ["a"] * 3, "y": [1, 2, 3], "x": [4, 5, 6]})
    file, (part,) = read(path, channels=("x", "y"))
    assert (file.channels, part.values.tolist()) == (("x", "y"), [[4, 1], [5, 2], [6, 3]])
    said = Wanted(labels_required=False, learned=Columns(target=("note",)))
    assert read(path, said, channels=("x", "y"))[0].label == "note"


@pytest.mark.parametrize("rows", [3, 4, 100])
def test_parts_follow_each_other(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROWS", rows)
    path = table(tmp_path / "a.tsv", columns(10), between="\t")
    parts = read(path, group=("who",))[1]
    assert [len(part.values) for part in parts] == [min(rows, 10 - at) for at in range(0, 10, rows)]
    whole = np.concatenate([part.values for part in parts])
    np.testing.assert_array_equal(whole[:, 0], np.arange(10))


def test_a_packed_table_and_one_of_parquet(tmp_path: Path) -> None:
    plain = table(tmp_path / "a.csv", columns())
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    expected = read(plain, group=("who",))[1][0].values
    np.testing.assert_array_equal(read(packed, group=("who",))[1][0].values, expected)
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    from pyarrow import table as arrow

    made = arrow({name: list(values) for name, values in columns().items()})
    parquet.write_table(made, tmp_path / "a.parquet")
    file, (part,) = read(tmp_path / "a.parquet", group=("who",))
    np.testing.assert_array_equal(part.values, expected)
    assert (file.time, file.label) == ("time", "label")
    assert part.groups is not None
    assert part.groups[0].tolist() == ["ann"]


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        (["0.5", "0.75"], [0.5, 0.75]),
        (["2026-05-01T00:00:00.25", "2026-05-01 00:00:01"], [1777593600.25, 1777593601.0]),
        (["2026-05-01T02:00:00+02:00", "2026-05-01T00:00:00Z"], [1777593600.0, 1777593600.0]),
    ],
)
def test_times(words: list[str], seconds: list[float], tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", {"when": words, "x": [1, 2]})
    part = read(path, time="when")[1][0]
    assert part.times is not None
    np.testing.assert_allclose(part.times, seconds, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "kind", ["s", "ms", "us", "ns", "double", "float", "int64", "text", "naive"]
)
def test_times_of_parquet(kind: str, tmp_path: Path) -> None:
    """The same whatever type has them; a time without a zone is one of UTC."""
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    first = 86400 if kind == "float" else 1777593600
    seconds = [first, first + 2, first + 4]
    column: Any = seconds
    if kind in ("s", "ms", "us", "ns"):
        column = pyarrow.array(np.array(seconds, "M8[s]"), pyarrow.timestamp(kind, "UTC"))
    elif kind == "naive":
        column = pyarrow.array(np.array(seconds, "M8[s]"), pyarrow.timestamp("ms"))
    elif kind == "text":
        column = [f"2026-05-01 00:00:0{second}" for second in (0, 2, 4)]
    elif kind != "int64":
        column = pyarrow.array(np.array(seconds, float)).cast(kind)
    parquet.write_table(pyarrow.table({"when": column, "x": [1, 2, 3]}), tmp_path / "a.parquet")
    part = read(
        tmp_path / "a.parquet", time="when:s" if kind in ("double", "float", "int64") else "when"
    )[1][0]
    assert part.times is not None
    assert part.times.tolist() == seconds


@pytest.mark.parametrize(
    ("name", "told", "times", "unit"),
    [
        ("t", "ms", [0, 20, 40], 1e-3),
        ("time_ms", None, [0, 20], 1e-3),
        ("Time (us)", None, [0, 20], 1e-6),
        ("t[ns]", None, [0, 20], 1e-9),
        ("t", None, [0, 0.02], 1.0),
        ("t", None, [1.7e9, 1.7e9 + 1], 1.0),
        ("t", None, [1.7e12, 1.7e12 + 20], 1e-3),
        ("t", None, [1.7e15, 1.7e15 + 20], 1e-6),
        ("t", None, [1.7e18, 1.7e18 + 20e6], 1e-9),
    ],
)
def test_units(name: str, told: str | None, times: list[float], unit: float) -> None:
    assert unit_of(name, told, np.array(times, float)) == unit


def test_a_unit_that_is_not_clear(refused: Refused) -> None:
    said = refused(DataError, unit_of, "t", None, np.array([0.0, 20.0, 40.0]))
    assert "steps by 20, which may be of seconds or of a part of them" in said
    assert "time=t:ms, or :s, :us, :ns" in said


@pytest.mark.parametrize(
    ("change", "asked", "said"),
    [
        ({}, {"time": "clock"}, 'time= names "clock", it has columns time, who'),
        ({}, {"channels": ("x", "w")}, 'channels= names "w"'),
        ({}, {"group": ("user",)}, 'group= names "user"'),
        ({"timestamp": [0] * 10}, {}, "has two clocks, time, timestamp, expected one"),
        ({"time": ["soon"] * 10}, {}, 'row 0 (from 0, line 2) column "time" has "soon"'),
        ({"x": ["1", "nan", *range(8)]}, {}, '1 value is NaN, infinite or too large, the first in'
         ' row 1 (from 0, line 3), column "x"'),
        ({"x": ["1", "", *range(8)]}, {}, 'row 1 (from 0, line 3) column "x" is empty'),
        ({"x": ["1", "fast", *range(8)]}, {}, 'column "x" has "fast", expected a number'),
    ],
)  # fmt: skip
def test_what_cannot_be_read(
    change: dict[str, Any], asked: dict[str, Any], said: str, tmp_path: Path, refused: Refused
) -> None:
    path = table(tmp_path / "a.csv", columns() | change)
    assert said in refused(DataError, read, path, **{"group": ("who",)} | asked)


def test_rows_are_counted_over_parts(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROWS", 3)
    values = [*range(7), "no", 8, 9]
    path = table(tmp_path / "a.csv", columns() | {"x": values})
    assert "row 7 (from 0, line 9)" in refused(DataError, read, path, group=("who",))


def test_time_is_none_if_told_so(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", {"time": [5, 3], "x": [1, 2]})
    file, _ = read(path, time="none", channels=("x",))
    assert file.time is None
