"""Every kind of end of an OpenVINO network: what the model says is what the runtime says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openvino", reason="needs the package openvino: pip group runtimes")

import openvino_models as nets
import skip2lora as s2
from openvino_models import op
from skip2lora.errors import ModelError

X = np.random.default_rng(3).normal(size=(12, 6)).astype(np.float32)
Refused = Callable[..., str]


def constant(value: float) -> Any:
    return nets.constant(np.array(value, np.float32))


def sigmoid(z: Any) -> Any:
    return op.sigmoid(z)


def turned(z: Any) -> Any:
    return op.subtract(constant(1), sigmoid(z))


#: Logits, what makes the output, and what it is to be of probabilities and predictions.
KEPT: dict[str, tuple[int, Any, Any]] = {
    "percent": (3, lambda z: op.multiply(op.softmax(z, 1), constant(100)), lambda p, _: 100 * p),
    "log": (3, lambda z: op.log_softmax(z, 1), lambda p, _: np.log(p)),
    "clamped": (3, lambda z: op.clamp(op.softmax(z, 1), 1e-7, 1.0), lambda p, _: p),
    "temperature": (3, lambda z: op.softmax(op.divide(z, constant(2)), 1), lambda p, _: p),
    "1 - p, p": (1, lambda z: op.concat([turned(z), sigmoid(z)], 1), lambda p, _: p),
    "threshold": (
        3, lambda z: op.convert(op.greater(sigmoid(z), constant(0.5)), "i64"), lambda _, y: y,
    ),
    "one sigmoid a sample": (
        1, lambda z: op.squeeze(sigmoid(z), nets.whole([1])), lambda p, _: p[:, 0],
    ),
    "turned": (2, turned, lambda p, _: p),
}  # fmt: skip
CLOSED: dict[str, Any] = {
    "mean of two": lambda z: op.divide(op.add(op.softmax(z, 1), sigmoid(z)), constant(2)),
    "clamped from 0.1": lambda z: op.clamp(op.softmax(z, 1), 0.1, 0.9),
    "threshold elsewhere": lambda z: op.greater(sigmoid(z), constant(0.7)),
    "cut off": lambda z: op.convert(op.softmax(z, 1), "i64"),
    "over another axis": lambda z: op.squeeze(
        op.softmax(op.unsqueeze(z, nets.whole([2])), 2), nets.whole([2])
    ),
}


def save(width: int, build: Any, path: Path) -> Path:
    net = nets.Net()
    hidden = op.relu(net.dense(net.input("x", [-1, 6]), 6, 8, "hidden"))
    return nets.save(net.model(nets.named(build(net.dense(hidden, 8, width, "z")), "y")), path)


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept(name: str, tmp_path: Path) -> None:
    width, build, expected = KEPT[name]
    path = save(width, build, tmp_path / "m.xml")
    stock = nets.core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(X)[0]
    model = s2.load(path)
    want = expected(model.predict_proba(X), model.predict(X))
    assert want.shape == stock.shape
    np.testing.assert_allclose(stock, want, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", CLOSED)
def test_what_is_refused(name: str, tmp_path: Path, refused: Refused) -> None:
    model = s2.load(save(3, CLOSED[name], tmp_path / "m.xml"))
    assert (model.n_outputs, model.output) == (0, None)
    said = refused(ModelError, s2.adapt, model, X, np.arange(12) % 2)
    assert f"(y is {model.outputs[0].reason})" in said
    assert s2.adapt(model, X, np.arange(12) % 2, keep_outputs=False, epochs=2).n_outputs == 2


def test_one_number(tmp_path: Path) -> None:
    path = save(1, lambda z: op.squeeze(z, nets.whole([1])), tmp_path / "m.xml")
    model = s2.load(path)
    assert (model.n_outputs, model.task) == (1, "regression")
    one = s2.load(save(1, sigmoid, tmp_path / "n.xml"))
    adapted = s2.adapt(one, X, (X[:, 0] > 0).astype(int), epochs=60, learning_rate=0.05)
    assert set(adapted.predict(X).tolist()) == {0, 1}
    assert adapted.predict_proba(X).shape == (12, 2)


NUMBERS: dict[str, Any] = {
    "SoftPlus": op.softplus,
    "Exp": lambda z: op.exp(op.add(z, nets.constant(np.array([1, 2, 3], np.float32)))),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_positive_numbers_are_no_logits(kind: str, tmp_path: Path) -> None:
    """What a network of counts or of scales ends in."""
    [output] = s2.load(save(3, NUMBERS[kind], tmp_path / "m.xml")).outputs
    assert output.ending == "numbers"
    assert output.reason.startswith(f"made by {kind}")
