"""The number of a window: of its own rows, by hand."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensor_data import CHANNELS, impulse, motion, table
from skip2lora.backbones.inputs import InputSpec
from skip2lora.data import spool
from skip2lora.data.samples import Table
from skip2lora.data.sensor_options import Sensors
from skip2lora.data.sensors import read_sensors
from skip2lora.errors import DataError
from skip2lora.tasks.columns import Wanted

Refused = Callable[..., str]
LOAD = np.random.default_rng(3).normal(20, 5, 35).round(3)


def read(path: Path, *, required: bool = True, target: str | None = "load", **asked: Any) -> Table:
    sensors = Sensors(**{"window": 10, "hop": 5, "target_of": "mean"} | asked)
    wanted = Wanted(labels_required=required, target=target)
    return read_sensors(path, sensors, (InputSpec("x", (None, 3), "float32"),), wanted)


def rows(path: Path, load: Any = LOAD, **columns: Any) -> Path:
    x = motion("walk", len(load))
    parts = dict(zip(CHANNELS, x.T.tolist(), strict=True))
    return table(path, columns | {"load": list(load)} | parts)


def numbers(read_table: Table) -> list[float]:
    assert read_table.answers.values is not None
    assert read_table.answers.values.dtype == np.float32
    return [float(value) for value in read_table.answers.values[:, 0]]


def test_mean_or_last_of_its_own_rows(tmp_path: Path) -> None:
    file = rows(tmp_path / "a.csv")
    starts = range(0, 26, 5)
    means = [float(np.mean(LOAD[at : at + 10])) for at in starts]
    samples = read(file)
    np.testing.assert_allclose(numbers(samples), means, rtol=1e-6)
    assert samples.answers.column_names == ("load",)
    assert samples.columns.target == ("load",)
    assert np.asarray(samples.x).shape == (6, 10, 3)  # the number is no channel
    assert samples.images == Sensors(window=10, hop=5, channels=CHANNELS, target_of="mean")
    last = numbers(read(file, target_of="last"))
    np.testing.assert_allclose(last, [LOAD[at + 9] for at in starts], rtol=1e-6)


def test_other_files(tmp_path: Path) -> None:
    want = numbers(read(rows(tmp_path / "a.csv")))
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    assert numbers(read(tmp_path / "b.csv.gz")) == want
    text = (tmp_path / "a.csv").read_text().replace(",", ";").replace(".", ",")
    (tmp_path / "c.csv").write_text(text)  # as of a German spreadsheet
    assert numbers(read(tmp_path / "c.csv")) == want
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    from pyarrow.csv import read_csv

    parquet.write_table(read_csv(tmp_path / "a.csv"), tmp_path / "d.parquet")
    assert numbers(read(tmp_path / "d.parquet")) == want


def test_groups_and_gaps_cut_them_too(tmp_path: Path) -> None:
    users = ["ann"] * 12 + ["ben"] * 23
    samples = read(rows(tmp_path / "a.csv", user=users), group=("user",))
    starts = [0, 12, 17, 22]
    np.testing.assert_allclose(
        numbers(samples), [np.mean(LOAD[at : at + 10]) for at in starts], rtol=1e-6
    )
    assert samples.aside["group"].tolist() == ["ann", "ben", "ben", "ben"]


@pytest.mark.parametrize("how", ["mean", "last"])
def test_another_rate(how: str, tmp_path: Path) -> None:
    """A line stays a line: at 100 Hz, at 40, and at uneven times, the same number."""
    asked = {"rate": 50.0, "window": 20, "hop": 10, "target_of": how}
    random = np.random.default_rng(0)
    got = []
    for rate, shaken in ((50, 0.0), (100, 0.0), (40, 0.0), (100, 0.003)):
        times = np.arange(2 * rate) / rate + random.uniform(-shaken, shaken, 2 * rate)
        times[0] = 0
        file = rows(tmp_path / "a.csv", 3 * times + 1, time=times.tolist())
        got.append(numbers(read(file, **asked))[:8])
    starts = np.arange(8) * 0.2
    middle = 9.5 / 50 if how == "mean" else 19 / 50
    for each in got:
        np.testing.assert_allclose(each, 3 * (starts + middle) + 1, atol=5e-3)


def test_long_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = rows(tmp_path / "a.csv", np.arange(5000) / 8)
    want = numbers(read(file))
    monkeypatch.setattr(spool, "IN_MEMORY", 1000)
    assert numbers(read(file)) == want == [(at + 4.5) / 8 for at in range(0, 4991, 5)]


def test_where_nothing_has_to_be_known(tmp_path: Path) -> None:
    """To predict, the column may be missing, be empty or hold text; it is never a channel."""
    for number, load in enumerate((LOAD, [""] * 35, ["?"] * 35)):
        file = rows(tmp_path / f"{number}.csv", load)
        samples = read(file, required=False, target=None, channels=CHANNELS)
        assert samples.answers.values is None
        assert np.asarray(samples.x).shape == (6, 10, 3)


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (["a", *LOAD[1:]], 'column "load" has "a", expected a number'),
        ([*LOAD[:3], "", *LOAD[4:]], 'row 3 (from 0, line 5) column "load"'),
        ([*LOAD[:3], "inf", *LOAD[4:]], 'column "load", expected finite float32 numbers'),
    ],
)
def test_what_is_no_number(load: Any, said: str, tmp_path: Path, refused: Refused) -> None:
    assert said in refused(DataError, read, rows(tmp_path / "a.csv", load))


def test_files_without_a_column(tmp_path: Path, refused: Refused) -> None:
    said = refused(DataError, read, impulse(tmp_path / "walk.01.json", "walk"), target=None)
    assert "it has no column of numbers, expected a table with one" in said
    said = refused(DataError, read, rows(tmp_path / "a.csv"), target="ax", channels=CHANNELS)
    assert 'target= names column "ax", expected another, as it is a feature' in said
