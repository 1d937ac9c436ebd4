"""``export`` as a user types it, with the commands before and after."""

from __future__ import annotations

import csv
import json
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


@pytest.fixture
def chosen(base: Path, type_in: Type) -> s2.AdaptedModel:
    """An adapter of base.onnx that keeps thresholds of classes that overlap."""
    random = np.random.default_rng(2)
    x, y = np.load(base / "field.npz")["X"], np.load(base / "field.npz")["y"]
    x = x + random.normal(0, 2.5, x.shape).astype(np.float32)
    np.savez(base / "noisy.npz", X=x, y=y, class_names=np.array(["cat", "dog", "fox"]))
    made = type_in("adapt", "base.onnx", "noisy.npz", "--precision", 0.9, "-o", "sure")
    assert made.code == 0, made.err
    return s2.AdaptedModel.load(base / "base.onnx", base / "sure")


@pytest.mark.parametrize("kind", ["onnx", "onnx-adapter", "tflite", "c"])
def test_thresholds_are_said(kind: str, base: Path, chosen: s2.AdaptedModel, type_in: Type) -> None:
    model = "base.onnx"
    adapter = "sure"
    if kind == "tflite":
        pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert: pip group runtimes")
        assert type_in("pretrain", "field.npz", "-o", "net.safetensors").code == 0
        made = type_in("adapt", "net.safetensors", "noisy.npz", "--precision", 0.9, "-o", "of-net")
        assert made.code == 0, made.err
        model, adapter = "net.safetensors", "of-net"
    output = {"tflite": "e.tflite", "c": "board"}.get(kind, "e.onnx")
    words = ("export", model, "--adapter", adapter, "--to", kind, "-o", output)
    made = type_in(*words, "--json")
    assert made.code == 0, made.err
    adapted = s2.AdaptedModel.load(base / model, base / adapter)
    assert adapted.thresholds is not None
    least = adapted.thresholds.least(adapted.learned)
    assert any(0 < value < 1 for value in least)
    by_name = {
        name: None if np.isinf(value) else value
        for name, value in zip(adapted.class_names or "012", least, strict=True)
    }
    assert made.json["thresholds"] == by_name
    shown = type_in(*words, "--force")
    assert "thresholds for what reads its outputs to apply, as predict does: " in shown.out
    assert all(f"{name} " in shown.out for name in by_name)


def test_what_reads_the_outputs_can_apply_them(
    base: Path, chosen: s2.AdaptedModel, type_in: Type
) -> None:
    """By the metadata alone, with the stock runtime: what AdaptedModel predicts."""
    import onnxruntime

    made = type_in("export", "base.onnx", "--adapter", "sure", "--to", "onnx", "-o", "e.onnx")
    assert made.code == 0, made.err
    x = np.load(base / "noisy.npz")["X"]
    session = onnxruntime.InferenceSession(base / "e.onnx")
    [logits] = session.run(None, {"x": x})
    said = session.get_modelmeta().custom_metadata_map
    names, values = json.loads(said["skip2lora.classes"]), json.loads(said["skip2lora.thresholds"])
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    predicted = []
    for row in shares:
        best = int(row.argmax())
        least = values["values"][best]
        none = least == "never" or row[best] < (least or 0)
        predicted.append("none of these" if none else names[best])
    assert predicted == chosen.predict(x).tolist()
    assert 0 < predicted.count("none of these") < len(x)


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_the_file_as_a_model_answers_as_model_and_adapter(
    kind: str, base: Path, chosen: s2.AdaptedModel, type_in: Type
) -> None:
    """``predict`` and ``evaluate`` of the exported file alone: names and thresholds are in it."""
    model, adapter = "base.onnx", "sure"
    if kind == "tflite":
        pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert: pip group runtimes")
        assert type_in("pretrain", "field.npz", "-o", "net.safetensors").code == 0
        made = type_in("adapt", "net.safetensors", "noisy.npz", "--precision", 0.9, "-o", "of-net")
        assert made.code == 0, made.err
        model, adapter = "net.safetensors", "of-net"
    out = f"e.{kind}"
    assert type_in("export", model, "--adapter", adapter, "--to", kind, "-o", out).code == 0
    of_both, of_file = (model, "--adapter", adapter), (out,)
    predicted, measured = [], []
    for name, words in (("both", of_both), ("file", of_file)):
        made = type_in("predict", words[0], "noisy.npz", *words[1:], "-o", f"{name}.csv", "--json")
        assert made.code == 0, made.err
        assert made.json["predicted"]["none of these"] > 0
        rows = list(csv.DictReader((base / f"{name}.csv").read_text().splitlines()))
        predicted.append([(row["true"], row["prediction"]) for row in rows])
        measured.append(type_in("evaluate", words[0], "noisy.npz", *words[1:], "--json").json)
    assert predicted[0] == predicted[1]
    labels = {label for _, label in predicted[1]}
    assert labels & {"cat", "0"}
    assert labels & {"none of these", "-1"}
    assert measured[0]["thresholds"] == measured[1]["thresholds"]
    assert measured[0]["at_thresholds"] == measured[1]["at_thresholds"]
    assert measured[0]["confusion"] == measured[1]["confusion"]


def test_without_thresholds_nothing_is_said(base: Path, type_in: Type) -> None:
    made = type_in("export", "base.onnx", "--adapter", "adapter", "--to", "onnx", "-o", "e.onnx")
    assert "thresholds" not in made.out
