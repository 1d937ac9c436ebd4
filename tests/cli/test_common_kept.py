"""What is kept with an adapter: names of outputs, grid, how images became samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnxruntime

import onnx_models as nets
import skip2lora as s2
from desk import Answer, refused
from skip2lora.adapters import folder
from skip2lora.backbones.onnx import backbone

Type = Callable[..., Answer]
CLASSES = ("bright", "dark")
FAST = ("--epochs", 3)


@pytest.fixture
def photos(type_in: Type, tmp_path: Path) -> Path:
    """Two classes of 12 x 10 images, and networks: 14 x 14, of any size, rows of numbers."""
    random = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for at in range(6):
            pixels = random.integers(0, 90, (12, 10, 3), np.uint8) + np.uint8(150 * (1 - number))
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{at}.png")
    nets.save(nets.cnn(), tmp_path / "cnn.onnx")
    nets.save(nets.cnn(size="s"), tmp_path / "open.onnx")
    return tmp_path


def config(folder: str = "a") -> Any:
    return json.loads(Path(folder, "adapter_config.json").read_text())


def test_images_are_read_as_the_adapter_was_made(photos: Path, type_in: Type) -> None:
    scale = ("--mean", "0.2,0.3,0.4", "--std", "0.5")
    made = type_in("adapt", "cnn.onnx", "photos", "--new-classes", *scale, *FAST, "-o", "a")
    assert made.code == 0, made.err
    assert config()["images"] == {
        "size": [14, 14], "mean": [0.2, 0.3, 0.4], "std": [0.5], "layout": "chw",
    }  # fmt: skip
    assert config()["base_model_name_or_path"] == "cnn.onnx"
    assert type_in("predict", "cnn.onnx", "photos", "--adapter", "a", "-o", "p.csv").code == 0
    told = type_in("predict", "cnn.onnx", "photos", "--adapter", "a", *scale, "-o", "q.csv")
    assert told.code == 0, told.err
    assert Path("p.csv").read_text() == Path("q.csv").read_text()
    x = np.stack(
        [
            np.asarray(
                Image.open(file).resize((14, 14), Image.Resampling.BILINEAR), np.float32
            ).transpose(2, 0, 1)
            for file in sorted(Path("photos").rglob("*.png"))
        ]
    )
    x = (x / 255 - np.float32([0.2, 0.3, 0.4]).reshape(3, 1, 1)) / np.float32(0.5)
    adapted = s2.AdaptedModel.load(s2.load("cnn.onnx"), "a")
    rows = [line.split(",")[-6:] for line in Path("p.csv").read_text().splitlines()[1:]]
    np.testing.assert_allclose(np.array(rows, float), adapted.predict_proba(x), atol=1e-4)
    assert "size 14x14, mean 0.2,0.3,0.4, std 0.5, layout chw" in type_in("inspect", "a").out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--mean 0", ["--mean is 0", "0.2,0.3,0.4", "learn anew"]),
        ("--mean imagenet", ["--mean is 0.485,0.456,0.406", "0.2,0.3,0.4"]),
        ("--mean 0.2,0.3,0.4 --std 0.4", ["--std is 0.4", "with 0.5"]),
        ("--size 9", ["--size is 9x9", "with 14x14"]),
    ],
)
def test_other_options_for_images(photos: Path, type_in: Type, words: str, parts: Any) -> None:
    scale = ("--mean", "0.2,0.3,0.4", "--std", "0.5,0.5,0.5")
    made = type_in("adapt", "cnn.onnx", "photos", "--new-classes", *scale, *FAST, "-o", "a")
    assert made.code == 0, made.err
    for command in (("evaluate",), ("predict", "-o", "p.csv")):
        answer = type_in(*command, "cnn.onnx", "photos", "--adapter", "a", *words.split())
        refused(answer, *parts)
    same = ("--std", "0.5", "--size", "14")  # one number stands for all channels
    assert type_in("evaluate", "cnn.onnx", "photos", "--adapter", "a", *same).code == 0


def test_a_size_is_needed_once(photos: Path, type_in: Type) -> None:
    """A network of rows keeps how large its images were, and so does its adapter."""
    size = ("--size", "4x3")
    made = type_in("pretrain", "photos", *size, "--hidden", 8, "-o", "m.safetensors")
    assert made.code == 0, made.err
    assert type_in("adapt", "m.safetensors", "photos", *size, *FAST, "-o", "a").code == 0
    assert config()["images"]["layout"] == "flat"
    assert type_in("evaluate", "m.safetensors", "photos", "--adapter", "a").code == 0
    assert type_in("evaluate", "m.safetensors", "photos").code == 0
    refused(type_in("evaluate", "m.safetensors", "photos", "--size", "5x3"), "--size is 5x3")


def test_arrays_keep_nothing_of_images(photos: Path, type_in: Type) -> None:
    np.savez("x.npz", X=nets.images(8), y=np.arange(8) % 4)
    assert type_in("adapt", "cnn.onnx", "x.npz", *FAST, "-o", "a").code == 0
    assert "images" not in config()


def test_the_grid_is_kept(photos: Path, type_in: Type) -> None:
    words = ("cnn.onnx", "photos", "--new-classes", "--grid", 2, *FAST)
    made = type_in("adapt", *words, "-o", "a")
    assert made.code == 0, made.err
    assert (config()["grid"], config()["tap_widths"]) == (2, [12, 32, 32, 12])
    told = type_in("evaluate", "cnn.onnx", "photos", "--adapter", "a", "--json")
    assert told.code == 0, told.err
    made = type_in("export", "cnn.onnx", "--adapter", "a", "--to", "onnx", "-o", "all.onnx")
    assert made.code == 0, made.err
    x = nets.images(5)
    adapted = s2.AdaptedModel.load(s2.load("cnn.onnx"), "a")
    [chances] = onnxruntime.InferenceSession("all.onnx").run(None, {"x": x})
    np.testing.assert_allclose(chances, adapted.predict_proba(x), atol=1e-5)
    told = type_in("plan", "cnn.onnx", "photos", "--grid", 2, "--json").json
    assert [tap["width"] for tap in told["taps"]] == [12, 32, 32, 12]


def test_a_size_opens_the_grid(photos: Path, type_in: Type) -> None:
    words = ("open.onnx", "photos", "--new-classes", *FAST)
    refused(type_in("adapt", *words, "-o", "a"), "--size is missing", "any size")
    refused(type_in("adapt", *words, "-o", "a", "--size", "16x12"), "16x12", "squares")
    made = type_in("adapt", *words, "--size", "16", "-o", "a")
    assert made.code == 0, made.err
    assert config()["input_size"] == config()["images"]["size"] == [16, 16]
    assert config()["tap_widths"][0] == 3 * 4 * 4
    assert "input size            16x16" in type_in("inspect", "a").out
    told = type_in("evaluate", "open.onnx", "photos", "--adapter", "a", "--json")
    assert told.code == 0, told.err
    refused(type_in("evaluate", "open.onnx", "photos", "--adapter", "a", "--size", 20), "20x20")
    np.savez("x.npz", X=np.zeros((2, 3, 20, 20), np.float32))
    predict = ("predict", "open.onnx", "x.npz", "-o", "p.csv")
    assert type_in(*predict).code == 0
    refused(type_in(*predict, "--force", "--adapter", "a"), "20", "16")
    made = type_in("export", "open.onnx", "--adapter", "a", "--to", "onnx", "-o", "all.onnx")
    assert made.code == 0, made.err
    x = nets.images(5, 16)
    adapted = s2.AdaptedModel.load(s2.load("open.onnx"), "a")
    [chances] = onnxruntime.InferenceSession("all.onnx").run(None, {"x": x})
    np.testing.assert_allclose(chances, adapted.predict_proba(x), atol=1e-5)
    np.savez("y.npz", X=x, y=np.arange(5) % 4)
    made = type_in("adapt", "open.onnx", "y.npz", "--size", "16", *FAST, "-o", "b")
    assert made.code == 0, made.err
    assert config("b")["tap_widths"] == config()["tap_widths"]
    told = type_in("plan", "open.onnx", "--size", "16", "--json").json
    assert [tap["width"] for tap in told["taps"]] == config()["tap_widths"]
    made = type_in("prepare", "open.onnx", "--size", "16", "-o", "t.onnx", "--json")
    assert [tap["width"] for tap in made.json["taps"]] == config()["tap_widths"]
    adapted = s2.AdaptedModel.load(s2.load("t.onnx"), "a")
    np.testing.assert_allclose(chances, adapted.predict_proba(x), atol=1e-5)


@pytest.fixture
def table(photos: Path) -> Path:
    """A model without names, and samples of its four classes as names and as numbers."""
    del photos
    names, y = np.array(["a", "b", "c", "d"]), np.arange(12) % 4
    x = nets.images(12)
    np.savez("numbers.npz", X=x, y=y)
    np.savez("text.npz", X=x, y=names[y])
    np.savez("ordered.npz", X=x, y=y, class_names=names[::-1])
    np.savez("fewer.npz", X=x, y=y % 2, class_names=names[:2])
    return Path()


@pytest.mark.parametrize("command", [("evaluate",), ("adapt", "-o", "a", *FAST)])
def test_names_in_no_order_are_refused(table: Path, type_in: Type, command: Any) -> None:
    said = ("text.npz", "4 classes (a, b, c, d) in no order", "4 outputs without names")
    refused(type_in(*command, "cnn.onnx", "text.npz"), *said, "--class-names", "a,b,c,d")
    said = ("2 classes (bright, dark)", "4 outputs", "--new-classes")
    refused(type_in(*command, "cnn.onnx", "photos"), *said)
    refused(type_in(*command, "cnn.onnx", "fewer.npz"), "2 classes (a, b)", "4 outputs")


def test_names_are_told(table: Path, type_in: Type) -> None:
    numbers = type_in("evaluate", "cnn.onnx", "numbers.npz", "--json").json
    for names, data in (("a,b,c,d", "text.npz"), ("d,c,b,a", "ordered.npz")):
        told = type_in("evaluate", "cnn.onnx", data, "--class-names", names, "--json").json
        assert told["accuracy"] == numbers["accuracy"]
        assert [of["class"] for of in told["classes"]] == names.split(",")
    words = ("--class-names", "a,b,c,d", *FAST, "-o", "a")
    assert type_in("adapt", "cnn.onnx", "text.npz", *words).code == 0
    assert config()["output_names"] == ["a", "b", "c", "d"]
    told = type_in("predict", "cnn.onnx", "numbers.npz", "--adapter", "a", "-o", "p.csv", "--json")
    assert set(told.json["predicted"]) == set("abcd")
    head = Path("p.csv").read_text().splitlines()[0]
    assert head == "row,prediction,name,probability,true,p_a,p_b,p_c,p_d"
    assert type_in("evaluate", "cnn.onnx", "text.npz", "--adapter", "a").code == 0
    other = ("--adapter", "a", "--class-names", "d,c,b,a")
    refused(type_in("evaluate", "cnn.onnx", "text.npz", *other), "d, c, b, a", "for a, b, c, d")


def test_answers_that_are_not_used(table: Path, type_in: Type) -> None:
    """Predicting, what a class is called in the file does not matter."""
    assert type_in("predict", "cnn.onnx", "text.npz", "-o", "p.csv").code == 0
    assert type_in("predict", "cnn.onnx", "photos", "-o", "q.csv").code == 0


def test_names_in_the_order_of_the_file(table: Path, type_in: Type) -> None:
    answer = type_in("evaluate", "cnn.onnx", "ordered.npz", "--json")
    assert answer.code == 0
    assert "taken as d, c, b, a, in the order of ordered.npz" in answer.err
    assert answer.json["accuracy"] == type_in(
        "evaluate", "cnn.onnx", "numbers.npz", "--json"
    ).json["accuracy"]  # fmt: skip
    assert type_in("adapt", "cnn.onnx", "ordered.npz", *FAST, "-o", "a").code == 0
    assert config()["output_names"] == ["d", "c", "b", "a"]
    told = type_in("evaluate", "cnn.onnx", "text.npz", "--adapter", "a")
    assert (told.code, told.err) == (0, "")


@pytest.mark.parametrize("names", ["a,b,c", "a,b,c,c", "a,b,c,d,e"])
def test_names_that_do_not_fit(table: Path, type_in: Type, names: str) -> None:
    answer = type_in("evaluate", "cnn.onnx", "text.npz", "--class-names", names)
    refused(answer, "class_names is a, b, c", "4 distinct names")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is called from now on of what reads adapters and models, in order."""
    names: list[str] = []

    def counted(module: Any, function: str) -> None:
        original = getattr(module, function)

        def call(*arguments: Any, **options: Any) -> Any:
            names.append(function)
            return original(*arguments, **options)

        monkeypatch.setattr(module, function, call)

    for function in ("read_tensors", "_read_config"):
        counted(folder, function)
    for function in ("read_model", "tap_model", "open_session"):
        counted(backbone, function)
    counted(onnxruntime, "InferenceSession")
    return names


@pytest.mark.parametrize("command", ["adapt", "plan"])
@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("name", ["open", "cnn"])
def test_a_model_is_read_tapped_and_opened_once(
    photos: Path, type_in: Type, calls: list[str], command: str, name: str, prepared: bool
) -> None:
    if prepared:
        assert type_in("prepare", f"{name}.onnx", "-o", "tapped.onnx").code == 0
    calls.clear()
    words = ("--new-classes", *FAST, "-o", "a") if command == "adapt" else ()
    size = ("--size", 16 if name == "open" else 14)
    model = "tapped.onnx" if prepared else f"{name}.onnx"
    told = type_in(command, model, "photos", *size, *words)
    assert told.code == 0, told.err
    # One prepared so has its taps; any other runs on noise first, which tells where samples are.
    tapped = ["tap_model", "InferenceSession"] * (name == "open" or not prepared)
    assert calls == ["read_model", *tapped, "open_session", "InferenceSession"]


@pytest.mark.parametrize("command", [("evaluate",), ("predict", "-o", "p.csv")])
@pytest.mark.parametrize(
    ("name", "tapping"), [("cnn", {"taps": [1, -1], "grid": 2}), ("open", {"size": (14, 14)})]
)
def test_a_model_is_opened_once_as_its_adapter_says(
    photos: Path, type_in: Type, calls: list[str], command: Any, name: str, tapping: Any
) -> None:
    x, y = nets.images(8, 14), np.arange(8) % 4
    np.savez("d.npz", X=x, y=y)
    s2.adapt(s2.load(f"{name}.onnx", **tapping), x, y, epochs=1).save("a")
    calls.clear()
    told = type_in(*command, f"{name}.onnx", "d.npz", "--adapter", "a")
    assert told.code == 0, told.err
    adapter, noise = (
        ["read_tensors", "_read_config"],
        ["read_model", "tap_model", "InferenceSession"],
    )
    assert calls == [*adapter, *noise, "open_session", "InferenceSession"]


def test_of_another_model_its_fingerprint_is_said_first(table: Path, type_in: Type) -> None:
    """Though it lacks the layers that the adapter is for."""
    x = nets.images(8)
    s2.adapt(s2.load("cnn.onnx", taps=[0, 1]), x, np.arange(8) % 4, epochs=1).save("a")
    nets.save(nets.mlp(), Path("other.onnx"))
    answer = type_in("evaluate", "other.onnx", "numbers.npz", "--adapter", "a")
    refused(answer, "a was made for the model", "got the model", "load that model")
