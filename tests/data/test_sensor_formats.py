"""Samples of Edge Impulse, series of aeon and of Weka."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensor_data import motion
from skip2lora.backbones.inputs import InputSpec
from skip2lora.data.samples import Table
from skip2lora.data.sensor_formats import is_stream, open_stream
from skip2lora.data.sensor_options import Sensors
from skip2lora.data.sensors import read_sensors
from skip2lora.errors import DataError, MissingExtraError
from skip2lora.tasks.columns import Wanted

Refused = Callable[..., str]
TS = """# Two channels.
@problemName Small
@timeStamps false
@missing false
@univariate false
@dimensions 2
@equalLength true
@seriesLength 4
@classLabel true up down
@data
1,2,3,4:10,20,30,40:up
5,6,7,8:50,60,70,80:down
"""
FLAT = """% Weka
@relation small
@attribute att0 numeric
@ATTRIBUTE 'att 1' REAL
@attribute att2 integer
@attribute target {up, down}
@data
1,2,3,up
4, 5, 6, down
"""
RELATED = """@relation small
@attribute bag relational
  @attribute t0 numeric
  @attribute t1 numeric
  @attribute t2 numeric
@end bag
@attribute class {'up','down'}
@data
'1,2,3\\n10,20,30',up
"4,5,6\\n40,50,60",down
"""


def sample(values: Any, names: tuple[str, ...] = ("accX", "accY"), step: Any = 20) -> Any:
    return {
        "protected": {"ver": "v1", "alg": "none"},
        "signature": "00",
        "payload": {
            "device_type": "TEST", "interval_ms": step,
            "sensors": [{"name": name, "units": "m/s2"} for name in names], "values": values,
        },
    }  # fmt: skip


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read(path: Path, shape: Any, *, required: bool = True, **asked: Any) -> Table:
    inputs = (InputSpec("x", shape, "float32"),)
    return read_sensors(path, Sensors(**asked), inputs, Wanted(labels_required=required))


def labels(table: Table) -> list[str]:
    assert table.answers.values is not None
    return list(table.answers.values.tolist())


@pytest.mark.parametrize("suffix", [".json", ".cbor"])
def test_samples_of_edge_impulse(suffix: str, tmp_path: Path) -> None:
    """The label stands before the first dot of the name, the rate is that of ``interval_ms``."""
    for name in ("walk.01", "walk.02", "run.01"):
        content = sample(motion(name.split(".")[0], 30)[:, :2].tolist())
        if suffix == ".json":
            write(tmp_path / f"{name}.json", content)
        else:
            cbor2 = pytest.importorskip("cbor2", reason="needs cbor2: pip group test")
            (tmp_path / f"{name}.cbor").write_bytes(cbor2.dumps(content))
    table = read(tmp_path, (10, 2))
    assert labels(table) == ["run"] * 3 + ["walk"] * 6
    np.testing.assert_allclose(np.asarray(table.x)[1], motion("run", 30)[10:20, :2], rtol=1e-6)
    assert table.images is not None
    assert table.images.rate == 50
    assert table.images.to_json()["channels"] == ["accX", "accY"]
    assert table.aside["group"].tolist() == list(table.files or ())
    slow = read(tmp_path, (10, 2), rate=25.0)
    assert len(slow.x) == 3
    assert "resampled to 25 Hz: 3 files" in slow.notes


def test_one_sensor_and_parts_of_an_export(tmp_path: Path) -> None:
    for part in ("training", "testing"):
        write(tmp_path / part / "low.1.json", sample([1, 2, 3.5], ("level",)))
    inputs = (InputSpec("x", (3,), "float32"),)
    wanted = Wanted(usual_split="train")
    table = read_sensors(tmp_path, Sensors(), inputs, wanted)
    assert np.asarray(table.x).tolist() == [[1, 2, 3.5]]
    assert (labels(table), table.files) == (["low"], ("training/low.1.json",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "it is no JSON"),
        ("[]", "it has no payload"),
        ({"payload": {"interval_ms": 20}}, "it has no sensors"),
        (sample([[1, 2]], step=0), "its interval_ms is 0, expected milliseconds above 0"),
        (sample([[1, 2]], step=True), "its interval_ms is True"),
        (sample([[1, 2], [3]]), "row 1 (from 0) is [3], expected 2 numbers"),
        (sample([[1, "2"]]), "row 0 (from 0) is [1, '2']"),
        (sample([[1, True]]), "row 0 (from 0) is [1, True]"),
        (sample([[1, 1e99]]), '1 value is NaN, infinite or too large'),
        (sample([]), "its values are empty"),
        (sample([[1, 2]], names=("accX", "gyr")), 'channels= names "accY"'),
    ],
)  # fmt: skip
def test_what_is_no_sample(content: Any, said: str, tmp_path: Path, refused: Refused) -> None:
    path = write(tmp_path / "a.json", content)
    assert said in refused(DataError, read, path, (1, 2), channels=("accX", "accY"))


def test_cbor_is_an_extra(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cbor2", None)
    (tmp_path / "a.cbor").write_bytes(b"\xa0")
    said = refused(MissingExtraError, read, tmp_path / "a.cbor", (1, 2))
    assert "needs cbor2: pip install 'skip2lora[cbor]'" in said


def test_damaged_cbor(tmp_path: Path, refused: Refused) -> None:
    pytest.importorskip("cbor2", reason="needs cbor2: pip group test")
    for content in (b"", b"\xbf", b"\x9f\x9f", b"\xff"):
        (tmp_path / "a.cbor").write_bytes(content)
        assert "expected a sample" in refused(DataError, read, tmp_path / "a.cbor", (1, 2))


def test_series_of_aeon(tmp_path: Path) -> None:
    """Each is a sample, in the order of axes that the model takes."""
    path = write(tmp_path / "a.ts", TS)
    table = read(path, (2, 4))
    assert np.asarray(table.x)[1].tolist() == [[5, 6, 7, 8], [50, 60, 70, 80]]
    assert labels(table) == ["up", "down"]
    rows = np.asarray(read(path, (None, 2), channels=("channel_1", "channel_0")).x)
    assert rows[0].tolist() == [[10, 1], [20, 2], [30, 3], [40, 4]]
    assert read(path, (2, 3), window=3, hop=1).x.shape == (4, 2, 3)
    bare = write(tmp_path / "b.ts", TS.replace("true up down", "false").replace(":up", "")
                 .replace(":down", ""))  # fmt: skip
    assert read(bare, (2, 4), required=False).answers.values is None
    silent = bare.read_text(encoding="utf-8").replace("@classLabel false\n", "")
    assert "@classLabel" not in silent
    table = read(write(tmp_path / "c.ts", silent), (2, 4), required=False)
    assert table.answers.values is None
    assert np.asarray(table.x)[1].tolist() == [[5, 6, 7, 8], [50, 60, 70, 80]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("7,8:", "7:"), "line 12 has channels of 3 and of 4 values"),
        (("7,8:", "7,?:"), 'line 12 has "?", expected finite numbers'),
        (("8:50,60,70,80:", "8:"), "line 12 has 1 channels, expected 2"),
        (("@timeStamps false", "@timeStamps true"), "its series have times of their own"),
        (("@data", "@rest"), "it has no series below @data"),
        (
            ("1,2,3,4:10,20,30,40:up", "1,2,3,4"),
            'line 11 has no ":" between a series and its label',
        ),
    ],
)
def test_damaged_series(
    change: tuple[str, str], said: str, tmp_path: Path, refused: Refused
) -> None:
    path = write(tmp_path / "a.ts", TS.replace(*change))
    assert said in refused(DataError, read, path, (2, 4))


def test_tables_and_relations_of_weka(tmp_path: Path) -> None:
    table = read(write(tmp_path / "a.arff", FLAT), (3,))
    assert np.asarray(table.x).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert labels(table) == ["up", "down"]
    related = read(write(tmp_path / "b.arff", RELATED), (2, 3))
    assert np.asarray(related.x).tolist() == [[[1, 2, 3], [10, 20, 30]], [[4, 5, 6], [40, 50, 60]]]
    assert labels(related) == ["up", "down"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("@attribute att0 numeric", "@attribute"), 'line 3 has an attribute of type ""'),
        (("att0 numeric", "att0 string"), 'line 3 has an attribute of type "string"'),
        (("att0 numeric", "att0 {1, 4}"), 'attribute "att0" is nominal, expected numbers'),
        (("1,2,3,up", "1,2,up"), "line 8 has 3 values, expected 4"),
        (("1,2,3,up", "{0 1, 3 up}"), "line 8 is sparse"),
        (("1,2,3,up", "1,?,3,up"), 'line 8 has "?"'),
        (("@data", ""), "it has no @data"),
    ],
)
def test_damaged_tables_of_weka(
    change: tuple[str, str], said: str, tmp_path: Path, refused: Refused
) -> None:
    path = write(tmp_path / "a.arff", FLAT.replace(*change))
    assert said in refused(DataError, read, path, (3,))


def test_the_attribute_with_the_label(tmp_path: Path, refused: Refused) -> None:
    text = FLAT.replace("@attribute target {up, down}", "@attribute other numeric")
    path = write(tmp_path / "a.arff", text.replace("up", "7").replace("down", "8"))
    inputs = (InputSpec("x", (3,), "float32"),)
    table = read_sensors(path, Sensors(), inputs, Wanted(target="att0"))
    assert np.asarray(table.x)[:, -1].tolist() == [7, 8]
    assert labels(table) == ["1", "4"]
    wanted = Wanted(target="att7")
    said = refused(DataError, read_sensors, path, Sensors(), inputs, wanted)
    assert 'target= names "att7", it has attributes att0, att 1, att2, other' in said


def test_as_scipy_reads_it(tmp_path: Path) -> None:
    arff = pytest.importorskip("scipy.io.arff", reason="needs scipy")
    path = write(tmp_path / "a.arff", FLAT.replace(", ", ","))
    rows, _ = arff.loadarff(path)
    x = np.array([[row[at] for at in range(3)] for row in rows], np.float32)
    np.testing.assert_array_equal(np.asarray(read(path, (3,)).x), x)


def test_names() -> None:
    for name in ("a.csv", "a.CSV.gz", "a.parquet", "a.ts", "a.arff", "a.json", "a.cbor"):
        assert is_stream(Path(name))
    assert not is_stream(Path("a.wav"))
    assert not is_stream(Path("notes.txt"))


def test_a_table_called_txt(tmp_path: Path) -> None:
    """It is read where it is asked for, though a folder may hold such of any kind."""
    table = read(write(tmp_path / "a.txt", "a\tb\n1\t2\n3\t4\n"), (1, 2), window=1, required=False)
    assert np.asarray(table.x).tolist() == [[[1, 2]], [[3, 4]]]


def test_an_open_file_says_what_it_has(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ts", TS)
    with open_stream(path, Sensors(), Wanted()) as file:
        assert (file.channels, file.label) == (("channel_0", "channel_1"), "label")
