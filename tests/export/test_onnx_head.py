"""Where adapters meet the end of a graph: weights that take a change, nodes in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx

import onnx_models as nets
from skip2lora.backbones.onnx.anatomy import anatomy
from skip2lora.backbones.onnx.graph import Graph
from skip2lora.backbones.onnx.rows import Builder
from skip2lora.backbones.onnx.session import open_session
from skip2lora.export.onnx_head import drop_narrow, fold_last, plug_logits, sort_nodes

X = np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32)
CHANGE = np.random.default_rng(1).normal(size=(5, 3))


def linear(*, turned: bool = False, apart: bool = False, shared: bool = False) -> Any:
    """x -> 5 -> 3 logits: weights as they are, ``turned``, with the bias apart, or used twice."""
    net = nets.Net()
    hidden = net.node("MatMul", ["x", net.weight("v", 9, 5)], "hidden")
    bias = net.vector("b", 3)
    if apart:
        product = net.node("MatMul", [hidden, net.weight("w", 5, 3)], "product")
        net.node("Add", [product, bias], "logits")
    else:
        weight = net.weight("w", *((3, 5) if turned else (5, 3)))
        net.node("Gemm", [hidden, weight, bias], "logits", transB=int(turned))
    outputs = [nets.value("logits", ["n", 3])]
    if shared:
        net.node("Neg", ["w"], "again")
        outputs.append(nets.value("again", [5, 3]))
    return net.model([nets.value("x", ["n", 9])], outputs)


def ended(case: str) -> Any:
    """x -> 5 -> 3 logits, MatMul and Add, of which ``case`` makes what a change would show in."""
    net = nets.Net()
    hidden = net.node("MatMul", ["x", net.weight("v", 9, 5)], "hidden")
    weight, bias = net.weight("w", 5, 3), net.vector("b", 3)
    outputs, inputs = [nets.value("logits", ["n", 3])], [nets.value("x", ["n", 9])]
    if case == "alpha":
        net.node("Gemm", [hidden, weight, bias], "logits", alpha=2.0)
        return net.model(inputs, outputs)
    product = net.node("MatMul", [hidden, weight], "product")
    net.node("Add", [product, bias], "logits")
    if case == "product read twice":
        net.node("Neg", [product], "negated")
        outputs.append(nets.value("negated", ["n", 3]))
    if case == "product is an output":
        outputs.append(nets.value("product", ["n", 3]))
    if case == "weight is an input":
        inputs.append(nets.value("w", [5, 3]))
    return net.model(inputs, outputs)


def run(model: Any, *names: str) -> list[np.ndarray]:
    made: list[np.ndarray] = open_session(model.SerializeToString()).run(list(names), {"x": X})
    return made


@pytest.mark.parametrize("options", [{}, {"turned": True}, {"apart": True}], ids=str)
def test_the_last_weights_take_the_change(options: dict[str, bool]) -> None:
    model = linear(**options)
    [before] = run(model, "logits")
    graph = Graph(model)
    found = anatomy(graph, Path("m.onnx"), grid=4)
    assert found.head is not None
    assert fold_last(graph, found.head, found.sources[-1], CHANGE)
    weight = onnx.numpy_helper.to_array(Graph(linear()).initializers["v"])
    [after] = run(model, "logits")
    np.testing.assert_allclose(after, before + X @ weight @ CHANGE, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", ["shared", "another tap", "another shape"])
def test_weights_that_cannot_take_it_stay(case: str) -> None:
    model = linear(shared=case == "shared")
    before = model.SerializeToString()
    graph = Graph(model)
    found = anatomy(graph, Path("m.onnx"), grid=4)
    source = found.sources[0 if case == "another tap" else -1]
    change = CHANGE[:, :2] if case == "another shape" else CHANGE
    assert found.head is not None
    assert not fold_last(graph, found.head, source, change)
    assert model.SerializeToString() == before


@pytest.mark.parametrize(
    ("case", "folds"),
    [
        ("plain", True),
        ("alpha", False),
        ("product read twice", False),
        ("product is an output", False),
        ("weight is an input", False),
    ],
)
def test_weights_stay_where_a_change_would_show_elsewhere(case: str, folds: bool) -> None:
    model = ended(case)
    before = model.SerializeToString()
    graph = Graph(model)
    found = anatomy(graph, Path("m.onnx"), grid=4)
    assert found.head is not None
    assert fold_last(graph, found.head, found.sources[-1], CHANGE) == folds
    assert (model.SerializeToString() == before) == (not folds)


@pytest.mark.parametrize("opset", [9, 11, 17])
@pytest.mark.parametrize("extra", [0, 2])
def test_what_is_added_comes_before_the_activation(extra: int, opset: int) -> None:
    model = nets.mlp(end="Softmax", opset=opset)
    [logits] = nets_logits(model)
    graph = Graph(model)
    found = anatomy(graph, Path("m.onnx"), grid=4)
    builder = Builder(graph, "own.")
    added = np.random.default_rng(2).normal(size=(4, 3 + extra)).astype(np.float32)
    plug_logits(builder, found, builder.constant("added", added), 3 + extra)
    onnx.checker.check_model(model)
    [made] = run(model, "activated")
    powers = np.exp(np.pad(logits, ((0, 0), (0, extra))) + added)
    np.testing.assert_allclose(made, powers / powers.sum(axis=1, keepdims=True), rtol=1e-4)


def nets_logits(model: Any) -> list[np.ndarray]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(onnx.helper.make_empty_tensor_value_info("fc2"))
    return run(copy, "fc2")


@pytest.mark.parametrize("beside", [False, True])
def test_what_cannot_tell_more_classes_is_taken_out(beside: bool) -> None:
    net = nets.Net()
    net.node("MatMul", ["x", net.weight("w", 9, 3)], "logits")
    net.node("Softmax", ["logits"], "soft", axis=1)
    net.node("Reshape", ["soft", net.constant("to", np.array([-1, 3], np.int64))], "y")
    outputs = [nets.value("y", ["n", 3]), *([nets.value("soft", ["n", 3])] if beside else [])]
    graph = Graph(net.model([nets.value("x", ["n", 9])], outputs))
    assert drop_narrow(graph, anatomy(graph, Path("m.onnx"), grid=4, output="y")) is not beside
    assert [value.name for value in graph.model.graph.output] == ["soft"] * beside


def test_nodes_are_sorted_and_otherwise_as_they_were() -> None:
    model = nets.mlp()
    names = [node.name for node in model.graph.node]
    sort_nodes(model)
    assert [node.name for node in model.graph.node] == names
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    sort_nodes(model)
    assert [node.name for node in model.graph.node] == names
