"""The nodes that turn taps into rows, against NumPy on the tensors themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx
import pytest
from onnx import TensorProto, helper

import onnx_models as nets
from onnx_exports import expected_rows
from skip2lora.backbones.onnx import OnnxBackbone, prepare
from skip2lora.backbones.onnx.anatomy import Fold, Source
from skip2lora.backbones.onnx.graph import Graph, Read, infer
from skip2lora.backbones.onnx.rows import (
    Builder,
    _unfolded,
    add_logits,
    add_pooled,
    add_tap,
    last_first,
)
from skip2lora.backbones.onnx.session import open_session
from skip2lora.backbones.taps import Tap, rows_of
from skip2lora.export.onnx import rearranged

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")


@pytest.mark.parametrize("grid", [1, 3, 4])
@pytest.mark.parametrize(("size", "width"), [(7, 8), (33, 8), (48, 8), (48, 16), (64, 24)])
def test_sums_of_bytes_are_averages(size: int, width: int, grid: int, tmp_path: Path) -> None:
    """Small maps and large ones, few channels and many, cells of unequal size.

    Weights have 7 bits: of 8, processors without VNNI saturate sums of pairs.
    """
    from onnxruntime.quantization import QuantType

    path = nets.save(nets.cnn(size=size, width=width), tmp_path / "m.onnx")
    x = nets.images(9, size)
    path = nets.quantized(path, [{"x": x}], activation_type=QuantType.QUInt8, reduce_range=True)
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


SOURCES = {
    "vector": Tap("l", "x", "vector", (6,)),
    "map": Tap("l", "x", "map", (3, 6, 4), False, (2, 2)),
    "map, unequal cells": Tap("l", "x", "map", (3, 5, 4), False, (3, 3)),
    "map, blocks of channels": Tap("l", "x", "map", (9, 6, 4), False, (2, 2)),
    "map, blocks, large": Tap("l", "x", "map", (9, 12, 12), False, (3, 4)),
    "map, blocks, unequal cells": Tap("l", "x", "map", (9, 5, 4), False, (3, 3)),
    "map, every place": Tap("l", "x", "map", (3, 2, 2), False, (2, 2)),
    "map, one place": Tap("l", "x", "map", (3, 5, 4), False, (1, 1)),
    "map, one axis": Tap("l", "x", "map", (3, 9), False, (4,)),
    "channels last": Tap("l", "x", "map", (6, 4, 3), True, (2, 2)),
    "channels last, one place": Tap("l", "x", "map", (6, 4, 3), True, (1, 1)),
    "sequence": Tap("l", "x", "sequence", (5, 4)),
    "tokens of any number": Tap("l", "x", "sequence", (None, 4)),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_rows_and_what_an_export_reads_instead(kind: str) -> None:
    """``add_tap`` gives the rows; ``rearranged`` A on the pooled tensor gives rows times A."""
    tap = SOURCES[kind]
    shape = [size or 7 for size in tap.shape]
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    net = nets.Net()
    net.node("Identity", ["x"], "y")
    sizes = ["n", *(size or "t" for size in tap.shape)]
    graph = Graph(net.model([nets.value("x", sizes)], [nets.value("y", sizes)]))
    infer(graph)
    builder, source = Builder(graph), Source(tap, Read("l", "Conv", "x"))
    pooled = add_pooled(builder, source, "pooled")
    names = [add_tap(builder, source, "tap"), pooled.tensor]
    graph.model.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in set(names))
    session = open_session(graph.model.SerializeToString())
    rows, values = session.run(names, {"x": x})
    want = rows_of(tap, x)
    np.testing.assert_allclose(rows, want, rtol=1e-5, atol=1e-6)
    assert values.shape[1:] == pooled.shape
    lora_a = np.random.default_rng(1).normal(size=(2, tap.width)).astype(np.float32)
    made = values.reshape(3, -1) @ rearranged(lora_a, pooled).T
    np.testing.assert_allclose(made, want @ lora_a.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (2, 3)])
@pytest.mark.parametrize("shape", [(3, 6, 4), (8, 6, 4), (8, 20, 30), (16, 20, 30), (9, 21, 30)])
def test_integers_and_what_an_export_reads_instead(
    shape: tuple[int, int, int], grid: tuple[int, int]
) -> None:
    """Few channels and many, small maps and large: sums of bytes and their factor."""
    net = nets.Net()
    net.constant("scale", np.float32(0.05))
    net.constant("zero", np.uint8(120))
    net.node("QuantizeLinear", ["x", "scale", "zero"], "q")
    net.node("DequantizeLinear", ["q", "scale", "zero"], "y")
    graph = Graph(net.model([nets.value("x", ["n", *shape])], [nets.value("y", ["n", *shape])]))
    infer(graph)
    tap = Tap("l", "y", "map", shape, False, grid)
    builder = Builder(graph)
    source = Source(tap, Read("l", "Conv", "y", "scale", "zero", quantised="q"))
    pooled = add_pooled(builder, source, "pooled")
    names = [add_tap(builder, source, "tap"), pooled.tensor, "y"]
    graph.model.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in names[:2])
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    session = open_session(graph.model.SerializeToString())
    rows, values, real = session.run(names, {"x": x})
    want = rows_of(tap, real)
    np.testing.assert_allclose(rows, want, rtol=1e-4, atol=1e-5)
    lora_a = np.random.default_rng(1).normal(size=(2, tap.width)).astype(np.float32)
    made = values.reshape(2, -1) @ rearranged(lora_a, pooled).T
    np.testing.assert_allclose(made, want @ lora_a.T, rtol=1e-4, atol=1e-4)


def test_the_first_tap_is_appended_last() -> None:
    assert last_first("abc") == [(2, "c"), (1, "b"), (0, "a")]


def test_logits_of_another_type_and_shape() -> None:
    net = nets.Net()
    net.node("Cast", ["x"], "half", to=TensorProto.FLOAT16)
    model = net.model(
        [nets.value("x", ["n", 4, 1])], [nets.value("half", ["n", 4, 1], TensorProto.FLOAT16)]
    )
    graph = Graph(model)
    infer(graph)
    logits = add_logits(Builder(graph), "half", "logits")
    model.graph.output.append(helper.make_empty_tensor_value_info(logits))
    x = np.arange(8, dtype=np.float32).reshape(2, 4, 1)
    [made] = open_session(model.SerializeToString()).run([logits], {"x": x})
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, x.reshape(2, 4))


X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def builder_of(kind: int = TensorProto.FLOAT, **options: Any) -> Builder:
    net = nets.Net(**options)
    net.node("Identity", ["x"], "y")
    shape = ["n", 3, 4]
    model = net.model([nets.value("x", shape, kind)], [nets.value("y", shape, kind)])
    graph = Graph(model)
    infer(graph)
    return Builder(graph)


def value_of(builder: Builder, tensor: str, x: np.ndarray = X) -> np.ndarray:
    model = builder.graph.model
    model.graph.output.append(helper.make_empty_tensor_value_info(tensor))
    [value] = open_session(model.SerializeToString()).run([tensor], {"x": x})
    return np.asarray(value)


def test_constants_are_made_once() -> None:
    builder = builder_of()
    name = builder.constant("two", np.array([2], np.float32))
    assert name == "skip2lora.two"
    assert builder.constant("two", np.array([3], np.float32)) == name
    assert [tensor.name for tensor in builder.graph.model.graph.initializer] == [name]
    assert builder.graph.array(name).tolist() == [2]


def test_what_was_made_is_known() -> None:
    builder = builder_of()
    assert builder.made("twice") is None
    made = builder.node("Add", ["x", "x"], "twice")
    assert made == builder.made("twice") == "skip2lora.twice"
    assert builder.node("Neg", [made], "turned", renamed="out") == "out"
    assert builder.graph.model.graph.node[-1].name == "skip2lora.turned"
    np.testing.assert_array_equal(value_of(builder, "out"), -2 * X)


@pytest.mark.parametrize("opset", [11, 17, 18, 21])
def test_mean_in_any_opset(opset: int) -> None:
    builder = builder_of(opset=opset)
    mean = builder.mean("x", [1], "mean")
    np.testing.assert_allclose(value_of(builder, mean), X.mean(axis=1), rtol=1e-6)


def test_reshape_keeps_and_joins() -> None:
    builder = builder_of()
    assert value_of(builder, builder.reshape("x", [0, -1], "flat")).shape == (2, 12)
    builder.reshape("y", [0, -1], "other")
    assert len(builder.graph.model.graph.initializer) == 1  # one shape, one constant


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.INT64, TensorProto.DOUBLE])
def test_as_float(kind: int) -> None:
    builder = builder_of(kind)
    made = builder.as_float("x", "real")
    assert (made == "x") == (kind == TensorProto.FLOAT)
    value = value_of(builder, made, X.astype(helper.tensor_dtype_to_np_dtype(kind)))
    assert value.dtype == np.float32
    np.testing.assert_array_equal(value, X)
    assert builder.as_float("unknown", "cast", like="x").startswith("unknown") == (made == "x")


def test_operators_of_the_runtime_bring_their_domain_once() -> None:
    builder = builder_of()
    gelu = builder.own_node("Gelu", ["x"], "gelu")
    builder.own_node("Gelu", [gelu], "again")
    domains = [each.domain for each in builder.graph.model.opset_import]
    assert domains == ["", "com.microsoft"]
    assert value_of(builder, gelu)[0, 0, 0] == 0


def test_initializers_of_old_files_are_no_inputs() -> None:
    model = nets.mlp()
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(nets.value(tensor.name, list(tensor.dims)))
    Builder(Graph(model))
    assert [value.name for value in model.graph.input] == ["x"]
    assert model.ir_version == 4


@pytest.mark.parametrize(
    ("lead", "trail", "fold"),
    [
        (1, 6, Fold(1, None)), (1, 6, Fold(1, 6)), (6, 1, Fold(None, 1)), (6, 1, Fold(6, 1)),
        (3, 2, Fold(3, None)), (3, 2, Fold(None, 2)), (3, 2, Fold(3, 2)), (2, 3, Fold(None, 3)),
        (2, 3, Fold(2, None)), (1, 1, Fold(1, 1)),
    ],
)  # fmt: skip
def test_samples_come_first_again(lead: int, trail: int, fold: Fold) -> None:
    """Wherever the samples stand among their tokens, and whatever is known of these."""
    builder = builder_of()
    width = 12 // (lead * trail)
    parts = builder.reshape("x", [0, lead, trail, width], "parts")
    folded = builder.node("Transpose", [parts], "turned", perm=[1, 0, 2, 3])
    flat = builder.reshape(folded, [-1, width], "flat")
    x = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    value = value_of(builder, _unfolded(builder, fold, width, flat, "samples_first"), x)
    np.testing.assert_array_equal(value, x.reshape(5, lead * trail, width))
