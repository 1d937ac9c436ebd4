"""Branches of an ONNX graph, written out: an If becomes the one it takes, or both and a Where.

What hangs on constants and shapes alone is always taken alike, so that branch stays. What hangs on
the values of a sample, where the graph takes one at a time, is computed both ways, and Where takes
one, before the activation that both end in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.backbones.inputs import InputSpec, drawn
from skip2lora.backbones.onnx.graph import Graph, sizes_of
from skip2lora.backbones.onnx.session import RUNTIME_ERRORS, open_session, run_options
from skip2lora.errors import ModelError

_MOST_BYTES = 1 << 28
_MOST_ROUNDS = 16  # of branches in branches
_LENGTHS = ((12, 20), (576, 960))  # of what inputs leave open beside samples
_ACTIVATIONS = ("Sigmoid", "Softmax", "LogSoftmax", "Tanh")
_N_TRIED = 8  # samples of noise that must give the same before and after
_FIXED = "branches that hang on shapes and constants alone are fixed to the way they go"
_REFUSED: tuple[type[Exception], ...] = (*RUNTIME_ERRORS, ModelError, KeyError, TypeError)


def without_branches(model: Any, path: Path) -> str | None:
    """Write out the branches of a ModelProto, in place; what was done, None where nothing was.

    A graph whose branches cannot be written out, or that would give something else, stays as it is.
    """
    if model.ByteSize() > _MOST_BYTES:  # it is copied a few times
        return None
    changed = type(model)()
    changed.CopyFrom(model)
    notes: list[str] = []
    for _ in range(_MOST_ROUNDS):
        graph = Graph(changed)
        nodes = [node for node in changed.graph.node if node.op_type == "If"]
        ready = [node for node in nodes if not _behind_others(graph, node, nodes)]
        if not nodes:
            break
        steady = [node for node in ready if not _reads_samples(graph, node)]
        if len(steady) < len(ready) and not _takes_one(graph):
            return None
        taken = _taken(changed, path, [str(node.input[0]) for node in steady])
        if taken is None:
            return None
        notes += _written(graph, ready, dict(zip(map(_title, steady), taken, strict=True)))
    else:
        return None
    _drop_unread(changed)
    if not _same(model, changed, path):
        return None
    model.CopyFrom(changed)
    return "; ".join(dict.fromkeys(notes))


def _title(node: Any) -> str:
    return str(node.name or node.output[0])


def _behind_others(graph: Graph, node: Any, others: Sequence[Any]) -> bool:
    """Whether what a node goes by hangs on another branch."""
    behind = graph.ancestors(node.input[0])
    return any(behind.intersection(other.output) for other in others)


def _reads_samples(graph: Graph, node: Any) -> bool:
    """Whether what it goes by hangs on values that a user gives, not on their shapes alone."""
    return bool(graph.ancestors(node.input[0]) & {value.name for value in graph.inputs})


def _takes_one(graph: Graph) -> bool:
    """Whether the graph takes one sample at a time, as a branch goes one way for all samples."""
    return all((sizes_of(value) or (0,))[0] == 1 for value in graph.inputs)


# --- which branch is taken ------------------------------------------------------------------


def _taken(model: Any, path: Path, names: Sequence[str]) -> list[bool] | None:
    """Which way each goes, whatever the number of samples and of what else is open.

    Where that depends on the number of samples, the model takes one at a time from here on. None
    where it depends on something else.
    """
    if not names:
        return []
    probe = type(model)()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    for name in dict.fromkeys(names):
        probe.graph.output.add(name=name)
    try:
        session = open_session(probe.SerializeToString(), folder=path.parent, optimised=False)
    except _REFUSED:
        return None
    for lengths in _LENGTHS:
        alone = [_ways(session, model, 1, length, names) for length in lengths]
        if alone[0] is None or alone[0] != alone[1]:
            continue
        several = [_ways(session, model, 2, length, names) for length in lengths]
        if several != alone:
            for axis in _open_axes(model, of_samples=True):
                axis.dim_value = 1
        return alone[0]
    return None


def _ways(
    session: Any, model: Any, batch: int, length: int, names: Sequence[str]
) -> list[bool] | None:
    feed = _noise(model, batch, length, 0)
    try:
        values = session.run(list(names), feed, run_options())
    except _REFUSED:
        return None
    return [bool(np.asarray(value).reshape(-1)[0]) for value in values]


def _open_axes(model: Any, *, of_samples: bool) -> Iterator[Any]:
    """Axes of the inputs without a size: of samples, the first or the second, or the others."""
    for value in Graph(model).inputs:
        axes = list(value.type.tensor_type.shape.dim)
        first = next((at for at, axis in enumerate(axes[:2]) if axis.dim_value <= 0), None)
        yield from (
            axis for at, axis in enumerate(axes)
            if axis.dim_value <= 0 and (at == first) == of_samples
        )  # fmt: skip


def _noise(model: Any, batch: int, length: int, number: int) -> Mapping[str, NDArray[Any]]:
    """Values of all inputs: one of several draws."""
    graph, sized = Graph(model), type(model)()
    sized.CopyFrom(model)
    others = list(_open_axes(sized, of_samples=False))
    for axis in list(_open_axes(sized, of_samples=True)):
        axis.dim_value = batch
    for axis in others:
        axis.dim_value = length
    specs = []
    for value in Graph(sized).inputs:
        kind = graph.onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = tuple(size if isinstance(size, int) else 1 for size in sizes_of(value) or ())
        specs.append(InputSpec(value.name, shape, str(kind)))
    every = drawn(specs, number + 1, n_tokens=2)
    types = {spec.name: spec.dtype for spec in specs}
    return {name: np.asarray(array[number], types[name]) for name, array in every.items()}


# --- writing it out -------------------------------------------------------------------------


def _written(graph: Graph, nodes: Sequence[Any], taken: Mapping[str, bool]) -> list[str]:
    """Write out these branches, in the place of each; what was done."""
    onnx, model = graph.onnx, graph.model
    names = {*graph.producer, *graph.initializers, *(value.name for value in model.graph.input)}
    titles = {node.name for node in model.graph.node}
    ready = {_title(node) for node in nodes}
    written: list[Any] = []
    notes: list[str] = []
    for node in model.graph.node:
        title = _title(node)
        if node.op_type != "If" or title not in ready:
            written.append(node)
            continue
        branches = {each.name: each.g for each in node.attribute}
        if title in taken:
            which = "then_branch" if taken[title] else "else_branch"
            ends = _inline(graph, branches[which], f"{title}.", names, titles, written)
            pairs = zip(ends, node.output, strict=True)
            written += [onnx.helper.make_node("Identity", [a], [b]) for a, b in pairs]
            notes.append(_FIXED)
            continue
        both = [
            _inline(graph, branches[f"{way}_branch"], f"{title}.{way}.", names, titles, written)
            for way in ("then", "else")
        ]
        chosen = _scalar(onnx, model, node.input[0], title, written)
        for one, other, output in zip(*both, node.output, strict=True):
            written += _either(onnx, written, chosen, str(one), str(other), str(output))
        notes.append(f"both ways of branch {title} are computed, and one of them taken")
    copies = []
    for node in written:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return notes


def _drop_unread(model: Any) -> None:
    """Take out nodes and constants of ways that are not taken."""
    needed = {value.name for value in model.graph.output}
    nodes = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(_read_in(node))
            nodes.append(node)
    for parts, rest in (
        (model.graph.node, nodes[::-1]),
        (model.graph.initializer, [of for of in model.graph.initializer if of.name in needed]),
    ):
        copies = [type(part)() for part in rest]
        for copy, part in zip(copies, rest, strict=True):
            copy.CopyFrom(part)
        del parts[:]
        parts.extend(copies)


def _read_in(node: Any) -> Iterator[str]:
    """What a node reads, and the graphs in it."""
    yield from node.input
    for attribute in node.attribute:
        for inner in [attribute.g, *attribute.graphs]:
            yield from (value.name for value in inner.output)
            for each in inner.node:
                yield from _read_in(each)


def _scalar(onnx: Any, model: Any, name: str, title: str, written: list[Any]) -> str:
    """What a branch goes by, as one truth value that fits any shape."""
    shape = onnx.numpy_helper.from_array(np.zeros(0, np.int64), f"{title}.scalar.shape")
    model.graph.initializer.append(shape)
    written.append(onnx.helper.make_node("Reshape", [name, shape.name], [f"{title}.scalar"]))
    return f"{title}.scalar"


def _inline(
    graph: Graph, branch: Any, prefix: str, names: set[str], titles: set[str], written: list[Any]
) -> list[str]:
    """Put a branch behind ``written``; the names of its outputs.

    Its own names get the prefix where they are taken.
    """
    own = [name for node in branch.node for name in node.output if name]
    own += [tensor.name for tensor in branch.initializer]
    renamed = {name: f"{prefix}{name}" for name in own if name in names}
    names.update(renamed.get(name, name) for name in own)
    for tensor in branch.initializer:
        copy = graph.onnx.TensorProto()
        copy.CopyFrom(tensor)
        copy.name = renamed.get(tensor.name, tensor.name)
        graph.model.graph.initializer.append(copy)
    for node in branch.node:
        copy = graph.onnx.NodeProto()
        copy.CopyFrom(node)
        _rename(copy, renamed)
        if copy.name in titles:
            copy.name = f"{prefix}{copy.name}"
        titles.add(copy.name)
        written.append(copy)
    return [renamed.get(value.name, value.name) for value in branch.output]


def _rename(node: Any, renamed: Mapping[str, str]) -> None:
    """Rename tensors of a node, and of the graphs in it that read them."""
    for names in (node.input, node.output):
        changed = [renamed.get(name, name) for name in names]
        del names[:]
        names.extend(changed)
    for attribute in node.attribute:
        for inner in [attribute.g, *attribute.graphs]:
            for each in inner.node:
                _rename(each, renamed)
            for value in inner.output:
                value.name = renamed.get(value.name, value.name)


def _either(
    onnx: Any, written: Sequence[Any], chosen: str, one: str, other: str, output: str
) -> list[Any]:
    """Where between two tensors; before the activation that both end in, so that it stays last."""
    makers = {name: node for node in written for name in node.output}
    ends = [_maker(makers, name) for name in (one, other)]
    kinds = [(end.op_type, [each.SerializeToString() for each in end.attribute]) if end else None
             for end in ends]  # fmt: skip
    if kinds[0] is None or kinds[0] != kinds[1] or kinds[0][0] not in _ACTIVATIONS:
        return [onnx.helper.make_node("Where", [chosen, one, other], [output])]
    before, last = f"{output}.before", onnx.NodeProto()
    last.CopyFrom(ends[0])
    last.name = f"{output}.{last.op_type}"
    last.input[0], last.output[0] = before, output
    inputs = [chosen, str(ends[0].input[0]), str(ends[1].input[0])]
    return [onnx.helper.make_node("Where", inputs, [before]), last]


def _maker(makers: Mapping[str, Any], name: str) -> Any:
    """The node that makes a tensor, behind what hands it on as it is."""
    node = makers.get(name)
    while node is not None and node.op_type == "Identity":
        node = makers.get(node.input[0])
    return node


def _same(model: Any, changed: Any, path: Path) -> bool:
    """Whether both give the same numbers, bit by bit, of samples of noise."""
    try:
        sessions = [
            open_session(each.SerializeToString(), folder=path.parent, optimised=False)
            for each in (model, changed)
        ]
    except _REFUSED:
        return False
    for length in (length for lengths in _LENGTHS for length in lengths[:1]):
        pairs = []
        for number in range(_N_TRIED):
            feed = _noise(changed, 1, length, number)
            try:
                pairs.append([session.run(None, feed, run_options()) for session in sessions])
            except _REFUSED:
                break
        if len(pairs) == _N_TRIED:
            outputs = [output for pair in pairs for output in zip(*pair, strict=True)]
            return all(np.array_equal(one, other) for one, other in outputs)
    return False
