"""Nodes appended to a graph under names of their own, run by the stock runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

from onnx import TensorProto, helper

import onnx_models as nets
from skip2lora.backbones.onnx.builder import Builder
from skip2lora.backbones.onnx.graph import Graph, infer
from skip2lora.backbones.onnx.session import open_session

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
