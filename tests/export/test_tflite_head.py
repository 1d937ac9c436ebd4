"""Where the sum joins a graph: readers of the logits elsewhere, several outputs, wrong ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert: group runtimes")

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

import tflite_models as nets
from onnx_exports import expected, random_adapters
from skip2lora.backbones.standins import Headless
from skip2lora.export.tflite import export_tflite
from skip2lora.tasks.task import softmax
from tflite_exports import Stock

Refused = Callable[..., str]
RANDOM = np.random.default_rng(2)
X = RANDOM.normal(size=(6, 3)).astype(np.float32)


def test_a_layer_that_reads_the_logits_reads_those_of_the_base(tmp_path: Path) -> None:
    """As do other outputs that it makes: they were not adapted."""
    file = nets.File()
    x, y, z, p = (file.tensor(name, (1, 3)) for name in "xyzp")
    bias = file.constant("b", np.zeros(3, np.float32))
    for at, (given, made) in enumerate([(x, y), (y, z)]):
        weight = file.constant(f"w{at}", RANDOM.normal(size=(3, 3)).astype(np.float32))
        file.operator("FULLY_CONNECTED", [given, weight, bias], [made])
    file.operator("SOFTMAX", [y], [p], beta=1.0)
    model = nets.loader(tmp_path)(file.pack([x], [p, z]), output="p")
    adapters = random_adapters(model)
    export_tflite(model, adapters, tmp_path / "a.tflite")
    before, after = (Stock(tmp_path / name).run(X) for name in ("model.tflite", "a.tflite"))
    assert after["z"].tobytes() == before["z"].tobytes()
    np.testing.assert_allclose(after["p"], softmax(expected(model, adapters, X)), atol=1e-6)


def with_label(content: bytes, integers: str | None) -> bytes:
    """A network that says the place of its largest logit as well."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    for name, shape, kind in (("label", [1], "INT64"), ("axis", [], "INT32")):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, shape, 0
        tensor.type = getattr(schema.TensorType, kind)
        graph.tensors.append(tensor)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.array(1, np.int32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    graph.tensors[-1].buffer = len(model.buffers) - 1
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ARG_MAX
    code.version = 2 if integers else 1
    model.operatorCodes.append(code)
    operator, label = schema.OperatorT(), len(graph.tensors) - 2
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = [int(graph.operators[-1].inputs[0]), label + 1], [label]
    operator.builtinOptionsType = schema.BuiltinOptions.ArgMaxOptions
    operator.builtinOptions = schema.ArgMaxOptionsT()
    operator.builtinOptions.outputType = schema.TensorType.INT64
    graph.operators.append(operator)
    graph.outputs = [int(graph.outputs[0]), label]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("integers", [None, "int8"])
def test_all_outputs_of_the_logits_follow(integers: str | None, tmp_path: Path) -> None:
    """Probabilities, and their label."""
    content = with_label(nets.mlp([3, 4, 3], integers=integers).content(), integers)
    backbone = nets.loader(tmp_path)(content, output="probabilities")
    adapters = random_adapters(backbone)
    export_tflite(backbone, adapters, tmp_path / "a.tflite")
    given, want = Stock(tmp_path / "a.tflite").run(X), expected(backbone, adapters, X)
    assert given["label"].ravel().tolist() == want.argmax(axis=1).tolist()
    np.testing.assert_allclose(
        given["probabilities"], softmax(want), atol=1e-5 if not integers else 4e-3
    )


def test_more_classes_behind_a_reshape(tmp_path: Path) -> None:
    """Which holds three: the sum is an output of its own, and the base's is left out."""
    file = nets.File()
    x, y, z = (file.tensor(name, (1, 3)) for name in "xyz")
    weight = file.constant("w", RANDOM.normal(size=(3, 3)).astype(np.float32))
    to, shaped = file.constant("to", np.array([1, 3], np.int32)), file.tensor("s", (1, 3))
    file.operator("FULLY_CONNECTED", [x, weight, file.constant("b", np.zeros(3, np.float32))], [y])
    file.operator("SOFTMAX", [y], [shaped], beta=1.0)
    file.operator("RESHAPE", [shaped, to], [z], newShape=[1, 3])
    model = nets.loader(tmp_path)(file.pack([x], [z]))
    adapters = random_adapters(model, new=2)
    export_tflite(model, adapters, tmp_path / "a.tflite")
    given = Stock(tmp_path / "a.tflite").run(X)
    assert list(given) == ["logits"]
    np.testing.assert_allclose(given["logits"], expected(model, adapters, X), atol=1e-5)


def test_an_output_that_says_nothing_of_classes_stays(tmp_path: Path) -> None:
    """Beside outputs that are learned anew."""
    file = nets.File()
    x, y, e, p = (file.tensor(name, (1, 3)) for name in "xyep")
    bias = file.constant("b", np.zeros(3, np.float32))
    for at, (given, made) in enumerate([(x, e), (e, y)]):
        weight = file.constant(f"w{at}", RANDOM.normal(size=(3, 3)).astype(np.float32))
        file.operator("FULLY_CONNECTED", [given, weight, bias], [made])
    file.operator("SOFTMAX", [y], [p], beta=1.0)
    model = nets.loader(tmp_path)(file.pack([x], [p, e]), output="p")
    headless = Headless(model, 2)
    adapters = random_adapters(headless)
    export_tflite(headless, adapters, tmp_path / "a.tflite")
    given = Stock(tmp_path / "a.tflite").run(X)
    assert set(given) == {"e", "logits"}
    np.testing.assert_allclose(given["logits"], expected(headless, adapters, X), atol=1e-5)
