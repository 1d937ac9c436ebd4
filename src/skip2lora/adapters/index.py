"""Where rows of samples with known digests are: a few sorted arrays of the first eight bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_Level = tuple[NDArray[np.uint64], NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32]]


class Index:
    """Digests, (n, 32) each, to shard and row; each array is much smaller than the one before."""

    def __init__(self) -> None:
        self._levels: list[_Level] = []

    def add(self, samples: NDArray[np.uint8], shard: int) -> None:
        """Those of one shard, (n, 32)."""
        rows = np.arange(len(samples), dtype=np.int32)
        self._levels.append(_sorted(_prefixes(samples), samples, np.full_like(rows, shard), rows))
        while len(self._levels) > 1 and 2 * len(self._levels[-1][0]) > len(self._levels[-2][0]):
            last, before = self._levels.pop(), self._levels.pop()
            pairs: Any = zip(before, last, strict=True)
            self._levels.append(_sorted(*(np.concatenate(pair) for pair in pairs)))

    def drop(self, shard: int) -> None:
        """Forget one shard."""
        others = [level[2] != shard for level in self._levels]
        self._levels = [
            (prefixes[stay], samples[stay], shards[stay], rows[stay])
            for (prefixes, samples, shards, rows), stay in zip(self._levels, others, strict=True)
        ]

    def find(self, samples: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Shard and row of each, -1 of those that are nowhere."""
        wanted, samples = _prefixes(samples), np.ascontiguousarray(samples)
        shard, row = (np.full(len(wanted), -1, np.int32) for _ in range(2))
        left = np.argsort(wanted)  # neighbours are looked for beside each other
        for prefixes, there, shards, rows in self._levels:
            at, asking = np.searchsorted(prefixes, wanted[left]), left
            while len(asking):  # once, but for digests that begin alike
                near = at < len(prefixes)
                near[near] = prefixes[at[near]] == wanted[asking[near]]
                at, asking = at[near], asking[near]
                same = (there[at] == samples[asking]).all(axis=1)
                shard[asking[same]], row[asking[same]] = shards[at[same]], rows[at[same]]
                at, asking = at[~same] + 1, asking[~same]
            left = left[shard[left] < 0]
        return shard, row


def _prefixes(samples: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(samples[:, :8]).view("<u8").reshape(len(samples))


def _sorted(
    prefixes: NDArray[np.uint64], samples: NDArray[np.uint8],
    shards: NDArray[np.int32], rows: NDArray[np.int32],
) -> _Level:  # fmt: skip
    order = np.argsort(prefixes, kind="stable")
    return prefixes[order], samples[order], shards[order], rows[order]
