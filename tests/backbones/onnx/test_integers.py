"""Taps of integers leave the model's layers in integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

from typing import Any

import onnx
from onnx import TensorProto

import onnx_models as nets
from skip2lora.backbones.onnx import OnnxBackbone, prepare
from skip2lora.backbones.onnx.graph import Graph
from skip2lora.backbones.onnx.integers import make_unsigned
from skip2lora.backbones.onnx.session import open_session


def float_layers(model: bytes, folder: Path) -> int:
    """Convolutions that onnxruntime runs in floats after its own rewriting."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(model, options)
    nodes = onnx.load(folder / "optimised.onnx").graph.node
    return sum(node.op_type in ("Conv", "FusedConv") for node in nodes)


@pytest.mark.parametrize("kind", ["QInt8", "QUInt8"])
def test_taps_leave_int8_layers_in_integers(kind: str, tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType

    path = nets.save(nets.cnn(), tmp_path / "m.onnx")
    kinds = getattr(QuantType, kind)
    path = nets.quantized(path, [{"x": nets.images(9)}], activation_type=kinds)
    prepare(path, tmp_path / "t.onnx")
    base, tapped = (float_layers(p.read_bytes(), tmp_path) for p in (path, tmp_path / "t.onnx"))
    assert tapped <= base
    x = nets.images(7)
    [same], [exact] = (
        nets.raw(p, ["probabilities"], {"x": x}) for p in (tmp_path / "t.onnx", path)
    )
    np.testing.assert_allclose(same, exact, atol=1e-6)
    plain, backbone = OnnxBackbone.load(path), OnnxBackbone.load(tmp_path / "t.onnx")
    assert backbone.fingerprint == plain.fingerprint
    again = backbone.with_taps(["/conv1"], grid=1)  # taps are added anew
    assert again.fingerprint == plain.fingerprint
    for one, other in zip(
        again.forward(x).taps, plain.with_taps(["/conv1"], grid=1).forward(x).taps, strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


THREE = np.int8(3)


def quantised(*, zero: Any = THREE, other: Any = None, output: bool = False) -> Graph:
    """x -> QuantizeLinear -> q -> two DequantizeLinear; ``other`` is the second's zero point."""
    net = nets.Net()
    scale = net.constant("scale", np.float32(0.5))
    net.constant("zero", np.asarray(zero))
    net.constant("other", np.asarray(zero if other is None else other))
    net.node("QuantizeLinear", ["x", scale, "zero"], "q")
    net.node("DequantizeLinear", ["q", scale, "zero"], "y")
    net.node("DequantizeLinear", ["q", scale, "other"], "z")
    outputs = [nets.value("y", ["n", 4]), nets.value("z", ["n", 4])]
    if output:
        outputs.append(nets.value("q", ["n", 4], TensorProto.INT8))
    model = net.model([nets.value("x", ["n", 4])], outputs)
    if not output:
        model.graph.value_info.append(nets.value("q", ["n", 4], TensorProto.INT8))
    return Graph(model)


def test_unsigned_integers_mean_the_same_numbers() -> None:
    graph = quantised()
    x = {"x": np.linspace(-80, 80, 8, dtype=np.float32).reshape(2, 4)}
    before = open_session(graph.model.SerializeToString()).run(["y", "z"], x)
    name = make_unsigned(graph, "q")
    assert name == "q_unsigned"
    assert graph.array(name) == 131
    assert graph.array(name).dtype == np.uint8
    onnx.checker.check_model(graph.model)
    after = open_session(graph.model.SerializeToString()).run(["y", "z"], x)
    np.testing.assert_array_equal(before, after)
    assert make_unsigned(graph, "q") is None  # it is now


@pytest.mark.parametrize(
    "options",
    [{"zero": np.uint8(3)}, {"other": np.int8(4)}, {"output": True}],
    ids=["unsigned", "another zero point", "an output"],
)
def test_other_integers_are_left_alone(options: dict[str, Any]) -> None:
    graph = quantised(**options)
    before = graph.model.SerializeToString()
    assert make_unsigned(graph, "q") is None
    assert make_unsigned(graph, "x") is None
    assert graph.model.SerializeToString() == before
