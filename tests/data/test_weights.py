"""The column of weights in a file."""

from pathlib import Path

import numpy as np
import pytest

from skip2lora.data.reading import read_samples, read_table
from skip2lora.errors import DataError

ROWS = (("1", "2.5", "a"), ("3", "0", "b"), ("5", "1", "b"), ("7", "0.0", "c"))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return written(tmp_path, ROWS)


def written(folder: Path, rows: tuple[tuple[str, ...], ...]) -> Path:
    file = folder / "field.csv"
    file.write_text("\n".join(",".join(row) for row in (("x", "w", "label"), *rows)))
    return file


def test_rows_of_weight_0_are_left_out(table: Path) -> None:
    read = read_table(table, aside={"weight": "w"})
    np.testing.assert_array_equal(read.x, [[1], [5]])
    assert read.aside["weight"].tolist() == [2.5, 1]
    assert read.answers.values.tolist() == ["a", "b"]
    assert read.answers.place(1) == "row 2 (from 0, line 4)"
    assert read.columns.features == ("x",)
    assert read.columns.ignored == ("w",)


def test_samples_have_them(table: Path) -> None:
    samples = read_samples(table, aside={"weight": "w"})
    assert samples.weight.tolist() == [2.5, 1]
    assert samples.class_names == ("a", "b")  # c has no weight
    assert read_samples(table, ignore=("w",)).weight is None


def test_other_columns_beside_go_with_them(tmp_path: Path) -> None:
    file = tmp_path / "field.npz"
    np.savez(file, X=np.eye(3), y=[0, 1, 2], w=np.array([[1], [0], [3]]), who=["p", "q", "r"])
    read = read_table(file, aside={"weight": "w", "group": "who"})
    assert read.aside["group"].tolist() == ["p", "r"]
    assert read.aside["weight"].tolist() == [1, 3]
    np.testing.assert_array_equal(read.answers.values, [0, 2])


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "field.parquet"
    columns = {"x": [1.0, 2, 3], "w": [2, 0, 1], "label": ["a", "b", "a"]}
    parquet.write_table(pyarrow.table(columns), file)
    samples = read_samples(file, aside={"weight": "w"})
    assert samples.weight.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ("heavy", 'row 2 (from 0, line 4) has the weight "heavy", expected a number from 0'),
        ("-1", "the weight is -1 in row 2 (from 0, line 4), expected a number from 0"),
        ("nan", 'row 2 (from 0, line 4) column "w" has "nan", a missing value'),
        ("inf", "the weight is inf in row 2 (from 0, line 4)"),
    ],
)
def test_what_is_no_weight_is_refused(tmp_path: Path, weight: str, message: str) -> None:
    file = written(tmp_path, (*ROWS[:2], ("5", weight, "b")))
    with pytest.raises(DataError) as raised:
        read_table(file, aside={"weight": "w"})
    assert str(raised.value).startswith(f"{file}: {message}")


def test_an_empty_cell_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, (*ROWS[:2], ("5", "", "b")))
    with pytest.raises(DataError, match="line 4"):
        read_table(file, aside={"weight": "w"})


def test_all_of_weight_0_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path, (ROWS[1], ROWS[3]))
    with pytest.raises(DataError, match="the weight is zero for all 2 samples"):
        read_table(file, aside={"weight": "w"})


def test_a_column_that_is_not_there_is_refused(table: Path) -> None:
    with pytest.raises(DataError, match='weight= names "v", it has columns x, w, label'):
        read_table(table, aside={"weight": "v"})
