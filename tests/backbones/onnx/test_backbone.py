"""Models as ``.onnx``: taps, logits, inputs, prepared files and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx_models as nets
import skip2lora as s2
from onnx_exports import expected_rows
from skip2lora.arrays import Inputs
from skip2lora.backbones.onnx import OnnxBackbone, prepare
from skip2lora.backbones.onnx.session import Session, open_session
from skip2lora.backbones.taps import rows_of
from skip2lora.errors import DataError, ModelError, ParameterError

Refused = Callable[..., str]
Feed = dict[str, np.ndarray]
TABLE = {"x": np.random.default_rng(1).normal(size=(7, 9)).astype(np.float32)}
NETS: dict[str, tuple[Callable[[], Any], Feed]] = {
    "mlp, opset 7": (lambda: nets.mlp(opset=7), TABLE),
    "mlp, sigmoid": (lambda: nets.mlp(end="Sigmoid"), TABLE),
    "mlp, batch of 1": (lambda: nets.mlp(batch=1), TABLE),
    "mlp, batch of 4": (lambda: nets.mlp(batch=4), TABLE),
    "cnn, opset 9": (lambda: nets.cnn(opset=9), {"x": nets.images(5)}),
    "cnn, opset 11": (lambda: nets.cnn(opset=11), {"x": nets.images(5)}),
    "cnn, opset 21": (lambda: nets.cnn(opset=21), {"x": nets.images(5)}),
    "cnn, large": (lambda: nets.cnn(size=40), {"x": nets.images(2, 40)}),
    "cnn, batch of 1": (lambda: nets.cnn(batch=1), {"x": nets.images(3)}),
    "cnn, any size": (lambda: nets.cnn(size="s"), {"x": nets.images(3, 18)}),
    "transformer": (lambda: nets.transformer(), nets.texts(6, 7)),
    "transformer, opset 18": (lambda: nets.transformer(opset=18), nets.texts(6, 7)),
    "transformer, folded": (lambda: nets.transformer(folded=True), nets.texts(6, 7)),
    "transformer, folded, fixed": (
        lambda: nets.transformer(folded=True, batch=1, tokens=7), nets.texts(6, 7),
    ),
    "encoder": (lambda: nets.transformer(encoder=True), nets.texts(6, 7)),
}  # fmt: skip


def as_passed(feed: Feed) -> Any:
    return feed if len(feed) > 1 else next(iter(feed.values()))


@pytest.mark.parametrize("name", NETS)
def test_taps_are_the_rows_of_the_layers_inputs(name: str, tmp_path: Path) -> None:
    make, feed = NETS[name]
    path = nets.save(make(), tmp_path / "m.onnx")
    backbone = s2.load(path)
    made = backbone.forward(backbone.check(as_passed(feed)))
    assert [tap.shape[1] for tap in made.taps] == list(backbone.tap_widths)
    for rows, expected in zip(made.taps, expected_rows(path, backbone, feed), strict=True):
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("end", ["Softmax", "LogSoftmax", "Sigmoid", "ArgMax", None])
def test_logits_come_before_the_last_activation(end: str | None, tmp_path: Path) -> None:
    path = nets.save(nets.mlp(end=end), tmp_path / "m.onnx")
    backbone = OnnxBackbone.load(path)
    [expected] = nets.raw(path, ["fc2"], TABLE)
    assert backbone.n_outputs == 3
    np.testing.assert_allclose(backbone.logits(TABLE["x"]), expected, atol=1e-6)
    np.testing.assert_allclose(backbone.forward(TABLE["x"]).base_logits, expected, atol=1e-6)
    assert backbone.task == ("multi-label" if end == "Sigmoid" else "classification")
    predicted = backbone.predict(TABLE["x"])
    if end == "Sigmoid":
        assert predicted.tolist() == (expected > 0).astype(int).tolist()
    else:
        assert predicted.tolist() == expected.argmax(axis=1).tolist()


def test_an_encoder_has_taps_alone(tmp_path: Path, refused: Refused) -> None:
    path = nets.save(nets.transformer(encoder=True), tmp_path / "m.onnx")
    backbone = OnnxBackbone.load(path)
    x = backbone.check(nets.texts(6, 7))
    assert backbone.n_outputs == 0
    assert backbone.forward(x).base_logits.shape == (6, 0)
    assert backbone.layers[-1].layer == "block"
    assert "gives no row of logits" in refused(ModelError, backbone.logits, x)
    y = np.array([7, 8, 7, 8, 7, 8])
    adapted = s2.adapt(backbone, x, y, new_classes=True, epochs=200)
    assert adapted.predict(x).tolist() == y.tolist()
    adapted.save(tmp_path / "a")
    again = s2.AdaptedModel.load(s2.load(path), tmp_path / "a")
    assert again.predict(x).tolist() == y.tolist()


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("operators", [False, True], ids=["QDQ", "QOperator"])
def test_int8(operators: bool, per_channel: bool, tmp_path: Path) -> None:
    """Taps are what the quantised layers see, times their scales."""
    from onnxruntime.quantization import QuantFormat

    path = nets.save(nets.cnn(end=None), tmp_path / "m.onnx")
    x = nets.images(30)
    path = nets.quantized(
        path, [{"x": x[:20]}], per_channel=per_channel,
        quant_format=QuantFormat.QOperator if operators else QuantFormat.QDQ,
        reduce_range=True,  # without VNNI the runtime's sums of 16 bits overflow else
    )  # fmt: skip
    plain = OnnxBackbone.load(tmp_path / "m.onnx")
    backbone = OnnxBackbone.load(path)
    assert backbone.tap_widths == plain.tap_widths
    assert backbone.n_outputs == 4
    made, floats = backbone.forward(x), plain.forward(x)
    for rows, near in zip(made.taps, floats.taps, strict=True):
        assert rows.dtype == np.float32
        assert 0 < np.abs(rows - near).max() < 0.1 * np.abs(near).max()
    if not operators:
        for rows, exact in zip(made.taps, expected_rows(path, backbone, {"x": x}), strict=True):
            np.testing.assert_allclose(rows, exact, atol=0.02 * np.abs(exact).max())


def test_dynamic_quantisation(tmp_path: Path) -> None:
    """MatMulInteger: the tap is the float tensor before it is quantised."""
    from onnxruntime.quantization import quantize_dynamic

    path = nets.save(nets.transformer(), tmp_path / "m.onnx")
    quantize_dynamic(path, tmp_path / "q.onnx")
    plain = OnnxBackbone.load(path)
    with pytest.warns(UserWarning, match="apart, of .* with one scale for all samples of a batch"):
        backbone = OnnxBackbone.load(tmp_path / "q.onnx")
    assert (len(plain.notes), len(backbone.notes)) == (0, 1)
    feed = nets.texts(6, 7)
    assert backbone.tap_widths == plain.tap_widths
    assert backbone.taps[0].tensor == "embedded"
    values = nets.raw(tmp_path / "q.onnx", ["embedded"], feed)[0]
    np.testing.assert_allclose(
        backbone.forward(backbone.check(feed)).taps[0],
        rows_of(backbone.taps[0], values, feed["attention_mask"]),
        rtol=1e-4,
        atol=1e-5,
    )


def test_choosing_taps(tmp_path: Path, refused: Refused) -> None:
    path = nets.save(nets.cnn(), tmp_path / "m.onnx")
    backbone = OnnxBackbone.load(path, taps=["/conv*", -1], grid=2)
    assert [tap.layer for tap in backbone.taps] == ["/conv0", "/conv1", "/fc"]
    assert backbone.tap_widths == (12, 32, 12)
    fewer = backbone.with_taps(["/fc"])
    x = nets.images(3)
    assert fewer.forward(x).taps[0].tobytes() == backbone.forward(x).taps[-1].tobytes()
    assert [tap.layer for tap in fewer.with_taps(["/depthwise"]).taps] == ["/depthwise"]
    assert len(fewer.with_taps(None).taps) == 4
    message = refused(ParameterError, OnnxBackbone.load, path, taps=["/conv2"])
    assert '"/conv2"' in message
    assert "/conv1" in message
    assert "grid is 0" in refused(ParameterError, OnnxBackbone.load, path, grid=0)
    assert "threads is 0.5" in refused(ParameterError, OnnxBackbone.load, path, threads=0.5)


def test_pickle(tmp_path: Path) -> None:
    backbone = OnnxBackbone.load(nets.save(nets.cnn(), tmp_path / "m.onnx"), taps=2)
    back = pickle.loads(pickle.dumps(backbone))  # noqa: S301
    assert back.taps == backbone.taps
    assert back.logits(nets.images(2)).tobytes() == backbone.logits(nets.images(2)).tobytes()


def test_features_of_another_table(tmp_path: Path, refused: Refused) -> None:
    backbone = OnnxBackbone.load(nets.save(nets.mlp(), tmp_path / "m.onnx"))
    message = refused(DataError, backbone.check, np.zeros((4, 10)))
    assert "X has shape (4, 10), the model expects (samples, 9)" in message
    assert "pass the features the model was trained on, in the same order" in message


def test_inputs(tmp_path: Path, refused: Refused) -> None:
    backbone = OnnxBackbone.load(nets.save(nets.cnn(), tmp_path / "m.onnx"))
    x = nets.images(4)
    assert backbone.check(x) is not None
    assert backbone.check(x.astype(np.float64)).tobytes() == x.tobytes()
    assert backbone.check(x.reshape(4, -1)).tobytes() == x.tobytes()
    for bad, said in (
        (np.moveaxis(x, 1, -1), "move channels first"),
        (x[0], "add the missing axis, X[None]"),
        (x[:, :, :10], "X has shape (4, 3, 10, 14), the model expects (samples, 3, 14, 14)"),
        (x[:0], "no samples"),
        (np.where(x > 2, np.nan, x), "NaN"),
        (x.astype(str), "dtype <U"),
        ([x[0], x[0, :2]], "samples of different sizes"),
        ({"y": x}, "X has no input x"),
        ({"x": x, "z": x}, "X has input z"),
    ):
        assert said in refused(DataError, backbone.check, bad)


def test_several_inputs(
    tmp_path: Path, refused: Refused, capfd: pytest.CaptureFixture[str]
) -> None:
    backbone = OnnxBackbone.load(nets.save(nets.transformer(), tmp_path / "m.onnx"))
    feed = nets.texts(5, 7)
    made = backbone.check({name: array.astype(np.float64) for name, array in feed.items()})
    assert isinstance(made, Inputs)
    assert {array.dtype for array in made.arrays.values()} == {np.dtype(np.int64)}
    listed = backbone.check(list(feed.values()))
    assert backbone.logits(listed).tobytes() == backbone.logits(feed).tobytes()
    longer = nets.texts(5, 11)  # the number of tokens may change from call to call
    assert backbone.logits(longer).shape == (5, 3)
    ids = feed["input_ids"]
    for bad, said in (
        (ids, "pass a dict of arrays named input_ids, attention_mask, token_type_ids"),
        ({"input_ids": ids}, "X has no input attention_mask"),
        (feed | {"input_ids": ids[:3]}, "different numbers of samples (input_ids 3,"),
        (feed | {"input_ids": ids + 0.5}, "has fractions"),
    ):
        assert said in refused(DataError, backbone.check, bad)
    beyond = backbone.check(feed | {"input_ids": ids + 1000})
    capfd.readouterr()
    assert "the model refused the samples" in refused(DataError, backbone.forward, beyond)
    assert capfd.readouterr() == ("", "")  # the runtime does not print it, too


def test_a_wrong_number_of_rows_is_an_error(tmp_path: Path, refused: Refused) -> None:
    """Never cut to the samples that were asked for: rows would be those of others."""
    backbone = OnnxBackbone.load(nets.save(nets.mlp(), tmp_path / "m.onnx"))
    name = str(backbone.description.logits)
    net = nets.Net()
    net.node("Concat", ["x", "x"], "twice", axis=0)
    net.node("Gemm", ["twice", net.weight("w", 9, 3)], name)
    model = net.model([nets.value("x", ["n", 9])], [nets.value(name, ["m", 3])])
    session = Session.of(open_session(model.SerializeToString()), {})
    said = refused(ModelError, replace(backbone, session=session).logits, np.zeros((4, 9)))
    assert f"output {name} has 8 rows for 4 samples, expected one a sample" in said


def test_what_takes_no_noise_is_said(tmp_path: Path) -> None:
    """A sample alone may then differ from the same one in a batch."""
    net = nets.Net()
    net.node("Mul", ["x", net.constant("thousand", np.float32(1000))], "scaled")
    net.node("Cast", ["scaled"], "ids", to=7)
    net.node("Gather", [net.weight("table", 9, 4), "ids"], "words")
    net.node("ReduceMean", ["words"], "mean", axes=[1], keepdims=0)
    net.node("Gemm", ["mean", net.weight("v", 4, 2)], "y")
    model = net.model([nets.value("x", ["n", 5])], [nets.value("y", ["n", 2])])
    path = nets.save(model, tmp_path / "m.onnx")
    with pytest.warns(UserWarning, match="takes no samples of noise .*Gather"):
        loaded = s2.load(path)
    assert "not known whether a sample has the same numbers alone" in loaded.notes[0]
    prepare(path, tmp_path / "p.onnx")
    with pytest.warns(UserWarning, match="takes no samples of noise"):
        assert OnnxBackbone.load(tmp_path / "p.onnx").notes == loaded.notes
