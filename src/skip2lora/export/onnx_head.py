"""Where adapters meet the end of a base graph: its logits, its last weights, its activations."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.backbones.onnx.anatomy import Anatomy, Source
from skip2lora.backbones.onnx.ends import TABLES, Head, of_one_number
from skip2lora.backbones.onnx.file import need_onnx
from skip2lora.backbones.onnx.graph import Graph, weight_layers
from skip2lora.backbones.onnx.rows import Builder

# What only moves the integers between QuantizeLinear and DequantizeLinear, and what gives the same
# for them as for the real numbers.
_MOVING = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Transpose")
_OF_ANY_TYPE = ("ArgMax", "Shape", "Size")
_SHAPED = ("Reshape", "Expand")
_OF_CLASSES = ("ZipMap", "LabelEncoder", *TABLES)


def fold_last(graph: Graph, head: Head, source: Source, change: NDArray[np.float64]) -> bool:
    """Add ``change``, (width, n_outputs), to the weights that read ``source`` and make the logits.

    False, and nothing done, where the graph does not allow it: the tap is no vector, or the weights
    are quantised, computed, or used elsewhere.
    """
    node = graph.producer.get(head.logits)
    if node is not None and node.op_type == "Add":
        data = [name for name in node.input if name not in graph.constants]
        node = graph.producer.get(data[0]) if len(data) == 1 else None
        outputs = {value.name for value in graph.model.graph.output}
        if node is not None and len(graph.readers.get(node.output[0], ())) != 1:
            return False
        if outputs & set(data):  # the sum without its bias is an output as well
            return False
    if node is None or node.op_type not in ("Gemm", "MatMul"):
        return False
    if source.tap.kind != "vector" or node.input[0] != source.read.tensor:
        return False
    weight = graph.initializers.get(node.input[1])
    options = {a.name: a.f if a.type == 1 else a.i for a in node.attribute}
    plain = options.get("alpha", 1.0) == 1.0 and not options.get("transA", 0)
    if weight is None or not plain or len(graph.readers[weight.name]) != 1:
        return False
    if any(value.name == weight.name for value in graph.model.graph.input):
        return False
    onnx = need_onnx("export")
    turned = change.T if options.get("transB", 0) else change
    values = onnx.numpy_helper.to_array(weight)
    if values.shape != turned.shape or values.dtype != np.float32:
        return False
    new = onnx.numpy_helper.from_array((values + turned).astype(np.float32), weight.name)
    weight.CopyFrom(new)
    return True


def readers_elsewhere(graph: Graph, anatomy: Anatomy) -> list[Any]:
    """Nodes that read the logits on the way to further layers, whose outputs stay as they are.

    What is made of probabilities follows them.
    """
    head = anatomy.head
    if head is None or head.end.ending not in ("logits", "unknown"):
        return []
    elsewhere: set[str] = set()
    for read in weight_layers(graph):
        behind = graph.ancestors(read.tensor)
        if head.logits in behind:
            elsewhere |= behind
            elsewhere.update(out for of in graph.readers[read.tensor] for out in of.output)
    return [node for node in graph.readers.get(head.logits, ()) if elsewhere & set(node.output)]


def feeds_states(graph: Graph, anatomy: Anatomy) -> bool:
    """Whether the state of a later call is made of the logits."""
    head = anatomy.head
    return head is not None and any(head.logits in graph.ancestors(name) for name in graph.states)


def drop_stale(graph: Graph, anatomy: Anatomy, *, replaced: str | None) -> None:
    """Take out the outputs that would still say what the base says of classes.

    With ``replaced``, the output whose classes are learned anew, those are all that show its
    logits; else only what says of classes without following from the logits.
    """
    stale: set[str] = set()
    own = next((of for of in anatomy.heads if of.output == replaced), anatomy.head)
    says = own is not None and own.end.ending != "unknown"
    for head, spec in zip(anatomy.heads, anatomy.outputs, strict=True):
        shows = own is not None and own.logits in graph.ancestors(head.output)
        if (spec.closed and (replaced or not shows)) or (replaced and shows and says):
            stale.add(head.output)
    drop_outputs(graph, stale)


def drop_outputs(graph: Graph, names: set[str]) -> None:
    """Take outputs of these names out."""
    rest = [value for value in graph.model.graph.output if value.name not in names]
    del graph.model.graph.output[:]
    graph.model.graph.output.extend(rest)


def drop_narrow(graph: Graph, anatomy: Anatomy) -> bool:
    """Take out the outputs that cannot tell more classes; whether all of the logits' are such.

    They have a table or a shape of as many, or are made of one number for two classes.
    """
    logits = None if anatomy.head is None else anatomy.head.logits
    shown = [head for head in anatomy.heads if head.logits == logits]
    narrow = {
        head.output for head in shown
        if any(_is_narrow(graph, node, anatomy.n_outputs) for node in head.trailing)
    }  # fmt: skip
    drop_outputs(graph, narrow)
    for node in (node for head in shown if head.output in narrow for node in head.trailing[::-1]):
        _drop_unread(graph, node)
    return anatomy.columns is not None or len(narrow) == len(shown)


def _drop_unread(graph: Graph, node: Any) -> None:
    """Take a node out that nothing reads, as onnxruntime would run it, and fail, nevertheless."""
    nodes = graph.model.graph.node
    read = {value.name for value in graph.model.graph.output}
    read.update(name for other in nodes for name in other.input)
    if node in nodes and read.isdisjoint(node.output):
        nodes.remove(node)


def _is_narrow(graph: Graph, node: Any, n_outputs: int) -> bool:
    fixed = node.op_type in _SHAPED and _says(graph, node.input[1], n_outputs)
    return fixed or node.op_type in _OF_CLASSES or of_one_number(graph, node)


def columns_of(anatomy: Anatomy) -> NDArray[np.float32] | None:
    """What is added to outputs times this is added to the numbers in the graph; None for itself."""
    columns = anatomy.columns
    return None if columns is None else np.linalg.pinv(columns).astype(np.float32)


def plug_logits(builder: Builder, anatomy: Anatomy, added: str | None, n_outputs: int) -> None:
    """Make the logits of the graph base logits plus ``added``, (samples, n_outputs)."""
    graph, head = builder.graph, anatomy.head
    if added is None or head is None:
        return
    others = readers_elsewhere(graph, anatomy)
    _bypass_quantising(graph, head)
    extra = n_outputs - anatomy.n_outputs
    columns = columns_of(anatomy)
    if columns is not None:
        matrix = builder.constant("columns", columns)
        added = builder.node("MatMul", [added, matrix], "added.columns")
    if extra:
        _widen(graph, head, anatomy.n_outputs, n_outputs)
    own = [node for node in graph.model.graph.node if node.name.startswith(builder.prefix)]
    base = f"{builder.prefix}base_logits"
    maker = graph.producer[head.logits]
    maker.output[list(maker.output).index(head.logits)] = base
    for node in (*others, *own):  # a tap of the logits, too, stays as it is
        for place, name in enumerate(node.input):
            if name == head.logits:
                node.input[place] = base
    shape = list(anatomy.logits_shape)
    if extra:
        at = shape.index(anatomy.n_outputs)
        ends = [0] * (2 * len(shape) + 2)
        ends[len(shape) + 2 + at] = extra
        base = pad(builder, base, ends)
        # The runtime, which goes back from what was appended last, would compute the whole base
        # first and keep every map till then.
        nodes = graph.model.graph.node
        nodes.insert(0, nodes.pop())
        shape[at] = n_outputs
    if len(shape) != 1:
        target = builder.constant("logits.shape", np.array([-1, *shape], np.int64))
        added = builder.node("Reshape", [added, target], "added.shaped")
    float32 = need_onnx("export").TensorProto.FLOAT
    kind = graph.types.get(head.logits) or float32
    if kind != float32:
        added = builder.node("Cast", [added], "added.cast", to=kind)
    builder.node("Add", [base, added], "sum", renamed=head.logits)
    sort_nodes(graph.model)


def pad(builder: Builder, tensor: str, ends: list[int]) -> str:
    """Zeros before and after a tensor along each axis; opset 11 made the amounts an input."""
    if builder.graph.opset < 11:
        return builder.node("Pad", [tensor], "padded", pads=ends)
    amounts = builder.constant("pads", np.array(ends, np.int64))
    return builder.node("Pad", [tensor, amounts], "padded")


def _bypass_quantising(graph: Graph, head: Head) -> None:
    """Take quantisation out from behind the logits, so that adapted outputs are not rounded.

    It stays where the integers themselves are an output, or something else computes with them.
    """
    changed = {node.output[0] for node in head.trailing}
    for node in head.trailing:
        rounded = _rounded(graph, node) if node.op_type == "QuantizeLinear" else None
        if rounded is None:
            continue
        tensors, ends = rounded
        changed |= tensors
        for each in (node, *ends):
            each.op_type = "Identity"
            each.domain = ""
            del each.input[1:]
            del each.attribute[:]
    unchanged = [value for value in graph.model.graph.value_info if value.name not in changed]
    del graph.model.graph.value_info[:]
    graph.model.graph.value_info.extend(unchanged)


def _rounded(graph: Graph, quantising: Any) -> tuple[set[str], list[Any]] | None:
    """The tensors of integers from ``quantising`` on, and the nodes that make them real again.

    None where their type matters to an output or to another node.
    """
    outputs = {value.name for value in graph.model.graph.output}
    tensors: set[str] = set()
    ends: list[Any] = []
    left = [str(quantising.output[0])]
    while left:
        tensor = left.pop()
        if tensor in outputs:
            return None
        tensors.add(tensor)
        for node in graph.readers.get(tensor, ()):
            if node.op_type == "DequantizeLinear":
                ends.append(node)
            elif node.op_type in _MOVING:
                left.append(str(node.output[0]))
            elif node.op_type not in _OF_ANY_TYPE:
                return None
    return tensors, ends


def _widen(graph: Graph, head: Head, n_old: int, n_new: int) -> None:
    """Let what the graph says of its shapes take ``n_new`` outputs."""
    del graph.model.graph.value_info[:]
    for value in graph.model.graph.output:
        if head.logits in graph.ancestors(value.name):
            for dim in list(value.type.tensor_type.shape.dim)[1:]:
                if dim.dim_value == n_old:
                    dim.dim_value = n_new


def _says(graph: Graph, shape: str, n_old: int) -> bool:
    """Whether a shape, or what it is computed of, has ``n_old`` as a constant."""
    shapes = (graph.array(name) for name in graph.ancestors(shape) if name in graph.constants)
    return any(
        array is not None and array.dtype.kind in "iu" and n_old in np.asarray(array).ravel()
        for array in shapes
    )


def sort_nodes(model: Any) -> None:
    """Put nodes after those they read, otherwise in the order they have."""
    nodes = list(model.graph.node)
    maker = {name: at for at, node in enumerate(nodes) for name in node.output if name}
    waits = [{maker[name] for name in node.input if name in maker} for node in nodes]
    followers: dict[int, list[int]] = {}
    for at, before in enumerate(waits):
        for one in before:
            followers.setdefault(one, []).append(at)
    ready = [at for at, before in enumerate(waits) if not before]  # a heap, as it is sorted
    order = []
    while ready:
        at = heapq.heappop(ready)
        order.append(at)
        for follower in followers.get(at, ()):
            waits[follower].discard(at)
            if not waits[follower]:
                heapq.heappush(ready, follower)
    del model.graph.node[:]
    model.graph.node.extend(nodes[at] for at in order)
