"""Skip-Cache: its size in bytes, what it keeps, and that a row computed once is not again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora import _core
from skip2lora.training.cache import SkipCache


def one_epoch(cache: SkipCache, x: np.ndarray, y: np.ndarray, forward: Any) -> _core.Epoch:
    packed = _core.SkipAdapter(cache.format.layout, 2)
    trainer = _core.SkipTrainer(packed, 4, _core.Optimizer(_core.SGD), 0)
    source = _core.RowSource(cache.format.layout, cache.rows, cache.filled, forward)
    return trainer.epoch(x, y.astype(np.int32), source, 0.01)


def test_size_of_the_paper(make_model: Callable[..., s2.MLP]) -> None:
    model = make_model([256, 96, 96, 3])
    cache = SkipCache.create(model, 470)
    assert cache.payload_bytes == 366_600  # 358 KiB, section 4.2
    assert cache.payload_bytes == 470 * (96 + 96 + 3) * 4
    assert cache.payload_bytes + cache.overhead_bytes == cache.rows.nbytes + cache.filled.nbytes
    assert cache.overhead_bytes == 470 * (13 * 4 + 1)  # padding of the logits, and one flag


@pytest.mark.parametrize("first_tap_is_input", [True, False])
def test_size_with_and_without_the_sample(first_tap_is_input: bool) -> None:
    backbone = NumpyBackbone([20, 9, 3], first_tap_is_input=first_tap_is_input)
    cache = SkipCache.create(backbone, 10)
    floats = 9 + 3 if first_tap_is_input else 19 + 9 + 3
    assert cache.payload_bytes == 10 * floats * 4
    assert cache.payload_bytes + cache.overhead_bytes == cache.rows.nbytes + cache.filled.nbytes
    assert SkipCache.create(backbone, 10, first_tap=1).payload_bytes == 10 * 12 * 4


@pytest.mark.parametrize(
    ("capacity", "n_rows"), [(None, 10), (0, 0), (3, 3), (10, 10), (99, 10)], ids=str
)
def test_capacity(make_model: Callable[..., s2.MLP], capacity: int | None, n_rows: int) -> None:
    cache = SkipCache.create(make_model([8, 6, 3]), 10, capacity=capacity)
    assert len(cache.rows) == len(cache.filled) == n_rows
    assert cache.payload_bytes == n_rows * 9 * 4
    assert not cache.filled.any()


def test_rows_are_filled_once(make_samples: Any) -> None:
    backbone, (x, y) = NumpyBackbone([8, 6, 3], first_tap_is_input=True), make_samples(10)
    cache = SkipCache.create(backbone, 10, capacity=7)
    asked: list[int] = []

    def forward(indices: np.ndarray, rows: np.ndarray) -> None:
        asked.extend(indices.tolist())
        cache.format.compute(backbone, x[indices], rows)

    assert one_epoch(cache, x, y, forward).n_forward == 10
    assert sorted(asked) == list(range(10))
    assert cache.filled.all()
    expected = cache.format.empty(7)
    cache.format.compute(backbone, x[:7], expected)  # sample i in row i, padding zero
    assert cache.rows.tobytes() == expected.tobytes()

    asked.clear()
    assert one_epoch(cache, x, y, forward).n_forward == 3
    assert sorted(asked) == [7, 8, 9]  # beyond the capacity: computed each time


def test_cached_rows_are_what_is_used(make_samples: Any) -> None:
    x, y = make_samples(10)
    backbone = NumpyBackbone([8, 6, 3], first_tap_is_input=True)
    cache = SkipCache.create(backbone, 10)
    cache.format.compute(backbone, x, cache.rows)
    cache.filled[:] = 1

    def forward(*_: Any) -> None:
        raise AssertionError("every row is there")

    loss = one_epoch(cache, x, y, forward).loss
    cache.rows[:, cache.format.layout.logits_offset] += 5
    assert one_epoch(cache, x, y, forward).loss != loss
