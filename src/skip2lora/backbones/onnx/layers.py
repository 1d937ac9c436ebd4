"""Which layers of an ONNX graph hold weights, and what they read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from skip2lora.backbones.onnx.graph import Graph


class Operands(NamedTuple):
    """Places of a layer's data, weights, and the scale and zero point of quantised data."""

    data: int
    weight: int
    scale: int | None = None
    zero: int | None = None


_PLAIN = Operands(0, 1)
#: Operators with weights. Those on integers carry the scale of their data beside it.
OPERATORS: dict[str, Operands] = {
    "Gemm": _PLAIN,
    "MatMul": _PLAIN,
    "Conv": _PLAIN,
    "ConvTranspose": _PLAIN,
    "FusedMatMul": _PLAIN,
    "FusedGemm": _PLAIN,
    "GemmFastGelu": _PLAIN,
    "FusedConv": _PLAIN,
    "MatMulNBits": _PLAIN,
    "Attention": _PLAIN,
    "DynamicQuantizeMatMul": _PLAIN,
    "ConvInteger": _PLAIN,
    "MatMulInteger": _PLAIN,
    "MatMulIntegerToFloat": Operands(0, 1, 2, 4),
    "QLinearConv": Operands(0, 3, 1, 2),
    "QLinearMatMul": Operands(0, 3, 1, 2),
    "QGemm": Operands(0, 3, 1, 2),
    "QAttention": Operands(0, 1, 3, 6),
    "LSTM": _PLAIN,
    "GRU": _PLAIN,
    "RNN": _PLAIN,
    "DynamicQuantizeLSTM": _PLAIN,
    "Einsum": _PLAIN,
}
_CONVOLUTIONS = ("Conv", "ConvTranspose", "FusedConv", "ConvInteger", "QLinearConv")
RECURRENT = ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM")
_BOTH_SIDES = ("MatMul", "FusedMatMul")  # the constant may be the first operand


@dataclass(frozen=True)
class Read:
    """What one layer reads: ``tensor``, and the names of its scale and zero point, if any.

    ``quantised`` are the integers that ``tensor`` is made of, where that is a DequantizeLinear's.
    ``places_first`` is set where the layer multiplies from the left, over the last axis but one;
    ``tokens_first`` where it takes (tokens, samples, width), as recurrent layers do.
    """

    layer: str
    operator: str
    tensor: str
    scale: str | None = None
    zero: str | None = None
    places_first: bool = False
    quantised: str | None = None
    tokens_first: bool = False

    @property
    def convolves(self) -> bool:
        """Whether the data is a map with its channels first."""
        return self.operator in _CONVOLUTIONS


def weight_layers(graph: Graph) -> list[Read]:
    """The data inputs of all layers with weights, in order; each tensor once.

    A layer is called by its node's name, or by its first output where that is empty or not unique.
    """
    nodes = [node for node in graph.model.graph.node if node.op_type in OPERATORS]
    names = [str(node.name) for node in nodes]
    found: dict[str, Read] = {}
    for node, name in zip(nodes, names, strict=True):
        read = _read(graph, node, name if name and names.count(name) == 1 else str(node.output[0]))
        if read is not None:
            found.setdefault(read.quantised or read.tensor, read)
    return list(found.values())


def _read(graph: Graph, node: Any, layer: str) -> Read | None:
    places = OPERATORS[node.op_type]
    if node.op_type == "Attention" and node.domain != "com.microsoft":
        return None  # the standard's Attention has no weights
    if len(node.input) <= places.weight:
        return None
    data, weight = node.input[places.data], node.input[places.weight]
    first = False
    if node.op_type == "Einsum":
        if len(node.input) != 2:
            return None
        if data in graph.constants:
            data, weight = weight, data
    if weight not in graph.constants:
        if node.op_type not in _BOTH_SIDES or data not in graph.constants:
            return None
        data, first = weight, True
    if data in graph.constants:
        return None
    scale = _optional(node, places.scale)
    zero = _optional(node, places.zero)
    maker = graph.producer.get(data)
    if maker is not None and maker.op_type == "DynamicQuantizeLinear":
        data, scale, zero = maker.input[0], None, None
    while node.op_type in _CONVOLUTIONS and (maker := graph.producer.get(data)) is not None:
        if maker.op_type != "Pad":
            break
        data = maker.input[0]  # padding belongs to the convolution, and its zeros say nothing
    maker = graph.producer.get(data)
    if maker is not None and maker.op_type == "DequantizeLinear":
        integers, scale, zero = str(maker.input[0]), str(maker.input[1]), _optional(maker, 2)
        return Read(layer, str(node.op_type), str(data), scale, zero, first, integers)
    tokens = node.op_type in RECURRENT and not _attribute(node, "layout")
    return Read(layer, str(node.op_type), str(data), scale, zero, first, tokens_first=tokens)


def _attribute(node: Any, name: str) -> int:
    return next((int(each.i) for each in node.attribute if each.name == name), 0)


def _optional(node: Any, place: int | None) -> str | None:
    return str(node.input[place]) if place is not None and len(node.input) > place else None
