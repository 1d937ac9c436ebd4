"""Rows that stand for all: one of each heap, the nearest to its middle."""

from __future__ import annotations

import numpy as np
import pytest

from skip2lora.training.kmeans import clusters, representatives


def chosen(rows: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    rows = rows.astype(np.float64)
    return representatives(rows @ rows.T, count, np.random.Generator(np.random.PCG64(seed)))


@pytest.mark.parametrize("seed", range(5))
def test_one_of_each_heap_nearest_to_its_mean(seed: int) -> None:
    random = np.random.default_rng(seed)
    heaps = np.arange(40) % 4
    rows = 50 * np.eye(6)[heaps] + random.normal(size=(40, 6)) + 1000
    expected = []
    for heap in range(4):
        own = np.flatnonzero(heaps == heap)
        away = ((rows[own] - rows[own].mean(axis=0)) ** 2).sum(axis=1)
        expected.append(own[away.argmin()])
    assert chosen(rows, 4, seed).tolist() == sorted(expected)


def test_it_is_as_good_as_scikit_learn() -> None:
    """The sum of squared distances to the means is that of its best of ten starts, within 10 %."""
    cluster = pytest.importorskip("sklearn.cluster")
    rows = np.random.default_rng(0).normal(size=(80, 5)) * [5, 3, 1, 1, 1]
    places = chosen(rows, 8)
    away = ((rows[:, None] - rows[places]) ** 2).sum(axis=2).min(axis=1).sum()
    best = cluster.KMeans(8, n_init=10, random_state=0).fit(rows)
    nearest = ((rows[:, None] - best.cluster_centers_) ** 2).sum(axis=2).argmin(axis=0)
    their = ((rows[:, None] - rows[nearest]) ** 2).sum(axis=2).min(axis=1).sum()
    assert away < 1.1 * their


@pytest.mark.parametrize(("n_rows", "count"), [(3, 3), (2, 5), (1, 1), (9, 1)])
def test_few_rows(n_rows: int, count: int) -> None:
    places = chosen(np.random.default_rng(0).normal(size=(n_rows, 3)), count)
    assert len(places) == min(n_rows, count) == len(set(places.tolist()))


@pytest.mark.parametrize("seed", range(5))
def test_copies_are_no_reason_to_choose_fewer(seed: int) -> None:
    rows = np.repeat(np.arange(3.0), 5)[:, None]
    places = chosen(rows, 7, seed)
    assert len(set(places.tolist())) == 7
    assert set(rows[places, 0]) == {0, 1, 2}


def test_the_seed_decides() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 4))
    assert chosen(rows, 6, 1).tolist() == chosen(rows, 6, 1).tolist()
    assert any(
        chosen(rows, 6, 1).tolist() != chosen(rows, 6, seed).tolist() for seed in range(2, 6)
    )


def test_clusters_are_the_heaps() -> None:
    random = np.random.default_rng(3)
    heaps = np.arange(40) % 4
    rows = 50 * np.eye(6)[heaps] + random.normal(size=(40, 6))
    cluster = clusters(rows @ rows.T, 4, random)
    assert len(set(zip(heaps.tolist(), cluster.tolist(), strict=True))) == 4
    assert set(cluster.tolist()) == {0, 1, 2, 3}


def test_no_cluster_is_empty() -> None:
    cluster = clusters(np.ones((9, 9)), 5, np.random.default_rng(0))
    assert set(cluster.tolist()) == set(range(5))
