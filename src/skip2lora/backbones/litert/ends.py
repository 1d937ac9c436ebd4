"""The ends of a LiteRT graph: what stands between each output and its logits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skip2lora.backbones import ends
from skip2lora.backbones.ends import End, Op

if TYPE_CHECKING:
    from skip2lora.backbones.litert.file import Operator, Tensor

_SAME = frozenset({
    "QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "GATHER",
})  # fmt: skip


def end_of(
    index: int,
    makers: Mapping[int, Operator],
    constants: Collection[int],
    layers: Collection[int],
    tensors: Mapping[int, Tensor] | None = None,
    values: Mapping[int, float] | None = None,
) -> End:
    """Walk back from an output to its logits.

    ``makers`` are the operators by the tensors they make, ``layers`` the tensors that operators
    with weights make; ``values`` has the constants of one value, and ``tensors`` their types.
    """
    own = _Walk(makers, constants, layers, tensors or {}, values or {})
    return ends.end_of(index, own.op_of)


def values_of(
    packed: Sequence[Any], buffers: Sequence[Any], tensors: Sequence[Tensor]
) -> dict[int, float]:
    """The real number in each constant tensor of one number."""
    values = {}
    for tensor, each in zip(tensors, packed, strict=True):
        data = buffers[each.buffer].data
        if data is None or tensor.dtype == "string":
            continue
        try:
            kind = np.dtype(tensor.dtype)
        except TypeError:
            continue
        if len(data) != kind.itemsize:
            continue
        number = np.frombuffer(bytes(data), kind)
        if number.dtype.kind in "fiub":
            scale = tensor.scale or 1.0
            values[tensor.index] = scale * (float(number[0]) - tensor.zero_point)
    return values


class _Walk:
    def __init__(
        self,
        makers: Mapping[int, Operator],
        constants: Collection[int],
        layers: Collection[int],
        tensors: Mapping[int, Tensor],
        values: Mapping[int, float],
    ) -> None:
        self.makers, self.constants, self.layers = makers, constants, layers
        self.tensors, self.values = tensors, values

    def op_of(self, index: int) -> Op | None:
        """What makes a tensor, as :mod:`skip2lora.backbones.ends` takes it."""
        operator = self.makers.get(index)
        if operator is None or index in self.constants:
            return None
        data = tuple(at for at in operator.inputs if at >= 0 and at not in self.constants)
        title, nodes = f"operator {operator.name}", (operator,)
        if operator.activated:
            return Op(ends.OTHER, data, title)
        if index in self.layers and len(data) < len(operator.inputs):
            return Op(ends.LAYER, data, title)
        rounds = index in self.tensors and self.tensors[index].scale > 0
        if operator.name in _SAME and data:
            return Op(ends.SAME, data[:1], title, None, nodes, rounds=rounds)
        if operator.name in ("ARG_MAX", "TOPK_V2"):
            return Op(ends.LARGEST, data[:1], title, None, nodes)
        if operator.name in ("CONCATENATION", "PACK"):
            return Op(ends.JOIN, data, title, None, nodes)
        return self._function(operator, data, title, rounds) or Op(ends.OTHER, data, title)

    def _function(
        self, operator: Operator, data: tuple[int, ...], title: str, rounds: bool
    ) -> Op | None:
        """A function of each number, where all other operands are constants of one value."""
        if len(data) != 1:
            return None
        if operator.name == "CAST":
            return self._cast(operator, data, title)
        if operator.name == "EXP" and self.op_of(data[0]) is None:
            return Op(ends.NUMBERS, data, title)
        each = Op(ends.OTHER, data, title, None, (operator,), operator.beta)
        if function := ends.of_one(operator.name, each):
            return function if function.kind == ends.EACH else replace(function, rounds=rounds)
        if not ends.takes_two(operator.name) or len(operator.inputs) != 2:
            return None
        at = operator.inputs.index(data[0])
        constant = self.values.get(operator.inputs[1 - at])
        if constant is None:
            before = self.op_of(data[0])  # a constant for each output, as the bias of a layer
            layer = before is not None and before.kind == ends.LAYER
            return before if layer and operator.name in ("ADD", "SUB") else None
        return ends.of_two(operator.name, each, constant, at)

    def _cast(self, operator: Operator, data: tuple[int, ...], title: str) -> Op:
        source, result = (
            self.tensors[at].dtype if at in self.tensors else "float32"
            for at in (data[0], operator.outputs[0])
        )
        whole = "int" in result and "float" in source
        return ends.cast(
            Op(ends.OTHER, data, title, None, (operator,)),
            to_truth=result == "bool", to_whole=whole,
        )  # fmt: skip
