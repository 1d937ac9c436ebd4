"""A view of an ONNX graph: constants, makers and readers, and the shapes of its tensors."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import pytest
from onnx import helper

from skip2lora.backbones.onnx.backbone import OnnxBackbone

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx

import skip2lora as s2
from onnx_exports import expected, random_adapters, session_of
from skip2lora.backbones.onnx.graph import CONVOLUTIONS, OPERATORS, Operands, weight_layers
from skip2lora.backbones.onnx.preparing import prepare
from skip2lora.export.onnx import export_onnx


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
    assert graph.types["half"] == TensorProto.FLOAT16
    assert "y" not in graph.types
    infer(graph)
    assert graph.types["y"] == TensorProto.FLOAT
    assert graph.types["shape"] == TensorProto.INT64


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


Refused = Callable[..., str]


def test_control_flow(tmp_path: Path, refused: Refused) -> None:
    net = nets.Net()
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["out"])], "b", [], [nets.value("out", None)]
    )
    net.node("Cast", [net.node("ReduceSum", ["x"], "sum", keepdims=0)], "yes", to=9)  # a truth
    net.node("If", ["yes"], "chosen", then_branch=branch, else_branch=branch)
    net.node("MatMul", ["chosen", net.weight("w", 3, 2)], "y")
    model = net.model([nets.value("x", ["n", 3])], [nets.value("y", ["n", 2])])
    path = nets.save(model, tmp_path / "m.onnx")
    message = refused(ModelError, OnnxBackbone.load, path)
    assert "node /chosen (If) is a branch" in message


def test_state(tmp_path: Path, refused: Refused) -> None:
    def recurrent(start: str) -> Any:
        net = nets.Net()
        net.constant("zeros", np.zeros((1, 1, 4), np.float32))
        weights = [net.weight("W", 1, 12, 3), net.weight("R", 1, 12, 4)]
        net.nodes.append(
            helper.make_node(
                "GRU", ["x", *weights, "", "", start], ["", "h"], name="/gru", hidden_size=4
            )
        )
        net.node("Reshape", ["h", net.constant("s", np.array([1, 4], np.int64))], "row")
        net.node("MatMul", ["row", net.weight("w", 4, 2)], "y")
        inputs = [nets.value("x", [1, 1, 3])]
        if start == "state":
            inputs.append(nets.value("state", [1, 1, 4]))
        return net.model(inputs, [nets.value("y", [1, 2])])

    path = nets.save(recurrent("state"), tmp_path / "m.onnx")
    message = refused(ModelError, OnnxBackbone.load, path)
    assert "node /gru (GRU) takes its state from input state" in message
    fixed = OnnxBackbone.load(nets.save(recurrent("zeros"), tmp_path / "f.onnx"))
    assert fixed.tap_widths == (6, 4)  # its sequence of one token, and the last layer's


@pytest.mark.parametrize("kind", ["RandomNormalLike", "Bernoulli", "Dropout"])
def test_chance(kind: str, tmp_path: Path, refused: Refused) -> None:
    def chance(*, training: bool) -> Any:
        net = nets.Net()
        others = []
        if kind == "Dropout":
            others = [
                net.constant("ratio", np.float32(0.5)),
                net.constant("training", np.array(training)),
            ]
        tensor = net.node(kind, ["x", *others], "noise")
        net.node("MatMul", [tensor, net.weight("w", 3, 2)], "y")
        return net.model([nets.value("x", ["n", 3])], [nets.value("y", ["n", 2])])

    path = nets.save(chance(training=True), tmp_path / "m.onnx")
    assert f"node /noise ({kind}) is random" in refused(ModelError, OnnxBackbone.load, path)
    if kind == "Dropout":
        OnnxBackbone.load(nets.save(chance(training=False), tmp_path / "m.onnx"))


WIDTH, HIDDEN = 5, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(
    kind: str, *, batch: Any = "n", tokens: Any = "t", both: bool = False, first: str = ""
) -> Any:
    """(samples, tokens, 5) through two recurrent layers; the last state to a layer of 3 classes.

    ``first`` is where the second layer's state comes from: nowhere, or the first one's.
    """
    net = nets.Net()
    ways = 2 if both else 1
    direction = {"direction": "bidirectional"} if both else {}

    def layer(tensor: str, name: str, width: int, state: str = "") -> tuple[str, str]:
        rows = GATES[kind] * HIDDEN
        weights = [
            net.weight(f"{name}.w", ways, rows, width),
            net.weight(f"{name}.r", ways, rows, HIDDEN),
        ]
        states = ["", "", state] if state else []
        made = [f"{name}.y", f"{name}.h"]
        net.nodes.append(
            helper.make_node(
                kind, [tensor, *weights, *states], made, name=f"/{name}", hidden_size=HIDDEN,
                **direction,
            )
        )  # fmt: skip
        return made[0], made[1]

    turned = net.node("Transpose", ["x"], "turned", perm=[1, 0, 2])
    each, last = layer(turned, "one", WIDTH)
    each = net.node("Transpose", [each], "each", perm=[0, 2, 1, 3])
    joined = net.constant("joined", np.array([0, 0, ways * HIDDEN], np.int64))
    each = net.node("Reshape", [each, joined], "joined.each")
    _, last = layer(each, "two", ways * HIDDEN, net.node("Tanh", [last], "begin") if first else "")
    last = net.node("Transpose", [last], "last", perm=[1, 0, 2])
    last = net.node("Flatten", [last], "flat")
    net.node("Gemm", [last, net.weight("w", ways * HIDDEN, 3)], "logits")
    return net.model(
        [nets.value("x", [batch, tokens, WIDTH])], [nets.value("logits", [batch, 3])]
    )  # fmt: skip


def samples(n_samples: int = 6, n_tokens: int = 7) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(n_samples, n_tokens, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("both", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("sizes", [("n", "t"), (1, 7), (3, 7), (7, 7), ("n", 7)], ids=str)
@pytest.mark.parametrize("kind", GATES)
def test_recurrent_layers(kind: str, sizes: tuple[Any, Any], both: bool, tmp_path: Path) -> None:
    batch, tokens = sizes
    path = nets.save(recurrent(kind, batch=batch, tokens=tokens, both=both), tmp_path / "m.onnx")
    backbone, x = OnnxBackbone.load(path), samples()
    found = [(tap.layer, tap.kind) for tap in backbone.taps]
    assert found == [("/one", "sequence"), ("/two", "sequence"), ("/logits", "vector")]
    made = backbone.forward(backbone.check(x))
    fed = x if isinstance(batch, str) else np.repeat(x[:1], batch, axis=0)
    [inner] = nets.raw(path, ["joined.each"], {"x": fed})
    np.testing.assert_allclose(
        made.taps[0], np.concatenate([x.mean(axis=1), x[:, 0]], axis=1), rtol=1e-5, atol=1e-6
    )
    first = inner[:, 0]  # the tokens of the first sample
    np.testing.assert_allclose(
        made.taps[1][0], np.concatenate([first.mean(axis=0), first[0]]), rtol=1e-5, atol=1e-6
    )
    adapters = random_adapters(backbone)
    export_onnx(backbone, adapters, tmp_path / "e.onnx")
    want = expected(backbone, adapters, {"x": x})
    if isinstance(batch, str):
        [got] = session_of(tmp_path / "e.onnx").run(None, {"x": x})
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    else:
        [got] = session_of(tmp_path / "e.onnx").run(None, {"x": fed})
        np.testing.assert_allclose(got[0], want[0], rtol=1e-5, atol=1e-5)


def test_a_state_that_the_sample_makes(tmp_path: Path) -> None:
    """The state one layer ends in is the one the next begins with, as in a decoder."""
    path = nets.save(recurrent("GRU", first="one"), tmp_path / "m.onnx")
    backbone, x = OnnxBackbone.load(path), samples(20)
    y = (x[:, -1, 0] > 0).astype(int)
    adapted = s2.adapt(backbone, x, y, epochs=20)
    assert np.isfinite(adapted.logits(x)).all()


def test_einsum(tmp_path: Path, refused: Refused) -> None:
    net = nets.Net()
    tensor = net.node("Einsum", ["x", net.weight("w", 4, 6)], "one", equation="btd,dh->bth")
    tensor = net.node("ReduceMean", [tensor], "mean", axes=[1], keepdims=0)
    net.node("Einsum", [net.weight("v", 6, 3), tensor], "two", equation="hc,bh->bc")
    model = net.model([nets.value("x", ["n", "t", 4])], [nets.value("two", ["n", 3])])
    backbone = OnnxBackbone.load(nets.save(model, tmp_path / "m.onnx"))
    assert [(tap.layer, tap.kind, tap.width) for tap in backbone.taps] == [
        ("/one", "sequence", 8), ("/two", "vector", 6),
    ]  # fmt: skip


def with_a_function() -> Any:
    """The first layer of the network is inside a function of the model."""
    body = [helper.make_node("MatMul", ["a", "b"], ["c"], name="inner")]
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("mine", "Layer", ["a", "b"], ["c"], body, opsets)
    net = nets.Net()
    net.nodes.append(
        helper.make_node("Layer", ["x", net.weight("w", 4, 5)], ["h"], domain="mine", name="/layer")
    )
    net.node("Relu", ["h"], "relu")
    net.node("MatMul", ["relu", net.weight("v", 5, 3)], "logits")
    graph = helper.make_graph(
        net.nodes, "net", [nets.value("x", ["n", 4])], [nets.value("logits", ["n", 3])],
        net.constants,
    )  # fmt: skip
    model = helper.make_model(
        graph, opset_imports=[*opsets, helper.make_opsetid("mine", 1)], functions=[function]
    )
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def test_layers_in_functions(tmp_path: Path) -> None:
    path = nets.save(with_a_function(), tmp_path / "m.onnx")
    backbone = OnnxBackbone.load(path)
    assert backbone.tap_widths == (4, 5)
    prepare(path, tmp_path / "t.onnx")
    assert OnnxBackbone.load(tmp_path / "t.onnx").fingerprint == backbone.fingerprint
    x = {"x": np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)}
    adapters = random_adapters(backbone)
    export_onnx(backbone, adapters, tmp_path / "e.onnx")
    [made] = session_of(tmp_path / "e.onnx").run(None, x)
    np.testing.assert_allclose(made, expected(backbone, adapters, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("equation", ["bi,ij,jk->bk", "bi->b"])
def test_sums_of_other_than_two_are_no_layers(equation: str) -> None:
    """Nobody reads what the second of three weights multiplies."""
    net = nets.Net()
    inputs = ["x", net.weight("w", 4, 6), net.weight("v", 6, 3)]
    net.node("Einsum", inputs[: equation.count(",") + 1], "y", equation=equation)
    output = nets.value("y", ["n", 3] if "k" in equation else ["n"])
    assert weight_layers(Graph(net.model([nets.value("x", ["n", 4])], [output]))) == []


def test_what_a_layer_reads() -> None:
    """Weights on either side of a product, padding before a convolution, one tensor once."""
    net = nets.Net()
    net.node("MatMul", [net.weight("left", 6, 3), "x"], "one")
    pads = net.constant("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    net.node("Pad", ["map", pads], "padded")
    net.node("Conv", ["padded", net.weight("k", 2, 2, 3, 3)], "two")
    net.node("MatMul", ["x", net.weight("right", 5, 4)], "three")
    net.node("MatMul", ["x", "x.turned"], "four")
    net.nodes[-1:-1] = [helper.make_node("Transpose", ["x"], ["x.turned"], perm=[0, 2, 1])]
    inputs = [nets.value("x", ["n", 3, 5]), nets.value("map", ["n", 2, 7, 7])]
    shapes = {"one": [6, 5], "two": [2, 7, 7], "three": [3, 4], "four": [3, 3]}
    outputs = [nets.value(name, ["n", *shape]) for name, shape in shapes.items()]
    reads = weight_layers(Graph(net.model(inputs, outputs)))
    assert [(read.layer, read.tensor, read.places_first) for read in reads] == [
        ("/one", "x", True), ("/two", "map", False),
    ]  # fmt: skip
    assert [read.operator in CONVOLUTIONS for read in reads] == [False, True]


def test_layers_without_a_name_of_their_own() -> None:
    model = nets.mlp()
    model.graph.node[0].name = ""
    for node in model.graph.node[2:]:
        node.name = "same"
    assert [read.layer for read in weight_layers(Graph(model))] == ["fc0", "fc1", "fc2"]


def test_operands_are_where_the_runtime_has_them() -> None:
    """By the names that the schemas of ONNX and of onnxruntime give them."""
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    schemas = {each.name: each for each in runtime.get_all_operator_schema()}
    for name, at in OPERATORS.items():
        if name == "Einsum":  # of which all operands are one
            assert at == Operands(0, 1)
            continue
        inputs = [each.name for each in schemas[name].inputs]
        data, weight = inputs[at.data], inputs[at.weight]
        assert data in ("A", "X", "a", "x", "input"), name
        assert weight in ("B", "W", "b", "w", "weight", "weights"), name
        scales = {f"{data}_scale".lower(), f"{data}_zero_point".lower()}
        places = {at.scale, at.zero} - {None}
        assert {inputs[place].lower() for place in places} <= scales, name
        has_scale = any(each.lower() == f"{data}_scale".lower() for each in inputs)
        assert len(places) == (2 if has_scale else 0), name
        assert at.scale is None or inputs[at.scale].lower() == f"{data}_scale".lower(), name
