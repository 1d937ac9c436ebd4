"""A network of this package as a .tflite file, so that it is exported as any other model is."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from skip2lora.backbones.base import Backbone
from skip2lora.backbones.litert.backbone import LiteRTBackbone
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.standins import StandIn
from skip2lora.export.tflite_front import Front
from skip2lora.export.tflite_nodes import Node, Nodes

_VERSION = 3
#: What stands behind the logits, and what the output is then called.
_ENDS = {"classification": "SOFTMAX", "multi-label": "LOGISTIC"}


def twin(given: Backbone) -> Backbone:
    """The ``MLP`` that ``given`` is, or stands in for, run by LiteRT; else ``given.base``.

    Its taps are those of the network.
    """
    below = given
    while isinstance(below, StandIn):
        below = below.backbone
    if not isinstance(below, MLP):
        return given.base
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.tflite"
        file.write_bytes(tflite_of(below.merged()))
        return LiteRTBackbone.load(file, taps=list(range(len(below.layers))))


def tflite_of(model: MLP) -> bytes:
    """``model`` as a .tflite file: its samples are ``X``, its logits or probabilities the output.

    Batch norm is folded into the weights before it.
    """
    ending = _ENDS.get(model.task)
    front = Front(_frame(model, "logits" if ending is None else "probabilities"), "the network")
    nodes, rows = Nodes(front), Node(0, (model.n_features,))
    for number, layer in enumerate(model.layers):
        last = number + 1 == len(model.layers)
        weight, bias = layer.weight.astype(np.float64), layer.bias.astype(np.float64)
        norm = [np.asarray(of, np.float64) for of in layer.arrays()[2:6] if of is not None]
        if norm:
            gamma, beta, mean, var = norm
            share = gamma / np.sqrt(var + model.bn_eps)
            weight, bias = weight * share, (bias - mean) * share + beta
        rows = nodes.product(
            rows, weight.astype(np.float32), f"layers.{number}", bias.astype(np.float32),
            relu=not last, into=1 if last and ending is None else None,
        )  # fmt: skip
    if ending is not None:
        nodes.of_one(ending, rows, "", into=1)
    return front.content()


def _frame(model: MLP, output: str) -> bytes:
    """A file with an input and an output, and nothing between."""
    graph, whole = schema.SubGraphT(), schema.ModelT()
    graph.tensors = [
        _tensor("X", model.n_features), _tensor(output, model.n_outputs)
    ]  # fmt: skip
    graph.inputs, graph.outputs, graph.operators, graph.name = [0], [1], [], "main"
    whole.version, whole.subgraphs, whole.operatorCodes = _VERSION, [graph], []
    whole.buffers, whole.description = [schema.BufferT()], "skip2lora"
    builder = flatbuffers.Builder(1024)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(name: str, width: int) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.buffer = name, schema.TensorType.FLOAT32, 0
    tensor.shape, tensor.hasRank = np.array([1, width], np.int32), True
    tensor.shapeSignature = np.array([-1, width], np.int32)
    return tensor
