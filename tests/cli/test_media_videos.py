"""Videos on the command line: frames to adapt to, and a row a frame of what is predicted."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from desk import Answer

pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")
pytest.importorskip("av", reason="needs PyAV: pip group test")

import onnx_models
from camera_files import films

Type = Callable[..., Answer]


@pytest.fixture
def field(desk: Path) -> Path:
    """A model of images, and videos of two animals to adapt to and to test on."""
    onnx_models.save(onnx_models.cnn(end=None), desk / "vision.onnx")
    films(desk / "films")
    films(desk / "others", 2, seed=50)
    return desk


def adapted(type_in: Type, *words: object) -> Answer:
    made = type_in(
        "adapt", "vision.onnx", "films", "--every", 0.5, "--no-keep-outputs", "-o", "seen", *words
    )
    assert made.code == 0, made.err
    return made


def test_from_a_folder_to_predictions(field: Path, type_in: Type) -> None:
    made = adapted(type_in, "--json")
    assert made.json["n_samples"] == 30  # of 6 videos
    assert "30 frames of 6 videos, every 0.5 s" in made.err
    assert "frames every 0.5 s" in type_in("inspect", "seen").out
    facts = type_in("evaluate", "vision.onnx", "others", "--adapter", "seen", "--json").json
    assert (facts["n_samples"], facts["accuracy"]) == (20, 1.0)
    words = ("predict", "vision.onnx", "others", "--adapter", "seen")
    assert type_in(*words, "-o", "p.csv").code == 0
    rows = list(csv.DictReader((field / "p.csv").read_text().splitlines()))
    assert list(rows[0])[:7] == [
        "row", "prediction", "name", "probability", "file", "time", "true"
    ]  # fmt: skip
    assert [row["time"] for row in rows[:5]] == ["0.000", "0.300", "0.900", "1.500", "1.800"]
    assert {row["file"].split("/")[0] == row["name"] == row["true"] for row in rows} == {True}
    assert type_in(*words, "--every", 1, "-o", "q.csv").code == 0
    assert len((field / "q.csv").read_text().splitlines()) == 1 + 12
    one = ("predict", "vision.onnx", "others/fox/0.mp4", "--adapter", "seen", "-o", "r.csv")
    assert type_in(*one).code == 0
    assert len((field / "r.csv").read_text().splitlines()) == 1 + 5


def test_frames_of_a_video_are_held_out_together(field: Path, type_in: Type) -> None:
    for file in list((field / "films" / "hen").iterdir())[1:]:
        file.unlink()
    made = adapted(type_in)
    assert "never held out, as all of it would be in one fold: hen" in made.out


def test_other_commands(field: Path, type_in: Type) -> None:
    words = ("vision.onnx", "films", "--every", 0.5)
    assert type_in("plan", *words, "--json").json["n_samples"] == 30
    assert type_in("fill", *words, "--cache-dir", "rows").code == 0
    assert adapted(type_in, "--cache-dir", "rows", "--json").json["n_forwards"] == 0
    lab = type_in(
        "prepare", "vision.onnx", "-o", "tapped.onnx", "--lab-set", 3, "--data", "films",
        "--every", 0.5, "--class-names", "fox,hen,deer,dog", "--json",
    )  # fmt: skip
    assert lab.code == 0, lab.err
    assert lab.json["lab_set"]["n_samples"] == 6
    many = field / "many"
    many.mkdir()
    (field / "films").rename(many / "a")
    (field / "others").rename(many / "b")
    answer = type_in(
        "adapt-many", "vision.onnx", "many", "--every", 1, "--no-keep-outputs", "-o", "out",
        "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.out
    assert [row["n_samples"] for row in answer.json["adapters"]] == [18, 12]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("adapt vision.onnx films -o x", "--every is missing, it has videos"),
        ("adapt vision.onnx films --every 0 -o x", "--every is 0, expected seconds"),
        ("predict vision.onnx films/fox/0.mp4 -o x", "add --every SECONDS, such as --every 1"),
        ("adapt vision.onnx films --every 1 --hop 3 -o x", "of images and of"),
    ],
)
def test_bad_input(words: str, said: str, field: Path, type_in: Type) -> None:
    answer = type_in(*words.split())
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert not (field / "x").exists()


def test_a_day_is_not_in_memory(field: Path, type_in: Type) -> None:
    """A long video is read a few frames at a time, and predicted in the time that these take."""
    from skip2lora.data.image_layout import Layout
    from skip2lora.data.image_options import Images
    from skip2lora.data.lazy import parts_of, read
    from skip2lora.data.reading import read_table
    from videos import write

    night = write(field / "night.mp4", list(range(0, 24 * 3_600_000, 60_000)))
    table = read_table(
        night, images=Images(every=60.0), layout=Layout("chw", 14, 14, 3), labels_required=False
    )
    assert len(table.x) == 24 * 60
    shapes = {read(table.x[part]).shape for part in parts_of(table.x, 100)}
    assert shapes == {(100, 3, 14, 14), (40, 3, 14, 14)}
    assert np.isclose(float(table.places["time"][-1]), 24 * 3600 - 60)
