"""The nodes that turn taps into rows, against NumPy on the tensors themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx

import onnx_models as nets
from onnx_exports import expected_rows
from skip2lora.backbones.onnx.backbone import OnnxBackbone, prepare


@pytest.mark.parametrize("grid", [1, 3, 4])
@pytest.mark.parametrize(("size", "width"), [(7, 8), (33, 8), (48, 8), (48, 16), (64, 24)])
def test_sums_of_bytes_are_averages(size: int, width: int, grid: int, tmp_path: Path) -> None:
    """Small maps and large ones, few channels and many, cells of unequal size."""
    from onnxruntime.quantization import QuantType

    path = nets.save(nets.cnn(size=size, width=width), tmp_path / "m.onnx")
    x = nets.images(9, size)
    path = nets.quantized(path, [{"x": x}], activation_type=QuantType.QUInt8)
    backbone = OnnxBackbone.load(path, grid=grid)
    rows, exact = backbone.forward(x).taps, expected_rows(path, backbone, {"x": x})
    np.testing.assert_allclose(rows[0], exact[0], rtol=1e-5, atol=1e-5)
    for made, right in zip(rows, exact, strict=True):  # the runtime rounds inside of layers
        np.testing.assert_allclose(made, right, atol=0.01 * np.abs(right).max())
    operators = {node.op_type for node in tapped_nodes(path, grid, tmp_path)}
    assert "MatMulIntegerToFloat" in operators


def tapped_nodes(path: Path, grid: int, folder: Path) -> list[Any]:
    prepare(path, folder / "t.onnx", grid=grid)
    nodes = onnx.load(folder / "t.onnx").graph.node
    return [node for node in nodes if node.name.startswith("skip2lora.")]


def test_masked_tokens_do_not_count(tmp_path: Path) -> None:
    backbone = OnnxBackbone.load(nets.save(nets.transformer(), tmp_path / "m.onnx"))
    feed = nets.texts(5, 7)
    padded = {name: np.pad(array, ((0, 0), (0, 4))) for name, array in feed.items()}
    one, other = (backbone.forward(backbone.check(each)) for each in (feed, padded))
    for rows, same in zip(one.taps, other.taps, strict=True):
        np.testing.assert_allclose(rows, same, rtol=1e-4, atol=1e-5)
