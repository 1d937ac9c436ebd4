"""A file that does not give what was adapted is not written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx
from onnx import TensorProto

import onnx_models as nets
from onnx_exports import random_adapters
from skip2lora.backbones.onnx.backbone import OnnxBackbone
from skip2lora.backbones.standins import Headless
from skip2lora.errors import DataError, ModelError
from skip2lora.export.check import _tells, check_export
from skip2lora.export.onnx import export_onnx, export_onnx_adapter
from skip2lora.tasks.task import softmax

Refused = Callable[..., str]
EXPORTS = {"one file": export_onnx, "adapter inputs": export_onnx_adapter}


def changed(path: Path, name: str, share: float) -> Any:
    """The model in a file, one number of the constant whose name ends so changed by a share."""
    model = onnx.load(path)
    [tensor] = (each for each in model.graph.initializer if each.name.endswith(name))
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[np.abs(values).argmax()] *= 1 + share
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


@pytest.mark.parametrize("kind", ["outputs of the base", "new classes", "new outputs"])
@pytest.mark.parametrize("net", ["mlp", "cnn", "transformer"])
def test_one_number_that_is_wrong(net: str, kind: str, tmp_path: Path, refused: Refused) -> None:
    backbone = OnnxBackbone.load(nets.save(getattr(nets, net)(), tmp_path / "m.onnx"))
    given = Headless(backbone, 3) if kind == "new outputs" else backbone
    adapters = random_adapters(given, new=2 * (kind == "new classes"))
    export_onnx(given, adapters, tmp_path / "e.onnx")
    logits = next(
        node.output[0]
        for node in onnx.load(tmp_path / "e.onnx").graph.node
        if node.name == f"skip2lora_adapter.{'output' if kind == 'new outputs' else 'sum'}"
    )
    for name in ("lora_a.0", "lora_b", "bias"):
        for share in (0, 0.1):
            model = changed(tmp_path / "e.onnx", f"adapter.{name}", share)
            args = (model, logits, backbone, given, adapters)
            if share:
                message = refused(ModelError, check_export, *args)
                assert "the exported logits of 4 samples at once differ by" in message
            else:
                check_export(*args)


def test_one_step_of_what_a_model_rounds_to(tmp_path: Path, refused: Refused) -> None:
    """Of a graph with half precision, whose sums may fall on the next step."""
    net = nets.mlp()
    net.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(1, np.float16), "half"))
    backbone = OnnxBackbone.load(nets.save(net, tmp_path / "m.onnx"))
    adapters = random_adapters(backbone)
    export_onnx(backbone, adapters, tmp_path / "e.onnx")
    graph = onnx.load(tmp_path / "e.onnx").graph
    [logits] = (node.output[0] for node in graph.node if node.name == "skip2lora_adapter.sum")
    x = np.random.default_rng(0).normal(size=(1, 9)).astype(np.float32)
    outputs = adapters.logits(backbone, x), backbone.logits(x)
    largest = max(float(np.abs(each).max()) for each in outputs)
    for step, fits in ((0.045, True), (0.055, False)):
        model = onnx.load(tmp_path / "e.onnx")
        [bias] = (of for of in model.graph.initializer if of.name.endswith("adapter.bias"))
        values = onnx.numpy_helper.to_array(bias) + np.float32(step * largest)
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
        args = (model, logits, backbone, backbone, adapters, x)
        if fits:
            check_export(*args)
        else:
            assert "differ by" in refused(ModelError, check_export, *args)


@pytest.mark.parametrize("export", EXPORTS.values(), ids=EXPORTS)
def test_terms_that_float32_cannot_add_up(export: Any, tmp_path: Path, refused: Refused) -> None:
    """As adapters were whose taps had been scaled too far."""
    backbone = OnnxBackbone.load(nets.save(nets.cnn(), tmp_path / "m.onnx"))
    adapters = random_adapters(backbone, rank=2)
    opposed = np.float32([[1], [-1]]) * np.ones(4, np.float32)
    nearly = [np.repeat(1e6 * a[:, :1], 2, axis=1) + np.float32([0, 1]) for a in adapters.lora_a]
    adapters = replace(adapters, lora_a=tuple(nearly), lora_b=(opposed,) * len(nearly))
    message = refused(ModelError, export, backbone, adapters, tmp_path / "e.onnx")
    assert "in float64, expected" in message
    assert sorted(each.name for each in tmp_path.iterdir()) == ["m.onnx"]


def with_label(apart: str) -> Any:
    """Logits, and a label or probabilities that are computed beside them."""
    net, shape = nets.Net(), ["n", 3]
    hidden = net.node("MatMul", ["x", net.weight("w", 9, 8)], "hidden")
    weight = net.weight("v", 8, 3)
    net.node("MatMul", [hidden, weight], "logits")
    again = net.node("MatMul", [hidden, net.node("Identity", [weight], "same")], "again")
    outputs = [nets.value("logits", shape)]
    if apart == "label":
        net.node("ArgMax", [again], "label", axis=1, keepdims=0)
        outputs.append(nets.value("label", ["n"], TensorProto.INT64))
    elif apart in ("Softmax", "Sigmoid"):
        outputs.append(nets.value(net.node(apart, [again], apart), shape))
    else:
        outputs.append(nets.value(net.node("Tanh", [again], "other"), shape))
    return net.model([nets.value("x", ["n", 9])], outputs)


@pytest.mark.parametrize("apart", ["label", "Softmax", "Sigmoid", "other"])
def test_outputs_that_would_be_stale(apart: str, tmp_path: Path, refused: Refused) -> None:
    path = nets.save(with_label(apart), tmp_path / "m.onnx")
    backbone = OnnxBackbone.load(path, output="logits")
    adapters = random_adapters(backbone)
    x = np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32)
    assert len(set(backbone.predict_index(x))) > 1
    out = tmp_path / "e.onnx"
    if apart == "other":
        export_onnx(backbone, adapters, out, samples=x)
        return
    message = refused(ModelError, export_onnx, backbone, adapters, out, samples=x)
    assert f"output {apart} would give what the base says of a class" in message
    assert not out.exists()


@pytest.mark.filterwarnings("ignore:.*takes no samples of noise")
def test_samples_that_no_model_takes(tmp_path: Path, refused: Refused) -> None:
    net = nets.Net()
    word = net.node("Gather", [net.weight("words", 1, 6), "x"], "word")  # 0 is the only one
    net.node("MatMul", [word, net.weight("w", 6, 3)], "logits")
    model = net.model([nets.value("x", ["n"], TensorProto.INT64)], [nets.value("logits", ["n", 3])])
    backbone = OnnxBackbone.load(nets.save(model, tmp_path / "m.onnx"))
    adapters = random_adapters(backbone)
    message = refused(ModelError, export_onnx, backbone, adapters, tmp_path / "e.onnx")
    assert "takes no random samples (the model refused the samples" in message
    assert "samples=" in message
    with pytest.raises(DataError):
        export_onnx(backbone, adapters, tmp_path / "e.onnx", samples=[])
    assert not (tmp_path / "e.onnx").exists()
    export_onnx(backbone, adapters, tmp_path / "e.onnx", samples=np.zeros(3, np.int64))
    assert (tmp_path / "e.onnx").exists()


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("whose", ["logits", "shares", "halves", "both"])
def test_what_tells_of_logits(whose: str, width: int) -> None:
    """Themselves, and shares of each kind, beside those of others."""
    own, other = np.random.default_rng(0).normal(size=(2, 5, width)) * 9
    own[0] = 95.0  # farther than shares tell
    halves = 1 / (1 + np.exp(-own))
    said = {
        "logits": own, "shares": softmax(own), "halves": halves,
        "both": np.concatenate([1 - halves, halves], axis=1),
    }[whose]  # fmt: skip
    assert _tells(said.astype(np.float32), own)
    assert _tells(said, other) == (whose == "shares" and width == 1)  # all 1
    assert not _tells(said[:, :0], own)
