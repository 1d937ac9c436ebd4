"""k-means by inner products: rows that stand for all (Lloyd 1982; Arthur, Vassilvitskii 2007).

Distances to a mean are sums of inner products, so wide rows are looked at once, for these.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 100  # at most; a few dozen do


def representatives(
    gram: NDArray[np.float64], count: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Places of ``count`` rows, or of all if they are fewer, in ascending order.

    ``gram``, (rows, rows), has the inner products of all rows. The rows are parted into ``count``
    clusters by k-means; of each the one that is nearest to its mean is taken.
    """
    if len(gram) <= count:
        return np.arange(len(gram))
    cluster = clusters(gram, count, random)
    distance = _distances(gram, np.diagonal(gram), cluster, count)
    distance[cluster[:, None] != np.arange(count)] = np.inf
    nearest: NDArray[np.int64] = np.sort(distance.argmin(axis=0))
    return nearest


def clusters(
    gram: NDArray[np.float64], count: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """The cluster of each row, (rows,), of ``count``, none of which is empty.

    ``gram`` is that of :func:`representatives`, with at least ``count`` rows.
    """
    squares = np.diagonal(gram)
    cluster = _nearest_seed(gram, count, random)
    for _ in range(_ROUNDS):
        distance = _distances(gram, squares, cluster, count)
        moved = distance.argmin(axis=1)
        for empty in np.flatnonzero(np.bincount(moved, minlength=count) == 0):
            # What is farthest from its mean, of a cluster that keeps others.
            crowded = np.bincount(moved, minlength=count)[moved] > 1
            own = np.where(crowded, distance[np.arange(len(moved)), moved], -np.inf)
            moved[own.argmax()] = empty
        if (moved == cluster).all():
            break
        cluster = moved
    return cluster


def _nearest_seed(
    gram: NDArray[np.float64], count: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """The nearest of ``count`` rows, drawn far from each other (k-means++)."""
    squares = np.diagonal(gram)
    seeds = [int(random.integers(len(gram)))]
    apart = np.empty((len(gram), 0))
    while True:
        away = np.maximum(squares - 2 * gram[seeds[-1]] + squares[seeds[-1]], 0)
        apart = np.column_stack([apart, away])
        if len(seeds) == count:
            cluster: NDArray[np.int64] = apart.argmin(axis=1)
            return cluster
        nearest = apart.min(axis=1)
        nearest[seeds] = 0
        if not nearest.any():  # the others are copies of the seeds
            nearest = np.ones(len(gram))
            nearest[seeds] = 0
        seeds.append(int(random.choice(len(gram), p=nearest / nearest.sum())))


def _distances(
    gram: NDArray[np.float64], squares: NDArray[np.float64], cluster: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """Squared distances of all rows to the mean of each cluster, (rows, count)."""
    share = (cluster[:, None] == np.arange(count)).astype(np.float64)
    share /= np.maximum(share.sum(axis=0), 1)
    across = gram @ share
    within = (share * across).sum(axis=0)
    distance: NDArray[np.float64] = squares[:, None] - 2 * across + within
    distance[:, ~share.any(axis=0)] = np.inf
    return distance
