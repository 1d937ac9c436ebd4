"""Columns and arrays that are read beside features and answers, from files of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sample_files import write_npz
from skip2lora.data.reading import read_table
from skip2lora.errors import DataError

X = np.float32([[1, 2], [3, 4], [5, 6]])
ASIDE = {"group": "speaker", "weight": "w"}


def written(folder: Path, kind: str) -> Path:
    path = folder / f"a.{kind}"
    speakers, weights, labels = ["eva", "ben", "eva"], [1.0, 0.5, 2.0], [0, 1, 1]
    if kind == "npz":
        return write_npz(path, X=X, y=labels, speaker=np.array(speakers), w=np.array(weights))
    if kind == "csv":
        rows = zip(X.tolist(), speakers, weights, labels, strict=True)
        lines = [f"{a},{of},{b},{w},{label}" for (a, b), of, w, label in rows]
        path.write_text("\n".join(["a,speaker,b,w,label", *lines]), encoding="utf-8")
        return path
    pyarrow = pytest.importorskip("pyarrow")
    table = {"a": X[:, 0], "speaker": speakers, "b": X[:, 1], "w": weights, "label": labels}
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    return path


@pytest.mark.parametrize("kind", ["csv", "npz", "parquet"])
def test_what_is_beside_is_read_as_the_file_says_it(tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow.parquet")
    table = read_table(written(tmp_path, kind), aside=ASIDE)
    np.testing.assert_array_equal(table.x, X)
    assert list(table.aside) == ["group", "weight"]
    assert table.aside["group"].tolist() == ["eva", "ben", "eva"]
    np.testing.assert_array_equal(table.aside["weight"].astype(float), [1, 0.5, 2])
    assert np.shape(table.answers.values) == (3,)
    assert table.columns.ignored == ("speaker", "w")


def _refusal(path: Path, name: str) -> str:
    with pytest.raises(DataError) as caught:
        read_table(path, aside={"group": name})
    return str(caught.value)


def test_what_is_beside_has_a_value_a_sample(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,speaker,label\n1,eva,0\n2,,1\n", encoding="utf-8")
    assert 'column "speaker" is empty' in _refusal(path, "speaker")
    short = write_npz(tmp_path / "a.npz", X=X, y=[0, 1, 1], speaker=np.array(["eva", "ben"]))
    said = _refusal(short, "speaker")
    assert "group= names an array of shape (2,), X has 3 samples" in said
    assert "it has arrays X, y, speaker, expected one" in _refusal(short, "s")


def test_images_have_no_columns(tmp_path: Path) -> None:
    (tmp_path / "ok").mkdir()
    said = _refusal(tmp_path, "speaker")
    assert 'group= names "speaker"' in said
    assert "has images and no columns" in said
