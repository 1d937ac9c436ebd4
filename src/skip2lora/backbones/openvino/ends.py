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
_CLOSED = ("HardSigmoid", "OneHot", "Floor", "Ceiling", "Sign")


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
    each = Op(ends.OTHER, data, title, None, nodes)
    if function := ends.of_one(kind, each):
        return function
    if kind == "Clamp":
        limits = node.get_attributes()
        low, high = float(limits["min"]), float(limits["max"])
        return Op(ends.EACH, data, title, lambda values: np.clip(values, low, high), nodes)
    if not ends.takes_two(kind) or len(sources) != 2:
        return None
    at = next(place for place, each in enumerate(sources) if key_of(each) == data[0])
    constant = _scalar(sources[1 - at])
    if constant is None:
        maker = sources[at].get_node()  # a constant for each output, as the bias of a layer
        before = op_of(maker, constants, is_layer)
        layer = kind in ("Add", "Subtract") and before is not None and before.kind == ends.LAYER
        return Op(ends.LAYER, data, title) if layer else None
    return ends.of_two(kind, each, constant, at)


def _cast(node: Any, source: Any, data: tuple[Any, ...], title: str) -> Op:
    result, given = node.get_output_element_type(0), source.get_element_type()
    return ends.cast(
        Op(ends.OTHER, data, title, None, (node,)),
        to_truth=result.get_type_name() == "boolean",
        to_whole=not result.is_real() and given.is_real(),
    )


def _scalar(source: Any) -> float | None:
    """A constant of one value, however it is converted and shaped."""
    node = source.get_node()
    while node.get_type_name() in ("Convert", "Reshape", "Unsqueeze", "Squeeze"):
        node = node.input(0).get_source_output().get_node()
    if node.get_type_name() != "Constant":
        return None
    values = np.asarray(node.get_data(), np.float64)
    return float(values.reshape(-1)[0]) if values.size and np.ptp(values) == 0 else None
