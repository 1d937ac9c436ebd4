"""The part of a LiteRT graph that runs straight through, before control flow and states."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ai_edge_litert import schema_py_generated as schema

from skip2lora.backbones.litert.variables import STATE
from skip2lora.errors import ModelError

if TYPE_CHECKING:
    from skip2lora.backbones.litert.file import Graph, Operator

# Fields of the tables Model and SubGraph, by their place in the format's tables of offsets.
_GRAPHS, _SIGNATURES, _OPERATORS = 8, 18, 10
_TABLES = frozenset({"HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE"})
_CONTROL = frozenset({
    "WHILE", "IF", "CALL", "STABLEHLO_WHILE", "STABLEHLO_CASE", "STABLEHLO_COMPOSITE",
})  # fmt: skip
_RANDOM = frozenset({
    "RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL", "STABLEHLO_RNG_BIT_GENERATOR",
})  # fmt: skip


def node_fault(operator: Operator, tensors: Sequence[Any]) -> str:
    """Why an operator need not give the same for the same sample, "" where it does."""
    if operator.name in STATE:
        return "keeps a state from one sample to the next"
    if operator.name in _CONTROL:
        return "is control flow"
    if operator.name in _TABLES:
        return "is a table of texts"
    if operator.name in _RANDOM:
        return "is random"
    if any(tensors[index].isVariable for index in operator.inputs if index >= 0):
        return "keeps a state from one sample to the next"
    return ""


def straight_part(graph: Graph, faults: Sequence[tuple[int, str]], results: Sequence[int]) -> Graph:
    """The operators before the first that is control flow, random or a state.

    The runtime never sees the others: :func:`shortened` takes them out of the file.

    Raises:
        ModelError: there is no layer with weights before it.
    """
    number, reason = faults[0]
    what = f"operator {number}, {graph.operators[number].name}, {reason}"
    before = graph.operators[:number]
    tensors = {index for operator in before for index in operator.outputs}
    pairs = zip(results, graph.outputs, strict=True)
    outputs = tuple(output for index, output in pairs if index in tensors)
    cut = f"{what}: only the layers before it are tapped, and outputs behind it are left out"
    straight = replace(graph, operators=before, outputs=outputs, cut=cut)
    if not straight.layers(None) or "random" in reason:
        raise ModelError(
            f"{graph.path}: {what}, expected a graph whose outputs depend on one sample alone, or "
            "layers with weights before it: convert the model without it"
        )
    return straight


def shortened(content: bytes, n_operators: int) -> bytearray:
    """A file with the first operators of its first graph alone, without others or signatures.

    Lengths of vectors are changed, everything else stays where it is.
    """
    model = schema.Model.GetRootAs(content)
    graph, changed = model.Subgraphs(0), bytearray(content)
    lengths = ((model, _GRAPHS, 1), (model, _SIGNATURES, 0), (graph, _OPERATORS, n_operators))
    for table, field, length in lengths:
        at = table._tab.Offset(field)
        if at:
            struct.pack_into("<I", changed, table._tab.Vector(at) - 4, length)
    return changed
