"""The part of a graph that runs straight through, before its loops, branches and states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skip2lora.backbones.onnx.graph import Fault, Graph, weight_layers


def straight_part(graph: Graph, faults: Sequence[Fault]) -> tuple[Graph, str]:
    """Cut a ModelProto, in place, before the first of ``faults``; the graph, and what was cut.

    What is behind them goes, with the outputs, inputs and weights that only that has. What a
    recurrent layer reads that takes a state from outside is still tapped.

    Raises:
        ModelError: what remains has no layer with weights, or is random.
    """
    model, cut = graph.model, [fault.node for fault in faults if not fault.random]
    if not cut:
        raise faults[0].error
    first = next(fault for fault in faults if not fault.random)
    behind: set[str] = set()
    for node in model.graph.node:  # in topological order
        if node in cut or behind.intersection(node.input):
            behind.update(node.output)
    reads = [read for read in weight_layers(graph) if read.tensor not in behind]
    own = {name for node in cut for name in (node.name, *node.output)}
    if all(read.layer in own for read in reads):
        raise first.error
    outputs = [value for value in model.graph.output if value.name not in behind]
    lost = [value.name for value in model.graph.output if value.name in behind]
    needed = {value.name for value in outputs} | {read.tensor for read in reads}
    needed |= {name for read in reads for name in (read.scale, read.zero, read.quantised) if name}
    rest = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            rest.append(node)
    for fault in faults:
        if fault.random and fault.node in rest:
            raise fault.error
    _keep(model.graph.node, rest[::-1])
    _keep(model.graph.output, outputs)
    for parts in (model.graph.input, model.graph.initializer):
        _keep(parts, [part for part in parts if part.name in needed])
    straight = Graph(model)
    straight.reads = reads
    which = f"output {lost[0]} behind it is" if len(lost) == 1 else f"outputs {', '.join(lost)} are"
    return straight, f"{first.what}: only the layers up to there are tapped, and {which} left out"


def _keep(parts: Any, those: Sequence[Any]) -> None:
    """Leave only ``those`` in a repeated field."""
    copies = [type(part)() for part in those]
    for copy, part in zip(copies, those, strict=True):
        copy.CopyFrom(part)
    del parts[:]
    parts.extend(copies)
