"""A view of an ONNX graph: constants, makers and readers, and the shapes of its tensors."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

from onnx import TensorProto, numpy_helper

import onnx_models as nets
from skip2lora.backbones.onnx.graph import (
    BATCH,
    Graph,
    infer,
    input_sizes,
    matched,
    opset_of,
    sizes_of,
)
from skip2lora.errors import ModelError


def chain() -> Graph:
    """x -> Shape and Add(x, Cast(half)) -> y; ``other`` is made of constants alone."""
    net = nets.Net()
    half = net.constant("half", np.array([1, 2, 3], np.float16))
    cast = net.node("Cast", [half], "cast", to=TensorProto.FLOAT)
    net.node("Neg", [cast], "other")
    net.node("Shape", ["x"], "shape")
    net.node("Constant", [], "told", value=numpy_helper.from_array(np.array([7], np.int64)))
    net.node("Add", ["x", cast], "y")
    return Graph(net.model([nets.value("x", ["n", 3])], [nets.value("y", ["n", 3])]))


def test_constants_are_what_no_input_reaches() -> None:
    graph = chain()
    assert graph.constants == {"half", "cast", "other", "told"}
    assert [node.output[0] for node in graph.readers["cast"]] == ["other", "y"]
    assert graph.producer["y"].op_type == "Add"
    assert graph.title(graph.producer["y"]) == "/y"
    assert [value.name for value in graph.inputs] == ["x"]


def test_values_of_constants() -> None:
    graph = chain()
    assert graph.array("half").tolist() == [1, 2, 3]
    assert graph.array("told").tolist() == [7]
    assert graph.array("cast") is None  # computed
    assert graph.array("x") is None
    graph.add_initializer(numpy_helper.from_array(np.array([5]), "new"))
    assert graph.array("new").tolist() == [5]
    assert "new" in graph.constants


def test_ancestors_stop_where_values_do_not_count() -> None:
    assert chain().ancestors("y") == {"y", "x", "cast", "half"}
    assert chain().ancestors("shape") == {"shape"}


def test_types_are_known_of_constants_and_after_inference() -> None:
    graph = chain()
    assert graph.type_of("half") == TensorProto.FLOAT16
    assert graph.type_of("y") is None
    infer(graph)
    assert graph.type_of("y") == TensorProto.FLOAT
    assert graph.type_of("shape") == TensorProto.INT64


def test_the_axis_of_the_samples_has_one_name() -> None:
    """Whatever the file calls it, and whatever the file says of inner shapes."""
    model = nets.mlp(batch="whatever")
    model.graph.value_info.append(nets.value("fc0", ["another", 16]))
    shapes = infer(Graph(model))
    assert shapes["x"] == (BATCH, 9)
    assert shapes["fc0"] == (BATCH, 16)
    assert shapes["fc2"] == (BATCH, 3)
    assert infer(Graph(nets.mlp(batch=4)))["fc2"] == (4, 3)


def test_open_sizes_have_names() -> None:
    model = nets.cnn(size="s")
    model.graph.input[0].type.tensor_type.shape.dim[3].ClearField("dim_param")
    shapes = infer(Graph(model))
    assert shapes["x"] == (BATCH, 3, "s", "x.3")
    assert input_sizes(shapes, ["x"]) == ["s", "x.3"]
    assert input_sizes(shapes, ["none"]) == []


def test_large_weights_are_not_read_and_stay() -> None:
    model = nets.mlp([9, 5000, 3])
    before = model.SerializeToString()
    assert infer(Graph(model))["fc1"] == (BATCH, 3)
    assert model.SerializeToString() == before


def test_what_inference_refuses() -> None:
    model = nets.mlp()
    del model.opset_import[:]
    with pytest.raises(ModelError, match="the shapes of the model do not fit together"):
        infer(Graph(model))


def test_sizes_that_a_value_tells() -> None:
    assert sizes_of(nets.value("x", ["n", None, 3])) == ("n", None, 3)
    assert sizes_of(nets.value("x", [])) == ()
    assert sizes_of(nets.value("x", None)) is None
    assert opset_of(nets.mlp(opset=11)) == 11


def test_sizes_of_two_runs_are_matched() -> None:
    sizes = ({"n": 2, "t": 12}, {"n": 3, "t": 20})
    assert matched((2, 12, 5), (3, 20, 5), sizes) == ("n", "t", 5)
    assert matched((24,), (60,), sizes) == (None,)
    assert matched((12, 2), (12, 2), sizes) == (12, 2)  # as large as others were at first
