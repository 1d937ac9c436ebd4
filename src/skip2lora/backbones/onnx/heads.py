"""The end of an ONNX graph: the activations behind its logits, also those written out in parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from skip2lora.backbones.onnx.file import need_onnx
from skip2lora.backbones.onnx.graph import Graph

_HEADS = ("Softmax", "LogSoftmax", "Sigmoid", "ArgMax", "TopK")
# What may stand between the last activation and the output, or between two of them.
_PASSED = (
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast",
    "QuantizeLinear", "DequantizeLinear", "ZipMap", "ArrayFeatureExtractor",
)  # fmt: skip
# What spreads the largest value or the sum of a softmax written out over its row again.
_SPREAD = ("Reshape", "Expand", "Squeeze", "Unsqueeze", "Identity", "Cast", "Max", "Where")
#: Activations on integers, as com.microsoft has them, and the standard's.
_ON_INTEGERS = {"QLinearSoftmax": "Softmax", "QLinearSigmoid": "Sigmoid"}
_MOST_STEPS = 64


@dataclass(frozen=True)
class Head:
    """The end of a graph: ``logits`` comes before the activations, ``trailing`` from there on.

    ``trailing`` are the nodes from the logits to the output, in that order; ``activations`` the
    kinds of those that are more than a change of shape, such as ("Softmax", "ArgMax").
    """

    output: str
    logits: str
    trailing: tuple[Any, ...] = ()
    activations: tuple[str, ...] = ()


class _Step(NamedTuple):
    """One activation or change of shape: what it reads, and the nodes it is made of."""

    tensor: str
    nodes: tuple[Any, ...]
    activation: str | None = None


def head_of(graph: Graph, output: str) -> Head:
    """What stands between ``output`` and its logits; the output itself where there is nothing."""
    walked: list[_Step] = []
    tensor, logits, kept = output, output, 0
    while len(walked) < _MOST_STEPS:
        step = _step_before(graph, tensor)
        if step is None:
            break
        walked.append(step)
        tensor = step.tensor
        if step.activation is not None:
            logits, kept = tensor, len(walked)
    steps = walked[kept - 1 :: -1] if kept else []
    return Head(
        output,
        logits,
        tuple(node for step in steps for node in step.nodes),
        tuple(step.activation for step in steps if step.activation is not None),
    )


def _step_before(graph: Graph, tensor: str) -> _Step | None:
    node = graph.producer.get(tensor)
    if node is None or not node.input:
        return None
    kind = str(node.op_type)
    if kind in _HEADS:
        return _Step(str(node.input[0]), (node,), kind)
    if kind in _PASSED:
        at = 1 if kind == "ArrayFeatureExtractor" else 0  # the index of a class name
        return _Step(str(node.input[at]), (node,)) if len(node.input) > at else None
    if kind in ("Div", "Mul"):
        return _softmax(graph, node)
    return None


def _softmax(graph: Graph, node: Any) -> _Step | None:
    """exp(z - max(z)) / sum(exp(z - max(z))), node by node, as exporters from other frameworks do.

    A product with the reciprocal of the sum is one as well; the largest value need not be there.
    """
    power, spread = str(node.input[0]), str(node.input[1])
    exponential = graph.producer.get(power)
    if node.op_type == "Mul" and (exponential is None or exponential.op_type != "Exp"):
        power, spread = spread, power
        exponential = graph.producer.get(power)
    if exponential is None or exponential.op_type != "Exp":
        return None
    below = _spread_of(graph, spread, "ReduceSum", power, turned=node.op_type == "Mul")
    if below is None:
        return None
    logits, nodes = str(exponential.input[0]), [exponential, *below, node]
    shifted = graph.producer.get(logits)
    if shifted is not None and shifted.op_type == "Sub":
        before = _spread_of(graph, str(shifted.input[1]), "ReduceMax", str(shifted.input[0]))
        if before is not None:
            logits, nodes = str(shifted.input[0]), [*before, shifted, *nodes]
    return _Step(logits, tuple(nodes), "Softmax")


def _spread_of(
    graph: Graph, tensor: str, kind: str, source: str, *, turned: bool = False
) -> list[Any] | None:
    """The nodes from ``source``, reduced by ``kind``, to ``tensor``; None where it is not that.

    ``turned`` asks for a Reciprocal on the way, as of the sum that a product divides by.
    """
    found: list[Any] = []
    reciprocals = 0
    while len(found) < _MOST_STEPS:
        node = graph.producer.get(tensor)
        if node is None:
            return None
        found.append(node)
        if node.op_type == kind:
            fits = str(node.input[0]) == source and reciprocals == turned
            return found[::-1] if fits else None
        reciprocals += node.op_type == "Reciprocal"
        if node.op_type not in _SPREAD and not (turned and node.op_type == "Reciprocal"):
            return None
        read = node.input[1:] if node.op_type == "Where" else node.input
        data = [str(name) for name in read if name and name not in graph.constants]
        # A shape that is computed is the second input; of Max and Where all but one are constant.
        if not data or (node.op_type in ("Max", "Where") and len(data) > 1):
            return None
        tensor = data[0]
    return None


def float_activations(model: Any) -> bool:
    """Make activations on integers, at the end of a graph, the standard's between two roundings.

    So the logits before them are numbers that adapters can be added to. False where there are none.
    """
    onnx = need_onnx("rewriting a model")
    graph, found = Graph(model), {}
    for value in model.graph.output:
        tensor, steps = value.name, 0
        while (node := graph.producer.get(tensor)) is not None and steps < _MOST_STEPS:
            steps += 1
            if node.op_type in _ON_INTEGERS:
                found[str(node.output[0])] = node  # several outputs may share one
            elif node.op_type not in (*_HEADS, *_PASSED):
                break
            tensor = node.input[0]
    for node in found.values():
        _make_float(onnx, model, node)
    return bool(found)


def _make_float(onnx: Any, model: Any, node: Any) -> None:
    # The last one may be left out.
    data, scale, zero, out_scale, out_zero = (*node.input, "")[:5]
    name, made = str(node.name or node.output[0]), str(node.output[0])
    kept = [each for each in node.attribute if each.name == "axis"]
    kind = _ON_INTEGERS[node.op_type]
    make = onnx.helper.make_node
    real, active = f"{made}.real", f"{made}.active"
    new = [
        make("DequantizeLinear", [data, scale, *([zero] if zero else [])], [real], f"{name}.real"),
        make(kind, [real], [active], name),
        make("QuantizeLinear", [active, out_scale, *([out_zero] if out_zero else [])], [made]),
    ]
    new[1].attribute.extend(kept)
    at = [each.output[0] if each.output else "" for each in model.graph.node].index(made)
    nodes = list(model.graph.node)
    nodes[at : at + 1] = new
    del model.graph.node[:]
    model.graph.node.extend(nodes)
