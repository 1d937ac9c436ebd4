"""Branches that are written out: fixed to the way they go, or both and a Where."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import skip2lora as s2
from onnx_models import Net, save, value
from skip2lora.export.onnx import export_onnx

Refused = Callable[..., str]
WIDTH = 6
X = np.random.default_rng(0).normal(size=(40, WIDTH)).astype(np.float32)


def way(nodes: list[Any], output: str, constants: dict[str, np.ndarray] | None = None) -> Any:
    """One branch."""
    arrays = (constants or {}).items()
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays]
    return helper.make_graph(nodes, "way", [], [value(output, None)], tensors)


def unsure(path: Path, *, batch: Any = 1, fails: bool = False) -> Path:
    """A first network, and where it is sure a second one on the same sample, as wake words have it.

    Names of the second are those of the first; one that ``fails`` cannot run on any sample.
    """
    net = Net(seed=1)
    net.node("Gemm", ["x", net.weight("w", WIDTH, 4)], "a")
    net.node("Relu", ["a"], "b")
    net.node("Gemm", ["b", net.weight("v", 4, 1)], "c")
    net.node("Sigmoid", ["c"], "p")
    net.node("Greater", ["p", net.constant("half", np.array(0.4, np.float32))], "sure")
    shape = np.array([-1, 5 if fails else WIDTH], np.int64)
    second = np.random.default_rng(2).normal(size=(WIDTH, 1)).astype(np.float32)
    then = way(
        [
            helper.make_node("Reshape", ["x", "shape"], ["row"], name="/a"),
            helper.make_node("MatMul", ["row", "w2"], ["z"], name="/second"),
            helper.make_node("Sigmoid", ["z"], ["q"]),
        ],
        "q", {"shape": shape, "w2": second},
    )  # fmt: skip
    other = way([helper.make_node("Identity", ["p"], ["same"])], "same")
    net.node("If", ["sure"], "y", then_branch=then, else_branch=other)
    return save(net.model([value("x", [batch, WIDTH])], [value("y", [batch, 1])]), path)


def run(path: Path, x: np.ndarray, **more: Any) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": row[None], **more})[0] for row in x])


def loaded(path: Path, words: str) -> Any:
    with pytest.warns(UserWarning, match=words):
        return s2.load(path)


def test_both_ways_and_one_is_taken(tmp_path: Path) -> None:
    path = unsure(tmp_path / "m.onnx")
    model = loaded(path, "both ways of branch /y are computed, and one of them taken")
    expected, told = run(path, X), onnx.load(path)
    told.graph.output.insert(0, value("sure", None, TensorProto.BOOL))
    assert 0.1 < run(save(told, tmp_path / "told.onnx"), X).mean() < 0.9
    np.testing.assert_allclose(1 / (1 + np.exp(-model.logits(X))), expected, atol=1e-6)
    assert [tap.layer for tap in model.taps] == ["/a", "/c", "/second"][: len(model.taps)]
    assert (model.output, model.n_outputs, model.task) == ("y", 1, "multi-label")


def test_it_is_adapted_and_exported(tmp_path: Path) -> None:
    path, out = unsure(tmp_path / "m.onnx"), tmp_path / "e.onnx"
    adapted = s2.adapt(loaded(path, "both ways"), X, X[:, 0] > 0)
    export_onnx(adapted.backbone, adapted.adapters, out)
    assert "If" not in {node.op_type for node in onnx.load(out).graph.node}
    np.testing.assert_allclose(run(out, X)[:, 0], adapted.predict_proba(X)[:, -1], atol=1e-5)


@pytest.mark.parametrize("options", [{"batch": "n"}, {"fails": True}], ids=str)
def test_what_cannot_be_written_out_stays(options: dict[str, Any], tmp_path: Path) -> None:
    """One way for all samples, or a way that fails where it is not taken."""
    path = unsure(tmp_path / "m.onnx", **options)
    model = loaded(path, r"node /y \(If\) is a branch: only the layers up to there are tapped")
    assert model.n_outputs == 0


def shaped(path: Path, *, batch: Any = "n", of_samples: bool = False) -> Path:
    """Branches in a branch that go by the number of axes, as exporters write ``squeeze``."""
    net = Net(seed=3)
    net.node("Gemm", ["x", net.weight("w", WIDTH, 4)], "a")
    net.node("Unsqueeze", ["a", net.constant("two", np.array([2], np.int64))], "b")
    net.node("Shape", ["b"], "sizes")
    place = net.constant("place", np.array(0 if of_samples else 2, np.int64))
    net.node("Gather", ["sizes", place], "size", axis=0)
    net.node("Equal", ["size", net.constant("one", np.array(1, np.int64))], "is_one")
    inner = {
        "then_branch": way([helper.make_node("Relu", ["b"], ["r"], name="/relu")], "r"),
        "else_branch": way([helper.make_node("Neg", ["b"], ["r"])], "r"),
    }
    then = way(
        [
            helper.make_node("If", ["is_one"], ["c"], name="/inner", **inner),
            helper.make_node("Squeeze", ["c", "two"], ["d"]),
        ],
        "d",
    )
    other = way([helper.make_node("Flatten", ["b"], ["d"])], "d")
    net.node("If", ["is_one"], "e", then_branch=then, else_branch=other)
    net.node("Gemm", ["e", net.weight("v", 4, 3)], "y")
    return save(net.model([value("x", [batch, WIDTH])], [value("y", [batch, 3])]), path)


@pytest.mark.parametrize("of_samples", [False, True], ids=["", "of the number of samples"])
def test_the_way_that_shapes_tell(of_samples: bool, tmp_path: Path) -> None:
    path = shaped(tmp_path / "m.onnx", of_samples=of_samples)
    model = loaded(path, "branches that hang on shapes and constants alone are fixed to the way")
    np.testing.assert_allclose(model.logits(X), run(path, X), atol=1e-5)
    np.testing.assert_array_equal(model.logits(X[::-1])[::-1], model.logits(X))
    assert [tap.layer for tap in model.taps] == ["/a", "/y"]
    # A sample alone goes its own way, so they run one by one where their number tells.
    assert model.session.batch == (1 if of_samples else None)


def test_the_way_that_a_constant_tells(tmp_path: Path) -> None:
    net = Net(seed=4)
    net.node("Equal", ["rate", net.constant("fast", np.array(16000, np.int64))], "is_fast")
    ways = {
        f"{name}_branch": way(
            [helper.make_node("MatMul", ["x", f"w.{name}"], ["a"], name=f"/{name}")], "a",
            {f"w.{name}": net.random.normal(size=(WIDTH, 4)).astype(np.float32)},
        )
        for name in ("then", "else")
    }  # fmt: skip
    net.node("If", ["is_fast"], "b", **ways)
    net.node("Add", ["b", "state"], "after")
    net.node("Gemm", ["after", net.weight("v", 4, 3)], "y")
    inputs = [value("x", ["n", WIDTH]), value("state", ["n", 4])]
    inputs.append(value("rate", [], TensorProto.INT64))
    outputs = [value("y", ["n", 3]), value("after", ["n", 4])]
    path = save(net.model(inputs, outputs), tmp_path / "m.onnx")
    for rate, layer in ((16000, "/then"), (8000, "/else")):
        file = tmp_path / f"{rate}.toml"
        states = 'states = { state = "after" }'
        text = f'[[model]]\npath = "m.onnx"\n[stream]\n{states}\nconstants = {{ rate = {rate} }}\n'
        file.write_text(text)
        model = loaded(file, "branches that hang on shapes and constants alone are fixed")
        assert [tap.layer for tap in model.taps] == [layer, "/y"]
        zeros = np.zeros((1, 4), np.float32)
        expected = run(path, X, state=zeros, rate=np.array(rate))
        np.testing.assert_allclose(model.logits(X), expected, atol=1e-5)


def test_detectors_of_a_package(tmp_path: Path) -> None:
    """Files of silero-vad, states and branches in branches; where it is installed."""
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package silero-vad")
    x = np.random.default_rng(0).normal(size=(3, 4 * 512)).astype(np.float32) / 10
    for name in ("silero_vad", "silero_vad_16k_op15", "silero_vad_op18_ifless"):
        path = Path(spec.origin).parent / "data" / f"{name}.onnx"
        file = tmp_path / f"{name}.toml"
        model = f'samples = 512\n[[model]]\npath = "{path}"\n'
        file.write_text(f"{model}[stream]\nconstants = {{ sr = 16000 }}\n")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        rows = []
        for sample in x:
            state = np.zeros((2, 1, 128), np.float32)
            for call in np.split(sample, 4):
                given = {"input": call[None], "state": state, "sr": np.array(16000)}
                row, state = session.run(None, given)
            rows.append(row[0])
        logits = loaded(file, "branches that hang on shapes and constants alone").logits(x)
        np.testing.assert_allclose(1 / (1 + np.exp(-logits)), rows, atol=1e-5)
