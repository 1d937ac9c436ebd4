"""``plan`` and ``inspect`` as a user types them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.test_bad_input import refused


def test_plan_agrees_with_adapt(type_in, desk: Path) -> None:
    options = ("--rank", 2, "--epochs", 5, "--batch-size", 7)
    plan = type_in("plan", "model.safetensors", "field.npz", *options, "--json").json
    adapted = type_in(
        "adapt", "model.safetensors", "field.npz", *options, "-o", "new", "--json"
    ).json
    assert plan["memory"]["cache_bytes"] == adapted["cache_bytes"]
    assert plan["memory"]["cache_overhead_bytes"] == adapted["cache_overhead_bytes"]
    assert plan["n_parameters"] == adapted["trainable_parameters"]
    for name in ("n_batches", "n_samples"):
        assert plan[name] == adapted[name]
    for name in ("training_ms", "cache_fill_ms", "us_a_batch", "gflops", "operations_a_batch"):
        assert plan[name] > 0


def test_plan_for_a_person(type_in, desk: Path) -> None:
    told = type_in("plan", "model.safetensors", "--samples", 1000, "--classes", 7)
    assert told.code == 0, told.err
    for part in ("1,000 samples, 7 outputs", "the sample", "measured on random rows", "peak"):
        assert part in told.out
    assert not list(desk.glob("new*"))


BAD = {
    "both": (("field.npz", "--samples", 5), ["field.npz", "--samples 5"]),
    "no samples": (("--samples", 0), ["samples is 0"]),
    "rank": (("--rank", 99), ["rank is 99", "1 to 16"]),
    "classes": (("--classes", 2), ["classes is 2", "3 or more"]),
    "optimizer": (("--optimizer", "lion"), ["lion", "adam"]),
    "taps": (("--taps", "3"), ["taps is 3"]),
    "size without data": (("--size", "8"), ["--size", "DATA"]),
    "no data": (("none.npz",), ["none.npz"]),
}


@pytest.mark.parametrize(("options", "parts"), BAD.values(), ids=BAD)
def test_plan_refuses(type_in, desk: Path, options, parts) -> None:
    refused(type_in("plan", "model.safetensors", *options), *parts)


def test_inspect_lists_the_layers_of_a_network(type_in, desk: Path) -> None:
    facts = type_in("inspect", "model.safetensors", "--json").json
    assert [layer["width"] for layer in facts["layers"]] == [12, 16, 16]
    assert [layer["bytes_a_sample"] for layer in facts["layers"]] == [0, 64, 64]
    assert all(layer["tapped"] for layer in facts["layers"])
    assert facts["cache_bytes_a_sample"] == 64 + 64 + 12
    assert "layers.2" in type_in("inspect", "model.safetensors").out


# --- a model of another runtime -------------------------------------------------------------


@pytest.fixture
def cnn(tmp_path: Path) -> str:
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    from onnx_models import cnn

    onnx.save(cnn(), tmp_path / "cnn.onnx")
    return "cnn.onnx"


def test_inspect_lists_what_could_be_tapped(type_in, cnn: str) -> None:
    facts = type_in("inspect", cnn, "--json").json
    assert [layer["layer"] for layer in facts["layers"]] == [
        "/conv0", "/depthwise", "/conv1", "/fc",
    ]  # fmt: skip
    assert [layer["bytes_a_sample"] for layer in facts["layers"]] == [192, 512, 512, 48]
    assert facts["cache_bytes_a_sample"] == 192 + 512 + 512 + 48 + 16
    assert facts["inputs"] == [{"name": "x", "shape": [3, 14, 14], "dtype": "float32"}]
    text = type_in("inspect", cnn).out
    assert "4 layers that can be tapped, 4 by default (*)" in text
    assert "3x14x14" in text


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
    assert Path("a.csv").read_text() == Path("b.csv").read_text()
    plan = type_in("plan", cnn, "photos", "--taps", 2, "--json").json
    assert [tap["layer"] for tap in plan["taps"]] == ["/conv0", "/fc"]
    assert plan["memory"]["cache_bytes"] == 8 * (192 + 48 + 16)
    made = type_in("adapt", cnn, "photos", "--taps", 2, "-o", "adapter", "--json")
    assert made.json["cache_bytes"] == plan["memory"]["cache_bytes"]
    assert made.json["trainable_parameters"] == plan["n_parameters"]
    refused(type_in("evaluate", cnn, "photos", "--size", "9x14"), "9x14", "14x14")
