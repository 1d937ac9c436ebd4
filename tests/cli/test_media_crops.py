"""Crops by the boxes of a detector on the command line: adapt, evaluate, predict and the others."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx_models
from camera_files import coco, megadetector, trail
from desk import Answer

Type = Callable[..., Answer]
MODEL = ("vision.onnx", "trail", "--segments", "trail.json")


@pytest.fixture
def field(desk: Path) -> Path:
    """A model of images, a camera's folder to adapt to, and another to test on."""
    onnx_models.save(onnx_models.cnn(end=None), desk / "vision.onnx")
    megadetector(desk / "trail.json", trail(desk / "trail"))
    seen = trail(desk / "other", 5, seed=50)
    megadetector(desk / "other.json", seen)
    coco(desk / "coco.json", seen)
    return desk


def adapted(type_in: Type, *words: object) -> Answer:
    made = type_in("adapt", *MODEL, "--no-keep-outputs", "-o", "seen", *words)
    assert made.code == 0, made.err
    return made


def test_from_a_folder_to_predictions(field: Path, type_in: Type) -> None:
    """What an animal is shows in its box alone, as the rest is noise."""
    made = adapted(type_in, "--margin", 0.1, "--square", "--category", "animal", "--json")
    assert made.json["n_samples"] == 22  # of 16 images
    assert "crops by boxes of animal 22" in made.err
    shown = type_in("inspect", "seen").out
    assert "crops of animal from 0.2, margin 0.1, square" in shown
    entries = json.loads((field / "seen" / "adapter_config.json").read_text())["images"]
    assert entries["crops"] == {
        "confidence": 0.2, "category": ["animal"], "margin": 0.1, "square": True,
    }  # fmt: skip
    words = ("vision.onnx", "other", "--adapter", "seen", "--segments", "other.json")
    facts = type_in("evaluate", *words, "--json").json
    assert (facts["n_samples"], facts["accuracy"]) == (14, 1.0)
    answer = type_in("predict", *words, "-o", "p.csv")
    assert answer.code == 0, answer.err
    rows = list(csv.DictReader((field / "p.csv").read_text().splitlines()))
    assert list(rows[0])[:11] == [
        "row", "prediction", "name", "probability", "file", "x", "y", "width", "height",
        "category", "confidence",
    ]  # fmt: skip
    assert [row["name"] for row in rows] == [row["file"].split("/")[0] for row in rows]
    first = json.loads((field / "other.json").read_text())["images"][0]
    assert rows[0]["file"] == first["file"]
    box = [float(rows[0][name]) for name in ("x", "y", "width", "height")]
    assert box == first["detections"][0]["bbox"]
    assert rows[0]["confidence"] == "0.9"


def test_labels_of_coco(field: Path, type_in: Type) -> None:
    coco(field / "trail.json", trail(field / "trail"))
    adapted(type_in)
    words = ("vision.onnx", "other", "--adapter", "seen", "--segments", "coco.json")
    assert type_in("evaluate", *words, "--json").json["accuracy"] == 1.0
    assert type_in("predict", *words, "-o", "p.csv").code == 0
    rows = list(csv.DictReader((field / "p.csv").read_text().splitlines()))
    assert {row["true"] for row in rows} == {"fox", "hen"}
    assert all(row["true"] == row["category"] == row["name"] for row in rows)
    # What the adapter was made of is no matter: boxes of another kind will do.
    other = ("vision.onnx", "other", "--adapter", "seen", "--segments", "other.json")
    assert type_in("evaluate", *other, "--json").json["accuracy"] == 1.0


def test_crops_of_an_image_are_held_out_together(field: Path, type_in: Type) -> None:
    """A class whose crops are all of one image, or of one series, can be held out nowhere."""
    alone = "never held out, as all of it would be in one fold: hen"
    assert alone not in adapted(type_in).out
    content = json.loads((field / "trail.json").read_text())
    entries = content["images"]
    for entry in entries:
        entry["site"] = "pond" if entry["file"].startswith("hen") else entry["file"]
    (field / "trail.json").write_text(json.dumps(content))
    assert alone in adapted(type_in, "--group", "site", "--force").out
    gone = type_in("adapt", *MODEL, "--no-keep-outputs", "--group", "camera", "-o", "x")
    assert (gone.code, '--group names "camera"' in gone.err) == (2, True)
    hens = [entry for entry in entries if entry["file"].startswith("hen")]
    for entry in hens[1:]:
        entry["detections"] = []
    (field / "trail.json").write_text(json.dumps(content))
    assert alone in adapted(type_in, "--force").out


def test_other_commands(field: Path, type_in: Type) -> None:
    """plan, fill, prepare and adapt-many cut the same crops."""
    facts = type_in("plan", *MODEL, "--json").json
    assert facts["n_samples"] == 22
    assert type_in("fill", *MODEL, "--cache-dir", "rows").code == 0
    made = adapted(type_in, "--cache-dir", "rows", "--json")
    assert made.json["n_forwards"] == 0
    lab = type_in(
        "prepare", "vision.onnx", "-o", "tapped.onnx", "--lab-set", 3, "--data", "other",
        "--segments", "other.json", "--class-names", "fox,hen,deer,dog", "--json",
    )  # fmt: skip
    assert lab.code == 0, lab.err
    assert lab.json["lab_set"]["n_samples"] == 6
    many = field / "many"
    (many / "a").mkdir(parents=True)
    (field / "trail").rename(many / "a" / "trail")
    (field / "other").rename(many / "b")
    seen = json.loads((field / "other.json").read_text())
    for image in seen["images"]:
        image["file"] = f"b/{image['file']}"
    of_a = json.loads((field / "trail.json").read_text())["images"]
    (many / "a" / "trail").rename(field / "trail")
    (many / "a").rmdir()
    (field / "trail").rename(many / "a")
    for image in of_a:
        image["file"] = f"a/{image['file']}"
    seen["images"] += of_a
    (field / "all.json").write_text(json.dumps(seen))
    answer = type_in(
        "adapt-many", "vision.onnx", "many", "--segments", "all.json", "--no-keep-outputs",
        "-o", "out", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.out
    assert [row["n_samples"] for row in answer.json["adapters"]] == [22, 14]


def test_other_images_judge(field: Path, type_in: Type) -> None:
    """Where one file has the boxes of both folders."""
    both = trail(field / "both" / "new", 6) | {}
    seen = {f"new/{file}": animals for file, animals in both.items()}
    seen |= {f"old/{f}": a for f, a in trail(field / "both" / "old", 3, seed=9).items()}
    megadetector(field / "both.json", seen)
    made = type_in(
        "adapt", "vision.onnx", "both/new", "--segments", "both.json", "--no-keep-outputs",
        "--validation-data", "both/old", "-o", "x", "--json",
    )  # fmt: skip
    assert made.code == 0, made.err
    assert made.json["n_measured"] == 8


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("adapt vision.onnx trail --margin 0.1 -o x", "add --segments FILE"),
        ("adapt vision.onnx trail --segments gone.json -o x", "gone.json does not exist"),
        (
            "adapt vision.onnx trail --segments trail.json --margin 0.1 --rate 8 -o x",
            "of images and",
        ),
        ("adapt vision.onnx trail --segments other.json --category deer -o x", "--category names"),
        ("adapt model.safetensors field.npz --segments trail.json -o x", "are given for field"),
        (
            "predict vision.onnx - --adapter seen --segments other.json -o x",
            "--segments names images by their files, standard input has no name",
        ),
        ("evaluate vision.onnx other --adapter seen", "whole images, expected the boxes"),
        (
            "evaluate vision.onnx other --adapter seen --segments other.json --margin 0.3",
            "--margin is 0.3, the model learned with 0.0",
        ),
        ("evaluate vision.onnx other --adapter seen --boxes other.json", "expected --segments"),
    ],
)
def test_bad_input(words: str, said: str, field: Path, type_in: Type) -> None:
    if "seen" in words:
        adapted(type_in)
    answer = type_in(*words.split())
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert not (field / "x").exists()
