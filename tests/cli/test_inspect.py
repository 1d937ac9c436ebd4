"""``inspect`` as a user types it: models, adapters and data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from desk import NAMES, refused
from skip2lora.training.lab_set import LabSet


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


def test_inspect_tells_of_a_lab_set(desk: Path, type_in) -> None:
    """What it is, for how many samples of each class, and of which model."""
    model, data = s2.load("model.safetensors"), np.load("field.npz")
    of_classes = np.concatenate(
        [np.flatnonzero(data["y"] == label)[: 3 + label] for label in (0, 2)]
    )
    lab_set = LabSet.of(model, data["X"][of_classes], data["y"][of_classes], 4)
    lab_set.save("some.safetensors")
    facts = type_in("inspect", "some.safetensors", "--json").json
    assert (facts["kind"], facts["n_samples"], facts["task"]) == ("lab set", 7, "classification")
    assert facts["samples_a_class"] == {"0": 3, "2": 4}
    assert (facts["taps"], facts["n_outputs"]) == ([12, 16, 16], 3)
    assert (
        facts["base_fingerprint"]
        == type_in("inspect", "model.safetensors", "--json").json["fingerprint"]
    )
    assert facts["bytes"] == Path("some.safetensors").stat().st_size
    said = type_in("inspect", "some.safetensors").out
    assert "lab set" in said
    assert "0 3, 2 4" in said
    refused(type_in("inspect", "some.safetensors", "--mask", "none"), "is no model, expected one")
    LabSet.of(model, data["X"], data["X"][:, :3], 2, task="regression").save("r.safetensors")
    assert set(type_in("inspect", "r.safetensors", "--json").json["targets"]) == {"0", "1", "2"}


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
