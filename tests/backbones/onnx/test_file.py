"""What ``.onnx`` files are refused for: one line, and never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

from onnx import helper

import onnx_models as nets
import skip2lora as s2
from skip2lora.backbones.onnx.backbone import OnnxBackbone, prepare
from skip2lora.backbones.onnx.file import MOST_BYTES
from skip2lora.errors import DataError, FileError, ModelError

Refused = Callable[..., str]


def test_files_that_are_no_models(tmp_path: Path, refused: Refused) -> None:
    path = nets.save(nets.mlp(), tmp_path / "m.onnx")
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:-1], b"\x00" * 100):
        path.write_bytes(content)
        assert str(path) in refused(ModelError, OnnxBackbone.load, path)
    missing = tmp_path / "none.onnx"
    assert "does not exist" in refused(FileError, s2.load, missing)
    assert "cannot read" in refused(FileError, OnnxBackbone.load, missing)


def test_over_two_gigabytes(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as stream:
        stream.truncate(MOST_BYTES + 1)  # sparse
    message = refused(ModelError, OnnxBackbone.load, path)
    assert "2.15 GB" in message
    assert "external data" in message


def test_no_layers_with_weights(tmp_path: Path, refused: Refused) -> None:
    net = nets.Net()
    net.node("Relu", ["x"], "y")
    model = net.model([nets.value("x", ["n", 3])], [nets.value("y", ["n", 3])])
    path = nets.save(model, tmp_path / "m.onnx")
    assert "has no layer with weights" in refused(ModelError, OnnxBackbone.load, path)


def test_control_flow(tmp_path: Path, refused: Refused) -> None:
    net = nets.Net()
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["out"])], "b", [], [nets.value("out", None)]
    )
    net.constant("yes", np.array(True))
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


def changed(old: bytes, new: bytes) -> Callable[[Any], bytes]:
    """The bytes of a model with some of them changed, as in a damaged file."""

    def change(model: Any) -> bytes:
        content = model.SerializeToString()
        assert content.count(old) >= 1
        return bytes(content.replace(old, new, 1))

    return change


def tensor_with(**fields: Any) -> Callable[[Any], bytes]:
    def change(model: Any) -> bytes:
        tensor = model.graph.initializer[0]
        for name, field in fields.items():
            if name == "dims":
                tensor.dims[:] = field
            else:
                setattr(tensor, name, field)
        return bytes(model.SerializeToString())

    return change


def with_floats(model: Any) -> bytes:
    tensor = model.graph.initializer[0]
    values = np.frombuffer(tensor.raw_data, np.float32)
    tensor.ClearField("raw_data")
    tensor.float_data.extend(values[:-1])
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed(b"/fc1", b"/\xff\xfec"), "NodeProto.name is no text"),
        (changed(b"Relu", b"R\xfflu"), "NodeProto.op_type is no text"),
        (changed(b"transB", b"tr\xffnsB"), "AttributeProto.name is no text"),
        (tensor_with(name="w"), "cannot run the model"),
        (tensor_with(dims=[9, 17]), "tensor w0 has 576 bytes, expected 612"),
        (tensor_with(dims=[-9, -16]), "tensor w0 has shape [-9, -16]"),
        (tensor_with(data_type=65), "tensor w0 has the unknown type 65"),
        (tensor_with(data_type=0), "tensor w0 has the unknown type 0"),
        (with_floats, "tensor w0 has values that do not fit its shape"),
    ],
)
def test_damaged_inside(
    change: Callable[[Any], bytes], said: str, tmp_path: Path, refused: Refused
) -> None:
    model = nets.mlp()
    model.graph.node[0].attribute.append(helper.make_attribute("transB", 0))
    path = tmp_path / "m.onnx"
    path.write_bytes(change(model))
    message = refused(ModelError, OnnxBackbone.load, path)
    assert said in message


@pytest.mark.parametrize("prepared", [False, True], ids=["plain", "prepared"])
def test_flipped_bits(prepared: bool, tmp_path: Path) -> None:
    """A bit changed anywhere: refused by one line, or a model that runs."""
    path = nets.save(nets.cnn(), tmp_path / "m.onnx")
    path = nets.quantized(path, [{"x": nets.images(9)}])
    if prepared:
        prepare(path, tmp_path / "t.onnx")
        path = tmp_path / "t.onnx"
    content, random = path.read_bytes(), np.random.default_rng(5)
    said = []
    for _ in range(60):
        other = bytearray(content)
        other[random.integers(len(other))] ^= 1 << random.integers(8)
        path.write_bytes(other)
        try:
            backbone = OnnxBackbone.load(path)
            backbone.forward(backbone.check(nets.images(2)))
        except s2.Skip2LoraError as error:
            said.append(str(error))
    assert 0 < len(said) < 60
    assert not any("\n" in each for each in said)


def test_features_of_another_table(tmp_path: Path, refused: Refused) -> None:
    backbone = OnnxBackbone.load(nets.save(nets.mlp(), tmp_path / "m.onnx"))
    message = refused(DataError, backbone.check, np.zeros((4, 10)))
    assert "X has shape (4, 10), the model expects (samples, 9)" in message
    assert "pass the features the model was trained on, in the same order" in message
