"""Digests are found where they were put, those that begin alike and those that are twice too."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from skip2lora.adapters.index import Index


def digests(rng: np.random.Generator, count: int, alike: int) -> NDArray[np.uint8]:
    """The first ``alike`` bytes of all are the same, the others of few kinds."""
    of_all = rng.integers(0, 3, (count, 32), np.uint8)
    of_all[:, :alike] = 7
    of_all[:, 12:] = 0
    return of_all


@pytest.mark.parametrize("alike", [0, 5, 8])
@pytest.mark.parametrize("sizes", [[40], [64, 16, 4], [3, 3, 3, 50, 1], [1] * 20])
def test_the_index_knows_what_a_table_would(alike: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(len(sizes) + alike)
    index, table, shards = Index(), {}, []
    for number, size in enumerate(sizes):
        shards.append(digests(rng, size, alike))
        index.add(shards[-1], number)
    dropped = len(sizes) // 2
    for gone in (None, dropped):
        if gone is not None:
            index.drop(gone)
        table = {
            digest.tobytes(): (number, row)
            for number, shard in enumerate(shards)
            for row, digest in enumerate(shard)
            if number != gone
        }
        wanted = np.concatenate([*shards, digests(rng, 30, alike)])
        shard, row = index.find(wanted)
        for digest, place in zip(wanted, zip(shard, row, strict=True), strict=True):
            assert (place != (-1, -1)) == (digest.tobytes() in table)
            if place != (-1, -1):  # the same digest may be in several places
                assert place[0] != gone
                assert shards[place[0]][place[1]].tobytes() == digest.tobytes()


def test_an_empty_index_and_no_question() -> None:
    nothing = np.empty((0, 32), np.uint8)
    index = Index()
    assert index.find(np.ones((2, 32), np.uint8))[0].tolist() == [-1, -1]
    index.add(np.ones((1, 32), np.uint8), 0)
    assert index.find(nothing)[0].tolist() == []
    index.drop(0)
    assert index.find(np.ones((2, 32), np.uint8))[1].tolist() == [-1, -1]


@pytest.mark.parametrize(
    "sizes", [[1] * 64, [5] * 40, [1, 2, 4, 8, 16], [9, 1, 9, 1, 9], [3, 2, 1]]
)
def test_each_array_is_at_most_half_of_the_one_before(sizes: list[int]) -> None:
    """So a question looks into few of them, however many shards there are."""
    index = Index()
    for number, size in enumerate(sizes):
        index.add(digests(np.random.default_rng(number), size, 0), number)
        lengths = [len(level[0]) for level in index._levels]
        assert sum(lengths) == sum(sizes[: number + 1])
        assert all(2 * after <= before for before, after in pairwise(lengths)), lengths
