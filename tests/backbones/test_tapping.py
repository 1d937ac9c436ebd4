"""Adapters find their taps, grid and shapes again on a model that was loaded afresh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.adapters.folder import CONFIG_FILE
from skip2lora.backbones.tapping import Tapping
from skip2lora.errors import ModelError, ParameterError

QUICK: dict[str, Any] = {"epochs": 3}


def again(model: Any, fresh: Any, x: Any, y: Any, folder: Path) -> s2.AdaptedModel:
    """Adapt ``model``, save, and load on ``fresh``: the same predictions."""
    adapted = s2.adapt(model, x, y, **QUICK)
    adapted.save(folder)
    loaded = s2.AdaptedModel.load(fresh, folder)
    np.testing.assert_array_equal(loaded.logits(x), adapted.logits(x))
    return loaded


@pytest.fixture
def onnx_nets() -> Any:
    pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime")
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    import onnx_models

    return onnx_models


def test_grid_of_onnx(onnx_nets: Any, tmp_path: Path) -> None:
    path = onnx_nets.save(onnx_nets.cnn(), tmp_path / "m.onnx")
    x, y = onnx_nets.images(8), np.arange(8) % 4
    model = s2.load(path, grid=2, class_names=tuple("abcd"))
    assert model.tap_widths == (12, 32, 32, 12)
    loaded = again(model, s2.load(path), x, y, tmp_path / "a")
    assert loaded.backbone.grid == 2
    backwards = s2.load(path, class_names=tuple("dcba"))
    assert s2.AdaptedModel.load(backwards, tmp_path / "a").backbone.class_names == tuple("dcba")


def test_size_of_onnx(onnx_nets: Any, tmp_path: Path) -> None:
    path = onnx_nets.save(onnx_nets.cnn(size="s"), tmp_path / "m.onnx")
    fixed = onnx_nets.save(onnx_nets.cnn(size=16), tmp_path / "f.onnx")
    x, y = onnx_nets.images(8, 16), np.arange(8) % 4
    free, model = s2.load(path), s2.load(path, size=(16, 16))
    assert free.tap_widths == (3, 8, 8, 12)
    assert model.tap_widths == s2.load(fixed).tap_widths
    for one, other in zip(model.forward(x).taps, s2.load(fixed).forward(x).taps, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert model.fingerprint == free.fingerprint
    assert model.with_taps([0]).size == (16, 16)
    again(model, free, x, y, tmp_path / "a")
    with pytest.raises(s2.DataError, match="16"):
        model.check(onnx_nets.images(2, 20))
    assert s2.load(fixed, size=(16, 16)).tap_widths == model.tap_widths


def test_grid_of_tflite(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")
    import tflite_models as nets

    path = tmp_path / "m.tflite"
    path.write_bytes(nets.cnn().content())
    model = s2.load(path, grid=2)
    x = np.random.default_rng(0).standard_normal((6, 8, 8, 2)).astype(np.float32)
    loaded = again(model, s2.load(path), x, np.arange(6) % 3, tmp_path / "a")
    assert loaded.backbone.grid == 2
    assert s2.load(path).tap_widths != model.tap_widths
    with pytest.raises(ParameterError, match="sizes are fixed"):
        s2.load(path, size=(8, 8))


def test_a_fresh_module_needs_no_example(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the package torch")
    from torch_modules import Convolutions

    module = Convolutions()
    x = np.random.default_rng(0).standard_normal((8, 3, 9, 7)).astype(np.float32)
    model = s2.TorchBackbone(module, grid=2, taps=[0, -1], example=x[:1])
    loaded = again(model, s2.TorchBackbone(module), x, np.arange(8) % 4, tmp_path / "a")
    assert (loaded.backbone.grid, loaded.backbone.tap_widths) == (2, model.tap_widths)
    config = json.loads((tmp_path / "a" / CONFIG_FILE).read_text())
    assert config["inputs"] == [["", [3, 9, 7], "f"]]
    wider = s2.TorchBackbone(module, example=x[:1, :, :, :5])
    assert s2.AdaptedModel.load(wider, tmp_path / "a").backbone.grid == 2


def test_tapping_as_json() -> None:
    shapes = (("ids", (7,), "i"), ("mask", (7,), "b"))
    tapping = Tapping(("a", "b"), 2, (8, 6), shapes)
    assert Tapping.from_json(json.loads(json.dumps(tapping.to_json()))) == tapping
    assert Tapping.from_json({}) == Tapping() == Tapping.of(s2.MLP.create([5, 4, 3]))
    for damaged in ({"grid": "4"}, {"input_size": [8]}, {"inputs": [["x", [1.5], "f"]]}):
        with pytest.raises((TypeError, ValueError)):
            Tapping.from_json(damaged)


@pytest.mark.parametrize(
    ("name", "value"), [("output_names", ["x"]), ("images", {"size": [1, 1]}), ("grid", 3)]
)
def test_files_that_disagree(tmp_path: Path, name: str, value: Any) -> None:
    model = s2.MLP.create([5, 4, 3])
    x = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    s2.adapt(model, x, np.arange(6) % 3, epochs=2).save(tmp_path / "a")
    file = tmp_path / "a" / CONFIG_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))
    with pytest.raises(ModelError, match="disagree"):
        s2.AdaptedModel.load(model, tmp_path / "a")
