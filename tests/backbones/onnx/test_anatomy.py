"""What is found in a graph: its layers in order, of which kind, and where the logits are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")


import numpy as np
import pytest
from onnx import TensorProto

import onnx_models as nets
from skip2lora.backbones.onnx.anatomy import Anatomy, Fold, anatomy
from skip2lora.backbones.onnx.backbone import OnnxBackbone
from skip2lora.backbones.onnx.graph import Graph
from skip2lora.errors import ModelError

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx
import onnxruntime

from onnx_exports import expected, random_adapters
from skip2lora.backbones.onnx.preparing import prepare
from skip2lora.export.onnx import export_onnx
from skip2lora.tasks.task import softmax

Refused = Callable[..., str]


def test_no_layers_with_weights(tmp_path: Path, refused: Refused) -> None:
    net = nets.Net()
    net.node("Relu", ["x"], "y")
    model = net.model([nets.value("x", ["n", 3])], [nets.value("y", ["n", 3])])
    path = nets.save(model, tmp_path / "m.onnx")
    assert "has no layer with weights" in refused(ModelError, OnnxBackbone.load, path)


LAYERS = {
    "mlp": (nets.mlp, [("/fc0", "vector", 9), ("/fc1", "vector", 16), ("/fc2", "vector", 5)]),
    "cnn": (
        nets.cnn,
        [
            ("/conv0", "map", 48), ("/depthwise", "map", 128), ("/conv1", "map", 128),
            ("/fc", "vector", 12),
        ],
    ),
    "transformer": (  # query, key and value read one tensor
        nets.transformer,
        [
            ("/query", "sequence", 32), ("/output", "sequence", 32), ("/up", "sequence", 32),
            ("/down", "sequence", 64), ("/head", "vector", 16),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, tmp_path: Path) -> None:
    make, expected = LAYERS[name]
    backbone = OnnxBackbone.load(nets.save(make(), tmp_path / "m.onnx"))
    assert [(tap.layer, tap.kind, tap.width) for tap in backbone.layers] == expected
    assert backbone.taps == backbone.layers


def test_logits_with_axes_of_one(tmp_path: Path) -> None:
    """A classifier whose last layer is a convolution, then Softmax, Flatten and ArgMax."""
    net = nets.Net()
    tensor = net.node("Conv", ["x", net.weight("w", 5, 3, 4, 4)], "conv")
    tensor = net.node("Softmax", [tensor], "soft", axis=1)
    tensor = net.node("Flatten", [tensor], "flat")
    tensor = net.node("ArgMax", [tensor], "label", axis=1, keepdims=0)
    model = net.model(
        [nets.value("x", ["n", 3, 4, 4])], [nets.value(tensor, ["n"], TensorProto.INT64)]
    )
    path = nets.save(model, tmp_path / "m.onnx")
    x = nets.images(6, 4)
    backbone = OnnxBackbone.load(path)
    [expected] = nets.raw(path, ["conv"], {"x": x})
    assert backbone.n_outputs == 5
    np.testing.assert_allclose(backbone.logits(x), expected.reshape(6, 5), atol=1e-6)


def found(model: Any, *, grid: int = 4) -> Anatomy:
    return anatomy(Graph(model), Path("m.onnx"), grid=grid)


def test_where_the_samples_are() -> None:
    """Tokens that lie one after another, or come first, are told from samples."""
    folded = {source.tap.layer: source for source in found(nets.transformer(folded=True)).sources}
    assert (folded["/query"].fold, folded["/up"].fold) == (None, Fold(1, None))
    assert folded["/up"].tap.shape == (None, 16)
    assert {str(source.mask) for source in folded.values()} == {"attention_mask=tokens", "None"}
    assert folded["/head"].mask is None
    net = nets.Net()
    net.node("Transpose", ["x"], "turned", perm=[1, 0, 2])
    net.node("MatMul", ["turned", net.weight("w", 4, 2)], "y")
    model = net.model([nets.value("x", ["n", 5, 4])], [nets.value("y", [5, "n", 2])])
    [source] = [each for each in found(model).sources if each.tap.layer == "/y"]
    assert (source.fold, source.tap.shape) == (Fold(5, 1), (5, 4))


def test_a_mask_counts_for_as_many_tokens_alone() -> None:
    net = nets.Net()
    net.node("MatMul", ["short", net.weight("v", 4, 4)], "one")
    net.node("MatMul", ["long", net.weight("w", 4, 4)], "other")
    names = {"short": ["n", 5, 4], "long": ["n", "t", 4], "token_mask": ["n", "t"]}
    inputs = [nets.value(name, shape) for name, shape in names.items()]
    outputs = [nets.value("one", ["n", 5, 4]), nets.value("other", ["n", "t", 4])]
    sources = found(net.model(inputs, outputs)).sources
    masks = {source.tap.tensor: source.mask and source.mask.name for source in sources}
    assert masks == {"short": None, "long": "token_mask", "one": None}


def test_maps_of_changing_size_are_averaged_over_all_places() -> None:
    kept = [source.tap.grid for source in found(nets.cnn(size="s"), grid=3).sources]
    assert kept == [(1, 1), (1, 1), (1, 1), ()]
    kept = [source.tap.grid for source in found(nets.cnn(), grid=3).sources]
    assert kept == [(3, 3), (3, 3), (3, 3), ()]


def test_an_output_with_an_activation_has_the_logits() -> None:
    net = nets.Net()
    net.node("MatMul", ["x", net.weight("v", 4, 2)], "features")
    net.node("MatMul", ["x", net.weight("w", 4, 3)], "scores")
    net.node("Softmax", ["scores"], "soft")
    outputs = [nets.value("features", ["n", 2]), nets.value("soft", ["n", 3])]
    made = found(net.model([nets.value("x", ["n", 4])], outputs))
    assert made.head is not None
    assert (made.head.logits, made.n_outputs, made.logits_shape) == ("scores", 3, (3,))


def test_a_model_without_logits_is_tapped_at_its_output() -> None:
    made = found(nets.transformer(encoder=True))
    assert (made.head, made.n_outputs, made.logits_shape) == (None, 0, ())
    assert made.sources[-1].tap.tensor == "block"


def test_inputs_without_shape() -> None:
    model = nets.mlp()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ModelError, match="input x has no shape, expected its number of axes"):
        found(model)


X = np.random.default_rng(1).normal(size=(7, 9)).astype(np.float32)


def run(path: Path) -> np.ndarray:
    [made] = onnxruntime.InferenceSession(path).run(None, {"x": X})
    return made


def written_out(
    *, largest: bool = True, reciprocal: bool = False, spread: str = "", of: str = "power"
) -> Any:
    """Gemm, Relu, Gemm and the parts of a softmax over 3 classes, ``probabilities``.

    ``spread`` is how a row's value comes to stand at each class: by broadcasting, as tf2onnx writes
    it ("reshape"), or over a fixed number of classes ("fixed").
    """
    net = nets.Net(opset=15)
    axis = net.constant("axis", np.array([1], np.int64))
    keep = not spread

    def spread_out(tensor: str) -> str:
        if not spread:
            return tensor
        rows = net.node("Shape", [tensor], f"{tensor}.shape")
        column = net.constant(f"{tensor}.one", np.array([3 if spread == "fixed" else 1], np.int64))
        shape = net.node("Concat", [rows, column], f"{tensor}.rows", axis=0)
        one = net.constant(f"{tensor}.column", np.array([-1, 1], np.int64))
        tall = net.node("Reshape", [tensor, one], f"{tensor}.tall")
        return net.node("Expand", [tall, shape], f"{tensor}.wide")

    tensor = net.node("Gemm", ["x", net.weight("w0", 9, 5), net.vector("b0", 5)], "fc0")
    tensor = net.node("Relu", [tensor], "relu0")
    tensor = net.node("Gemm", [tensor, net.weight("w1", 5, 3), net.vector("b1", 3)], "fc1")
    if largest:
        most = net.node("ReduceMax", [tensor], "most", axes=[1], keepdims=int(keep))
        low = net.constant("low", np.float32(-1e30))
        most = net.node("Max", [low, most], "most.bounded")
        tensor = net.node("Sub", [tensor, spread_out(most)], "shifted")
    power = net.node("Exp", [tensor], "power")
    total = net.node("ReduceSum", [of, axis], "total", keepdims=int(keep))
    total = spread_out(total)
    if reciprocal:
        total = net.node("Reciprocal", [total], "share")
        net.node("Mul", [total, power], "probabilities")
    else:
        net.node("Div", [power, total], "probabilities")
    return net.model([nets.value("x", ["n", 9])], [nets.value("probabilities", ["n", 3])])


PARTS = {
    "bare": {"largest": False},
    "with its largest value": {},
    "with the reciprocal": {"reciprocal": True},
    "as tf2onnx": {"spread": "reshape"},
    "as tf2onnx, with the reciprocal": {"spread": "reshape", "reciprocal": True},
    "of fixed classes": {"spread": "fixed"},
}


@pytest.mark.parametrize("name", PARTS)
def test_a_softmax_written_out(name: str, tmp_path: Path) -> None:
    path = nets.save(written_out(**PARTS[name]), tmp_path / "m.onnx")
    backbone = OnnxBackbone.load(path)
    [logits, made] = nets.raw(path, ["fc1", "probabilities"], {"x": X})
    np.testing.assert_allclose(backbone.logits(X), logits, atol=1e-6)
    np.testing.assert_allclose(backbone.predict_proba(X), made, atol=1e-6)
    assert [tap.layer for tap in backbone.taps] == ["/fc0", "/fc1"]
    adapters = random_adapters(backbone)
    export_onnx(backbone, adapters, tmp_path / "e.onnx")
    np.testing.assert_allclose(
        run(tmp_path / "e.onnx"), softmax(expected(backbone, adapters, {"x": X})), atol=1e-5
    )


@pytest.mark.parametrize("name", PARTS)
def test_new_classes_of_a_softmax_written_out(name: str, tmp_path: Path) -> None:
    backbone = OnnxBackbone.load(nets.save(written_out(**PARTS[name]), tmp_path / "m.onnx"))
    adapters = random_adapters(backbone, new=2)
    export_onnx(backbone, adapters, tmp_path / "e.onnx")
    made = run(tmp_path / "e.onnx")
    assert made.shape == (7, 5)
    want = expected(backbone, adapters, {"x": X})
    if name != "of fixed classes":  # which gives the logits instead
        want = softmax(want)
    np.testing.assert_allclose(made, want, atol=1e-5)


def test_what_only_looks_like_a_softmax(tmp_path: Path) -> None:
    """The sum is of another tensor: the output is what the model says it is."""
    model = written_out(largest=False, of="fc1")
    path = nets.save(model, tmp_path / "m.onnx")
    [made] = nets.raw(path, ["probabilities"], {"x": X})
    np.testing.assert_allclose(OnnxBackbone.load(path).logits(X), made, rtol=1e-5)


@pytest.mark.parametrize("end", ["Softmax", "Sigmoid"])
def test_activations_on_integers(end: str, tmp_path: Path) -> None:
    """QLinearSoftmax and QLinearSigmoid: the logits are real numbers before the rounding."""
    from onnxruntime.quantization import QuantFormat

    plain = nets.save(nets.mlp(end=end), tmp_path / "m.onnx")
    path = nets.quantized(plain, [{"x": X}], quant_format=QuantFormat.QOperator)
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert f"QLinear{end}" in kinds
    real, backbone = OnnxBackbone.load(plain), OnnxBackbone.load(path)
    assert backbone.task == real.task
    want = real.logits(X)
    np.testing.assert_allclose(backbone.logits(X), want, atol=0.05 * np.abs(want).max())
    assert np.abs(want).max() > 1  # no probabilities
    prepare(path, tmp_path / "t.onnx")
    tapped = OnnxBackbone.load(tmp_path / "t.onnx")
    assert tapped.fingerprint == backbone.fingerprint
    for one, other in zip(tapped.forward(X).taps, backbone.forward(X).taps, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    adapters = random_adapters(backbone)
    export_onnx(backbone, adapters, tmp_path / "e.onnx")
    logits = expected(backbone, adapters, {"x": X})
    active = softmax(logits) if end == "Softmax" else 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(run(tmp_path / "e.onnx"), active, atol=1e-5)


def integers(end: str, outputs: list[str], *, zero: bool = True) -> Any:
    """Gemm, Relu, Gemm, an activation on integers ("whole") and what may be an output behind it.

    ``zero`` says that the activation has its last input.
    """
    net = nets.Net()
    tensor = net.node("Gemm", ["x", net.weight("w0", 9, 6), net.vector("b0", 6)], "fc0")
    tensor = net.node("Relu", [tensor], "relu")
    tensor = net.node("Gemm", [tensor, net.weight("w1", 6, 3), net.vector("b1", 3)], "fc1")
    given = [net.constant("scale", np.float32(0.05)), net.constant("point", np.uint8(128))]
    made = [net.constant("step", np.float32(1 / 256)), net.constant("nothing", np.uint8(0))]
    tensor = net.node("QuantizeLinear", [tensor, *given], "logits")
    options = {"axis": 1, "opset": 13} if end == "QLinearSoftmax" else {}
    inputs = [tensor, *given, *made][: 5 if zero else 4]
    tensor = net.node(end, inputs, "whole", domain="com.microsoft", **options)
    net.node("DequantizeLinear", [tensor, *made], "real")
    net.node("ArgMax", [tensor], "label", axis=1)
    values = {
        "whole": nets.value("whole", ["n", 3], TensorProto.UINT8),
        "real": nets.value("real", ["n", 3]),
        "label": nets.value("label", ["n", 1], TensorProto.INT64),
    }
    return net.model([nets.value("x", ["n", 9])], [values[name] for name in outputs])


@pytest.mark.parametrize(
    "outputs", [["real", "label"], ["label", "real"], ["label"], ["whole"], ["whole", "real"]],
    ids="+".join,
)  # fmt: skip
@pytest.mark.parametrize("end", ["QLinearSoftmax", "QLinearSigmoid"])
def test_several_outputs_of_one_activation_on_integers(
    end: str, outputs: list[str], tmp_path: Path
) -> None:
    """They are exported adapted, in the types that they have; only integers stay rounded."""
    path = nets.save(integers(end, outputs), tmp_path / "m.onnx")
    backbone = OnnxBackbone.load(path)
    np.testing.assert_allclose(backbone.logits(X), nets.raw(path, ["fc1"], {"x": X})[0], atol=0.026)
    adapters = random_adapters(backbone)
    export_onnx(backbone, adapters, tmp_path / "e.onnx")
    logits = expected(backbone, adapters, {"x": X})
    active = softmax(logits) if end == "QLinearSoftmax" else 1 / (1 + np.exp(-logits))
    session = onnxruntime.InferenceSession(tmp_path / "e.onnx")
    for name, array in zip(outputs, session.run(None, {"x": X}), strict=True):
        if name == "label":
            np.testing.assert_array_equal(array[:, 0], logits.argmax(axis=1))
        elif name == "whole":
            assert array.dtype == np.uint8
            np.testing.assert_allclose(array / 256, active, atol=1 / 256)
        else:
            np.testing.assert_allclose(array, active, atol=1 / 256 if len(outputs) > 1 else 1e-5)


def test_an_activation_on_integers_without_its_last_zero_point(tmp_path: Path) -> None:
    whole, short = (
        OnnxBackbone.load(
            nets.save(integers("QLinearSigmoid", ["real"], zero=zero), tmp_path / f"{zero}.onnx")
        )
        for zero in (True, False)
    )
    assert short.task == "multi-label"
    np.testing.assert_array_equal(short.logits(X), whole.logits(X))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16], ids=["32", "16"])
@pytest.mark.parametrize("rounded", [False, True])
def test_numbers_too_large_for_fractions_may_be_logits(
    kind: int, rounded: bool, tmp_path: Path
) -> None:
    """As a network for prices in cents gives: its type has no fractions there."""
    net, level = nets.Net(), 3e8 if kind == TensorProto.FLOAT else 3e3
    weight = np.random.default_rng(0).uniform(0.5, 1, (9, 1)) * (1 if rounded else level)
    net.node("Cast", ["x"], "cast", to=kind)
    dtype = np.float32 if kind == TensorProto.FLOAT else np.float16
    name = "product" if rounded else "y"
    net.node("MatMul", ["cast", net.constant("w", weight.astype(dtype))], name)
    if rounded:
        net.node("Round", [name], "y")
    model = net.model([nets.value("x", ["n", 9])], [nets.value("y", ["n", 1], kind)])
    (spec,) = OnnxBackbone.load(nets.save(model, tmp_path / "m.onnx")).outputs
    assert spec.ending == ("labels" if rounded else "logits")
