"""Graphs whose outputs depend on more than one sample: loops, state carried along, chance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skip2lora.backbones.onnx.graph import Graph
from skip2lora.errors import ModelError

_LOOPS = {
    "Loop": "a loop", "Scan": "a loop", "If": "a branch", "SequenceMap": "a loop",
}  # fmt: skip
_RECURRENT = ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM")
_RANDOM = (
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli",
    "Multinomial",
)  # fmt: skip
# What hands a state on as it is; anything else computes it, of the sample itself.
_PASSED = (
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Transpose", "Slice", "Split",
    "Gather", "Concat", "QuantizeLinear", "DequantizeLinear",
)  # fmt: skip


def refuse_state(graph: Graph, path: object) -> None:
    """Refuse a graph with loops, branches, chance, or a state that a caller carries along.

    Raises:
        ModelError: naming the first such node.
    """
    for node in graph.model.graph.node:
        title = graph.title(node)
        if node.op_type in _LOOPS and node.domain in ("", "ai.onnx"):
            raise ModelError(
                f"{path}: node {title} ({node.op_type}) is {_LOOPS[node.op_type]}, expected a "
                "graph that runs straight through, as layers inside may run any number of times: "
                "export the model without control flow, or simplify it with onnxsim"
            )
        if node.op_type in _RANDOM or _drops(graph, node):
            raise ModelError(
                f"{path}: node {title} ({node.op_type}) is random, expected a graph that gives "
                "the same for the same sample, as samples are cached: export the model for "
                "inference"
            )
        if node.op_type in _RECURRENT:
            carried = next(_carried(graph, node), None)
            if carried is not None:
                raise ModelError(
                    f"{path}: node {title} ({node.op_type}) takes its state from input "
                    f"{carried}, expected a model without state between samples, as a cached "
                    "sample must always give the same: export it with a state of zeros"
                )


def _drops(graph: Graph, node: Any) -> bool:
    """Whether a Dropout is in its training mode, which its third input says."""
    if node.op_type != "Dropout" or len(node.input) < 3 or not node.input[2]:
        return False
    told = graph.array(node.input[2])
    return told is not None and bool(told.all())


def _carried(graph: Graph, node: Any) -> Iterator[str]:
    """Inputs of the graph that are the state a recurrent layer begins with."""
    inputs = {value.name for value in graph.inputs}
    left, seen = [str(name) for name in node.input[5:7] if name], set()
    while left:
        tensor = left.pop()
        if tensor in inputs:
            yield tensor
        maker = graph.producer.get(tensor)
        if tensor in seen or maker is None or maker.op_type not in _PASSED:
            continue
        seen.add(tensor)
        left += [str(name) for name in maker.input if name]
