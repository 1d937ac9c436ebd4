"""Taps of integers leave the model's layers in integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx

import onnx_models as nets
from skip2lora.backbones.onnx.backbone import OnnxBackbone, prepare


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
