"""Graphs whose outputs depend on more than one sample are refused by name."""

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
from skip2lora.backbones.onnx.backbone import OnnxBackbone
from skip2lora.errors import ModelError

Refused = Callable[..., str]


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
