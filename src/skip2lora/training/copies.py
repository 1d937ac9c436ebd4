"""Samples that are there more than once, as where a file was learned twice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapters.rows import SkipCache, parts

# Fewer different samples that are a smaller share of all come again by chance, as switches do.
_LEAST, _SHARE = 20, 0.1
_AT_ONCE = 1 << 17  # numbers, of which there are products of 8 bytes


def copies_in(cache: SkipCache) -> NDArray[np.int64] | None:
    """For each sample the place of the first one with the same first tap, (n,); None of none.

    ``cache`` has rows of all samples, with the first tap copied. Of rows that are kept in fewer
    bits all taps are compared. None, too, of a few samples that come again and again.
    """
    sums = np.concatenate([_sums(cache, rows) for _, rows in parts(cache.rows)])
    _, first, of = np.unique(sums, return_index=True, return_inverse=True)
    n_different = len(first)
    few = n_different < min(_LEAST, _SHARE * len(sums))
    return None if n_different == len(sums) or few else first[of].astype(np.int64)


def _sums(cache: SkipCache, rows: NDArray[np.float32]) -> NDArray[np.uint64]:
    """One number a row, (n,), which differs where the bits of two do: a sum modulo 2^64."""
    layout, widths = cache.format.layout, cache.format.tap_widths
    several = len(widths) if cache.format.dtype != "float32" else 1
    columns = np.concatenate(
        [
            np.arange(start, start + width)
            for start, width in zip(layout.tap_offsets[:several], widths, strict=False)
        ]
    )
    random = np.random.Generator(np.random.PCG64(len(columns)))
    factors = random.integers(0, 1 << 64, len(columns), np.uint64, endpoint=False) | np.uint64(1)
    sums = np.empty(len(rows), np.uint64)
    step = max(1, _AT_ONCE // len(columns))
    for at in range(0, len(rows), step):
        some = np.ascontiguousarray(rows[at : at + step][:, columns])
        sums[at : at + step] = (some.view(np.uint32) * factors).sum(axis=1, dtype=np.uint64)
    return sums
