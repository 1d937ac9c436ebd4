"""Images by class, samples with more axes and several inputs, as a user types them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from desk import refused
from skip2lora import MLP

CLASSES = ("bright", "dark")


@pytest.fixture
def photos(type_in, tmp_path: Path) -> Path:
    """Two classes of 8 x 6 colour images, told apart by brightness."""
    random = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for at in range(12):
            pixels = random.integers(0, 90, (8, 6, 3), np.uint8) + np.uint8(150 * (1 - number))
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{at}.png")
    return tmp_path / "photos"


SIZE = ("--size", "4x3")


@pytest.fixture
def model(type_in, photos: Path) -> str:
    made = type_in("pretrain", "photos", *SIZE, "--hidden", "8", "-o", "m.safetensors")
    assert made.code == 0, made.err
    return "m.safetensors"


@pytest.fixture
def old(model: str) -> str:
    """A network as it was written before networks kept how images became numbers."""
    replace(MLP.load(model), images=None).save("old.safetensors")
    return "old.safetensors"


def test_every_command_takes_a_folder(type_in, model: str) -> None:
    network = MLP.load(model)
    assert network.widths == (4 * 3 * 3, 8, 2)
    assert network.class_names == CLASSES
    made = type_in("adapt", model, "photos", *SIZE, "-o", "adapter", "--epochs", 40, "--json")
    assert made.code == 0, made.err
    assert made.json["n_samples"] == 24
    assert made.json["accuracy"] > 0.9
    told = type_in("evaluate", model, "photos", *SIZE, "--adapter", "adapter", "--json").json
    assert [each["class"] for each in told["classes"]] == list(CLASSES)
    assert told["accuracy"] > 0.9
    told = type_in("predict", model, "photos/dark", *SIZE, "-o", "p.csv", "--json").json
    assert told["predicted"]["dark"] >= 10
    told = type_in("plan", model, "photos", *SIZE, "--json").json
    assert (told["n_samples"], told["memory"]["samples_bytes"]) == (24, 24 * 36 * 4)
    told = type_in("inspect", "photos", "--json").json
    assert told["samples_a_class"] == {"bright": 12, "dark": 12}
    assert "8x6" in type_in("inspect", "photos").out


def test_numbers_of_pixels_are_what_the_model_gets(type_in, old: str) -> None:
    plain = type_in("evaluate", old, "photos", *SIZE, "--json").json
    as_bytes = type_in("evaluate", old, "photos", *SIZE, "--std", "1/255", "--json").json
    twice = type_in("evaluate", old, "photos", *SIZE, "--mean", "0", "--std", "1", "--json").json
    assert plain == twice
    assert plain["accuracy"] > 0.9
    shifted = type_in("evaluate", old, "photos", *SIZE, "--mean", "0.6", "--json").json
    assert shifted["accuracy"] < 0.6  # all look dark
    assert as_bytes["n_samples"] == 24


BAD = {
    "no size": ((), ["--size is missing", "36"]),
    "another size": (("--size", "5x5"), ["--size", "25", "36"]),
    "no size at all": (("--size", "big"), ['"big"']),
    "mean of two": ((*SIZE, "--mean", "1,2"), ["--mean", "1,2"]),
    "std of zero": ((*SIZE, "--std", "0"), ["--std"]),
}


@pytest.mark.parametrize(("options", "parts"), BAD.values(), ids=BAD)
def test_bad_options(type_in, old: str, options, parts) -> None:
    refused(type_in("evaluate", old, "photos", *options), *parts)


def test_bad_folders(type_in, model: str, photos: Path) -> None:
    Path("empty").mkdir()
    refused(type_in("evaluate", model, "empty", *SIZE), "empty", "sub-folder")
    refused(type_in("evaluate", model, "photos/dark", *SIZE), "photos/dark", "no sub-folder")
    refused(type_in("inspect", "empty"), "empty", "no adapter", "nothing in it")
    (photos / "odd").mkdir()
    (photos / "odd" / "1.png").write_text("text")
    refused(type_in("evaluate", model, "photos", *SIZE), "odd/1.png", "image")
    Image.new("RGB", (6, 8)).save(photos / "odd" / "1.png")
    refused(type_in("evaluate", model, "photos", *SIZE), 'label "odd"', "bright, dark")
    Path("one").mkdir()
    (photos / "odd").rename("one/odd")
    refused(type_in("pretrain", "one", *SIZE, "-o", "new.safetensors"), "one class")
    refused(type_in("evaluate", model, "field.csv", *SIZE), "field.csv")


def test_names_without_those_of_the_model(type_in, photos: Path) -> None:
    MLP.create([36, 4, 3]).save("m.safetensors")
    said = ("2 classes (bright, dark)", "3 outputs", "new classes")
    refused(type_in("evaluate", "m.safetensors", "photos", *SIZE), *said)
    adapt = ("adapt", "m.safetensors", "photos", *SIZE, "-o", "adapter", "--epochs", 2)
    refused(type_in(*adapt), *said)
    made = type_in(*adapt, "--new-classes")
    assert made.code == 0, made.err
    (photos / "bright").rename(photos / "2")
    (photos / "dark").rename(photos / "0")
    told = type_in("evaluate", "m.safetensors", "photos", *SIZE, "--json").json
    assert [each["class"] for each in told["classes"]] == ["0", "2"]


def test_arrays_with_more_axes(type_in, tmp_path: Path) -> None:
    MLP.create([36, 4, 3]).save("m.safetensors")
    np.savez("cube.npz", X=np.zeros((4, 6, 6), np.uint8), y=[0, 1, 2, 0])
    np.savez("two.npz", ids=np.zeros((4, 6)), mask=np.ones((4, 6)), y=[0, 1, 2, 0])
    for name, said in (("cube", "(4, 6, 6)"), ("two", "ids, mask")):
        refused(type_in("evaluate", "m.safetensors", f"{name}.npz"), said)
        refused(type_in("pretrain", f"{name}.npz", "-o", "new.safetensors"), said)
        assert type_in("inspect", f"{name}.npz").code == 0
    assert type_in("inspect", "cube.npz", "--json").json["shape"] == [6, 6]
    assert type_in("inspect", "two.npz", "--json").json["inputs"] == {"ids": [6], "mask": [6]}


def test_size_is_for_folders(type_in, desk: Path) -> None:
    refused(type_in("evaluate", "model.safetensors", "test.npz", *SIZE), "test.npz", "folder")


def test_images_go_into_a_model_of_another_runtime(type_in, cnn: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = random.integers(0, 256, (8, 14, 14, 3), np.uint8)
    for at, pixels in enumerate(arrays):
        folder = tmp_path / "photos" / str(at % 4)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{at}.png")
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    x = arrays[order].transpose(0, 3, 1, 2) / np.float32(255)
    np.savez("photos.npz", X=(x - np.float32(0.5)) / np.float32(0.25))
    scaled = ("--mean", "0.5", "--std", "0.25")
    assert type_in("predict", cnn, "photos", *scaled, "-o", "a.csv").code == 0
    assert type_in("predict", cnn, "photos.npz", "-o", "b.csv").code == 0
    seen, given = (
        list(csv.DictReader(Path(name).read_text().splitlines())) for name in ("a.csv", "b.csv")
    )
    assert [row.pop("file") for row in seen] == [f"{at % 4}/{at}.png" for at in order]
    assert [row.pop("true") for row in seen] == [str(at % 4) for at in order]
    assert seen == given
    plan = type_in("plan", cnn, "photos", "--taps", 2, "--json").json
    assert [tap["layer"] for tap in plan["taps"]] == ["/conv0", "/fc"]
    assert plan["memory"]["cache_bytes"] == 8 * (192 + 48 + 16)
    made = type_in("adapt", cnn, "photos", "--taps", 2, "-o", "adapter", "--json")
    assert made.json["cache_bytes"] == plan["memory"]["cache_bytes"]
    assert made.json["trainable_parameters"] == plan["n_parameters"]
    refused(type_in("evaluate", cnn, "photos", "--size", "9x14"), "9x14", "14x14")


@pytest.fixture
def squares(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """A folder of 20 images of 4 classes, and what they are: X and y."""
    random = np.random.default_rng(1)
    arrays, y = random.integers(0, 256, (20, 14, 14, 3), np.uint8), np.arange(20) // 5
    for at, pixels in enumerate(arrays):
        folder = tmp_path / "squares" / str(y[at])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{at:02}.png")
    return tmp_path / "squares", arrays.transpose(0, 3, 1, 2) / np.float32(255), y


@pytest.mark.parametrize("options", [(), ("--epochs", 3), ("--epochs", 3, "--no-cache")])
def test_images_that_are_read_part_by_part_teach_the_same(
    type_in, cnn: str, squares, options, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, x, y = squares
    np.savez("squares.npz", X=x, y=y)
    monkeypatch.setattr("skip2lora.data.lazy.READ_BYTES", 3 * x[0].nbytes)
    assert type_in("prepare", cnn, "-o", "m.onnx", "--data", "squares", "--lab-set", 2).code == 0
    for data, output in (("squares", "a"), ("squares.npz", "b")):
        more = ("--keep", data, "--validation-data", data, *options)
        assert type_in("adapt", cnn, data, "-o", output, *more).code == 0
        made = type_in("adapt", "m.onnx", data, "-o", f"{output}2", *options)  # with the lab set
        assert made.code == 0, made.err
    for one, other in (("a", "b"), ("a2", "b2")):
        ours, same = (load_file(f"{of}/adapter_model.safetensors") for of in (one, other))
        assert {k: of.tobytes() for k, of in ours.items()} == {
            k: of.tobytes() for k, of in same.items()
        }
    told = [type_in("evaluate", cnn, data, "--adapter", "a", "--json") for data in ("squares.npz",
            "squares")]  # fmt: skip
    assert told[0].json == told[1].json


def test_an_image_that_only_reading_shows_to_be_damaged(type_in, cnn: str, squares) -> None:
    from data.test_image_files import lying_png

    folder, _, _ = squares
    (folder / "2" / "12.png").write_bytes(lying_png())
    said = ("2/12.png cannot be read as an image (", "replace or remove it")
    for words in (("adapt", cnn, "squares", "-o", "new"), ("evaluate", cnn, "squares")):
        refused(type_in(*words), *said)
    assert not Path("new").exists()


def test_one_image_on_standard_input(type_in, cnn: str, squares, monkeypatch) -> None:
    """It is read before its file is gone."""
    import io
    import sys
    from types import SimpleNamespace

    folder, _, _ = squares
    content = (folder / "0" / "00.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    made = type_in("predict", cnn, "-", "-o", "p.csv")
    assert made.code == 0, made.err
    assert type_in("predict", cnn, "squares/0/00.png", "-o", "q.csv").code == 0
    lines = [Path(of).read_text().splitlines() for of in ("p.csv", "q.csv")]
    rows = [next(csv.DictReader(of)) for of in lines]
    assert [row.pop("file") for row in rows] == ["standard input", "00.png"]
    assert rows[0] == rows[1]
