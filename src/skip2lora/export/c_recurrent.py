"""Recurrent nodes of an ONNX graph, and what takes one step of a sequence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from skip2lora.backbones.onnx.graph import Graph
from skip2lora.export.c_axes import SAMPLES, Axes
from skip2lora.export.c_chain import Operation
from skip2lora.export.c_layers import GRU, LSTM, Steps, last_step, recurrent
from skip2lora.export.c_nodes import HANDLERS, Handler, Node, Result, ordered

_GATES = {"GRU": (GRU, 3, ["Sigmoid", "Tanh"]), "LSTM": (LSTM, 4, ["Sigmoid", "Tanh", "Tanh"])}
# What passes zeros on as zeros.
_PASSED = (
    "Cast", "Concat", "Expand", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Tile",
    "Transpose", "Unsqueeze",
)  # fmt: skip


def _recurrent(node: Node, axes: Axes) -> Result:
    kind, gates, activations = _GATES[str(node.proto.op_type)]
    values, layout = node.attributes, int(node.attributes.get("layout", 0))
    hidden = int(values["hidden_size"])
    functions = [each.decode() for each in values.get("activations", [])]
    plain = (
        values.get("direction", b"forward") == b"forward"
        and functions in ([], activations)
        and not any(name in values for name in ("clip", "activation_alpha", "activation_beta"))
        and not values.get("input_forget")
        and node.output < 2
        and not _given(node, 4)
        and not _given(node, 7)
        and all(_is_zero(node.graph, _given(node, place)) for place in (5, 6))
    )
    if not plain:
        raise node.refused("with what it is given")
    if len(axes.onnx) != 3 or axes.onnx[1 - layout] != SAMPLES:
        raise node.refused("as its axes lie")
    _, turns = ordered(node, axes, axes.inner)
    steps = Steps(axes.shape[0], axes.shape[1], hidden)
    arrays = [node.floats(place)[0] for place in (1, 2)]
    zeros = np.zeros((1, 2 * gates * hidden), np.float32)
    bias = (zeros if node.constant(3) is None else node.floats(3))[0]
    arrays += [bias[: gates * hidden], bias[gates * hidden :]]
    before = kind == GRU and not values.get("linear_before_reset", 0)
    layer = recurrent(node.layer, kind, steps, arrays, reset_before=before)
    tensor = str(node.proto.output[node.output])
    if node.output == 1:
        layer = last_step(layer)
        after = Axes.of(tensor, (1, hidden), 0 if layout else 1)
    else:
        after = Axes.of(tensor, (steps.steps, 1, hidden), 0 if layout else 2)
    return after, [*turns, Operation(node.title, "layer", node.layer, whole=layer)]


def _given(node: Node, place: int) -> str:
    return str(node.proto.input[place]) if len(node.proto.input) > place else ""


def _is_zero(graph: Graph, name: str) -> bool:
    """Whether a tensor is of zeros, or none at all."""
    if not name:
        return True
    array = graph.array(name)
    if array is not None:
        return not array.any()
    maker = graph.producer.get(name)
    if maker is None:
        return False
    if maker.op_type == "ConstantOfShape":
        values = [graph.onnx.numpy_helper.to_array(each.t) for each in maker.attribute]
        return not any(value.any() for value in values)
    if maker.op_type not in _PASSED:
        return False
    several = list(maker.input) if maker.op_type == "Concat" else [maker.input[0]]
    return all(_is_zero(graph, str(each)) for each in several)


def _taken(node: Node, axes: Axes) -> Result:
    """One place of an axis: the last step of a sequence, or of an axis with no more than one."""
    axis, index, keeps = _place(node, len(axes.onnx))
    name = axes.onnx[axis]
    size = axes.sizes.get(name, 0)
    if size == 0 or index not in (-1, size - 1):
        raise node.refused("but of the last step")
    taken = replace(axes, sizes={**axes.sizes, name: 1})
    after = taken if keeps else taken.without([axis]) or taken
    if size == 1:
        return after, []
    return after, [Operation(node.title, "last", map_shape=(size, axes.width // size))]


def _place(node: Node, rank: int) -> tuple[int, int, bool]:
    """The axis, the place that is taken of it, and whether the axis stays."""
    if node.proto.op_type == "Gather":
        index: Any = node.constant(1)
        if index is None or index.size != 1:
            raise node.refused("but of the last step")
        return int(node.attributes.get("axis", 0)) % rank, int(index.reshape(-1)[0]), index.ndim > 0
    starts, ends = node.numbers("starts", 1), node.numbers("ends", 2)
    axes, strides = node.numbers("axes", 3) or [0], node.numbers("steps", 4) or [1]
    if starts is None or ends is None or len(starts) != 1 or strides != [1]:
        raise node.refused("but of the last step")
    # From the last step on, wherever it ends: of an earlier one no more than one is taken.
    one = ends[0] > (1 << 30) if starts[0] < 0 else ends[0] > starts[0]
    return axes[0] % rank, starts[0] if one else 0, True


#: What C has for each operator, sequences included.
ALL_HANDLERS: dict[str, Handler] = {
    **HANDLERS,
    **dict.fromkeys(_GATES, _recurrent),
    **dict.fromkeys(("Gather", "Slice"), _taken),
}
