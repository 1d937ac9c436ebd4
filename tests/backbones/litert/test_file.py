"""What a ``.tflite`` file says: layers, outputs and inputs, and which graphs are refused."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from skip2lora.errors import ModelError

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra litert)")


from ai_edge_litert import schema_py_generated as schema

from skip2lora.backbones.litert import file as tflite
from tflite_models import File, Load, cnn, of_tensor, repacked

Refused = Callable[..., str]


def test_an_input_of_no_values(load: Load, refused: Refused) -> None:
    content = repacked(cnn().content(), of_tensor(0, 0, 3))
    assert "(an input has no values)" in refused(ModelError, load, content)


@pytest.mark.parametrize(("kept_inputs", "kept_outputs"), [(0, 1), (1, 1), (3, 0)])
def test_a_layer_of_too_few_tensors(
    kept_inputs: int, kept_outputs: int, load: Load, refused: Refused
) -> None:
    def change(graph: Any) -> None:
        layer = graph.operators[4]
        layer.inputs = list(layer.inputs)[:kept_inputs]
        layer.outputs = list(layer.outputs)[:kept_outputs]

    said = refused(ModelError, load, repacked(cnn().content(), change))
    assert "(FULLY_CONNECTED has too few tensors)" in said


def test_several_graphs(load: Load, refused: Refused) -> None:
    file = File()
    x, y = file.tensor("x", (1, 3)), file.tensor("y", (1, 3))
    file.operator("TANH", [x], [y])
    file.model.subgraphs.append(file.graph)
    assert "has 2 graphs, expected one" in refused(ModelError, load, file.pack([x], [y]))


@pytest.mark.parametrize(
    ("dtype", "shape", "signature", "said"),
    [
        ("float32", (1, 1), (-1, -1), 'input "x" has sizes that may change'),
        ("string", (1, 1), None, 'input "x" has type string, expected numbers'),
    ],
)
def test_inputs_that_cannot_be_given(
    dtype: str, shape: Any, signature: Any, said: str, load: Load, refused: Refused
) -> None:
    file = File()
    x, y = file.tensor("x", shape, dtype, signature=signature), file.tensor("y", (1, 1))
    file.operator("CAST", [x], [y])
    assert said in refused(ModelError, load, file.pack([x], [y]))


def test_a_padded_layer_is_tapped_before_its_padding(load: Load) -> None:
    """Taps of what the runtime pads inside of a convolution would take the two apart."""
    file, random = File(), np.random.default_rng(0)
    x, padded, y = (
        file.tensor(n, (1, s, s, c)) for n, s, c in (("x", 4, 3), ("p", 6, 3), ("y", 4, 2))
    )
    z, out = file.tensor("z", (1, 32)), file.tensor("out", (1, 2))
    around = file.constant("around", np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    kernel = file.constant("k", random.normal(size=(2, 3, 3, 3)).astype(np.float32))
    weight = file.constant("w", random.normal(size=(2, 32)).astype(np.float32))
    zeros = file.constant("b", np.zeros(2, np.float32))
    file.operator("PAD", [x, around], [padded])
    file.operator("CONV_2D", [padded, kernel, zeros], [y], padding=1, strideH=1, strideW=1)
    shape = file.constant("shape", np.array([1, 32], np.int32))
    file.operator("RESHAPE", [y, shape], [z])
    file.operator("FULLY_CONNECTED", [z, weight, zeros], [out])
    model = load(file.pack([x], [out]))
    assert [tap.tensor for tap in model.taps] == ["x", "z"]
    samples = random.normal(size=(3, 4, 4, 3)).astype(np.float32)
    made = model.forward(samples)
    np.testing.assert_array_equal(made.taps[0], samples.transpose(0, 3, 1, 2).reshape(3, -1))


def test_only_the_last_activation_is_left_out(load: Load) -> None:
    file = File()
    x, y, z, p = (file.tensor(name, (1, 2)) for name in "xyzp")
    weight = file.constant("w", np.eye(2, dtype=np.float32))
    bias = file.constant("b", np.zeros(2, np.float32))
    file.operator("FULLY_CONNECTED", [x, weight, bias], [y])
    file.operator("LOGISTIC", [y], [z])
    file.operator("SOFTMAX", [z], [p], beta=1.0)
    model = load(file.pack([x], [p]))
    assert model.task == "classification"
    np.testing.assert_allclose(model.logits([[0, 50]]), [[0.5, 1]], rtol=1e-6)


def test_constant_behind_an_operator(load: Load) -> None:
    """Weights stored as float16 reach the layer through DEQUANTIZE."""
    file = File()
    x, w, y = file.tensor("x", (1, 3)), file.tensor("w", (2, 3)), file.tensor("y", (1, 2))
    half = file.constant("half", np.array([[1, 2, 3], [4, 5, 6]], np.float16))
    bias = file.constant("b", np.zeros(2, np.float32))
    file.operator("DEQUANTIZE", [half], [w])
    file.operator("FULLY_CONNECTED", [x, w, bias], [y])
    model = load(file.pack([x], [y]))
    assert [tap.tensor for tap in model.taps] == ["x"]
    assert model.logits([[1, 0, 1]]).tolist() == [[4, 10]]


def test_the_last_layer_is_among_the_taps(load: Load) -> None:
    """Even where it reads a tensor that an earlier layer reads as well."""
    file = File()
    x, q, r, s, y = (file.tensor(name, (1, 2)) for name in "xqrsy")
    bias = file.constant("b", np.zeros(2, np.float32))
    weight = file.constant("w", np.eye(2, dtype=np.float32))
    file.operator("FULLY_CONNECTED", [x, weight, bias], [q])
    file.operator("FULLY_CONNECTED", [q, weight, bias], [r])
    file.operator("FULLY_CONNECTED", [x, weight, bias], [s])
    file.operator("ADD", [r, s], [y])
    content = file.pack([x], [y])
    assert [tap.tensor for tap in load(content).taps] == ["q", "x"]
    assert [tap.tensor for tap in load(content, taps=1).taps] == ["x"]


def test_with_outputs_keeps_every_byte() -> None:
    """Only the offset of the outputs changes; a file of any length can be appended to."""
    content = cnn().content() + b"zip"
    graph = tflite.parse(content, "it")
    made = graph.with_outputs([1, 2])
    differing = [at for at, byte in enumerate(content) if made[at] != byte]
    assert 0 < len(differing) <= 4
    assert (len(made) - 4 * 4) % 4 == 0  # a length and three numbers, where they may be read
    root = schema.Model.GetRootAs(made).Subgraphs(0)
    assert root.OutputsAsNumpy().tolist() == [graph.operators[-1].outputs[0], 1, 2]


def test_what_a_file_says() -> None:
    graph = tflite.parse(cnn(integers="int8").content(), "it")
    [given], [output] = graph.inputs, graph.outputs
    assert (given.name, given.dtype, given.shape) == ("input", "int8", (1, 8, 8, 2))
    assert given.scale > 0
    assert (given.sample_shape, given.n_bytes) == ((8, 8, 2), 128)
    assert (output.name, output.end.ending, output.end.factor) == ("probabilities", "softmax", 1.0)
    layers = graph.layers(output)
    assert [(layer.name, layer.operator) for layer in layers] == [
        ("layer0", "CONV_2D"), ("layer1", "DEPTHWISE_CONV_2D"), ("layer4", "FULLY_CONNECTED"),
    ]  # fmt: skip
    assert [layer.input.name for layer in layers] == ["input", "layer0", "layer3"]


def test_names_of_layers_are_their_own() -> None:
    """A name of fused layers lists them all; two of one name are told apart."""
    file = File()
    x, y, z = (file.tensor(name, (1, 2)) for name in ("x", "dense;relu;more", "dense"))
    weight = file.constant("w", np.eye(2, dtype=np.float32))
    bias = file.constant("b", np.zeros(2, np.float32))
    file.operator("FULLY_CONNECTED", [x, weight, bias], [y])
    file.operator("FULLY_CONNECTED", [y, weight, bias], [z])
    graph = tflite.parse(file.pack([x], [z]), "it")
    assert [layer.name for layer in graph.layers(graph.outputs[0])] == ["dense", "dense_"]


def test_shapes_to_be_found_by_running() -> None:
    file = File()
    x, y, z = file.tensor("x", (1, 2)), file.tensor("y", (1, 1), signature=(-1, -1)), 0
    z = file.tensor("z", (1, 2))
    weight = file.constant("w", np.eye(2, dtype=np.float32))
    bias = file.constant("b", np.zeros(2, np.float32))
    file.operator("TANH", [x], [y])
    file.operator("FULLY_CONNECTED", [y, weight, bias], [z])
    graph = tflite.parse(file.pack([x], [z]), "it")
    assert graph.without_shape() == (y,)
    assert (graph.tensors[y].shape, graph.tensors[y].n_bytes) == (None, 0)
    known = graph.with_shapes({y: np.array([1, 2])})
    assert known.without_shape() == ()
    assert known.layers(known.outputs[0])[0].input.shape == (1, 2)


def test_no_file_of_this_kind() -> None:
    with pytest.raises(ModelError, match=r"is no \.tflite model, expected TFL3 at byte 4"):
        tflite.parse(b"PK" + bytes(100), "it")


@pytest.mark.parametrize(
    ("name", "data", "weights"),
    [
        ("FULLY_CONNECTED", 0, 1), ("CONV_2D", 0, 1), ("DEPTHWISE_CONV_2D", 0, 1),
        ("TRANSPOSE_CONV", 2, 1), ("BATCH_MATMUL", 0, 1), ("BATCH_MATMUL", 1, 0),
    ],
)  # fmt: skip
def test_a_layer_is_known_by_its_weights_alone(name: str, data: int, weights: int) -> None:
    """Whatever else it reads, such as no bias, or one that is computed."""
    graph: Any = SimpleNamespace(constants={10 + weights})
    operator = tflite.Operator(name, (10, 11, 12), (20,))
    assert tflite.Graph.data_input(graph, operator) == 10 + data
    graph.constants = {13}
    assert tflite.Graph.data_input(graph, operator) is None


@pytest.mark.parametrize(
    ("scales", "points", "known"),
    [
        ([0.5], [3], (0.5, 3)),
        ([0.5], [-128], (0.5, -128)),
        ([0.5], [], (0.5, 0)),
        ([0.5], None, (0.5, 0)),
        ([], [3], (0.0, 0)),
        (None, None, (0.0, 0)),
        ([0.5, 0.25], [3, 4], (0.0, 0)),  # one a channel
    ],
)
def test_what_integers_are_meant_as(scales: Any, points: Any, known: tuple[float, int]) -> None:
    file = File()
    file.tensor("x", (1, 2), "int8")
    tensor = file.graph.tensors[0]
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = scales, points
    said = tflite._tensor(0, tensor, True)
    assert (said.scale, said.zero_point) == known
    tensor.quantization = None
    assert tflite._tensor(0, tensor, True).scale == 0.0


@pytest.mark.parametrize("fused", [0, 1, 3])
def test_a_layer_with_a_fused_activation_says_so(fused: int) -> None:
    """Without options it has none."""
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0, 1, 2], [3]
    assert not tflite._operator("FULLY_CONNECTED", operator).activated
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    operator.builtinOptions.fusedActivationFunction = fused
    assert tflite._operator("FULLY_CONNECTED", operator).activated == (fused > 0)
