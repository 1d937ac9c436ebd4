"""DATA files: what is read, and what each kind of damage is answered with."""

from __future__ import annotations

import builtins
import csv
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skip2lora.arrays import Inputs
from skip2lora.data.reading import check_samples, read_samples, write_predictions, write_samples
from skip2lora.data.samples import Samples
from skip2lora.errors import DataError, FileError, MissingExtraError, ParameterError, Skip2LoraError
from skip2lora.tasks.task import CLASSIFICATION, TASKS, softmax

X = np.array([[0.5, 1.0], [2.0, 3.0], [4.0, 5.5]], np.float32)
Y = np.array([0, 2, 1])
NAMES = ("stop", "normal", "damaged")


def write_text(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def write_npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def refusal(path: Path, kind: type[Skip2LoraError] = DataError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        read_samples(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    assert kind is not DataError or "expected" in message, message
    return message


# --- what is read ---------------------------------------------------------------------------


def test_npz(tmp_path: Path) -> None:
    path = write_npz(
        tmp_path / "a.npz", X=X.astype(np.float64), y=Y.astype(np.float64), names=np.array(NAMES),
        feature_names=np.array(["f", "g"]),
    )  # fmt: skip
    samples = read_samples(path)
    np.testing.assert_array_equal(samples.x, X)
    assert samples.x.dtype == np.float32
    assert samples.y is not None
    assert samples.y.tolist() == [0, 2, 1]
    assert samples.y.dtype == np.int64
    assert samples.class_names == NAMES
    assert samples.feature_names == ("f", "g")


def test_npz_class_names_win_over_names(tmp_path: Path) -> None:
    path = write_npz(
        tmp_path / "a.npz", X=X, y=Y, names=np.array(["p", "q", "r"]), class_names=np.array(NAMES)
    )
    assert read_samples(path).class_names == NAMES


def test_npz_with_text_labels_or_none(tmp_path: Path) -> None:
    text = write_npz(tmp_path / "a.npz", X=X, y=np.array(["go", "stop", "go"]))
    samples = read_samples(text)
    assert samples.y is not None
    assert (samples.y.tolist(), samples.class_names) == ([0, 1, 0], ("go", "stop"))
    bare = write_npz(tmp_path / "b.npz", X=X)
    assert read_samples(bare, labels_required=False).y is None
    assert read_samples(bare, labels_required=False, class_names=NAMES).class_names == NAMES


def test_csv(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.csv", "f,label,g\n0.5,0,1\n2,2.0,3\n\n4, 1 ,5.5\n")
    samples = read_samples(path)
    np.testing.assert_array_equal(samples.x, X)
    assert samples.y is not None
    assert samples.y.tolist() == [0, 2, 1]
    assert samples.class_names is None
    assert samples.feature_names == ("f", "g")


def test_csv_label_column_is_label_then_y_then_asked_for(tmp_path: Path) -> None:
    both = write_text(tmp_path / "a.csv", "y,label\n7,1\n8,0\n")
    assert read_samples(both).feature_names == ("y",)
    only = write_text(tmp_path / "b.csv", "y,z\n1,7\n0,8\n")
    assert read_samples(only).feature_names == ("z",)
    assert read_samples(only, target="z").feature_names == ("y",)


def test_csv_text_labels(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.csv", "f,label\n1,stop\n2,normal\n3,stop\n")
    samples = read_samples(path)
    assert samples.y is not None
    assert (samples.y.tolist(), samples.class_names) == ([1, 0, 1], ("normal", "stop"))
    mapped = read_samples(path, class_names=NAMES)
    assert mapped.y is not None
    assert (mapped.y.tolist(), mapped.class_names) == ([0, 1, 0], NAMES)


def test_csv_without_labels(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.csv", "f,g\n1,2\n")
    assert read_samples(path, labels_required=False).y is None
    # a name that was asked for is not optional: the true label column would become a feature
    assert '"kind"' in refusal(path, labels_required=False, target="kind")


def test_csv_as_spreadsheets_and_pandas_write_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("\ufefff,label\r\n1,0\r\n2,1\r\n".encode())
    assert read_samples(path).feature_names == ("f",)
    counted = write_text(tmp_path / "b.csv", "0,1\n0.5,1\n")
    assert read_samples(counted, labels_required=False).x.shape == (1, 2)


def test_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "label=3.parquet"  # looks like a partition, and is none
    columns = {
        "f": X[:, 0],
        "label": arrow.array(["b", "a", "b"]).dictionary_encode(),
        "g": [1, 3, 5],
    }
    parquet.write_table(arrow.table(columns), path)
    samples = read_samples(path)
    assert samples.y is not None
    assert (samples.y.tolist(), samples.class_names) == ([1, 0, 1], ("a", "b"))
    np.testing.assert_array_equal(samples.x, np.stack([X[:, 0], [1, 3, 5]], axis=1))
    assert samples.feature_names == ("f", "g")
    numbers = tmp_path / "b.parquet"
    parquet.write_table(arrow.table({"f": [1.0, 2.0], "y": [1, 0]}), numbers)
    found = read_samples(numbers)
    assert found.y is not None
    assert found.y.tolist() == [1, 0]


def test_file_classes_are_renumbered_to_those_of_the_model(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", X=X, y=Y, class_names=np.array(NAMES))
    known = ("damaged", "normal", "stop")
    samples = read_samples(path, class_names=known)
    assert samples.y is not None
    assert (samples.y.tolist(), samples.class_names) == ([2, 0, 1], known)
    assert 'class "damaged", expected only' in refusal(path, class_names=("stop", "normal"))


# --- what is refused ------------------------------------------------------------------------


def test_path_errors(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.csv", FileError)
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    assert "directory" in refusal(folder, FileError)
    assert '".txt"' in refusal(write_text(tmp_path / "a.txt", "x"))
    for suffix in (".npz", ".csv", ".parquet"):
        assert "empty (0 bytes)" in refusal(write_text(tmp_path / f"e{suffix}", ""))


def test_class_names_must_differ(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", X=X, y=Y)
    with pytest.raises(ParameterError, match="twice"):
        read_samples(path, class_names=("a", "a"))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"data": X, "y": Y}, "arrays of data, y, expected the samples as X"),
        ({"X": X[0], "y": Y}, "shape (2,)"),
        ({"X": X[:0], "y": Y[:0]}, "0 samples and 2 features"),
        ({"X": X[:, :0], "y": Y}, "3 samples and 0 features"),
        ({"X": X.astype(str), "y": Y}, "X is <U"),
        ({"X": X.astype(complex), "y": Y}, "X is complex128"),
        ({"X": X}, "arrays X, expected the answers as y"),
        ({"X": X, "y": Y[:2]}, "labels have shape (2,), X has 3 samples"),
        ({"X": X, "y": Y[:, None]}, "answers have shape (3, 1)"),
        ({"X": X, "y": Y + 0.5}, "row 0 (from 0) has label 0.5"),
        ({"X": X, "y": Y - 1}, "row 0 (from 0) has label -1"),
        ({"X": X, "y": Y, "class_names": np.array(["a", "b"])}, "row 1 (from 0) has label 2"),
        ({"X": X, "y": Y, "class_names": np.array(["a", "b", "a"])}, "distinct names"),
        ({"X": X, "y": Y, "class_names": np.arange(3)}, "class_names is int64"),
        ({"X": X, "y": Y, "feature_names": np.array(["a"])}, "2 distinct names"),
        ({"X": X * np.array([1, np.nan]), "y": Y}, "3 values are NaN"),
        ({"X": X.astype(float) * 1e300, "y": Y}, "the first in row 0 (from 0), column 0"),
    ],
)  # fmt: skip
def test_npz_refused(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    assert said in refusal(write_npz(tmp_path / "a.npz", **arrays))


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_npz_with_more_axes_keeps_its_whole_numbers(tmp_path: Path, kind: Any) -> None:
    images = np.arange(3 * 2 * 4 * 5).reshape(3, 2, 4, 5).astype(kind)
    samples = read_samples(write_npz(tmp_path / "a.npz", X=images, y=Y, feature_names=Y))
    assert samples.x.dtype == kind
    np.testing.assert_array_equal(samples.x, images)
    assert samples.feature_names is None
    doubles = read_samples(write_npz(tmp_path / "b.npz", X=images.astype(np.float64), y=Y))
    assert doubles.x.dtype == np.float32


def test_npz_of_several_inputs(tmp_path: Path) -> None:
    ids, mask = np.arange(12).reshape(3, 4), np.ones((3, 4))
    path = write_npz(tmp_path / "a.npz", ids=ids, mask=mask, label=Y, class_names=np.array(NAMES))
    samples = read_samples(path)
    assert isinstance(samples.x, Inputs)
    assert list(samples.x.arrays) == ["ids", "mask"]
    np.testing.assert_array_equal(samples.x.arrays["ids"], ids)
    assert samples.x.arrays["ids"].dtype == np.int64
    assert samples.x.arrays["mask"].dtype == np.float32
    assert (samples.labels.tolist(), samples.class_names) == (Y.tolist(), NAMES)
    with pytest.raises(DataError, match=r"several arrays \(ids, mask\), the model takes one table"):
        check_samples(samples.x)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"a": X, "b": X[:2]}, "different numbers of samples (a 3, b 2)"),
        ({"a": X, "b": X.astype(str)}, "b is <U"),
        ({"a": X, "b": np.float32(1)}, "b is float32 of shape ()"),
        ({"a": X, "b": X * np.nan}, "b: 6 values are NaN"),
        ({"a": X, "b": X[:, :0]}, "b: it has 3 samples and 0 features"),
        ({"a": X[:2], "b": X[:2]}, "labels have shape (3,), X has 2 samples"),
    ],
)
def test_npz_of_several_inputs_refused(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    assert said in refusal(write_npz(tmp_path / "a.npz", **arrays, y=Y))


def test_npz_with_more_axes_refused(tmp_path: Path) -> None:
    x = np.zeros((3, 2, 4), np.float32)
    x[1, 1, 3] = np.nan
    said = refusal(write_npz(tmp_path / "a.npz", X=x, y=Y))
    assert "1 values are NaN, infinite or too large, the first in row 1 (from 0), column 7" in said
    assert "shape (3, 0, 4)" in refusal(write_npz(tmp_path / "b.npz", X=x[:, :0], y=Y))


class Boom:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return (print, ("a pickle was run",))


def test_npz_never_runs_a_pickle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, X=np.array([[Boom()]], object), y=np.array([0]))
    assert "allow_pickle=False" in refusal(path)
    path.write_bytes(pickle.dumps(Boom()))
    assert "damaged or no .npz" in refusal(path)
    assert capsys.readouterr().out == ""


def test_npz_damaged(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", X=np.zeros((50, 20), np.float32), y=np.zeros(50, int))
    whole = path.read_bytes()
    for content in (
        whole[:-30],
        whole[: len(whole) // 2],
        whole[:3],
        b"PK\x03\x04",
        b"hello there",
    ):
        path.write_bytes(content)
        assert "damaged or no .npz" in refusal(path)
    changed = bytearray(whole)
    changed[2000] ^= 1
    path.write_bytes(changed)
    assert "CRC" in refusal(path)
    np.save(tmp_path / "b.npy", X)
    single = (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    assert "arrays of no name" in refusal(single)


def test_npz_that_claims_more_than_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000000000), }"
    header = header.ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", b"\x93NUMPY\x01\x00" + bytes([len(header), 0]) + header)
    assert "damaged or no .npz" in refusal(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("f,label\n1,0\nabc,1\n", 'row 2 (line 3) column "f" has "abc"'),
        ("f,label\n1,0\n\nabc,1\n", 'row 2 (line 4) column "f" has "abc"'),
        ('f,label\n1,"0\n"\n"a\nb",1\n', 'row 2 (line 5) column "f" has "a b"'),
        ("f,g,label\n1,2,0\n3,4\n", "row 2 (line 3) has 2 cells, expected 3"),
        ("f,label\n1,0,5\n", "row 1 (line 2) has 3 cells, expected 2"),
        ("f,label\n1,0\n,1\n", 'row 2 (line 3) column "f" is empty'),
        ("f,label\n1, \n", 'row 1 (line 2) column "label" is empty'),
        ("f,f,label\n1,2,0\n", 'column "f" is there twice'),
        (",f,label\n0,1,0\n", "column 1 has no name"),
        ("f,g\n1,2\n", 'columns f, g, expected one called "label", "y" or "target"'),
        ("0.5,1\n1,2\n", "line 1 holds only numbers"),
        ("\nf,label\n", "line 1 is blank"),
        ("f,label\n", "0 samples"),
        ("label\n0\n1\n", "0 features"),
        ("f,label\n1,0\nnan,1\n", 'the first in row 2 (line 3), column "f"'),
        ("f,label\n1e39,0\n", "1 values are NaN, infinite or too large"),
        ("f,label\n1,0\n2,0.5\n", "row 2 (line 3) has label 0.5"),
        ("f,label\n1,0\n\n2,-1\n", "row 2 (line 4) has label -1"),
        ("f,label\n1,0\n2,1x\n", 'row 2 (line 3) has label "1x", expected a number'),
        ('f,label\n1,"0\n', "damaged or no .csv"),
    ],
)
def test_csv_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(write_text(tmp_path / "a.csv", text))


def test_csv_unknown_class_and_columns_are_named(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.csv", "f,label\n1,stop\n2,broken\n")
    message = refusal(path, class_names=NAMES)
    assert 'row 2 (line 3) has label "broken", expected one of stop, normal, damaged' in message
    wide = write_text(tmp_path / "b.csv", ",".join(f"c{i}" for i in range(30)) + "\n")
    assert "c7, ... (30 in all)" in refusal(wide)


def test_csv_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"f,label\n\xff\xfe,1\n")
    assert "UTF-8" in refusal(path)


def test_parquet_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"

    def said(columns: dict[str, Any], **options: Any) -> str:
        parquet.write_table(arrow.table(columns), path)
        return refusal(path, **options)

    assert 'column "f" is string, expected numbers' in said({"f": ["a"], "y": [0]})
    assert 'row 2 column "f" is empty' in said({"f": [1.0, None], "y": [0, 1]})
    assert 'row 1 column "y" is empty' in said({"f": [1.0], "y": arrow.array([None], "int64")})
    assert "row 2 has label 0.5" in said({"f": [1.0, 2.0], "y": [0.0, 0.5]})
    assert "columns f, expected one called" in said({"f": [1.0]})
    assert "0 samples" in said({"f": arrow.array([], "float64"), "y": arrow.array([], "int64")})
    assert 'in row 2, column "f"' in said({"f": [1.0, float("nan")], "y": [0, 1]})
    whole = path.read_bytes()
    for content in (whole[:-5], whole[:20], b"hello there, no parquet"):
        path.write_bytes(content)
        assert "damaged or no .parquet" in refusal(path)


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_text(tmp_path / "a.parquet", "anything")
    normal = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return normal(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'skip2lora[parquet]'" in refusal(path, MissingExtraError)


def test_importing_is_light() -> None:
    code = (
        "import sys, skip2lora.data, skip2lora.datasets.fan, skip2lora.datasets.simulated;"
        "heavy = {'pooch', 'pyarrow', 'requests', 'pandas', 'torch'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- what is written ------------------------------------------------------------------------


def test_samples_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    samples = Samples(X, Y, NAMES, ("f", "g"))
    write_samples(path, samples)
    back = read_samples(path)
    np.testing.assert_array_equal(back.x, X)
    assert back.y is not None
    np.testing.assert_array_equal(back.y, Y)
    assert (back.class_names, back.feature_names) == (NAMES, ("f", "g"))
    first = path.read_bytes()
    write_samples(path, samples)
    assert path.read_bytes() == first  # no date inside
    with zipfile.ZipFile(path) as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.namelist() == ["X.npy", "y.npy", "class_names.npy", "feature_names.npy"]


def test_samples_without_labels_round_trip(tmp_path: Path) -> None:
    write_samples(tmp_path / "a.npz", Samples(X))
    back = read_samples(tmp_path / "a.npz", labels_required=False)
    assert (back.y, back.class_names, back.feature_names) == (None, None, None)


def test_samples_are_written_as_npz_only(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"ends in \.npz"):
        write_samples(tmp_path / "a.csv", Samples(X, Y))
    with pytest.raises(FileError, match="cannot write"):
        write_samples(tmp_path / "none" / "a.npz", Samples(X, Y))


def read_cells(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def test_predictions(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    logits = np.array([[0, np.log(3)], [200, 0]], np.float32)
    write_predictions(path, CLASSIFICATION, logits)
    assert read_cells(path) == [
        ["row", "prediction", "p_0", "p_1"],
        ["0", "1", "0.25", "0.75"],
        ["1", "0", "1.0", "0.0"],
    ]
    write_predictions(path, CLASSIFICATION, logits, ("stop, off", "on"))
    cells = read_cells(path)
    assert cells[0] == ["row", "prediction", "name", "p_stop, off", "p_on"]
    assert cells[2] == ["1", "0", "stop, off", "1.0", "0.0"]


def test_predictions_of_several_labels_and_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    outputs = np.array([[200, 0.5], [-200, 0], [200, -300]], np.float32)
    write_predictions(path, TASKS["multi-label"], outputs, ("wet", "hot"))
    cells = read_cells(path)
    assert cells[0] == ["row", "prediction", "p_wet", "p_hot"]
    assert [row[1] for row in cells[1:]] == ["wet;hot", "", "wet"]
    assert cells[2][2:] == ["0.0", "0.5"]
    write_predictions(path, TASKS["regression"], outputs, ("mass", "price"))
    assert read_cells(path)[:2] == [["row", "mass", "price"], ["0", "200.0", "0.5"]]
    write_predictions(path, TASKS["regression"], outputs)
    assert read_cells(path)[0] == ["row", "prediction_0", "prediction_1"]
    write_predictions(path, TASKS["regression"], outputs[:, :1])
    assert read_cells(path)[0] == ["row", "prediction"]


def test_predictions_keep_every_bit(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    write_predictions(tmp_path / "p.csv", CLASSIFICATION, logits)
    cells = np.array(read_cells(tmp_path / "p.csv")[1:])[:, 2:].astype(np.float32)
    np.testing.assert_array_equal(cells, softmax(logits))


def test_predictions_need_a_name_for_each_class(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="2 class names for 3 outputs"):
        write_predictions(tmp_path / "p.csv", CLASSIFICATION, np.ones((1, 3)), ("a", "b"))


@pytest.mark.parametrize(
    ("target", "names"), [(None, None), (("p",), ("p",)), (("p", "q"), ("u", "v"))], ids=str
)
def test_columns_take_the_names_of_as_many_outputs_alone(
    target: tuple[str, ...] | None, names: tuple[str, ...] | None, tmp_path: Path
) -> None:
    path = write_text(tmp_path / "s.csv", "a,b,p,q,label\n" + "1,2,3,4.5,5.5\n" * 3)
    read = read_samples(path, target=target, task=TASKS["regression"], class_names=("u", "v"))
    assert read.class_names == names
    assert read.y is not None
    assert read.y.shape == (3, len(names or "y"))
