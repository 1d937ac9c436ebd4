"""``dataset`` as a user types it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from desk import NAMES, refused


def test_dataset_simulated_feeds_the_rest(type_in):
    made = type_in("dataset", "simulated", "-o", "data", "--json")
    assert made.code == 0
    assert set(made.json["files"]) == {"pretrain.npz", "finetune.npz", "test.npz"}
    arrays = np.load("data/test.npz")
    assert arrays["X"].dtype == np.float32
    assert arrays["y"].dtype == np.int64
    assert tuple(arrays["class_names"]) == NAMES


def test_the_seed_is_of_the_simulated_task(type_in, tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert type_in("dataset", "simulated", "--seed", seed, "-o", folder).code == 0
    first, same, other = ((tmp_path / f / "test.npz").read_bytes() for f in "abc")
    assert first == same != other


def test_what_is_printed(type_in) -> None:
    made = type_in("dataset", "simulated", "-o", "data")
    assert made.code == 0
    lines = made.out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "data/pretrain.npz", "data/finetune.npz", "data/test.npz",
    ]  # fmt: skip
    assert all(line.endswith("classes stop, normal, damaged") for line in lines)


def test_a_folder_of_something_else_is_left_alone(type_in, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("mine")
    refused(type_in("dataset", "simulated", "-o", "data", "--force"), "data", "notes.txt")
    refused(type_in("dataset", "har", "-o", "new"), "--source", "UCI HAR Dataset")
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["notes.txt"]
