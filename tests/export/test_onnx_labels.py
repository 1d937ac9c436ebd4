"""Thresholds of an adapter in exported ONNX files: labels go by them, or are left out."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

from onnx import TensorProto

import onnx_models as nets
import skip2lora as s2
from onnx_exports import expected, random_adapters, session_of
from skip2lora.errors import ModelError
from skip2lora.export.onnx import export_onnx, export_onnx_adapter
from skip2lora.tasks.task import softmax
from skip2lora.tasks.thresholds import NEVER, Thresholds

Refused = Callable[..., str]
X = np.random.default_rng(4).normal(0, 3, (60, 9)).astype(np.float32)
#: Of three classes: one that is chosen, one that never is, one without any.
CHOSEN = Thresholds(0.9, (0.7, NEVER, None), (20, 20, 3))
INT, TEXT, FLOAT, INT8, BOOL = (
    TensorProto.INT64, TensorProto.STRING, TensorProto.FLOAT, TensorProto.INT8, TensorProto.BOOL
)  # fmt: skip
NAMES = np.array([b"cat", b"dog", b"fox"], object)


def classifier(kind: int, *, keepdims: int = 0, opset: int = 17, probabilities: bool = True) -> Any:
    """x -> 5 -> 3 logits, their label in that type, and their probabilities."""
    net = nets.Net(opset=opset)
    hidden = net.node("Relu", [net.node("MatMul", ["x", net.weight("v", 9, 5)], "fc0")], "hidden")
    logits = net.node("Gemm", [hidden, net.weight("w", 5, 3), net.vector("b", 3)], "fc1")
    shares = net.node("Softmax", [logits], "shares", axis=1)
    label = net.node("ArgMax", [shares], "place", axis=1, keepdims=keepdims)
    if kind == TEXT:
        label = net.node("Gather", [net.constant("names", NAMES), label], "label")
    elif kind != INT:
        label = net.node("Cast", [label], "label", to=kind)
    outputs = [nets.value(label, ["n", *[1] * keepdims], kind)]
    if probabilities:
        outputs.append(nets.value(shares, ["n", 3]))
    return net.model([nets.value("x", ["n", 9])], outputs)


def yes_or_no(kind: int) -> Any:
    """Probabilities of three labels, and which of them are more than one half."""
    net = nets.Net()
    logits = net.node("Gemm", ["x", net.weight("w", 9, 3), net.vector("b", 3)], "fc")
    shares = net.node("Sigmoid", [logits], "shares")
    label = net.node("Greater", [shares, net.constant("half", np.float32(0.5))], "more")
    if kind != BOOL:
        label = net.node("Cast", [label], "label", to=kind)
    outputs = [nets.value(label, ["n", 3], kind), nets.value(shares, ["n", 3])]
    return net.model([nets.value("x", ["n", 9])], outputs)


def exported(model: Any, folder: Path, chosen: Thresholds | None = CHOSEN, **of: Any) -> Any:
    """The loaded base, its random adapters, and a session of the export."""
    base = s2.load(nets.save(model, folder / "m.onnx"))
    adapters = random_adapters(base, **of)
    export_onnx(base, adapters, folder / "e.onnx", thresholds=chosen)
    return base, adapters, session_of(folder / "e.onnx")


def decided(logits: np.ndarray) -> np.ndarray:
    """Places, -1 below, one sample after another: by hand, from what the thresholds mean."""
    places = []
    for row in softmax(logits):
        best = int(np.argmax(row))
        sure = {0: row[0] >= 0.7, 1: False, 2: True}[best]
        places.append(best if sure else -1)
    return np.array(places)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("opset", [11, 17, 18])
@pytest.mark.parametrize("kind", [INT, TEXT, FLOAT])
def test_a_label_goes_by_them(kind: int, opset: int, keepdims: int, tmp_path: Path) -> None:
    model = classifier(kind, opset=opset, keepdims=keepdims)
    base, adapters, session = exported(model, tmp_path)
    label, shares = session.run(None, {"x": X})
    logits = expected(base, adapters, {"x": X})
    np.testing.assert_allclose(shares, softmax(logits), atol=1e-5)
    assert label.shape == (60, *[1] * keepdims)
    wanted = decided(logits)
    assert set(wanted) == {-1, 0, 2}  # or the test shows nothing
    named = ["cat", "dog", "fox", "none of these"]
    texts = [named[place] for place in wanted]
    assert label.ravel().tolist() == (texts if kind == TEXT else wanted.tolist())
    said = json.loads(session.get_modelmeta().custom_metadata_map["skip2lora.thresholds"])
    assert Thresholds.from_json(said) == CHOSEN


def test_a_label_of_new_classes_goes_by_theirs(tmp_path: Path) -> None:
    chosen = Thresholds(0.9, (None, None, None, NEVER, 0.6), (1, 1, 1, 20, 20))
    base, adapters, session = exported(classifier(INT), tmp_path, chosen, new=2)
    label, _ = session.run(None, {"x": X})
    shares = softmax(expected(base, adapters, {"x": X}))
    best = shares.argmax(axis=1)
    none = (best == 3) | ((best == 4) & (shares[:, 4] < 0.6))
    assert 0 < none[best == 4].sum() < (best == 4).sum()
    assert label.tolist() == np.where(none, -1, best).tolist()


@pytest.mark.parametrize("kind", [BOOL, INT, FLOAT])
def test_yes_or_no_of_each_label_goes_by_its_own(kind: int, tmp_path: Path) -> None:
    base, _, session = exported(yes_or_no(kind), tmp_path)
    label, shares = session.run(None, {"x": X})
    assert base.task == "multi-label"
    wanted = np.stack([shares[:, 0] >= 0.7, shares[:, 1] > 2, shares[:, 2] >= 0.5], axis=1)
    assert (wanted[:, 0] != (shares[:, 0] > 0.5)).any()
    assert label.tolist() == wanted.astype(label.dtype).tolist()
    assert label.dtype == {BOOL: bool, INT: np.int64, FLOAT: np.float32}[kind]


def test_the_label_of_one_logit_of_two_classes_goes_by_them(tmp_path: Path) -> None:
    """As scikit-learn's converter writes it: 1 - p beside p, of one number."""
    net = nets.Net()
    logit = net.node("Gemm", ["x", net.weight("w", 9, 1)], "fc")
    one = net.node("Sigmoid", [logit], "p")
    other = net.node("Sub", [net.constant("one", np.float32(1)), one], "rest")
    shares = net.node("Concat", [other, one], "shares", axis=1)
    label = net.node("ArgMax", [shares], "label", axis=1, keepdims=0)
    outputs = [nets.value(label, ["n"], INT), nets.value(shares, ["n", 2])]
    model = net.model([nets.value("x", ["n", 9])], outputs)
    chosen = Thresholds(0.9, (0.9, 0.6), (20, 20))
    base, adapters, session = exported(model, tmp_path, chosen)
    got, _ = session.run(None, {"x": X})
    made = softmax(expected(base, adapters, {"x": X}))
    best = made.argmax(axis=1)
    wanted = np.where(made.max(axis=1) >= np.array([0.9, 0.6])[best], best, -1)
    assert set(wanted) == {-1, 0, 1}
    assert got.tolist() == wanted.tolist()


@pytest.mark.parametrize(
    "model", [classifier(INT8), classifier(INT, opset=8)], ids=["int8", "no Where"]
)
def test_what_cannot_is_left_out(model: Any, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="is left out, as it cannot go by the thresholds"):
        base, adapters, session = exported(model, tmp_path)
    assert [each.name for each in session.get_outputs()] == ["shares"]
    [shares] = session.run(None, {"x": X})
    np.testing.assert_allclose(shares, softmax(expected(base, adapters, {"x": X})), atol=1e-5)


def test_nothing_else_to_go_by(tmp_path: Path, refused: Refused) -> None:
    base = s2.load(nets.save(classifier(INT8, probabilities=False), tmp_path / "m.onnx"))
    said = refused(
        ModelError, export_onnx, base, random_adapters(base), tmp_path / "e.onnx", thresholds=CHOSEN
    )
    assert "cannot go by the thresholds of the adapter" in said
    assert not (tmp_path / "e.onnx").exists()


def test_without_thresholds_it_is_the_largest(tmp_path: Path) -> None:
    base, adapters, session = exported(classifier(INT), tmp_path, None)
    label, _ = session.run(None, {"x": X})
    assert label.tolist() == expected(base, adapters, {"x": X}).argmax(axis=1).tolist()
    assert "skip2lora.thresholds" not in session.get_modelmeta().custom_metadata_map


def test_adapters_to_swap_have_no_label_that_goes_by_them(tmp_path: Path, refused: Refused) -> None:
    base = s2.load(nets.save(classifier(INT), tmp_path / "m.onnx"))
    given = (base, random_adapters(base), tmp_path / "e.onnx")
    said = refused(ModelError, export_onnx_adapter, *given, thresholds=CHOSEN)
    assert "output place says what is predicted, expected probabilities alone" in said
    assert not (tmp_path / "e.onnx").exists()
    plain = s2.load(nets.save(nets.mlp(), tmp_path / "p.onnx"))
    export_onnx_adapter(
        plain, random_adapters(plain), tmp_path / "p2.onnx", thresholds=replace(CHOSEN)
    )


def test_from_the_samples_to_the_label(tmp_path: Path) -> None:
    """Through the front door: the file says what the adapted model predicts."""
    random = np.random.default_rng(0)
    x = random.normal(size=(240, 9)).astype(np.float32)
    y = (x[:, 0] + 0.8 * random.normal(size=240) > 0).astype(int) + (x[:, 3] > 1)
    base = s2.load(nets.save(classifier(TEXT), tmp_path / "m.onnx"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = s2.adapt(base, x, np.array(["cat", "dog", "fox"])[y]).with_thresholds(0.9)
    export_onnx(
        adapted.backbone, adapted.adapters, tmp_path / "e.onnx", thresholds=adapted.thresholds
    )
    label, _ = session_of(tmp_path / "e.onnx").run(None, {"x": X})
    assert label.tolist() == adapted.predict(X).tolist()
    assert "none of these" in label
