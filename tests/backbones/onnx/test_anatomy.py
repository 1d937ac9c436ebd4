"""What is found in a graph: its layers in order, of which kind, and where the logits are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")


import numpy as np
from onnx import TensorProto

import onnx_models as nets
from skip2lora.backbones.onnx.anatomy import Anatomy, anatomy
from skip2lora.backbones.onnx.backbone import OnnxBackbone
from skip2lora.backbones.onnx.graph import Graph
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


def found(model: Any, *, grid: int = 4) -> Anatomy:
    return anatomy(Graph(model), Path("m.onnx"), grid=grid)


def test_where_the_samples_are() -> None:
    """Tokens that lie one after another, or come first, are told from samples."""
    folded = {source.tap.layer: source for source in found(nets.transformer(folded=True)).sources}
    assert (folded["/query"].steps, folded["/up"].steps) == ("", "fold")
    assert folded["/up"].tap.shape == (None, 16)
    assert {source.mask for source in folded.values()} == {"attention_mask", None}
    assert folded["/head"].mask is None
    net = nets.Net()
    net.node("Transpose", ["x"], "turned", perm=[1, 0, 2])
    net.node("MatMul", ["turned", net.weight("w", 4, 2)], "y")
    model = net.model([nets.value("x", ["n", 5, 4])], [nets.value("y", [5, "n", 2])])
    [source] = [each for each in found(model).sources if each.tap.layer == "/y"]
    assert (source.steps, source.tap.shape) == ("swap", (5, 4))


def test_a_mask_counts_for_as_many_tokens_alone() -> None:
    net = nets.Net()
    net.node("MatMul", ["short", net.weight("v", 4, 4)], "one")
    net.node("MatMul", ["long", net.weight("w", 4, 4)], "other")
    names = {"short": ["n", 5, 4], "long": ["n", "t", 4], "token_mask": ["n", "t"]}
    inputs = [nets.value(name, shape) for name, shape in names.items()]
    outputs = [nets.value("one", ["n", 5, 4]), nets.value("other", ["n", "t", 4])]
    masks = {source.tap.tensor: source.mask for source in found(net.model(inputs, outputs)).sources}
    assert masks == {"short": None, "long": "token_mask", "one": None}


def test_maps_of_changing_size_are_averaged_over_all_places() -> None:
    kept = [source.tap.grid for source in found(nets.cnn(size="s"), grid=3).sources]
    assert kept == [(1, 1), (1, 1), (1, 1), ()]
    kept = [source.tap.grid for source in found(nets.cnn(), grid=3).sources]
    assert kept == [(3, 3), (3, 3), (3, 3), ()]


def test_an_output_with_an_activation_has_the_logits() -> None:
    net = nets.Net()
    net.node("MatMul", ["x", net.weight("v", 4, 2)], "features")
    net.node("MatMul", ["x", net.weight("w", 4, 3)], "scores")
    net.node("Softmax", ["scores"], "soft")
    outputs = [nets.value("features", ["n", 2]), nets.value("soft", ["n", 3])]
    made = found(net.model([nets.value("x", ["n", 4])], outputs))
    assert made.head is not None
    assert (made.head.logits, made.n_outputs, made.logits_shape) == ("scores", 3, (3,))


def test_a_model_without_logits_is_tapped_at_its_output() -> None:
    made = found(nets.transformer(encoder=True))
    assert (made.head, made.n_outputs, made.logits_shape) == (None, 0, ())
    assert made.sources[-1].tap.tensor == "block"


def test_inputs_without_shape() -> None:
    model = nets.mlp()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ModelError, match="an input has no shape or no axis of samples"):
        found(model)
