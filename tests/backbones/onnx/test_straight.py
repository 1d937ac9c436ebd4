"""Models with a branch, a loop or a state are tapped on their straight part before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import skip2lora as s2
from skip2lora.backbones.onnx.preparing import prepare
from skip2lora.errors import ModelError
from skip2lora.export.onnx import export_onnx

Refused = Callable[..., str]
RANDOM = np.random.default_rng(2)
X = RANDOM.normal(size=(9, 6)).astype(np.float32)
W1, W2, HEAD = (RANDOM.normal(size=s).astype(np.float32) for s in ((6, 5), (5, 4), (4, 3)))
CONSTANTS = {
    "w1": W1, "w2": W2, "head": HEAD, "zero": np.array(0, np.float32), "three": np.array(3),
    "axes": np.array([1]), "first": np.array([0]), "lstm.w": np.ones((1, 16, 4), np.float32),
    "lstm.r": np.ones((1, 16, 4), np.float32),
}  # fmt: skip


def node(kind: str, read: str, made: str, **options: Any) -> Any:
    return helper.make_node(
        kind, read.split(), made.split(), name=f"{made.split()[0]}_node", **options
    )


def tensor(name: str, *shape: Any, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def branch(read: str, made: str) -> list[Any]:
    bodies = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(kind, [read], [name])], name, [], [tensor(name, "n", 4)]
        )
        for name, kind in (("then", "Relu"), ("else", "Neg"))
    }
    sum_, test = f"{made}.sum", f"{made}.test"
    reduce = node("ReduceSum", read, sum_, keepdims=0)
    return [reduce, node("Greater", f"{sum_} zero", test), node("If", test, made, **bodies)]


def loop(read: str, made: str) -> list[Any]:
    inputs = [tensor("i", kind=TensorProto.INT64), tensor("go", kind=TensorProto.BOOL)]
    body = helper.make_graph(
        [node("Identity", "go", "going"), node("Relu", "given", "gives")],
        "body",
        [*inputs, tensor("given", "n", 4)],
        [tensor("going", kind=TensorProto.BOOL), tensor("gives", "n", 4)],
    )
    return [helper.make_node("Loop", ["three", "", read], [made], f"{made}_node", body=body)]


def state(read: str, made: str) -> list[Any]:
    names = {"h": f"{made}.h", "c": f"{made}.c"}
    turned = [node("Unsqueeze", f"{each} first", name) for each, name in names.items()]
    lstm = helper.make_node(
        "LSTM", [f"{made}.x", "lstm.w", "lstm.r", "", "", *names.values()], ["", f"{made}.last"],
        f"{made}_node", hidden_size=4,
    )  # fmt: skip
    squeeze = node("Squeeze", f"{made}.last first", made)
    return [node("Unsqueeze", f"{read} first", f"{made}.x"), *turned, lstm, squeeze]


KINDS = {"If": branch, "Loop": loop, "LSTM": state}
WHAT = {"If": "is a branch", "Loop": "is a loop", "LSTM": "takes its state from input"}


def saved(path: Path, kind: str, *, early: bool = False, second: bool = False) -> Path:
    """Two layers, a branch, loop or state, and a head; ``early`` before them, a ``second`` end."""
    between = KINDS[kind]
    if early:
        nodes = [node("MatMul", "x w1", "a"), node("MatMul", "a w2", "b")]
        nodes = [node("Slice", "x start stop axes", "four"), *between("four", "mixed")]
        nodes.append(node("MatMul", "mixed head", "y"))
    else:
        nodes = [node("MatMul", "x w1", "a"), node("Relu", "a", "r"), node("MatMul", "r w2", "b")]
        nodes += [*between("b", "mixed"), node("MatMul", "mixed head", "y")]
    outputs = [tensor("y", "n", 3)]
    if second:
        nodes.append(node("MatMul", "b head", "straight"))
        outputs.append(tensor("straight", "n", 3))
    inputs = [tensor("x", "n", 6), *([tensor("h", "n", 4), tensor("c", "n", 4)] * (kind == "LSTM"))]
    constants = CONSTANTS | {"start": np.array([0]), "stop": np.array([4])}
    graph = helper.make_graph(
        nodes, "g", inputs, outputs,
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    path.write_bytes(model.SerializeToString())
    return path


def loaded(path: Path, kind: str) -> Any:
    with pytest.warns(UserWarning, match=rf"m\.onnx: node mixed_node \({kind}\) {WHAT[kind]}"):
        return s2.load(path)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_before_it_are_tapped(kind: str, tmp_path: Path) -> None:
    model = loaded(saved(tmp_path / "m.onnx", kind), kind)
    assert [spec.name for spec in model.inputs] == ["x"]
    assert (model.n_outputs, model.output) == (0, None)
    [note] = model.notes
    assert "only the layers up to there are tapped, and output y behind it is left out" in note
    rows = model.forward(model.check(X)).taps
    hidden = np.maximum(X @ W1, 0)
    np.testing.assert_allclose(rows[0], X)
    np.testing.assert_allclose(rows[1], hidden, atol=1e-5)
    if kind == "LSTM":  # what it reads is before its state
        np.testing.assert_allclose(rows[2][:, :4], hidden @ W2, atol=1e-4)
    assert len(rows) == (3 if kind == "LSTM" else 2)


@pytest.mark.filterwarnings("ignore:.*only the layers up to there:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_of_its_own_are_learned_kept_and_exported(kind: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", kind)
    model = s2.load(path)
    adapted = s2.adapt(model, X, np.arange(9) % 3, keep_outputs=False, epochs=3)
    adapted.save(tmp_path / "adapter")
    again = s2.AdaptedModel.load(s2.load(path), tmp_path / "adapter")
    assert np.array_equal(again.logits(X), adapted.logits(X))
    export_onnx(adapted.backbone, adapted.adapters, tmp_path / "out.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "out.onnx")
    assert [value.name for value in session.get_inputs()] == ["x"]
    assert [value.name for value in session.get_outputs()] == ["logits"]
    np.testing.assert_allclose(session.run(None, {"x": X})[0], adapted.logits(X), atol=1e-5)
    prepare(path, tmp_path / "tapped.onnx")
    prepared = s2.load(tmp_path / "tapped.onnx")
    assert prepared.notes == model.notes
    assert prepared.fingerprint == model.fingerprint
    assert np.array_equal(prepared.forward(X).taps[1], model.forward(X).taps[1])
    assert s2.AdaptedModel.load(prepared, tmp_path / "adapter").n_outputs == 3


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_that_does_not_come_from_it_stays(kind: str, tmp_path: Path) -> None:
    model = loaded(saved(tmp_path / "m.onnx", kind, second=True), kind)
    assert (model.n_outputs, model.output) == (3, "straight")
    np.testing.assert_allclose(model.logits(X), np.maximum(X @ W1, 0) @ W2 @ HEAD, atol=1e-4)


@pytest.mark.parametrize("kind", ["If", "Loop"])
def test_without_layers_before_it_the_model_is_refused(
    kind: str, tmp_path: Path, refused: Refused
) -> None:
    path = saved(tmp_path / "m.onnx", kind, early=True)
    said = refused(ModelError, s2.load, path)
    assert f"{path}: node mixed_node ({kind}) {WHAT[kind]}, expected a graph" in said
