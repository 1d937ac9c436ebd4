"""What ``.tflite`` models and their samples are refused for: one line, and never a crash."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.arrays import Inputs
from skip2lora.errors import DataError, FileError, MissingExtraError, ModelError, ParameterError

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra litert)")
import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from skip2lora.backbones.litert import file as tflite
from skip2lora.backbones.litert.backbone import LiteRTBackbone
from tflite_models import File, Load, cnn, loader, mlp

Refused = Callable[..., str]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    return loader(tmp_path)


# --- several inputs and what they take ------------------------------------------------------


def two_inputs() -> bytes:
    file = File()
    left, ids = file.tensor("left:0", (1, 2)), file.tensor("ids", (1, 1), "int32")
    real, both, y = (
        file.tensor(name, shape)
        for name, shape in [("real", (1, 1)), ("both", (1, 3)), ("y", (1, 3))]
    )
    bias = file.constant("b", np.zeros(3, np.float32))
    weight = file.constant("w", np.eye(3, dtype=np.float32))
    file.operator("CAST", [ids], [real])
    file.operator("CONCATENATION", [left, real], [both], axis=1)
    file.operator("FULLY_CONNECTED", [both, weight, bias], [y])
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex, signature.outputs = "run", 0, []
    signature.inputs = [schema.TensorMapT(), schema.TensorMapT()]
    for entry, (name, index) in zip(
        signature.inputs, [("left", left), ("ids", ids)], strict=True
    ):  # fmt: skip
        entry.name, entry.tensorIndex = name, index
    file.model.signatureDefs = [signature]
    return file.pack([left, ids], [y])


def test_several_inputs(load: Load) -> None:
    model = load(two_inputs())
    left, ids = [[1, 2], [3, 4]], [[7.0], [8.0]]
    want = [[1, 2, 7], [3, 4, 8]]
    assert model.logits({"left": left, "ids": ids}).tolist() == want
    assert model.logits({"ids": ids, "left:0": left}).tolist() == want
    assert model.logits([np.array(left), np.array(ids)]).tolist() == want
    checked = model.check({"left": left, "ids": ids})
    assert isinstance(checked, Inputs)
    assert model.logits(checked).tolist() == want
    assert model.forward(checked[1:]).taps[0].tolist() == want[1:]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"left": [[1, 2]]}, "X has no input ids, expected left:0, ids: pass an array for each"),
        (
            {"left": [[1, 2]], "left:0": [[1, 2]]},
            "X has the inputs left, left:0, some of them twice, expected left:0, ids",
        ),
        (
            [[1, 2, 3]],
            "X is list, the model takes 2 inputs: pass a dict of arrays named left:0, ids",
        ),
        (np.zeros((2, 3)), "X is ndarray, the model takes 2 inputs"),
        ({"left": [[1, 2]], "ids": [[1], [2]]}, "numbers of samples (left:0 1, ids 2)"),
        ({"left": [[1, 2]], "ids": [[1.5]]}, "ids has fractions, expected whole numbers (int32)"),
        ({"left": [[1, 2]], "ids": [[2**31]]}, "expected int32, -2147483648 to 2147483647"),
        (
            {"left": [[1, np.nan]], "ids": [[1]]},
            "left:0 has NaN or infinite values, the first in sample 0",
        ),
        (
            {"left": [[1, 2, 3]], "ids": [[1]]},
            "left:0 has shape (1, 3), the model expects (samples, 2)",
        ),
    ],
)
def test_bad_inputs(given: Any, said: str, load: Load, refused: Refused) -> None:
    assert said in refused(DataError, load(two_inputs()).check, given)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros((8, 8, 2)), "an axis is missing, X[None] for one sample"),
        (np.zeros((4, 2, 8, 8)), "channels come last, np.moveaxis(X, 1, -1)"),
        (np.zeros((4, 127)), "pass each sample with all its axes"),
        (np.zeros((4, 9, 9, 2)), "X has shape (4, 9, 9, 2), the model expects (samples, 8, 8, 2)"),
        (np.zeros((0, 8, 8, 2)), "X has no samples, expected at least one"),
        (
            np.zeros((1, 8, 8, 2), complex),
            "X has dtype complex128, expected float32 (samples, 8, 8, 2)",
        ),
        (np.full((2, 8, 8, 2), np.inf), "X has NaN or infinite values, the first in sample 0"),
        ([[1], [1, 2]], "X has samples of different sizes"),
    ],
)
@pytest.mark.parametrize("integers", [None, "int8"])
def test_bad_samples(
    x: Any, said: str, integers: str | None, load: Load, refused: Refused
) -> None:  # fmt: skip
    model = load(cnn(integers=integers).content())
    for call in (model.check, model.predict, model.logits):
        assert said in refused(DataError, call, x)


# --- files that cannot be used --------------------------------------------------------------


def test_truncated_anywhere(load: Load, refused: Refused) -> None:
    content = mlp([9, 16, 5, 3]).content()
    graph = tflite.parse(content, "it")
    assert graph.layers(graph.outputs[0])
    for length in {*range(0, len(content) - 4, 7), len(content) // 2}:
        message = refused(ModelError, load, content[:length])
        assert "model.tflite is" in message
        assert ": c" in message  # check the file, copy it again


def test_damaged_anywhere() -> None:
    """A bit changed: the reader refuses the file or gives a whole graph, and nothing else."""
    content, random = mlp([9, 16, 5, 3]).content(), np.random.default_rng(0)
    refusals = 0
    for _ in range(300):
        other = bytearray(content)
        other[random.integers(8, len(other))] ^= 1 << random.integers(8)
        try:
            graph = tflite.parse(bytes(other), "it")
        except ModelError:
            refusals += 1
            continue
        for output in graph.outputs:
            graph.layers(output)
        tflite.parse(graph.with_outputs([output.logits.index]), "it again")
    assert 20 < refusals < 280


def test_shapes_the_runtime_does_not_make(load: Load, refused: Refused) -> None:
    file = File()
    x, y, z = file.tensor("x", (1, 3)), file.tensor("y", (1, 6)), file.tensor("z", (1, 4))
    weight = file.constant("w", np.ones((2, 3), np.float32))
    bias = file.constant("b", np.zeros(2, np.float32))
    file.operator("TANH", [x], [y])
    file.operator("FULLY_CONNECTED", [y, weight, bias], [z])
    message = refused(ModelError, load, file.pack([x], [z]))
    assert "tensor z has shape (1, 4), LiteRT makes it (1, 2), expected the same" in message


def repacked(content: bytes, change: Callable[[Any], None]) -> bytes:
    """The file with its first graph changed."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    change(model.subgraphs[0])
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def of_operator(number: int, **options: int) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        for name, value in options.items():
            setattr(graph.operators[number].builtinOptions, name, value)

    return change


def of_tensor(number: int, *shape: int) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        graph.tensors[number].shape = list(shape)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # For this one the runtime fills memory for minutes.
        (of_tensor(0, 1, 8, 8323080, 2), "operator 0, CONV_2D, makes (8, 8323080) places of"),
        (of_tensor(0, 1, 8, 9, 2), "makes (8, 9) places of (8, 9), the file says (8, 8)"),
        (of_operator(0, strideH=0), "operator 0, CONV_2D, has strides (0, 1) and dilations (1, 1)"),
        (of_operator(0, dilationWFactor=-3), "has strides (1, 1) and dilations (1, -3)"),
        (of_operator(0, padding=1), "makes (6, 6) places of (8, 8), the file says (8, 8)"),
        (of_operator(1, strideW=3), "operator 1, DEPTHWISE_CONV_2D, makes (4, 3) places of (8, 8)"),
        (of_operator(2, filterHeight=0), "operator 2, AVERAGE_POOL_2D, has a window of (0, 2)"),
        (of_operator(2, strideH=1), "operator 2, AVERAGE_POOL_2D, makes (3, 2) places of (4, 4)"),
        (of_tensor(8, 1, 23), "operator 4, FULLY_CONNECTED, makes [1, 3] of [1, 23] with weights"),
        (of_tensor(10, 1, 4), "operator 4, FULLY_CONNECTED, makes [1, 4] of [1, 24] with weights"),
    ],
)
def test_shapes_that_do_not_fit(
    change: Callable[[Any], None], said: str, load: Load, refused: Refused
) -> None:
    message = refused(ModelError, load, repacked(cnn().content(), change))
    assert "model.tflite is damaged or truncated, expected a whole .tflite file" in message
    assert said in message
    load(repacked(cnn().content(), lambda graph: None))


def test_an_input_of_no_values(load: Load, refused: Refused) -> None:
    content = repacked(one_operator("TANH"), of_tensor(0, 0, 3))
    assert "(an input has no values)" in refused(ModelError, load, content)


def of_changing_size() -> bytes:
    """The first of 4 tokens, and as many more as an input says; the mean of a layer over them."""
    file = File()
    x, more = file.tensor("x", (1, 4, 3)), file.tensor("more", (3,), "int32")
    size = file.tensor("size", (3,), "int32")
    kept = file.tensor("kept", (1, 1, 3), signature=(1, -1, 3))
    made, y = file.tensor("made", (1, 2), signature=(-1, 2)), file.tensor("y", (1, 2))
    least = file.constant("least", np.array([1, 1, 3], np.int32))
    begin, axis = (
        file.constant(name, np.zeros(length, np.int32)) for name, length in (("at", 3), ("axis", 1))
    )
    weight = file.constant("w", np.ones((2, 3), np.float32))
    bias = file.constant("b", np.zeros(2, np.float32))
    file.operator("ADD", [more, least], [size])
    file.operator("SLICE", [x, begin, size], [kept])
    file.operator("FULLY_CONNECTED", [kept, weight, bias], [made])
    file.operator("MEAN", [made, axis], [y], keepDims=True)
    return file.pack([x, more], [y])


def test_sizes_that_change_with_the_sample(load: Load, refused: Refused) -> None:
    model = load(of_changing_size())
    assert model.tap_widths == (3,)  # as of a sample of zeros
    x, more = np.arange(24).reshape(2, 4, 3), np.zeros((2, 3), int)
    same = model.forward(model.check({"x": x, "more": more}))
    assert same.taps[0].tolist() == x[:, 0].tolist()
    more[1, 1] = 2
    checked = model.check({"x": x, "more": more})
    message = refused(ModelError, model.forward, checked)
    assert "layer made reads kept as (1, 3, 3) of one sample, (1, 1, 3) of another" in message
    assert "leave the layer out with taps=" in message


def one_operator(kind: str, *, variable: bool = False) -> bytes:
    file = File()
    x, y, z = file.tensor("x", (1, 3)), file.tensor("y", (1, 3)), file.tensor("z", (1, 3))
    weight = file.constant("w", np.eye(3, dtype=np.float32))
    bias = file.constant("b", np.zeros(3, np.float32))
    file.operator("FULLY_CONNECTED", [x, weight, bias], [y])
    file.operator(kind, [y], [z])
    file.graph.tensors[y].isVariable = variable
    return file.pack([x], [z])


@pytest.mark.parametrize("kind", ["WHILE", "IF", "CALL_ONCE", "VAR_HANDLE", "ASSIGN_VARIABLE"])
def test_control_flow(kind: str, load: Load, refused: Refused) -> None:
    message = refused(ModelError, load, one_operator(kind))
    assert f"operator 1, {kind}, is control flow or a variable" in message


def test_state_and_chance(load: Load, refused: Refused) -> None:
    message = refused(ModelError, load, one_operator("TANH", variable=True))
    assert "operator 1, TANH, keeps a state from one sample to the next" in message
    assert "MULTINOMIAL, is random" in refused(ModelError, load, one_operator("MULTINOMIAL"))


def test_several_graphs(load: Load, refused: Refused) -> None:
    file = File()
    x, y = file.tensor("x", (1, 3)), file.tensor("y", (1, 3))
    file.operator("TANH", [x], [y])
    file.model.subgraphs.append(file.graph)
    assert "has 2 graphs, expected one" in refused(ModelError, load, file.pack([x], [y]))


def test_no_weights(load: Load, refused: Refused) -> None:
    file = File()
    x, y = file.tensor("x", (1, 3)), file.tensor("y", (1, 3))
    file.operator("TANH", [x], [y])
    message = refused(ModelError, load, file.pack([x], [y]))
    assert "has no layer with weights on the way to y, expected FULLY_CONNECTED" in message


def test_no_row_of_numbers(load: Load, refused: Refused) -> None:
    network = cnn(end="")
    network.layers = network.layers[:1]
    message = refused(ModelError, load, network.content())
    assert "has the outputs layer0 (8, 8, 6), expected one with a row of numbers" in message


def test_operator_the_runtime_lacks(load: Load, refused: Refused) -> None:
    file = File()
    x, y, z = file.tensor("x", (1, 3)), file.tensor("y", (1, 3)), file.tensor("z", (1, 3))
    weight = file.constant("w", np.eye(3, dtype=np.float32))
    bias = file.constant("b", np.zeros(3, np.float32))
    file.operator("FULLY_CONNECTED", [x, weight, bias], [y])
    file.operator("CUSTOM", [y], [z])
    file.model.operatorCodes[-1].customCode = "MyOperator"
    message = refused(ModelError, load, file.pack([x], [z]))
    assert "model.tflite: Encountered unresolved custom op: MyOperator" in message


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


def test_options_and_paths(load: Load, tmp_path: Path, refused: Refused) -> None:
    content = cnn().content()
    for options in ({"grid": 0}, {"grid": 1.5}, {"threads": 0}, {"threads": True}):
        (name,) = options
        assert f"{name} is {options[name]!r}, expected a whole number from 1" in refused(
            ParameterError, load, content, **options
        )
    assert "does not exist" in refused(FileError, s2.load, tmp_path / "none.tflite")
    (tmp_path / "folder.tflite").mkdir()
    refused(FileError, LiteRTBackbone.load, tmp_path / "folder.tflite")
    assert "is no .tflite model, expected TFL3" in refused(ModelError, load, b"PK" + bytes(100))


def test_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(cnn().content())
    monkeypatch.delitem(sys.modules, "skip2lora.backbones.litert.file")
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    message = refused(MissingExtraError, s2.load, path)
    assert "needs ai-edge-litert: pip install 'skip2lora[litert]'" in message
