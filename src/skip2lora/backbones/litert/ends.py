"""The end of a LiteRT graph: the activation behind its logits, and what makes these."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from skip2lora.backbones.outputs import ending_of

if TYPE_CHECKING:
    from skip2lora.backbones.litert.file import Operator

_SAME_VALUES = frozenset({"QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "CAST"})
_ACTIVATIONS = frozenset({"SOFTMAX", "LOGISTIC", "LOG_SOFTMAX"})


class End(NamedTuple):
    """The tensor of the logits; times ``beta`` they are what the activation reads."""

    logits: int
    beta: float
    ending: str


def end_of(
    index: int,
    makers: Mapping[int, Operator],
    constants: Collection[int],
    layers: Collection[int],
) -> End:
    """Walk back from an output over what keeps its values to the activation it ends in.

    ``makers`` are the operators by the tensors they make, ``layers`` the tensors that operators
    with weights make.
    """
    at, end = index, End(index, 1.0, "")
    while at in makers:
        operator = makers[at]
        if operator.name not in _SAME_VALUES | _ACTIVATIONS | {"ARG_MAX"}:
            break
        at = operator.inputs[0]
        if operator.name in _SAME_VALUES:
            continue
        end = End(at, operator.beta, operator.name)
        if operator.name in _ACTIVATIONS:
            break
    activations = [end.ending] if end.ending else []
    layer = _ends_in_layer(at, makers, constants, layers)
    return end._replace(ending=ending_of(activations, sigmoids=("LOGISTIC",), layer=layer))


def _ends_in_layer(
    at: int,
    makers: Mapping[int, Operator],
    constants: Collection[int],
    layers: Collection[int],
) -> bool:
    """Whether a layer with weights makes a tensor, at most with its bias behind it."""
    operator = makers.get(at)
    if operator is not None and operator.name == "ADD" and not operator.activated:
        data = [index for index in operator.inputs if index not in constants]
        at, operator = (data[0], makers.get(data[0])) if len(data) == 1 else (at, None)
    if operator is None or operator.activated or at not in layers:
        return False
    return any(index in constants for index in operator.inputs)
