"""Shapes that inference leaves open, seen by running a model on two sizes of input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")


import onnx_models as nets
from skip2lora.backbones.onnx.graph import BATCH, Folded, Graph, infer
from skip2lora.backbones.onnx.probe import probe


def seen(model: Any, *tensors: str) -> dict[str, Any]:
    graph = Graph(model)
    return probe(graph, Path(), tensors, infer(graph))


def test_sizes_follow_those_of_the_inputs() -> None:
    shapes = seen(nets.cnn(size="s"), "conv0", "depthwise", "fc")
    assert shapes["conv0"] == (BATCH, 8, "s", "s")
    assert shapes["depthwise"] == (BATCH, 8, None, None)  # half of it
    assert shapes["fc"] == (BATCH, 4)


def test_samples_times_tokens_are_folded() -> None:
    shapes = seen(nets.transformer(folded=True), "up", "unfolded")
    assert shapes["up"] == (Folded("t"), 32)
    assert shapes["unfolded"] == (BATCH, "t", 16)


def test_a_fixed_number_of_samples() -> None:
    assert seen(nets.mlp(batch=4), "fc1") == {"fc1": (4, 5)}
    folded = seen(nets.transformer(folded=True, batch=2, tokens=7), "up")
    assert folded == {"up": (Folded(7), 32)}


def test_names_are_not_taken_for_one_another() -> None:
    """Two open sizes of one image, and of tokens, get different numbers."""
    net = nets.Net()
    net.node("Transpose", ["x"], "turned", perm=[0, 1, 3, 2])
    net.node("Transpose", ["ids"], "swapped", perm=[1, 2, 0])
    model = net.model(
        [nets.value("x", ["n", 3, "h", "w"]), nets.value("ids", ["n", "t", "u"])],
        [nets.value("turned", ["n", 3, "w", "h"]), nets.value("swapped", ["t", "u", "n"])],
    )
    shapes = seen(model, "turned", "swapped", "x")
    assert shapes == {"turned": (BATCH, 3, "w", "h"), "swapped": ("t", "u", BATCH)}


@pytest.mark.parametrize("width", [3, 4])
def test_an_axis_before_the_samples_is_not_folded(width: int) -> None:
    net = nets.Net()
    net.node("Transpose", ["x"], "turned", perm=[1, 0])
    model = net.model([nets.value("x", ["n", width])], [nets.value("turned", [width, "n"])])
    assert seen(model, "turned") == {"turned": (width, BATCH)}


def test_a_model_that_refuses_every_size_tells_nothing() -> None:
    net = nets.Net()
    net.node("Reshape", ["x", net.constant("to", np.array([5, 11], np.int64))], "y")
    model = net.model([nets.value("x", ["n", 11])], [nets.value("y", [5, 11])])
    assert seen(model, "y") == {}
