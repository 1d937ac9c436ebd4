"""What is found in a graph: its layers in order, of which kind, and where the logits are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")


import numpy as np
from onnx import TensorProto

import onnx_models as nets
from skip2lora.backbones.onnx.backbone import OnnxBackbone
from skip2lora.errors import ModelError

Refused = Callable[..., str]


def test_no_layers_with_weights(tmp_path: Path, refused: Refused) -> None:
    net = nets.Net()
    net.node("Relu", ["x"], "y")
    model = net.model([nets.value("x", ["n", 3])], [nets.value("y", ["n", 3])])
    path = nets.save(model, tmp_path / "m.onnx")
    assert "has no layer with weights" in refused(ModelError, OnnxBackbone.load, path)


LAYERS = {
    "mlp": (nets.mlp, [("/fc0", "vector", 9), ("/fc1", "vector", 16), ("/fc2", "vector", 5)]),
    "cnn": (
        nets.cnn,
        [
            ("/conv0", "map", 48), ("/depthwise", "map", 128), ("/conv1", "map", 128),
            ("/fc", "vector", 12),
        ],
    ),
    "transformer": (  # query, key and value read one tensor
        nets.transformer,
        [
            ("/query", "sequence", 32), ("/output", "sequence", 32), ("/up", "sequence", 32),
            ("/down", "sequence", 64), ("/head", "vector", 16),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, tmp_path: Path) -> None:
    make, expected = LAYERS[name]
    backbone = OnnxBackbone.load(nets.save(make(), tmp_path / "m.onnx"))
    assert [(tap.layer, tap.kind, tap.width) for tap in backbone.layers] == expected
    assert backbone.taps == backbone.layers


def test_logits_with_axes_of_one(tmp_path: Path) -> None:
    """A classifier whose last layer is a convolution, then Softmax, Flatten and ArgMax."""
    net = nets.Net()
    tensor = net.node("Conv", ["x", net.weight("w", 5, 3, 4, 4)], "conv")
    tensor = net.node("Softmax", [tensor], "soft", axis=1)
    tensor = net.node("Flatten", [tensor], "flat")
    tensor = net.node("ArgMax", [tensor], "label", axis=1, keepdims=0)
    model = net.model(
        [nets.value("x", ["n", 3, 4, 4])], [nets.value(tensor, ["n"], TensorProto.INT64)]
    )
    path = nets.save(model, tmp_path / "m.onnx")
    x = nets.images(6, 4)
    backbone = OnnxBackbone.load(path)
    [expected] = nets.raw(path, ["conv"], {"x": x})
    assert backbone.n_outputs == 5
    np.testing.assert_allclose(backbone.logits(x), expected.reshape(6, 5), atol=1e-6)
