"""Taps as operators of LiteRT: what a layer reads becomes the row that adapters read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.backbones.derived import LOG_CENTRED, LOGITS, POWERS, DerivedTap
from skip2lora.backbones.litert.file import Graph, Tensor
from skip2lora.backbones.masks import COUNTING, Mask
from skip2lora.backbones.taps import Tap
from skip2lora.errors import ModelError
from skip2lora.export.tflite_nodes import Node, Nodes


@dataclass(frozen=True, eq=False)
class Row:
    """A row of a tap: its numbers, and ``lora_a`` (width, rank) in their order."""

    node: Node
    lora_a: NDArray[np.float32]


def add_tap(
    nodes: Nodes, tap: Tap, tensor: Tensor, lora_a: NDArray[np.float32], title: str,
    counts: Node | None = None,
) -> Row:  # fmt: skip
    """The row of a tap; ``counts``, (tokens,), is 1 for the tokens of a sequence that count."""
    if None in tap.shape:
        raise ModelError(
            f"layer {tap.layer} reads {tap.shape} of a sample, expected sizes that do not change: "
            "leave the layer out with taps="
        )
    shape = [int(size or 0) for size in tap.shape]
    values = nodes.reshaped(nodes.real(tensor, f"{title}.real", shape), shape, f"{title}.values")
    if tap.kind == "vector":
        return Row(values, lora_a)
    if tap.kind == "sequence":
        return Row(_sequence(nodes, values, counts, title), lora_a)
    *outer, _, _ = tap.grid
    if outer:  # blocks of a dilated convolution, of which one average is kept
        axes = list(range(len(outer)))
        values = nodes.mean(values, axes, f"{title}.blocks")
    pooled = nodes.averaged(values, (tap.grid[-2], tap.grid[-1]), f"{title}.pooled")
    channels, rank = shape[-1], lora_a.shape[1]
    # A row has channels first, then places; the runtime has them the other way round.
    turned = lora_a.reshape(channels, -1, rank).swapaxes(0, 1).reshape(-1, rank)
    return Row(pooled, np.ascontiguousarray(turned))


def _sequence(nodes: Nodes, values: Node, counts: Node | None, title: str) -> Node:
    tokens, width = values.shape
    if counts is None or counts.shape != (tokens,):
        mean = nodes.mean(values, [0], f"{title}.mean")
    else:
        shares = nodes.of_two("MAXIMUM", nodes.sum(counts, f"{title}.n"), 1.0, f"{title}.most")
        weights = nodes.of_two("DIV", counts, shares, f"{title}.weights")
        line = nodes.reshaped(weights, [1, tokens], f"{title}.line")
        mean = nodes.reshaped(nodes.multiplied(line, values, f"{title}.sum"), [width], title)
    return nodes.joined([mean, nodes.first(values, f"{title}.first")], f"{title}.row")


def add_counts(nodes: Nodes, graph: Graph, mask: Mask) -> Node:
    """1 for the tokens that count, else 0, as :meth:`Mask.counts` has them: (tokens,)."""
    by_name = {tensor.name: tensor for tensor in graph.inputs}
    tensor = by_name[mask.name]
    given = nodes.reshaped(
        Node(tensor.index, tensor.sample_shape), [int(np.prod(tensor.sample_shape))], "mask.row"
    )
    zero = np.zeros(1, np.dtype(tensor.dtype))
    if mask.meaning == "lengths":
        n_tokens = by_name[mask.of].sample_shape[0]
        places = np.arange(n_tokens, dtype=np.dtype(tensor.dtype))
        line = Node(nodes.constant(places, "mask.places"), (n_tokens,))
        truth = nodes.truth("LESS", line.index, given.index, [n_tokens], "mask.counts")
    elif mask.meaning == "additive":
        least = nodes.constant(zero + np.dtype(tensor.dtype).type(COUNTING), "mask.least")
        truth = nodes.truth("GREATER", given.index, least, given.shape, "mask.counts")
    else:
        kind = "NOT_EQUAL" if mask.meaning == "tokens" else "EQUAL"
        none = nodes.constant(zero, "mask.none")
        truth = nodes.truth(kind, given.index, none, given.shape, "mask.counts")
    return nodes.cast(truth, "mask.numbers")


def add_derived(
    nodes: Nodes, tap: DerivedTap, sample: Node, logits: Any, cached: dict[str, Node], title: str
) -> Node:
    """The row of a derived tap; ``logits()`` gives the base logits, ``cached`` what is shared."""
    if tap.kind == LOGITS:
        node: Node = logits()
        return node
    if tap.kind in POWERS:
        if "unit" not in cached:
            below = nodes.of_two("MINIMUM", sample, tap.scale, "unit.below")
            within = nodes.of_two("MAXIMUM", below, -tap.scale, "unit.within")
            cached["unit"] = nodes.of_two("DIV", within, tap.scale, "unit")
        power = cached["unit"]
        for exponent in range(2, POWERS[tap.kind] + 1):
            power = nodes.of_two("MUL", power, cached["unit"], f"{title}.{exponent}")
        return power
    if "log" not in cached:
        positive = nodes.of_one("RELU", sample, "log.positive")
        cached["log"] = nodes.of_one(
            "LOG", nodes.of_two("ADD", positive, tap.shift, "log.shifted"), "log"
        )
    log = cached["log"]
    if tap.kind != LOG_CENTRED:
        return log
    mean = nodes.reshaped(nodes.mean(log, [0], f"{title}.mean"), [1], f"{title}.means")
    return nodes.of_two("SUB", log, mean, title)
