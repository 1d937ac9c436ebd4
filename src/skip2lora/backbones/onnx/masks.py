"""The mask of an ONNX graph: which tokens it counts, and what each of them weighs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from skip2lora.backbones.inputs import NO_MASK
from skip2lora.backbones.masks import COUNTING, Mask, candidates, mask_of
from skip2lora.backbones.onnx.graph import Graph, Size, input_sizes, input_specs

if TYPE_CHECKING:
    from skip2lora.backbones.onnx.probe import Look
    from skip2lora.backbones.onnx.rows import Builder


class Counted(NamedTuple):
    """The mask as ``text``, None where no input may be one, and the numbers of tokens it counts.

    ``sizes`` are numbers, or names of those that are open.
    """

    text: str | None = None
    mask: Mask | None = None
    sizes: frozenset[Size] = frozenset()


NOTHING = Counted()


def counting(graph: Graph, seen: Look, text: str | None, path: Path) -> Counted:
    """The mask that ``text`` says, as :func:`~skip2lora.backbones.masks.mask_of` reads it.

    Raises:
        ParameterError: there is no such mask.
    """
    inputs = input_specs(graph, seen.axes)
    mask = mask_of(text, inputs, path)
    if mask is None:
        return Counted(NO_MASK if candidates(inputs) else None)
    lengths = mask.meaning == "lengths"
    name = mask.of if lengths else mask.name
    if seen.axes[name] != 0:
        return Counted(NO_MASK)
    sizes = {seen.shapes[name][1 if lengths else -1]}
    others = set(input_sizes(seen.shapes, [value.name for value in graph.inputs])) - sizes
    if len(others) == 1 and any(isinstance(size, str) for size in sizes):
        sizes |= others  # names of their own for what is one size
    return Counted(str(mask), mask, frozenset(sizes - {None}))


def weights_of(builder: Builder, mask: Mask) -> str:
    """What each token counts, (samples, 1, tokens): rows add up to one, or are zero."""
    shares = builder.made("mask.weights")
    if shares is None:
        counted = builder.as_float(_counting(builder, mask), "mask")
        row = builder.reshape(counted, [0, 1, -1], "mask.row")
        column = builder.reshape(counted, [0, -1, 1], "mask.column")
        total = builder.node("MatMul", [row, column], "mask.total")  # of ones: their number
        one = builder.constant("one", np.ones(1, np.float32))
        total = builder.node("Max", [total, one], "mask.at_least_one")
        shares = builder.node("Div", [row, total], "mask.weights")
    return shares


def _counting(builder: Builder, mask: Mask) -> str:
    """True for the tokens that count, as :meth:`Mask.counts` gives it."""
    kinds = builder.graph.onnx.TensorProto
    if mask.meaning in ("tokens", "padding"):
        marked = builder.node("Cast", [mask.name], "mask.marked", to=kinds.BOOL)
        return (
            marked if mask.meaning == "tokens" else builder.node("Not", [marked], "mask.counting")
        )
    numbers = builder.as_float(mask.name, "mask.numbers")
    if mask.meaning == "additive":
        least = builder.constant("mask.least", np.array(COUNTING, np.float32))
        return builder.node("Greater", [numbers, least], "mask.counting")
    shape = builder.node("Shape", [mask.of], "mask.shape")
    places = [builder.constant(f"mask.{at}", np.array(at, np.int64)) for at in (0, 1)]
    n_tokens = builder.node("Gather", [shape, places[1]], "mask.tokens", axis=0)
    order = builder.node("Range", [places[0], n_tokens, places[1]], "mask.order")
    order = builder.node("Cast", [order], "mask.order.float", to=kinds.FLOAT)
    column = builder.reshape(numbers, [-1, 1], "mask.lengths")
    return builder.node("Less", [order, column], "mask.counting")
