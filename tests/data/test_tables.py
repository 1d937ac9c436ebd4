"""``.csv`` and ``.parquet``: what is read of a table, and what is refused."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sample_files import NAMES, X, refusal, write_text
from skip2lora.data.reading import read_samples
from skip2lora.errors import MissingExtraError
from skip2lora.tasks.task import TASKS


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("f,label\n1,0\nabc,1\n", 'row 1 (from 0, line 3) column "f" has "abc"'),
        ("f,label\n1,0\n\nabc,1\n", 'row 1 (from 0, line 4) column "f" has "abc"'),
        ('f,label\n1,"0\n"\n"a\nb",1\n', 'row 1 (from 0, line 5) column "f" has "a b"'),
        ("f,g,label\n1,2,0\n3,4\n", "row 1 (from 0, line 3) has 2 cells, expected 3"),
        ("f,label\n1,0,5\n", "row 0 (from 0, line 2) has 3 cells, expected 2"),
        ("f,label\n1,0\n,1\n", 'row 1 (from 0, line 3) column "f" is empty'),
        ("f,label\n1, \n", 'row 0 (from 0, line 2) column "label" is empty'),
        ("f,f,label\n1,2,0\n", 'column "f" is there twice'),
        (",f,label\n0,1,0\n", "column 0 (from 0) has no name"),
        ("f,g\n1,2\n", 'columns f, g, expected one called "label", "y" or "target"'),
        ("0.5,1\n1,2\n", "line 1 holds only numbers"),
        ("\n\n", "line 3 is blank"),
        ("f,label\n", "0 samples"),
        ("label\n0\n1\n", "0 features"),
        ("f,label\n1,0\nnan,1\n", 'the first in row 1 (from 0, line 3), column "f"'),
        ("f,label\n1e39,0\n", "1 value is NaN, infinite or too large"),
        ("f,label\n1,0\n2,0.5\n", "row 1 (from 0, line 3) has label 0.5"),
        ("f,label\n1,0\n\n2,-1\n", "row 1 (from 0, line 4) has label -1"),
        ("f,label\n1,0\n2,1x\n", 'row 1 (from 0, line 3) has label "1x", expected a number'),
        ('f,label\n1,"0\n', "damaged or no .csv"),
    ],
)
def test_csv_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(write_text(tmp_path / "a.csv", text))


def test_csv_unknown_class_and_columns_are_named(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.csv", "f,label\n1,stop\n2,broken\n")
    message = refusal(path, class_names=NAMES)
    assert (
        'row 1 (from 0, line 3) has label "broken", expected one of stop, normal, damaged'
        in message
    )
    wide = write_text(tmp_path / "b.csv", ",".join(f"c{i}" for i in range(30)) + "\n")
    assert "c7, ... (30 in all)" in refusal(wide)


def test_csv_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"f,label\n\x81,1\n")  # nor is it Windows-1252
    assert "UTF-8" in refusal(path)


def test_parquet_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"

    def said(columns: dict[str, Any], **options: Any) -> str:
        parquet.write_table(arrow.table(columns), path)
        return refusal(path, **options)

    assert 'column "f" is string, expected numbers' in said({"f": ["a"], "y": [0]})
    assert 'row 1 (from 0) column "f" is empty' in said({"f": [1.0, None], "y": [0, 1]})
    assert 'row 0 (from 0) column "y" is empty' in said(
        {"f": [1.0], "y": arrow.array([None], "int64")}
    )
    assert "row 1 (from 0) has label 0.5" in said({"f": [1.0, 2.0], "y": [0.0, 0.5]})
    assert "columns f, expected one called" in said({"f": [1.0]})
    assert "0 samples" in said({"f": arrow.array([], "float64"), "y": arrow.array([], "int64")})
    assert 'in row 1 (from 0), column "f"' in said({"f": [1.0, float("nan")], "y": [0, 1]})
    whole = path.read_bytes()
    for content in (whole[:-5], whole[:20], b"hello there, no parquet"):
        path.write_bytes(content)
        assert "damaged or no .parquet" in refusal(path)


def test_a_parquet_is_read_column_by_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several groups of rows, and of names that are like parts of each other."""
    arrow = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    numbers = np.random.default_rng(0).normal(size=(10, 3))
    columns = dict(zip(("a", "a.b", "a.b.c"), numbers.T, strict=True)) | {"y": [0, 1] * 5}
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table(columns), path, row_group_size=3)
    asked: list[Any] = []
    whole = parquet.ParquetFile.iter_batches

    def batches(file: Any, *given: Any, columns: Any, **options: Any) -> Any:
        asked.append(columns)
        return whole(file, *given, columns=columns, **options)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", batches)
    samples = read_samples(path)
    np.testing.assert_array_equal(samples.x, numbers.astype(np.float32))
    assert samples.x.flags.c_contiguous
    assert asked == [["a"], ["a.b"], ["a.b.c"], ["y"]]
    late = arrow.table({"t": ["x"] * 8, "f": [1.0] * 7 + [None], "y": [0, 1] * 4})
    parquet.write_table(late, path, row_group_size=3)
    assert 'row 7 (from 0) column "f" is empty' in refusal(path)
    assert 'column "t" is string, expected numbers' in refusal(path, ignore=("f",))


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_text(tmp_path / "a.parquet", "anything")
    normal = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return normal(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'skip2lora[parquet]'" in refusal(path, MissingExtraError)


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
