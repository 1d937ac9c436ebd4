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
from skip2lora.backbones.onnx import OnnxBackbone
from skip2lora.backbones.onnx_file import MOST_BYTES
from skip2lora.errors import FileError, ModelError

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
