"""Several sets of skip adapters as one: what they add to the outputs is linear in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapters.adapters import SkipAdapters


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
    pairs = [_pair(parts, weights, tap, width, n_outputs) for tap, width in enumerate(widths)]
    if base_factor is not None:
        own = len(base_factor)
        changed[:own] |= base_factor != 1
        widths.insert(0, own)
        less = np.flatnonzero(base_factor != 1)
        back = _chosen(less, n_outputs)
        pairs.insert(0, (back[:, :own].T * (base_factor - 1)[:, None], back))
    pairs = _of_one_rank(pairs, widths, np.flatnonzero(changed))
    return SkipAdapters(
        tuple(a.astype(np.float32, order="C") for a, _ in pairs),
        tuple(b.astype(np.float32, order="C") for _, b in pairs),
        bias=bias.astype(np.float32),
    )


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


_Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def _pair(
    parts: Sequence[SkipAdapters],
    weights: Sequence[float] | NDArray[np.float64],
    tap: int,
    width: int,
    n_outputs: int,
) -> _Pair:
    """Side by side: (width, ranks) and (ranks, n_outputs)."""
    a, b = [np.zeros((width, 0))], [np.zeros((0, n_outputs))]
    for weight, part in zip(weights, parts, strict=True):
        if tap >= part.first_tap:
            a.append(part.lora_a[tap - part.first_tap].astype(np.float64))
            b.append(weight * part.lora_b[tap - part.first_tap].astype(np.float64))
    return np.hstack(a), np.vstack(b)


def _chosen(outputs: NDArray[np.int64], n_outputs: int) -> NDArray[np.float64]:
    """One at each of ``outputs``, a row each: of thousands, few are learned."""
    rows = np.zeros((len(outputs), n_outputs))
    rows[np.arange(len(outputs)), outputs] = 1
    return rows


def _of_one_rank(
    pairs: list[_Pair], widths: Sequence[int], changed: NDArray[np.int64]
) -> list[_Pair]:
    """The same products, all of the smallest rank that goes without a decomposition."""
    beside = max(a.shape[1] for a, _ in pairs)
    changed = changed if len(changed) else np.zeros(1, np.int64)  # a rank is 1 or more
    rank = min(max(widths), len(changed))
    if beside <= rank:
        wide = [(0, beside - a.shape[1]) for a, _ in pairs]
        return [
            (np.pad(a, ((0, 0), more)), np.pad(b, (more, (0, 0))))
            for more, (a, b) in zip(wide, pairs, strict=True)
        ]
    n_outputs = pairs[0][1].shape[1]
    chosen, one_rank = _chosen(changed, n_outputs), []
    for a, b in pairs:
        product = a @ b[:, changed]
        if rank == len(changed):
            one_rank.append((product, chosen))
        else:  # no tap is as wide
            back = np.zeros((rank, n_outputs))
            back[: len(product), changed] = product
            one_rank.append((np.eye(len(product), rank), back))
    return one_rank
