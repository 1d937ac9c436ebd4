"""Predictions as a file: its columns, and every bit of them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from skip2lora.data.predictions import write_predictions
from skip2lora.data.samples import Spans
from skip2lora.errors import ParameterError
from skip2lora.tasks.task import CLASSIFICATION, TASKS, softmax


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
    with pytest.raises(ParameterError, match="2 class names, expected 3"):
        write_predictions(tmp_path / "p.csv", CLASSIFICATION, np.ones((1, 3)), ("a", "b"))


def test_what_is_known_beside_predictions(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    logits = np.array([[0, np.log(3)], [200, 0]], np.float32)
    known = {"file": ["a/1.png", "b/2.png"], "true": ["on", ""]}
    write_predictions(path, CLASSIFICATION, logits, ("off", "on"), beside=known)
    assert read_cells(path) == [
        ["row", "prediction", "name", "probability", "file", "true", "p_off", "p_on"],
        ["0", "1", "on", "0.75", "a/1.png", "on", "0.25", "0.75"],
        ["1", "0", "off", "1.0", "b/2.png", "", "1.0", "0.0"],
    ]
    write_predictions(path, CLASSIFICATION, logits, beside={})
    assert read_cells(path)[1] == ["0", "1", "0.75", "0.25", "0.75"]
    write_predictions(path, TASKS["regression"], logits, ("m", "n"), beside={"true_m": [1.0, 2.0]})
    assert read_cells(path)[0] == ["row", "m", "n", "true_m"]


@pytest.mark.parametrize("name", ["a\tb", "a\nb", "a\rb"])
def test_names_that_labels_of_audacity_cannot_hold(name: str, tmp_path: Path) -> None:
    path, spans = tmp_path / "p.txt", Spans(np.array([[0.0, 1.0]]))
    with pytest.raises(ParameterError, match=r"a class is called .*expected names without"):
        write_predictions(path, CLASSIFICATION, np.ones((1, 2)), (name, "c"), spans=spans)
    assert not path.exists()
    write_predictions(path, CLASSIFICATION, np.eye(2)[:1], ("a;b, c", "d"), spans=spans)
    assert path.read_text() == "0.000000\t1.000000\ta;b, c\n"


def test_names_that_a_cell_of_labels_cannot_hold(tmp_path: Path) -> None:
    """wet;hot would be one label or two."""
    path = tmp_path / "p.csv"
    with pytest.raises(ParameterError, match="a class is called 'wet;hot'"):
        write_predictions(path, TASKS["multi-label"], np.ones((1, 2)), ("wet;hot", "c"))
    assert not path.exists()
    write_predictions(path, TASKS["regression"], np.ones((1, 2)), ("wet;hot", "c"))
    write_predictions(path, CLASSIFICATION, np.ones((1, 2)), ("wet;hot", "c"))


def test_none_of_these(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    logits = np.array([[0, np.log(3)], [200, 0]], np.float32)
    least = np.array([0.0, 0.8])
    predictions = write_predictions(path, CLASSIFICATION, logits, ("a", "b"), thresholds=least)
    assert predictions.tolist() == [-1, 0]
    assert [row[1:3] for row in read_cells(path)[1:]] == [["-1", "none of these"], ["0", "a"]]
    sets = TASKS["multi-label"]
    assert write_predictions(path, sets, logits, thresholds=least).tolist() == [[1, 0], [1, 0]]
    assert [row[1] for row in read_cells(path)[1:]] == ["0", "0"]


@pytest.mark.parametrize(
    ("places", "seconds", "labels"),
    [
        ([0, 0, 1], [(0, 1), (1, 2), (2, 3)], ["0 2 a", "2 3 b"]),
        ([0, 0, 0], [(0, 2), (1, 3), (2.5, 4)], ["0 4 a"]),  # they overlap
        ([0, 0, 0], [(0, 1), (1.5, 2), (2, 3)], ["0 1 a", "1.5 3 a"]),  # a gap
        ([0, 1, 0], [(0, 2), (1, 3), (2, 4)], ["0 2 a", "1 3 b", "2 4 a"]),
        ([1], [(0.25, 1)], ["0.25 1 b"]),
        ([-1, 0, -1, -1, 0], [(at, at + 1) for at in range(5)], ["1 2 a", "4 5 a"]),
    ],
)  # fmt: skip
def test_windows_of_one_class_that_touch_are_one_label(
    places: list[int], seconds: list[tuple[float, float]], labels: list[str], tmp_path: Path
) -> None:
    logits = np.where(np.array(places)[:, None] < 0, 0.0, 50 * np.eye(2)[places])
    write_predictions(
        tmp_path / "p.txt", CLASSIFICATION, logits, ("a", "b"), spans=Spans(np.array(seconds)),
        thresholds=np.array([0.6, 0.6]),
    )  # fmt: skip
    rows = [line.split("\t") for line in (tmp_path / "p.txt").read_text().splitlines()]
    assert [f"{float(start):g} {float(end):g} {name}" for start, end, name in rows] == labels
