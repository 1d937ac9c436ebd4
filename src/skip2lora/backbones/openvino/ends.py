"""The ends of an OpenVINO network: what stands between each output and its logits."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from skip2lora.backbones import ends
from skip2lora.backbones.ends import Op

_SAME = (
    "Reshape", "Squeeze", "Unsqueeze", "FakeQuantize", "Transpose", "Result", "ConvertLike",
)  # fmt: skip
_ACTIVATIONS: dict[str, tuple[int, Any]] = {
    "Softmax": (ends.SOFTMAX, None), "LogSoftmax": (ends.SOFTMAX, np.log),
    "Sigmoid": (ends.SIGMOID, None),
}  # fmt: skip
_OF_ONE: dict[str, Any] = {
    "Log": np.log, "Exp": np.exp, "Negative": np.negative, "Round": np.round, "Floor": np.floor,
    "Ceiling": np.ceil, "Abs": np.abs, "Sqrt": np.sqrt, "Tanh": np.tanh, "Sign": np.sign,
    "LogicalNot": np.logical_not, "ReLU": lambda values: np.maximum(values, 0),
}  # fmt: skip
_OF_TWO: dict[str, Any] = {
    "Add": np.add, "Subtract": np.subtract, "Multiply": np.multiply, "Divide": np.divide,
    "Power": np.power, "Maximum": np.maximum, "Minimum": np.minimum, "Greater": np.greater,
    "GreaterEqual": np.greater_equal, "Less": np.less, "LessEqual": np.less_equal,
    "Equal": np.equal,
}  # fmt: skip
_CLOSED = ("HardSigmoid",)


def key_of(source: Any) -> tuple[str, int]:
    """The output of an operator, by the operator's name and its number."""
    return source.get_node().get_name(), source.get_index()


def op_of(node: Any, constants: Collection[str], is_layer: Callable[[Any], bool]) -> Op | None:
    """What an operator does, as :mod:`skip2lora.backbones.ends` takes it."""
    kind = node.get_type_name()
    if kind in ("Parameter", "Constant") or node.get_name() in constants:
        return None
    sources = [each.get_source_output() for each in node.inputs()]
    fixed = [source.get_node().get_name() in constants for source in sources]
    data = tuple(key_of(source) for source, at in zip(sources, fixed, strict=True) if not at)
    title, nodes = f"{kind} {node.get_friendly_name()}", (node,)
    if is_layer(node):
        return Op(ends.LAYER, data, title)
    if kind in _CLOSED:
        return Op(ends.CLOSED, data, title)
    if kind in _ACTIVATIONS:
        activation, behind = _ACTIVATIONS[kind]
        return Op(activation, data, title, behind, nodes)
    if kind in _SAME or (kind == "Gather" and fixed[0]):  # the label of each place
        return Op(ends.SAME, data[:1], title, None, nodes, rounds=kind == "FakeQuantize")
    if kind == "TopK":
        return Op(ends.LARGEST, data[:1], title, None, nodes)
    if kind == "Concat":
        return Op(ends.JOIN, data, title, None, nodes)
    return _function(node, sources, data, title, constants, is_layer) or Op(ends.OTHER, data, title)


def _function(
    node: Any,
    sources: list[Any],
    data: tuple[Any, ...],
    title: str,
    constants: Collection[str],
    is_layer: Callable[[Any], bool],
) -> Op | None:
    """A function of each number, where all other operands are constants of one value."""
    kind, nodes = node.get_type_name(), (node,)
    if len(data) != 1:
        return None
    if kind == "Convert":
        return _cast(node, sources[0], data, title)
    if kind == "SoftPlus" or (kind == "Exp" and sources[0].get_node().get_type_name() == "Add"):
        return Op(ends.NUMBERS, data, title)
    if kind in _OF_ONE:
        return Op(ends.EACH, data, title, _OF_ONE[kind], nodes)
    if kind == "Clamp":
        limits = node.get_attributes()
        low, high = float(limits["min"]), float(limits["max"])
        return Op(ends.EACH, data, title, lambda values: np.clip(values, low, high), nodes)
    if kind not in _OF_TWO or len(sources) != 2:
        return None
    at = next(place for place, each in enumerate(sources) if key_of(each) == data[0])
    constant, apply = _scalar(sources[1 - at]), _OF_TWO[kind]
    if constant is None:
        maker = sources[at].get_node()  # a constant for each output, as the bias of a layer
        before = op_of(maker, constants, is_layer)
        layer = kind in ("Add", "Subtract") and before is not None and before.kind == ends.LAYER
        return Op(ends.LAYER, data, title) if layer else None
    if at == 0:
        return Op(ends.EACH, data, title, lambda values: apply(values, constant), nodes)
    return Op(ends.EACH, data, title, lambda values: apply(constant, values), nodes)


def _cast(node: Any, source: Any, data: tuple[Any, ...], title: str) -> Op:
    result, given = node.get_output_element_type(0), source.get_element_type()
    name = result.get_type_name()
    if name == "boolean":
        return Op(ends.EACH, data, title, lambda values: values != 0, (node,))
    if not result.is_real() and given.is_real():
        return Op(ends.EACH, data, title, np.trunc, (node,))
    return Op(ends.SAME, data, title, None, (node,))


def _scalar(source: Any) -> float | None:
    """A constant of one value, however it is converted and shaped."""
    node = source.get_node()
    while node.get_type_name() in ("Convert", "Reshape", "Unsqueeze", "Squeeze"):
        node = node.input(0).get_source_output().get_node()
    if node.get_type_name() != "Constant":
        return None
    values = np.asarray(node.get_data(), np.float64)
    return float(values.reshape(-1)[0]) if values.size and np.ptp(values) == 0 else None
