"""Which node of a graph makes a sample's numbers depend on the others of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skip2lora.backbones.alone import Batch, batches_of, depends_on_samples, mixed, verdict_of
from skip2lora.backbones.onnx.graph import Graph
from skip2lora.backbones.onnx.probe import REFUSED, Look, Probe, with_batch
from skip2lora.errors import ModelError

_UNUSABLE: tuple[type[Exception], ...] = (ModelError, *REFUSED)


def mixing(graph: Graph, path: Path, end: str, seen: Look, *, dynamic: bool) -> ModelError:
    """The error that names the node which first makes numbers depend on more than the sample."""
    verdict = seen.of(end).verdict
    if verdict.fits(dynamic=dynamic):
        return mixed(path, f"output {end}", verdict)
    before = graph.ancestors(end) - graph.constants
    nodes = [node for node in graph.model.graph.node if before.intersection(node.output)]
    tensors = [name for node in nodes for name in node.output if name in before]
    runs = _all_runs(graph, path, tensors, seen)
    for by_place in (False, True) if runs else ():
        known = {value.name for value in graph.inputs}
        for node, name in [(each, name) for each in nodes for name in each.output]:
            if name not in before:
                continue
            own = [(batch, values[name]) for batch, values in runs[:-1]]
            verdict = verdict_of(own)
            alike = not depends_on_samples(own) and not (by_place and verdict.layout)
            if verdict.fits(dynamic=dynamic) or alike:
                known.add(name)
            elif known.issuperset(before.intersection(node.input)):
                once, again = runs[0][1][name], runs[-1][1][name]
                same = np.array_equal(once, again, equal_nan=once.dtype.kind == "f")
                title = f"node {graph.title(node)} ({node.op_type})"
                return mixed(path, title, verdict, random=not same)
    return mixed(path, f"output {end}", seen.of(end).verdict)


def _all_runs(
    graph: Graph, path: Path, tensors: Sequence[str], seen: Look
) -> list[tuple[Batch, dict[str, Any]]]:
    """What the tensors are in each batch, and once more in the first; none where that fails."""
    shapes, batches = seen.shapes, batches_of(seen.batch)
    try:
        probe = Probe(graph, path, tensors)
        probe.n_tokens = seen.n_tokens
        return [
            (batch, probe.run(batch, with_batch(seen.sizes, batch), shapes, seen.axes))
            for batch in (*batches, batches[0])
        ]
    except _UNUSABLE:
        return []
