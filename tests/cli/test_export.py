"""``export`` as a user types it, with the commands before and after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx_models as nets
import skip2lora as s2
from desk import Answer

Type = Callable[..., Answer]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "export base.onnx --adapter nowhere --to onnx -o t.onnx",
            "nowhere is not an adapter folder",
        ),
        ("export base.onnx --to onnx -o t.onnx", "Missing option '--adapter'"),
        ("export base.onnx --adapter adapter --to tf -o t.onnx", "'tf' is not one of"),
        (
            "export other.onnx --adapter adapter --to onnx -o t.onnx",
            "adapter was made for the model sha256:",
        ),
    ],
)
def test_bad_input(words: str, said: str, base: Path, type_in: Type) -> None:
    x = np.load(base / "field.npz")["X"]
    nets.save(nets.mlp([x.shape[1], 16, 8, 3], seed=9), base / "other.onnx")
    answer = type_in(*words.split())
    assert answer.code == 2
    assert answer.out == ""
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert not (base / "t.onnx").exists()


def test_bench_times_the_method_on_cached_rows(base: Path, type_in: Type) -> None:
    quick = ("--samples", 8, "--batch-size", 4, "--rounds", 1)
    nets.save(nets.transformer(), base / "texts.onnx")  # any number of tokens
    nets.save(nets.transformer(encoder=True), base / "encoder.onnx")
    for model in ("base.onnx", "texts.onnx", "encoder.onnx"):
        made = type_in("bench", model, *quick, "--json")
        assert made.code == 0, made.err
        facts = made.json
        backbone = s2.load(model)
        assert facts["widths"] == list(backbone.tap_widths)
        assert list(facts["methods"]) == ["skip2-lora"]
        n_outputs = backbone.n_outputs or 2
        # Forward and gradient of lora_a; forward, gradient and hidden gradient of lora_b.
        products = sum(2 * width + 3 * n_outputs for width in backbone.tap_widths)
        assert facts["methods"]["skip2-lora"]["operations"] == 2 * 4 * 4 * products
        assert facts["cache_bytes"] == 8 * 4 * (sum(backbone.tap_widths) + n_outputs)
    shown = type_in("bench", "base.onnx", *quick)
    assert "3 taps" in shown.out
    assert "skip-lora" not in shown.out


@pytest.mark.parametrize(
    "words", [("prepare",), ("export", "--adapter", "adapter", "--to", "onnx")]
)
def test_the_model_is_not_replaced(base: Path, type_in: Type, words: tuple[str, ...]) -> None:
    before = (base / "base.onnx").read_bytes()
    made = type_in(words[0], "base.onnx", *words[1:], "-o", "./base.onnx", "--force")
    assert (made.code, made.out) == (2, "")
    assert "is the model itself" in made.err
    assert (base / "base.onnx").read_bytes() == before


@pytest.mark.parametrize("kind", ["onnx", "onnx-adapter"])
def test_samples_to_compare_on(base: Path, type_in: Type, kind: str) -> None:
    words = ("export", "base.onnx", "--adapter", "adapter", "--to", kind, "-o", "t.onnx")
    np.savez(base / "narrow.npz", X=np.zeros((3, 2), np.float32))
    refused = type_in(*words, "--data", "narrow.npz")
    assert (refused.code, refused.out) == (2, "")
    assert "X has shape (3, 2)" in refused.err
    assert not (base / "t.onnx").exists()
    made = type_in(*words, "--data", "field.npz", "--json")
    assert made.code == 0, made.err
    assert made.json["output"][0] == "t.onnx"


@pytest.mark.parametrize("kind", ["onnx", "onnx-adapter"])
def test_a_network_of_pretrain(kind: str, desk: Path, type_in: Type) -> None:
    words = ("export", "model.safetensors", "--adapter", "adapter", "--to", kind, "-o")
    made = type_in(*words, "adapted.onnx", "--data", "test.npz", "--json")
    assert made.code == 0, made.err
    assert made.json["n_outputs"] == 3
    if kind == "onnx":
        adapted = s2.AdaptedModel.load(desk / "model.safetensors", desk / "adapter")
        x = np.load(desk / "test.npz")["X"]
        told = s2.load(desk / "adapted.onnx").predict_proba(x)
        np.testing.assert_allclose(told, adapted.predict_proba(x), atol=1e-4)
    made = type_in(*words, "adapted.safetensors")
    assert (made.code, made.out) == (2, "")
    assert "adapted.safetensors ends in .safetensors, expected .onnx, as" in made.err


def test_a_network_of_pretrain_as_tflite(desk: Path, type_in: Type) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert: pip group runtimes")
    words = ("export", "model.safetensors", "--adapter", "adapter", "--to", "tflite", "-o")
    refused = type_in(*words, "adapted.onnx")
    assert (refused.code, refused.out) == (2, "")
    assert "adapted.onnx ends in .onnx, expected .tflite, as" in refused.err
    made = type_in(*words, "adapted.tflite", "--data", "test.npz", "--json")
    assert made.code == 0, made.err
    adapted = s2.AdaptedModel.load(desk / "model.safetensors", desk / "adapter")
    assert made.json["output"] == ["adapted.tflite", *["labels.txt"] * bool(adapted.class_names)]
    x = np.load(desk / "test.npz")["X"]
    told = s2.load(desk / "adapted.tflite").predict_proba(x)
    np.testing.assert_allclose(told, adapted.predict_proba(x), atol=1e-4)
    if adapted.class_names:
        assert (desk / "labels.txt").read_text().split("\n")[:-1] == list(adapted.class_names)
    again = type_in(*words, "adapted.tflite")
    assert (again.code, again.out) == (2, "")
    assert "exists" in again.err
