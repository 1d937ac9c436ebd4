"""The reason of a refusal is the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

from onnx import TensorProto, helper, numpy_helper

import skip2lora as s2
from skip2lora.errors import ModelError

Refused = Callable[..., str]
Node = Callable[..., Any]
FLOAT = TensorProto.FLOAT
W1, W2 = np.ones((4, 5), np.float32), np.ones((5, 3), np.float32)


def node(kind: str, read: str, made: str, **options: Any) -> Any:
    return helper.make_node(kind, read.split(), made.split(), name=f"{made}_node", **options)


def tensor(name: str, shape: Sequence[Any] | None, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def saved(
    folder: Path,
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    *,
    shape: Sequence[Any] = ("n", 3),
    opset: int = 17,
    ir: int = 9,
    domains: Sequence[str] = (),
    **weights: np.ndarray,
) -> Path:
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", list(inputs), [tensor("y", shape)], constants)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=imports)
    model.ir_version = ir
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


HIDDEN = [node("MatMul", "x w1", "a"), node("Relu", "a", "r"), node("MatMul", "r w2", "y")]
X = tensor("x", ["n", 4])


def typed(kind: Any) -> Any:
    return helper.make_value_info("q", kind)


TENSOR = helper.make_tensor_type_proto(FLOAT, ["n", 4])
INPUTS = {
    "text": (tensor("s", ["n", 1], TensorProto.STRING), "input s is tensor(string)"),
    "complex": (tensor("s", ["n", 1], TensorProto.COMPLEX64), "tensor(complex64) is not"),
    "sequence": (typed(helper.make_sequence_type_proto(TENSOR)), "input q is a sequence"),
    "optional": (typed(helper.make_optional_type_proto(TENSOR)), "input q is optional"),
    "number": (tensor("s", []), "input s is one number for all samples"),
    "shapeless": (tensor("s", None), "input s has no shape"),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_inputs_that_are_no_samples(kind: str, tmp_path: Path, refused: Refused) -> None:
    given, said = INPUTS[kind]
    path = saved(tmp_path, HIDDEN, [X, given], w1=W1, w2=W2)
    assert said in refused(ModelError, s2.load, path)


def test_a_graph_without_inputs(tmp_path: Path, refused: Refused) -> None:
    path = saved(tmp_path, HIDDEN, [], x=W1[:2, :4], w1=W1, w2=W2)
    assert f"{path} has no inputs, expected at least one" in refused(ModelError, s2.load, path)


@pytest.mark.parametrize("size", [4, "n"])
def test_one_sample_has_no_axis_of_samples(size: Any, tmp_path: Path, refused: Refused) -> None:
    nodes = [node("Unsqueeze", "x axes", "u"), node("Conv", "u k", "c")]
    nodes += [node("GlobalAveragePool", "c", "p"), node("Flatten", "p", "f")]
    nodes += [node("MatMul", "f w2", "y")]
    kernel, axes = np.ones((5, 1, 2), np.float32), np.array([0, 1])
    path = saved(tmp_path, nodes, [tensor("x", [size])], shape=[1, 3], axes=axes, k=kernel, w2=W2)
    assert f"{path}: input x has shape ({4 if size == 4 else '?'}), but no layer" in refused(
        ModelError, s2.load, path
    )
    path = saved(tmp_path, HIDDEN, [tensor("x", [4])], shape=[3], w1=W1, w2=W2)
    said = refused(ModelError, s2.load, path)
    assert "expected an axis of samples there: export the model with one in front" in said


LEARNED = {
    "LinearClassifier": ({"coefficients": [1.0] * 12, "classlabels_ints": [0, 1, 2]}, "a linear"),
    "LinearRegressor": ({"coefficients": [1.0] * 4}, "a linear model"),
    "SVMRegressor": ({"coefficients": [1.0]}, "support vectors"),
    "TreeEnsembleRegressor": ({"n_targets": 1}, "trees"),
}


@pytest.mark.parametrize("kind", LEARNED)
def test_what_was_learned_is_no_network(kind: str, tmp_path: Path, refused: Refused) -> None:
    options, said = LEARNED[kind]
    nodes = [node(kind, "x", "y", domain="ai.onnx.ml", **options)]
    nodes[0].output.extend(["scores"] * (kind == "LinearClassifier"))
    path = saved(tmp_path, nodes, [X], domains=["ai.onnx.ml"])
    assert f"{path}: node y_node ({kind}) is {said}" in refused(ModelError, s2.load, path)


def test_weights_that_are_an_input(tmp_path: Path, refused: Refused) -> None:
    path = saved(tmp_path, [node("MatMul", "x w", "y")], [X, tensor("w", [4, 3])])
    said = refused(ModelError, s2.load, path)
    assert "node y_node (MatMul) takes its weights from input w, expected constants" in said


def test_weights_that_are_computed_from_an_input(tmp_path: Path, refused: Refused) -> None:
    """It is no input itself that the layer takes: its samples are, in the first place."""
    nodes = [node("Relu", "w", "r"), node("MatMul", "x r", "y")]
    path = saved(tmp_path, nodes, [X, tensor("w", [4, 3])])
    said = refused(ModelError, s2.load, path)
    assert "has no layer with weights (Gemm, MatMul, Conv, ...), expected at least one" in said


def test_no_layers_but_operators_of_others(tmp_path: Path, refused: Refused) -> None:
    nodes = [node("Net", "x", "y", domain="com.acme")]
    path = saved(tmp_path, nodes, [X], domains=["com.acme"])
    assert ", but operators of com.acme, expected" in refused(ModelError, s2.load, path)
    path = saved(tmp_path, [node("Relu", "x", "y")], [X])
    assert "has no layer with weights (Gemm, MatMul, Conv, ...), expected at least one" in refused(
        ModelError, s2.load, path
    )


@pytest.mark.parametrize(
    ("kind", "domain", "where"),
    [
        ("Scaler", "ai.onnx.ml", "), expected"),
        ("SVMRegressor", "com.acme", "), but operators of com.acme, expected"),
    ],
)
def test_what_learned_nothing_is_no_reason(
    kind: str, domain: str, where: str, tmp_path: Path, refused: Refused
) -> None:
    """Neither another operator of the domain, nor one that is called so in another."""
    path = saved(tmp_path, [node(kind, "x", "y", domain=domain)], [X], domains=[domain])
    said = refused(ModelError, s2.load, path)
    assert f"has no layer with weights (Gemm, MatMul, Conv, ...{where} at least one" in said


def _with(kind: str, **options: Any) -> list[Any]:
    return [HIDDEN[0], node(kind, "a", "r", **options), HIDDEN[2]]


RUNTIME = {
    "domain": (
        {"nodes": _with("Gate", domain="com.acme"), "domains": ["com.acme"]},
        ("com.acme:Gate(-1) is not a registered", "expected its own operators"),
    ),
    "operator": ({"nodes": _with("Gate")}, ("Gate", "expected operators of the opset")),
    "opset": ({"nodes": HIDDEN, "opset": 99}, ("Opset 99", "expected an opset that it knows")),
    "ir": ({"nodes": HIDDEN, "ir": 99}, ("IR version: 99", "or a lower ir_version")),
}  # fmt: skip


@pytest.mark.parametrize("case", RUNTIME)
def test_the_runtime_gives_its_own_reason(case: str, tmp_path: Path, refused: Refused) -> None:
    how, parts = RUNTIME[case]
    path = saved(tmp_path, inputs=[X], w1=W1, w2=W2, **how)
    said = refused(ModelError, s2.load, path)
    assert said.startswith(f"{path}: onnxruntime")
    assert "onnxruntime_src" not in said
    for part in parts:
        assert part in said


def test_an_old_opset_is_not_laid_to_the_runtime(tmp_path: Path, refused: Refused) -> None:
    path = saved(tmp_path, HIDDEN, [X], opset=6, ir=3, w1=W1, w2=W2)
    said = refused(ModelError, s2.load, path)
    assert "has opset 6, expected 7 or later, whose operators taps are written in" in said
