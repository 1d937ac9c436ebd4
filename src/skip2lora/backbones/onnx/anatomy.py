"""Taps in an ONNX graph: of which kind they are, and where the logits are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skip2lora.backbones.masks import graph_mask
from skip2lora.backbones.onnx.graph import Folded, Graph, Size, infer
from skip2lora.backbones.onnx.heads import Head, head_of
from skip2lora.backbones.onnx.layers import Read, weight_layers
from skip2lora.backbones.onnx.probe import probe
from skip2lora.backbones.taps import Tap, tap_of
from skip2lora.errors import ModelError

_MOST_OUTPUTS = 1 << 20


@dataclass(frozen=True)
class Source:
    """A tap, what its layer reads, and how the tensor comes to have the samples first.

    ``steps`` are "fold" (samples times tokens become two axes) or "swap" (tokens come first);
    ``mask`` is the input that says which tokens count.
    """

    tap: Tap
    read: Read
    steps: str = ""
    mask: str | None = None


@dataclass(frozen=True)
class Anatomy:
    """What was found in a graph: all taps there could be, in order, and where the logits are.

    ``head`` is None for a model whose output is no row of logits, such as a text encoder;
    ``logits_shape`` is that of one sample's logits in the graph, such as (1000, 1, 1).
    """

    sources: tuple[Source, ...]
    head: Head | None
    n_outputs: int
    logits_shape: tuple[int, ...] = ()


def anatomy(graph: Graph, path: Path, *, grid: int) -> Anatomy:
    """Find the layers and the logits of a graph.

    Raises:
        ModelError: there is no layer with weights whose input has a known width.
    """
    shapes = infer(graph)
    names = [value.name for value in graph.inputs]
    if not names or any(not shapes.get(name) for name in names):
        raise ModelError(
            f"{path}: an input has no shape or no axis of samples, expected both: export the model "
            "with its shapes, or fix the input to a constant"
        )
    reads = weight_layers(graph)
    if not reads:
        raise ModelError(
            f"{path} has no layer with weights (Gemm, MatMul, Conv, ...), expected at least one: "
            "is this the whole network?"
        )
    heads = [head_of(graph, value.name) for value in graph.model.graph.output]
    batch = shapes[names[0]][0]
    wanted = [each.tensor for each in reads] + [each.logits for each in heads]
    open_ones = [name for name in wanted if _is_open(shapes.get(name), batch)]
    if open_ones:
        shapes = {**shapes, **probe(graph, path.parent, open_ones, shapes)}
    head, logits_shape = _choose_head(heads, shapes, batch)
    mask = _mask(names, shapes)
    if head is None:
        output = heads[0].output
        reads.append(Read(output, "output", output))
    made = [_source(read, shapes.get(read.tensor), batch, mask, grid) for read in reads]
    sources = tuple(source for source in made if source is not None)
    if not sources:
        raise ModelError(
            f"{path}: no input of a layer with weights has a known width, expected at least one: "
            "export the model with fixed shapes (only the samples and tokens may vary)"
        )
    return Anatomy(sources, head, int(np.prod(logits_shape)) if head else 0, logits_shape)


def _is_open(shape: tuple[Size, ...] | None, batch: Size) -> bool:
    if not shape or shape[-1] is None or isinstance(shape[-1], str):
        return True
    return shape[0] != batch and (isinstance(batch, str) or not isinstance(shape[0], int))


def _choose_head(
    heads: Sequence[Head], shapes: dict[str, tuple[Size, ...]], batch: Size
) -> tuple[Head | None, tuple[int, ...]]:
    """The first output that has one row of logits for each sample; one with an activation wins."""
    for head in sorted(heads, key=lambda head: not head.activations):
        shape = shapes.get(head.logits)
        if not shape or len(shape) < 2 or shape[0] != batch:
            continue
        sizes = [size for size in shape[1:] if isinstance(size, int)]
        if len(sizes) == len(shape) - 1 and max(sizes) == int(np.prod(sizes)) < _MOST_OUTPUTS:
            return head, tuple(sizes)
    return None, ()


def _mask(names: Sequence[str], shapes: dict[str, tuple[Size, ...]]) -> tuple[str, Size] | None:
    at = graph_mask([(name, len(shapes[name]) - 1) for name in names])
    return None if at is None else (names[at], shapes[names[at]][1])


def _source(
    read: Read,
    shape: tuple[Size, ...] | None,
    batch: Size,
    mask: tuple[str, Size] | None,
    grid: int,
) -> Source | None:
    if not shape or len(shape) < 2:
        return None
    first, inner = shape[0], tuple(None if isinstance(s, str | Folded) else s for s in shape[1:])
    channels_first = read.convolves or (read.places_first and len(shape) == 3)
    if first == batch and len(shape) > 2 and (channels_first or len(shape) == 4):
        tap = tap_of(read.layer, read.tensor, inner, channels_first=channels_first, grid=grid)
        return None if inner[0 if channels_first else -1] is None else Source(tap, read)
    if inner[-1] is None or read.convolves:
        return None
    if first == batch and len(shape) == 2:
        return Source(tap_of(read.layer, read.tensor, inner), read)
    steps, tokens = ("swap", shape[0]) if read.tokens_first else _tokens(shape, batch)
    if steps is None:
        return None
    count = tokens if isinstance(tokens, int) else None
    tap = tap_of(read.layer, read.tensor, (count, inner[-1]))
    counted = mask is not None and tokens is not None and mask[1] == tokens
    return Source(tap, read, steps, mask[0] if mask is not None and counted else None)


def _tokens(shape: tuple[Size, ...], batch: Size) -> tuple[str | None, Size]:
    """How samples become the first axis, and the number of tokens."""
    first = shape[0]
    if first == batch and len(shape) == 3:
        return "", shape[1]
    if len(shape) == 3 and shape[1] == batch and batch != 1:
        return "swap", first
    if len(shape) == 2 and isinstance(first, Folded):
        return "fold", first.inner
    if len(shape) == 2 and isinstance(first, int) and isinstance(batch, int) and not first % batch:
        return "fold", first // batch
    if first == batch or isinstance(first, Folded) or isinstance(batch, int):
        return "fold", None
    return None, None
