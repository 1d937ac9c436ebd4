"""``inspect`` as a user types it: models, adapters and data."""

from __future__ import annotations

from pathlib import Path

import pytest

from desk import NAMES, refused


def test_inspect_lists_the_layers_of_a_network(type_in, desk: Path) -> None:
    facts = type_in("inspect", "model.safetensors", "--json").json
    assert [layer["width"] for layer in facts["layers"]] == [12, 16, 16]
    assert [layer["bytes_a_sample"] for layer in facts["layers"]] == [0, 64, 64]
    assert all(layer["tapped"] for layer in facts["layers"])
    assert facts["cache_bytes_a_sample"] == 64 + 64 + 12
    assert "layers.2" in type_in("inspect", "model.safetensors").out


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


def test_inspect_tells_model_adapter_and_data_apart(desk, type_in):
    model = type_in("inspect", "model.safetensors", "--json").json
    assert model["widths"] == [12, 16, 16, 3]
    assert model["cache_bytes_a_sample"] == (16 + 16 + 3) * 4
    adapter = type_in("inspect", "adapter", "--json").json
    assert adapter["base_fingerprint"] == model["fingerprint"]
    data = type_in("inspect", "field.npz", "--json").json
    assert data["samples_a_class"] == dict.fromkeys(NAMES, 20)
    assert "12-16-16-3" in type_in("inspect", "model.safetensors").out


def test_inspect_tells_the_mask_of_an_encoder(type_in, tmp_path: Path) -> None:
    nets = pytest.importorskip("onnx_models", reason="needs the package onnx")
    path = nets.save(nets.transformer(encoder=True), tmp_path / "encoder.onnx")
    facts = type_in("inspect", path, "--json").json
    assert (facts["n_outputs"], facts["mask"]) == (0, "attention_mask=tokens")
    assert facts["cache_bytes_a_sample"] == 4 * sum(facts["taps"])
    text = type_in("inspect", path).out
    assert "attention_mask=tokens (1 or true where a token counts)" in text
    assert type_in("inspect", path, "--mask", "none", "--json").json["mask"] == "none"
    answer = type_in("inspect", path, "--mask", "upside-down")
    refused(answer, "mask is 'upside-down'", "expected none, tokens, padding, additive, lengths")


@pytest.mark.filterwarnings("always:.*only the layers up to there:UserWarning")
def test_inspect_tells_what_is_left_out(type_in, tmp_path: Path) -> None:
    models = pytest.importorskip("backbones.onnx.test_straight", reason="needs the package onnx")
    path = models.saved(tmp_path / "m.onnx", "If")
    answer = type_in("inspect", path)
    assert "is a branch: only the layers up to there are tapped" in answer.out
    assert f"skip2lora: {path}: node mixed_node (If) is a branch" in answer.err
