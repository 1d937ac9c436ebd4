"""Taps in an ONNX graph, of which kind they are, and where its logits are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skip2lora.backbones.ends import SAME, End, Op
from skip2lora.backbones.masks import Mask
from skip2lora.backbones.onnx.ends import Head, head_of, labels_of
from skip2lora.backbones.onnx.graph import (
    CONVOLUTIONS,
    Graph,
    Read,
    Size,
    infer,
    sizes_of,
    weight_layers,
)
from skip2lora.backbones.onnx.masks import NOTHING, Counted, counting
from skip2lora.backbones.onnx.mixing import mixing
from skip2lora.backbones.onnx.probe import Look, Seen, look
from skip2lora.backbones.onnx.refusals import no_layers, no_samples, no_taps
from skip2lora.backbones.onnx.sizes import fix_batch
from skip2lora.backbones.outputs import OutputSpec, candidates_of, choose, spec_of, task_of
from skip2lora.backbones.streams import Stream
from skip2lora.backbones.taps import Tap, taps_of

_LAYERS = ("Gemm", "MatMul", "Conv")
_LABELS = (2, 3, 4, 5, 6, 7, 8, 9, 12, 13)  # whole numbers, texts, truth values, in TensorProto


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


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What was found in a graph: all taps there could be, in order, and where the logits are.

    ``heads`` and ``outputs`` say what stands at each output. ``head`` is that of the one taken,
    None for a model without a row of logits, such as a text encoder; ``logits_shape`` is that of
    one sample's logits in the graph, such as (1000, 1, 1), or () where it is one number. ``look``
    is what running it has shown. Those numbers times ``columns`` are the logits, where there are
    such. ``mask`` says which tokens count, None where no input may; ``cut`` what was left out;
    ``unsure`` the layers whose samples could not be told apart; ``class_names`` what the graph
    calls its outputs; ``stream`` the states of one that is called again and again.
    """

    sources: tuple[Source, ...]
    heads: tuple[Head, ...]
    outputs: tuple[OutputSpec, ...]
    head: Head | None
    n_outputs: int
    look: Look
    task: str
    logits_shape: tuple[int, ...] = ()
    columns: NDArray[np.float32] | None = None
    mask: str | None = None
    cut: str | None = None
    unsure: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    stream: Stream | None = None


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
    reads = weight_layers(graph)
    names = [value.name for value in graph.inputs if value.name not in graph.states]
    if not names or any(not sizes_of(value) for value in graph.inputs):
        raise no_samples(graph, path, infer(graph))
    if not reads:
        raise no_layers(graph, path)
    shown = [value for value in graph.model.graph.output if value.name not in graph.states]
    heads = [_head(graph, value.name) for value in shown]
    ends = [head.logits for head in heads]
    lists = {v.name for v in graph.model.graph.output if v.type.HasField("sequence_type")}
    said = [head.output for head in heads if head.end.says and head.output not in lists]
    tensors = [read.tensor for read in reads]
    dynamic = _rounds_batches(graph)
    seen = look(graph, path, tensors, ends or tensors, said, dynamic=dynamic)
    if seen.baked:
        fix_batch(graph, seen.axes, seen.batch or 1)
    graph.samples = names[0], seen.axes[names[0]]
    heads = [head if _follows(head, seen) else head.refuted() for head in heads]
    outputs = tuple(_spec(graph, head, seen) for head in heads)
    behind = [graph.ancestors(end) if len(heads) > 1 else set[str]() for end in ends]
    at = choose(candidates_of(outputs, ends, behind), output, path)
    n_outputs = 0 if at is None else outputs[at].width
    task = task_of(None if at is None else outputs[at])
    inner = () if at is None else seen.of(ends[at]).by_sample or ()
    shape = tuple(size for size in inner if isinstance(size, int))
    end = None if at is None else heads[at].end
    columns = end.columns(math.prod(shape)) if end and (end.pair or end.sign < 0) else None
    if at is not None and not seen.of(ends[at]).verdict.holds(dynamic=dynamic):
        raise mixing(graph, path, ends[at], seen, dynamic=dynamic)
    counted = counting(graph, seen, mask, path) if mask or len(names) > 1 else NOTHING
    if at is None:
        open_ones = [head.output for head in heads[:1] if not outputs[0].closed]
        reads += [Read(name, "output", name) for name in open_ones]
    elif (
        len(heads) > 1
    ):  # what only leads to other outputs, or is made of this one, says nothing of it
        before = behind[at] - {ends[at]}
        reads = [read for read in reads if read.tensor in before]
    holding, unsure = seen.told([read.tensor for read in reads], dynamic=dynamic)
    tapped = _sources([read for read in reads if read.tensor in holding], seen, counted, grid)
    if not tapped:
        raise no_taps(graph, path, seen.shapes, reads)
    if at is None:
        n_outputs, shape = 0, ()
    head = None if at is None else heads[at]
    return Anatomy(
        tapped, tuple(heads), outputs, head, n_outputs, seen, task, shape, columns, counted.text,
        unsure=tuple(read.layer for read in reads if read.tensor in unsure),
        class_names=None if head is None else _names(graph, heads, head, n_outputs, seen),
    )  # fmt: skip


def _rounds_batches(graph: Graph) -> bool:
    """Whether numbers become integers with one scale for all samples of a batch."""
    return any(node.op_type.startswith("DynamicQuantize") for node in graph.model.graph.node)


def _head(graph: Graph, output: str) -> Head:
    """What stands at an output; nothing where a layer makes it."""
    maker = graph.producer.get(output)
    if maker is None or maker.op_type not in _LAYERS or maker.input[1] not in graph.constants:
        head = head_of(graph, output)
        if maker is None or maker.op_type != "ZipMap" or head.logits != output:
            return head
        numbers = str(maker.input[0])  # it has no array itself
        zipped = Op(SAME, (numbers,), nodes=(maker,))
        return Head(output, numbers, replace(head.end, logits=numbers, ops=(zipped,)))
    return Head(output, output, End(output, "logits"))


def _names(
    graph: Graph, heads: Sequence[Head], taken: Head, n_outputs: int, seen: Look
) -> tuple[str, ...] | None:
    """What the outputs behind the logits that are taken call each of them, if it holds of noise."""
    for head in heads:
        if not head.end.ops or head.logits != taken.logits:
            continue
        names = labels_of(graph, head)
        if len(set(names)) != n_outputs or len(names) != n_outputs or n_outputs < 2:
            continue
        says, said = head.end.says, seen.values.get(head.output)
        if head.end.ending == "labels" and says is not None and said is not None:
            logits = seen.values[head.logits].reshape(len(said), -1)
            places = says(logits.astype(np.float64))
            if [names[int(place)] for place in places] != [str(each) for each in said.reshape(-1)]:
                continue
        return None if names == tuple(map(str, range(n_outputs))) else names
    return None


def _follows(head: Head, seen: Look) -> bool:
    """Whether an output was what follows from its logits, where both could be seen."""
    if head.end.ending == "logits" or not {head.output, head.logits} <= seen.values.keys():
        return True
    logits, said = seen.values[head.logits], seen.values[head.output]
    if seen.of(head.logits).by_sample is None:
        return True
    return head.end.agrees(logits.reshape(len(logits), -1), said)


def _spec(graph: Graph, head: Head, look: Look) -> OutputSpec:
    """What an output is; its sizes are open where it has not one row a sample."""
    seen = look.of(head.logits)
    labels = graph.types.get(head.logits) in _LABELS or _is_whole(look.values.get(head.logits))
    inner = seen.by_sample
    if inner is None:
        inner = (None,) * max(1, len(seen.shape) - 1)
    sizes = tuple(size if isinstance(size, int) else None for size in inner or (1,))
    if head.end.ending == "logits" and not labels:
        return OutputSpec(head.output, sizes, "logits")
    return spec_of(head.output, sizes, head.end, labels=labels)


def _is_whole(values: NDArray[Any] | None) -> bool:
    """Whether values of noise are whole numbers, as are labels, places and counts.

    Of large ones that says nothing, as their type has no fractions.
    """
    if values is None or values.dtype.kind != "f" or not np.isfinite(values).all():
        return False
    small = values[np.abs(values) < 1 / np.finfo(values.dtype).eps]
    return bool(small.any() and np.array_equal(small, np.round(small)))


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
        if len(shape) == 2:
            return _Place(sizes) if sizes[0] is not None and not convolves else None
        if channels_first or len(shape) == 4:
            known = sizes[0 if channels_first else -1] is not None
            return _Place(sizes, channels_first) if known else None
    width = _number(shape[-1])
    if width is None or convolves or layout.axis == len(shape) - 1:
        return None
    lead, trail = list(shape[: layout.axis]), list(shape[layout.axis + 1 : -1])
    if layout.outer > 1 and layout.inner > 1:
        if _number(shape[layout.axis]) is None:
            return None  # in which order is known of one number of tokens alone
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
