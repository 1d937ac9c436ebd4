"""A network of this package as an ONNX file, so that it is exported as any other model is."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from skip2lora.backbones.base import Backbone
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.onnx.backbone import OnnxBackbone
from skip2lora.backbones.onnx.file import model_writer, need_onnx
from skip2lora.backbones.standins import StandIn

_OPSET, _IR_VERSION = 17, 8
#: What stands behind the logits, and what the output is then called.
_ENDS = {
    "classification": ("Softmax", "probabilities"),
    "multi-label": ("Sigmoid", "probabilities"),
}


def twin(given: Backbone, folder: Path) -> Backbone:
    """The ``MLP`` that ``given`` is, or stands in for, run by onnxruntime; else ``given.base``.

    Its file is written into ``folder``. Its taps are those of the network.
    """
    below = given
    while isinstance(below, StandIn):
        below = below.backbone
    if not isinstance(below, MLP):
        return given.base
    file = folder / "model.onnx"
    model_writer(onnx_of(below.merged()))(file)
    return OnnxBackbone.load(file, taps=list(range(len(below.layers))))


def onnx_of(model: MLP) -> Any:
    """``model`` as a ModelProto: its samples are ``X``, its logits or probabilities the output."""
    onnx = need_onnx("export")
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    nodes, weights, tensor = [], [], "X"
    ending = _ENDS.get(model.task)
    for number, layer in enumerate(model.layers):
        title, last = f"layers.{number}", number + 1 == len(model.layers)
        names = {}
        for of, array in zip(fields(layer), layer.arrays(), strict=True):
            if array is not None:
                names[of.name] = f"{title}.{of.name}"
                contiguous = np.ascontiguousarray(array, np.float32)
                weights.append(onnx.numpy_helper.from_array(contiguous, names[of.name]))
        output = "logits" if last else f"{title}.output"
        given = [tensor, names["weight"], names["bias"]]
        nodes.append(helper.make_node("Gemm", given, [output], name=title))
        tensor = output
        if "gamma" in names:
            given = [tensor, *(names[name] for name in ("gamma", "beta", "mean", "var"))]
            output = f"{title}.normalised"
            nodes.append(
                helper.make_node("BatchNormalization", given, [output], epsilon=model.bn_eps)
            )
            tensor = output
        if not last:
            output = f"{title}.activated"
            nodes.append(helper.make_node("Relu", [tensor], [output]))
            tensor = output
    if ending is not None:
        nodes.append(helper.make_node(ending[0], [tensor], [ending[1]]))
        tensor = ending[1]
    graph = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info("X", real, ["samples", model.n_features])],
        [helper.make_tensor_value_info(tensor, real, ["samples", model.n_outputs])],
        weights,
    )  # fmt: skip
    imports = [helper.make_opsetid("", _OPSET)]
    return helper.make_model(graph, opset_imports=imports, ir_version=_IR_VERSION)
