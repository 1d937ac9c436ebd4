"""The node by which a sample's numbers depend on the others of a batch is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the package onnx: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx_models as nets
from skip2lora.backbones.onnx.graph import Graph
from skip2lora.backbones.onnx.mixing import mixing
from skip2lora.backbones.onnx.probe import Look, look


def looked(model: Any, *tensors: str) -> Look:
    return look(Graph(model), Path(), tensors, [value.name for value in model.graph.output])


MIXERS: dict[str, Any] = {
    "ReduceMean": {"axes": [0]},
    "Softmax": {"axis": 0},
    "CumSum": {"input": np.int64(0)},
    "TopK": {"input": np.array([1]), "axis": 0},
    "BatchNormalization": {"training_mode": 1},
}


@pytest.mark.parametrize("operator", MIXERS)
def test_the_node_that_mixes_samples_is_named(operator: str) -> None:
    attributes = dict(MIXERS[operator])
    net = nets.Net()
    net.node("Gemm", ["x", net.weight("w", 4, 4)], "fc")
    net.node("Relu", ["fc"], "relu")
    inputs = ["relu"]
    if "input" in attributes:
        inputs.append(net.constant("k", attributes.pop("input")))
    if operator == "BatchNormalization":
        inputs += [net.vector(name, 4, around=1) for name in ("gamma", "beta", "mean", "var")]
    net.node(operator, inputs, "mixed", **attributes)
    if operator == "BatchNormalization":
        net.nodes[-1].output.extend(["running.mean", "running.var"])
    if operator == "TopK":
        net.nodes[-1].output.append("places")
    net.node("Sub", ["relu", "mixed"], "apart")
    net.node("Gemm", ["apart", net.weight("v", 4, 2)], "y")
    model = net.model([nets.value("x", ["n", 4])], [nets.value("y", ["n", 2])])
    seen = looked(model, "fc", "apart")
    assert seen.of("fc").verdict.holds()
    assert not seen.of("apart").verdict.holds()
    assert not seen.of("y").verdict.holds()
    said = str(mixing(Graph(model), Path("m.onnx"), "y", seen, dynamic=False))
    assert f"node /mixed ({operator}) mixes the samples of a batch" in said


def test_a_random_node_is_named_as_such() -> None:
    """Also one that no list of operators has: of a domain of its own, or of a later opset."""
    net = nets.Net()
    net.node("Dropout", ["x", net.constant("half", np.float32(0.5)), "flag"], "dropped")
    net.node("Cast", [net.constant("one", np.int64(1))], "flag", to=9)
    net.nodes.reverse()
    net.node("Gemm", ["dropped", net.weight("v", 40, 2)], "y")
    model = net.model([nets.value("x", ["n", 40])], [nets.value("y", ["n", 2])])
    said = str(mixing(Graph(model), Path("m.onnx"), "y", looked(model), dynamic=False))
    assert said.startswith("m.onnx: node /dropped (Dropout) is random")


def test_what_is_no_number_in_every_run_is_not_random() -> None:
    """The logarithm of a negative sum over all samples, in the same places whenever it is taken."""
    net = nets.Net()
    net.node("Gemm", ["x", net.weight("w", 4, 4)], "fc")
    net.node("ReduceLogSum", ["fc"], "mixed", axes=[0])
    net.node("Add", ["fc", "mixed"], "y")
    model = net.model([nets.value("x", ["n", 4])], [nets.value("y", ["n", 4])])
    seen = looked(model)
    with np.errstate(invalid="ignore"):
        assert np.isnan(seen.values["y"]).any()
        said = str(mixing(Graph(model), Path("m.onnx"), "y", seen, dynamic=False))
    assert "node /mixed (ReduceLogSum) mixes the samples of a batch" in said
