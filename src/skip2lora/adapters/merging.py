"""Several sets of skip adapters as one: what they add to the outputs is linear in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapters.adapters import SkipAdapters

_ROWS = 1024  # of a tap whose products are doubles at a time


def mixed(
    parts: Sequence[SkipAdapters],
    weights: Sequence[float] | NDArray[np.float64],
    tap_widths: Sequence[int],
    base_factor: NDArray[np.float64] | None = None,
) -> SkipAdapters:
    """Adapters that add ``weights`` times what ``parts`` add, from all taps.

    ``parts`` have the same outputs and start at any tap of ``tap_widths``. The rank is that of all
    together, or as much as a map from the widest tap to the outputs that they change can have.
    With ``base_factor``, one for each output of the model, its logits count so much: the first tap
    are then these, as of a model with the derived tap "logits".
    """
    n_outputs = parts[0].n_outputs
    changed = np.zeros(n_outputs, np.bool_)
    for part in parts:
        for b in part.lora_b:
            changed |= (b != 0).any(axis=0)
    bias = np.zeros(n_outputs)
    for weight, part in zip(weights, parts, strict=True):
        bias += weight * (0 if part.bias is None else part.bias.astype(np.float64))
    widths = list(tap_widths)
    pairs = [_pairs(parts, weights, tap) for tap in range(len(widths))]
    if base_factor is not None:
        own = len(base_factor)
        changed[:own] |= base_factor != 1
        widths.insert(0, own)
        less = np.flatnonzero(base_factor != 1)
        back = _chosen(less, n_outputs)
        pairs.insert(0, [(back[:, :own].T * (base_factor - 1)[:, None], back)])
    lora_a, lora_b = _of_one_rank(pairs, widths, n_outputs, np.flatnonzero(changed))
    return SkipAdapters(lora_a, lora_b, bias=bias.astype(np.float32))


def of_rows(adapters: SkipAdapters) -> SkipAdapters:
    """The same outputs by a rank that rows of these taps alone allow: the widest tap at most.

    Beside a wider tap that was left out, the rank may be more.
    """
    widest = max(len(a) for a in adapters.lora_a)
    if adapters.rank <= widest:
        return adapters
    pairs = zip(adapters.lora_a, adapters.lora_b, strict=True)
    products = [a.astype(np.float64) @ b for a, b in pairs]
    lora_b = tuple(
        np.pad(of, ((0, widest - len(of)), (0, 0))).astype(np.float32) for of in products
    )
    lora_a = tuple(np.eye(len(of), widest, dtype=np.float32) for of in products)
    return replace(adapters, lora_a=lora_a, lora_b=lora_b)


_Pair = tuple[NDArray[np.floating], NDArray[np.float64]]


def _pairs(
    parts: Sequence[SkipAdapters], weights: Sequence[float] | NDArray[np.float64], tap: int
) -> list[_Pair]:
    """What is added up of one tap: (width, rank) and (rank, n_outputs) of each."""
    return [
        (part.lora_a[own], weight * part.lora_b[own].astype(np.float64))
        for weight, part in zip(weights, parts, strict=True)
        if (own := tap - part.first_tap) >= 0
    ]


def _chosen(outputs: NDArray[np.int64], n_outputs: int) -> NDArray[np.float64]:
    """One at each of ``outputs``, a row each: of thousands, few are learned."""
    rows = np.zeros((len(outputs), n_outputs))
    rows[np.arange(len(outputs)), outputs] = 1
    return rows


def _of_one_rank(
    pairs: Sequence[list[_Pair]],
    widths: Sequence[int],
    n_outputs: int,
    changed: NDArray[np.int64],
) -> tuple[tuple[NDArray[np.float32], ...], tuple[NDArray[np.float32], ...]]:
    """The same products, all of the smallest rank that goes without a decomposition."""
    beside = max(sum(len(b) for _, b in of_tap) for of_tap in pairs)
    changed = changed if len(changed) else np.zeros(1, np.int64)  # a rank is 1 or more
    rank = min(max(widths), len(changed))
    chosen, lora_a, lora_b = _chosen(changed, n_outputs).astype(np.float32), [], []
    for width, of_tap in zip(widths, pairs, strict=True):
        if beside <= rank:
            a, b = np.zeros((width, beside), np.float32), np.zeros((beside, n_outputs), np.float32)
            start = 0
            for one, other in of_tap:
                place = slice(start, start := start + len(other))
                a[:, place], b[place] = one, other
        elif rank == len(changed):
            a, b = _product(of_tap, width, changed), chosen
        else:  # no tap is as wide
            a, b = np.eye(width, rank, dtype=np.float32), np.zeros((rank, n_outputs), np.float32)
            b[:width, changed] = _product(of_tap, width, changed)
        lora_a.append(a)
        lora_b.append(b.copy())
    return tuple(lora_a), tuple(lora_b)


def _product(of_tap: list[_Pair], width: int, changed: NDArray[np.int64]) -> NDArray[np.float32]:
    """The sum of a b of all, (width, changed), in doubles for some rows at a time."""
    product, factors = (
        np.zeros((width, len(changed)), np.float32),
        [b[:, changed] for _, b in of_tap],
    )
    for at in range(0, width, _ROWS):
        some = slice(at, at + _ROWS)
        sums = np.zeros((len(product[some]), len(changed)))
        for (a, _), b in zip(of_tap, factors, strict=True):
            sums += a[some].astype(np.float64) @ b
        product[some] = sums
    return product
