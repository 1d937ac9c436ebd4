"""A model with several outputs, in every runtime: each can be adapted, and the choice is kept."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.several_outputs import (
    N_FEATURES,
    NAMES,
    RUNTIMES,
    Several,
    embedding_file,
    onnx_file,
)
from skip2lora.errors import ModelError, ParameterError
from skip2lora.tasks.task import softmax

Refused = Callable[..., str]
WIDTHS = tuple(NAMES.values())


@pytest.fixture(params=RUNTIMES)
def several(request: pytest.FixtureRequest, tmp_path: Path) -> Several:
    return RUNTIMES[request.param](tmp_path)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(12, N_FEATURES)).astype(np.float32)


def test_the_output_that_classifies_is_taken(several: Several) -> None:
    model = several.load()
    assert model.output == several.names[2]
    assert model.n_outputs == 5
    assert [(spec.name, spec.shape, spec.ending) for spec in model.outputs] == [
        (several.names[0], (1,), "logits"),
        (several.names[1], (2,), "logits"),
        (several.names[2], (5,), "softmax"),
    ]


@pytest.mark.parametrize("number", range(3))
def test_each_output_gives_the_logits_of_the_runtime(
    several: Several, number: int, x: np.ndarray
) -> None:
    expected = several.answers(x)[number]
    for asked in (number, several.names[number]):
        model = several.load(output=asked)
        assert (model.output, model.n_outputs) == (several.names[number], WIDTHS[number])
        assert [spec.name for spec in model.outputs] == list(several.names)
        for logits in (model.logits(x), model.forward(model.check(x)).base_logits):
            made = softmax(logits) if number == 2 else logits
            np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)
    assert several.load().with_output(number).logits(x).tobytes() == model.logits(x).tobytes()


@pytest.mark.parametrize("asked", ["anger", 3, -1, True, False])
def test_what_is_no_output(several: Several, asked: Any, refused: Refused) -> None:
    said = refused(ParameterError, several.load, output=asked)
    names = ", ".join(several.names)
    assert f"output is {asked!r} for " in said
    assert f"expected a name or number from 0 of {names}: choose one of them" in said
    assert f"output is {asked!r} for " in refused(ParameterError, several.load().with_output, asked)


def test_the_choice_outlives_the_model(several: Several, x: np.ndarray, tmp_path: Path) -> None:
    y = np.arange(12) % 2
    model = several.load(output=1)
    adapted = s2.adapt(model, x, y, epochs=3)
    adapted.save(tmp_path / "a")
    for again in (several.load(), several.load(output=0), several.load(output=1)):
        back = s2.AdaptedModel.load(again, tmp_path / "a")
        assert back.base.output == several.names[1]
        assert back.logits(x).tobytes() == adapted.logits(x).tobytes()
    assert model.with_taps([model.taps[-1].layer]).output == several.names[1]


def test_a_pickle_keeps_the_choice(several: Several, x: np.ndarray) -> None:
    model = several.load(output=1)
    try:
        copied = pickle.loads(pickle.dumps(model))  # noqa: S301
    except (AttributeError, pickle.PicklingError):
        pytest.skip("the module of the test is a local class")
    assert copied.output == several.names[1]
    assert copied.logits(x).tobytes() == model.logits(x).tobytes()


def test_the_default_choice_has_the_fingerprint_of_the_model(several: Several) -> None:
    assert several.load().fingerprint == several.load(output=0).fingerprint


def test_an_embedding_gives_way_to_the_logits_made_of_it(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = embedding_file(tmp_path / "m.onnx")
    assert (s2.load(path).output, s2.load(path).n_outputs) == ("logits", 5)


def test_equal_outputs_are_refused(tmp_path: Path, refused: Refused) -> None:
    pytest.importorskip("onnxruntime")
    path = onnx_file(tmp_path / "m.onnx", softmax=False)
    said = refused(ParameterError, s2.load, path)
    assert "age 1 (logits), gender 2 (logits), emotion 5 (logits), of which several" in said
    assert said.endswith("choose it with output=")
    assert s2.load(path, output="gender").n_outputs == 2


@pytest.mark.parametrize("number", range(2))
def test_an_adapter_of_another_model_is_still_refused(
    number: int, tmp_path: Path, x: np.ndarray, refused: Refused
) -> None:
    pytest.importorskip("onnxruntime")
    model = s2.load(onnx_file(tmp_path / "m.onnx"), output=1)
    s2.adapt(model, x, np.arange(12) % 2, epochs=1).save(tmp_path / "a")
    other = s2.load(onnx_file(tmp_path / "n.onnx", softmax=False), output=number)
    said = refused(ModelError, s2.AdaptedModel.load, other, tmp_path / "a")
    assert "was made for the model" in said


def _onnx_shares(folder: Path, first: np.ndarray, last: np.ndarray) -> Any:
    pytest.importorskip("onnxruntime")
    import onnx_models as nets

    net = nets.Net()
    z = net.node("MatMul", ["x", net.constant("first", first)], "hidden")
    z = net.node("MatMul", [net.node("Relu", [z], "h"), net.constant("last", last)], "z")
    square = net.node("Mul", [z, z], "square")
    total = net.node("ReduceSum", [square, net.constant("axes", np.array([1]))], "total")
    net.node("Div", [square, total], "p")
    made = net.model([nets.value("x", ["n", N_FEATURES])], [nets.value("p", ["n", 3])])
    return s2.load(nets.save(made, folder / "m.onnx"))


def _openvino_shares(folder: Path, first: np.ndarray, last: np.ndarray) -> Any:
    nets = pytest.importorskip("openvino_models")
    net, op = nets.Net(), nets.op
    hidden = op.relu(
        op.matmul(net.input("x", [-1, N_FEATURES]), nets.constant(first), False, False)
    )
    z = op.matmul(nets.named(hidden, "h"), nets.constant(last), False, False)
    square = op.multiply(z, z)
    total = op.reduce_sum(square, nets.whole([1]), True)
    return s2.load(nets.save(net.model(op.divide(square, total)), folder / "m.xml"))


def _litert_shares(folder: Path, first: np.ndarray, last: np.ndarray) -> Any:
    pytest.importorskip("ai_edge_litert.interpreter", reason="needs LiteRT")
    from tflite_models import RELU, File

    file = File()
    x, hidden = file.tensor("x", (1, N_FEATURES)), file.tensor("hidden", (1, first.shape[1]))
    z, square, p = (file.tensor(name, (1, 3)) for name in ("z", "square", "p"))
    total = file.tensor("total", (1, 1))
    layers = (("first", first, x, hidden, {"fusedActivationFunction": RELU}),
              ("last", last, hidden, z, {}))  # fmt: skip
    for name, values, source, made, options in layers:
        weight = file.constant(name, np.ascontiguousarray(values.T))
        file.operator("FULLY_CONNECTED", [source, weight, -1], [made], **options)
    file.operator("MUL", [z, z], [square])
    file.operator("SUM", [square, file.constant("axis", np.array([1], np.int32))], [total],
                  keepDims=True)  # fmt: skip
    file.operator("DIV", [square, total], [p])
    path = folder / "m.tflite"
    path.write_bytes(file.pack([x], [p]))
    return s2.load(path)


def _torch_shares(folder: Path, first: np.ndarray, last: np.ndarray) -> Any:
    torch = pytest.importorskip("torch")
    del folder

    class Shares(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(*first.shape, bias=False)
            self.last = torch.nn.Linear(*last.shape, bias=False)
            for layer, values in ((self.first, first), (self.last, last)):
                layer.weight.data = torch.from_numpy(np.ascontiguousarray(values.T))

        def forward(self, x: Any) -> Any:
            square = self.last(torch.relu(self.first(x))) ** 2
            return square / square.sum(1, keepdim=True)

    return s2.TorchBackbone(Shares().eval(), example=np.ones((2, N_FEATURES), np.float32) / 3)


@pytest.mark.parametrize(
    "make", [_onnx_shares, _openvino_shares, _litert_shares, _torch_shares],
    ids=["onnx", "openvino", "litert", "torch"],
)  # fmt: skip
def test_shares_of_another_kind_than_a_softmax_are_no_logits(
    make: Callable[..., Any], x: np.ndarray, tmp_path: Path, refused: Refused
) -> None:
    """The softmax of probabilities is none of the model's; new outputs are learned all the same."""
    random = np.random.default_rng(2)
    weights = [random.normal(size=of).astype(np.float32) for of in ((N_FEATURES, 8), (8, 3))]
    model = make(tmp_path, *weights)
    assert (model.n_outputs, model.output) == (0, None)
    assert [spec.reason for spec in model.outputs] == ["shares of no logits"]
    assert "shares of no logits" in refused(ModelError, model.predict_proba, x)
    adapted = s2.adapt(model, x, np.arange(12) % 2, keep_outputs=False, epochs=1)
    assert adapted.n_outputs == 2
