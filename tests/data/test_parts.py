"""Data in parts: which is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sample_files import refusal, write_npz
from skip2lora.data.parts import part_called
from skip2lora.data.reading import read_samples

ARRAYS = {
    "x_train": np.ones((4, 2)), "y_train": np.array([0, 1, 0, 1]),
    "x_test": np.zeros((2, 2)), "y_test": np.array([1, 0]),
}  # fmt: skip


def test_words() -> None:
    assert [part_called(word) for word in ("Train", "validation", "dev", "TEST", "bus")] == [
        "train", "val", "val", "test", None,
    ]  # fmt: skip


@pytest.mark.parametrize("names", ["x_train", "X_train", "train_x"])
def test_arrays_of_parts(names: str, tmp_path: Path) -> None:
    arrays = {}
    for name, array in ARRAYS.items():
        axis, part = name.split("_")
        axis = axis.upper() if names == "X_train" and axis == "x" else axis
        arrays[f"{part}_{axis}" if names == "train_x" else f"{axis}_{part}"] = array
    path = write_npz(tmp_path / "a.npz", **arrays)
    train = read_samples(path, usual_split="train")
    assert train.x.shape == (4, 2)
    assert train.notes == (f"{path}: of its parts train, test, train is read",)
    test = read_samples(path, split="test", usual_split="train")
    assert (test.x.sum(), test.labels.tolist()) == (0, [1, 0])
    assert "it has parts train, test, expected one: say which with split=train" in refusal(path)
    assert "it has parts train, test, expected val:" in refusal(path, split="val")


def test_a_part_of_data_without_any(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", X=np.ones((4, 2)), y=np.array([0, 1, 0, 1]))
    assert len(read_samples(path, usual_split="train").x) == 4
    table = tmp_path / "a.csv"
    table.write_text("f,label\n1,0\n2,1\n")
    for data in (path, table):
        assert "split= is test, it has no parts" in refusal(data, split="test")
