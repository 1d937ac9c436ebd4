"""Taps in an ONNX graph, of which kind they are; its logits, and the activations behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from skip2lora.backbones.masks import Mask
from skip2lora.backbones.onnx.graph import (
    CONVOLUTIONS,
    OPERATORS,
    Graph,
    Read,
    Size,
    infer,
    sizes_of,
    weight_layers,
)
from skip2lora.backbones.onnx.masks import NOTHING, Counted, counting
from skip2lora.backbones.onnx.probe import Look, Seen, fix_batch, look, mixing
from skip2lora.backbones.onnx.refusals import no_layers, no_samples, no_taps
from skip2lora.backbones.outputs import OutputSpec, candidates_of, choose, ending_of
from skip2lora.backbones.taps import Tap, taps_of

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
    kinds of those that are more than a change of shape, such as ("Softmax", "ArgMax"); ``ending``
    is one of :data:`skip2lora.backbones.outputs.ENDINGS`.
    """

    output: str
    logits: str
    trailing: tuple[Any, ...] = ()
    activations: tuple[str, ...] = ()
    ending: str = "unknown"


class _Step(NamedTuple):
    """One activation or change of shape: what it reads, and the nodes it is made of."""

    tensor: str
    nodes: tuple[Any, ...]
    activation: str | None = None


def head_of(graph: Graph, output: str) -> Head:
    """What stands between ``output`` and its logits; the output itself where there is nothing."""
    walked: list[_Step] = []
    tensor, logits, n_steps = output, output, 0
    while len(walked) < _MOST_STEPS:
        step = _step_before(graph, tensor)
        if step is None:
            break
        walked.append(step)
        tensor = step.tensor
        if step.activation is not None:
            logits, n_steps = tensor, len(walked)
    steps = walked[n_steps - 1 :: -1] if n_steps else []
    activations = tuple(step.activation for step in steps if step.activation is not None)
    return Head(
        output,
        logits,
        tuple(node for step in steps for node in step.nodes),
        activations,
        ending_of(activations, sigmoids=("Sigmoid",), layer=_ends_in_layer(graph, tensor)),
    )


def _ends_in_layer(graph: Graph, tensor: str) -> bool:
    """Whether a layer with weights makes ``tensor``, at most with its bias behind it."""
    node = graph.producer.get(tensor)
    if node is not None and node.op_type == "Add":
        data = [name for name in node.input if name not in graph.constants]
        node = graph.producer.get(data[0]) if len(data) == 1 else None
    if node is None or node.op_type not in OPERATORS:
        return False
    return any(name in graph.constants for name in node.input)


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
    nodes: list[Any] = []
    reciprocals = 0
    while len(nodes) < _MOST_STEPS:
        node = graph.producer.get(tensor)
        if node is None:
            return None
        nodes.append(node)
        if node.op_type == kind:
            fits = str(node.input[0]) == source and reciprocals == turned
            return nodes[::-1] if fits else None
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


def float_activations(graph: Graph) -> Graph:
    """Make activations on integers, at the end of a graph, the standard's between two roundings.

    So the logits before them are numbers that adapters can be added to. The same graph where there
    are none.
    """
    model, activations = graph.model, {}
    for value in model.graph.output:
        tensor, steps = value.name, 0
        while (node := graph.producer.get(tensor)) is not None and steps < _MOST_STEPS:
            steps += 1
            if node.op_type in _ON_INTEGERS:
                activations[str(node.output[0])] = node  # several outputs may share one
            elif node.op_type not in (*_HEADS, *_PASSED):
                break
            tensor = node.input[0]
    for node in activations.values():
        _make_float(graph.onnx, model, node)
    return Graph(model) if activations else graph


def _make_float(onnx: Any, model: Any, node: Any) -> None:
    # The last one may be left out.
    data, scale, zero, out_scale, out_zero = (*node.input, "")[:5]
    name, result = str(node.name or node.output[0]), str(node.output[0])
    axes = [each for each in node.attribute if each.name == "axis"]
    kind = _ON_INTEGERS[node.op_type]
    make = onnx.helper.make_node
    real, active = f"{result}.real", f"{result}.active"
    new = [
        make("DequantizeLinear", [data, scale, *([zero] if zero else [])], [real], f"{name}.real"),
        make(kind, [real], [active], name),
        make("QuantizeLinear", [active, out_scale, *([out_zero] if out_zero else [])], [result]),
    ]
    new[1].attribute.extend(axes)
    at = [each.output[0] if each.output else "" for each in model.graph.node].index(result)
    nodes = list(model.graph.node)
    nodes[at : at + 1] = new
    del model.graph.node[:]
    model.graph.node.extend(nodes)


_NO_NUMBERS = (8, 9)  # texts and truth values, as TensorProto numbers types


class Fold(NamedTuple):
    """A tensor that is ``lead`` x samples x ``trail`` tokens and their width; None is any number.

    So are tokens that come first, samples and tokens in one axis, and windows of tokens.
    """

    lead: int | None
    trail: int | None


@dataclass(frozen=True)
class Source:
    """A tap, what its layer reads, and how the tensor comes to have the samples first.

    ``fold`` is None where it has them so; ``mask`` says which tokens count.
    """

    tap: Tap
    read: Read
    fold: Fold | None = None
    mask: Mask | None = None


@dataclass(frozen=True)
class Anatomy:
    """What was found in a graph: all taps there could be, in order, and where the logits are.

    ``heads`` and ``outputs`` say what stands at each output. ``head`` is that of the one taken,
    None for a model without a row of logits, such as a text encoder; ``logits_shape`` is that of
    one sample's logits in the graph, such as (1000, 1, 1). ``look`` is what running it has shown.
    ``mask`` says which tokens count, None where no input may; ``cut`` what was left out.
    """

    sources: tuple[Source, ...]
    heads: tuple[Head, ...]
    outputs: tuple[OutputSpec, ...]
    head: Head | None
    n_outputs: int
    look: Look
    logits_shape: tuple[int | None, ...] = ()
    mask: str | None = None
    cut: str | None = None


def anatomy(
    graph: Graph,
    path: Path,
    *,
    grid: int,
    output: str | int | None = None,
    mask: str | None = None,
) -> Anatomy:
    """Find the layers and the logits of a graph; ``output`` is that with the logits.

    ``mask`` says which input says what tokens count, as :func:`~skip2lora.backbones.masks.mask_of`
    reads it.

    Raises:
        ModelError: there is no layer with weights whose input has a known width, or a sample's
            logits depend on those beside it.
        ParameterError: there is no such output, or several may be that with the classes.
    """
    reads, names = weight_layers(graph), [value.name for value in graph.inputs]
    if not names or any(not sizes_of(value) for value in graph.inputs):
        raise no_samples(graph, path, infer(graph))
    if not reads:
        raise no_layers(graph, path)
    heads = [head_of(graph, value.name) for value in graph.model.graph.output]
    ends = [head.logits for head in heads]
    tensors = [read.tensor for read in reads]
    seen = look(graph, path, tensors, ends or tensors)
    if seen.baked:
        fix_batch(graph, seen.axes, seen.batch or 1)
    graph.samples = names[0], seen.axes[names[0]]
    outputs = tuple(_spec(graph, head, seen.of(head.logits)) for head in heads)
    behind = [graph.ancestors(end) if len(heads) > 1 else set[str]() for end in ends]
    at = choose(candidates_of(outputs, ends, behind), output, path)
    n_outputs = 0 if at is None else outputs[at].width
    dynamic = _rounds_batches(graph)
    if at is not None and not seen.of(ends[at]).verdict.holds(dynamic=dynamic):
        raise mixing(graph, path, ends[at], seen, dynamic=dynamic)
    counted = counting(graph, seen, mask, path) if mask or len(names) > 1 else NOTHING
    if at is None:
        reads += [Read(head.output, "output", head.output) for head in heads[:1]]
    elif (
        len(heads) > 1
    ):  # what only leads to other outputs, or is made of this one, says nothing of it
        before = behind[at] - {ends[at]}
        reads = [read for read in reads if read.tensor in before]
    holding = [read for read in reads if seen.of(read.tensor).verdict.holds(dynamic=dynamic)]
    tapped = _sources(holding, seen, counted, grid)
    if not tapped:
        raise no_taps(graph, path, seen.shapes, reads)
    if at is None:
        return Anatomy(tapped, tuple(heads), outputs, None, 0, seen, mask=counted.text)
    head, shape = heads[at], outputs[at].shape
    return Anatomy(tapped, tuple(heads), outputs, head, n_outputs, seen, shape, counted.text)


def _rounds_batches(graph: Graph) -> bool:
    """Whether numbers become integers with one scale for all samples of a batch."""
    return any(node.op_type.startswith("DynamicQuantize") for node in graph.model.graph.node)


def _spec(graph: Graph, head: Head, seen: Seen) -> OutputSpec:
    """What an output is; its sizes are open where it has not one row a sample."""
    inner = seen.by_sample
    if inner is None or graph.types.get(head.logits) in _NO_NUMBERS:
        inner = (None,) * (len(seen.shape) - 1 if seen.shape else 1)
    sizes = tuple(size if isinstance(size, int) else None for size in inner)
    return OutputSpec(head.output, sizes, head.ending)


def _sources(reads: Sequence[Read], seen: Look, counted: Counted, grid: int) -> tuple[Source, ...]:
    """The taps among what layers read: what has a row for each sample, of a known width."""
    places = [(read, _place(read, seen.of(read.tensor))) for read in reads]
    known = [(read, place) for read, place in places if place is not None]
    taps = taps_of(
        [(read.layer, read.tensor, place.shape, place.channels_first) for read, place in known],
        grid=grid,
    )
    sources = []
    for (read, place), tap in zip(known, taps, strict=True):
        mask = counted.mask if place.tokens in counted.sizes else None
        sources.append(Source(tap, read, place.fold, mask))
    return tuple(sources)


class _Place(NamedTuple):
    """How a layer's data lies: the shape of one sample, and how its samples are to come first."""

    shape: tuple[int | None, ...]
    channels_first: bool = False
    fold: Fold | None = None
    tokens: Size = None


def _place(read: Read, seen: Seen) -> _Place | None:
    shape, layout, inner = seen.shape, seen.verdict.layout, seen.by_sample
    if layout is None or len(shape) < 2:
        return None
    convolves = read.operator in CONVOLUTIONS
    if inner is not None:
        sizes = tuple(map(_number, inner))
        channels_first = convolves or (read.places_first and len(shape) == 3)
        if len(shape) > 2 and (channels_first or len(shape) == 4):
            known = sizes[0 if channels_first else -1] is not None
            return _Place(sizes, channels_first) if known else None
        if len(shape) == 2:
            return _Place(sizes) if sizes[0] is not None and not convolves else None
    width = _number(shape[-1])
    if width is None or convolves or layout.axis == len(shape) - 1:
        return None
    lead, trail = list(shape[: layout.axis]), list(shape[layout.axis + 1 : -1])
    if layout.outer > 1 and layout.inner > 1:
        lead, trail = [*lead, layout.outer], [layout.inner, *trail]
    elif layout.outer > 1:
        lead.append(shape[layout.axis])
    else:
        trail.insert(0, shape[layout.axis])
    tokens = _product([*lead, *trail])
    fold = Fold(_number(_product(lead)), _number(_product(trail)))
    if fold == (None, None):
        return None
    first = inner is not None and len(shape) == 3
    return _Place((_number(tokens), width), False, None if first else fold, tokens)


def _number(size: Size) -> int | None:
    return size if isinstance(size, int) else None


def _product(sizes: Sequence[Size]) -> Size:
    """The name of the only size that is open, where the others are one."""
    several = [size for size in sizes if size != 1]
    if len(several) == 1:
        return several[0]
    numbers = [size for size in several if isinstance(size, int)]
    return math.prod(numbers) if len(numbers) == len(several) else None
