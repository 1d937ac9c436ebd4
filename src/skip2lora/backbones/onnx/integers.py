"""Signed activations made unsigned where they are tapped, which changes no value.

On x86 onnxruntime runs signed activations as unsigned ones, but only those with a single reader: a
tap would leave the layers on both sides of it in floats, at several times the time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from skip2lora.backbones.onnx.graph import Graph

_SHIFT = 128
_SUFFIX = "_unsigned"


def make_unsigned(graph: Graph, integers: str) -> str | None:
    """Let ``integers``, made by a QuantizeLinear, be uint8: the name of their new zero point.

    None, and nothing done, where they are unsigned already or not only dequantised.
    """
    maker = graph.producer.get(integers)
    readers = graph.readers.get(integers, [])
    outputs = {value.name for value in graph.model.graph.output}
    nodes = [maker, *readers]
    if maker is None or maker.op_type != "QuantizeLinear" or integers in outputs:
        return None
    if any(node.op_type != "DequantizeLinear" for node in readers):
        return None
    zeros = [_zero(graph, node) for node in nodes]
    if any(zero is None or zero.dtype != np.int8 or zero.size != 1 for zero in zeros):
        return None
    if len({int(zero.item()) for zero in zeros}) != 1:
        return None
    onnx = graph.onnx
    name = f"{integers}{_SUFFIX}"
    shifted = (zeros[0].astype(np.int16) + _SHIFT).astype(np.uint8)
    graph.add_initializer(onnx.numpy_helper.from_array(shifted, name))
    for node in nodes:
        node.input[2] = name
    infos = [value for value in graph.model.graph.value_info if value.name == integers]
    for value in infos:
        value.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    return name


def _zero(graph: Graph, node: Any) -> Any:
    return graph.array(node.input[2]) if len(node.input) > 2 else None
