"""Samples that are there more than once: found in rows, and held out together."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapters.rows import RowFormat, SkipCache
from skip2lora.training.copies import copies_in


def rows_of(x: Any, dtype: str = "float32") -> SkipCache:
    backbone = NumpyBackbone([x.shape[1], 8, 3], first_tap_is_input=True)
    cache = SkipCache.of(RowFormat.of(backbone, copy_input=True, dtype=dtype), len(x))
    cache.fill(backbone, x)
    return cache


def samples(n: int, width: int = 5) -> Any:
    return np.random.default_rng(n).normal(size=(n, width)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_the_first_one_of_each(dtype: str) -> None:
    x = samples(30)
    twice = np.concatenate([x, x[7:9], x[7:8]])
    copies = copies_in(rows_of(twice, dtype))
    assert copies is not None
    assert copies.tolist() == [*range(30), 7, 8, 7]
    assert copies_in(rows_of(x, dtype)) is None


def test_many_rows_are_compared_whole() -> None:
    """Beyond what is read at a time, and where one number of many differs."""
    x = np.repeat(samples(1, 300), 9000, axis=0)
    x[:, 299] = np.arange(9000)
    assert copies_in(rows_of(x)) is None
    x[8999, 299] = 3
    copies = copies_in(rows_of(x))
    assert copies is not None
    assert np.flatnonzero(copies != np.arange(9000)).tolist() == [8999]
    assert copies[8999] == 3


def test_a_few_samples_that_come_again_by_chance_are_none() -> None:
    """As switches do: nothing else is there to learn from."""
    switches = np.array([[a, b] for a in (0, 1) for b in (0, 1)], np.float32)
    assert copies_in(rows_of(np.tile(switches, (50, 1)))) is None
    assert copies_in(rows_of(np.tile(switches, (2, 1)))) is not None  # a file, twice


@pytest.fixture
def noise() -> tuple[s2.Backbone, Any, Any]:
    """A model, samples, and labels that nobody can know."""
    random = np.random.default_rng(5)
    model = s2.MLP.create([8, 24, 16, 2], seed=5)
    return model, samples(120, 8), random.integers(0, 2, 120)


@pytest.mark.parametrize("asked", [{}, {"recipe": "auto"}, {"solver": "exact"}])
def test_what_was_learned_twice_is_not_judged_by_its_copy(
    noise: tuple[s2.Backbone, Any, Any], asked: Any
) -> None:
    model, x, y = noise
    once = s2.adapt(model, x, y, **asked).history.held_out
    twice = s2.adapt(model, np.tile(x, (2, 1)), np.tile(y, 2), **asked).history.held_out
    assert once is not None
    assert twice is not None
    assert once.value < 0.75
    assert twice.value < 0.75  # 1.0 where copies judge
    assert once.notes == ()
    assert twice.notes == ("120 samples are there more than once, and held out together",)


def test_samples_that_join_again(noise: tuple[s2.Backbone, Any, Any]) -> None:
    model, x, y = noise
    first = s2.adapt(model, x, y, keep_rows=True)
    again = s2.adapt(first, x, y).history.held_out
    assert again is not None
    assert again.value < 0.75
    assert again.n_samples == 240


def test_old_samples_that_are_new_ones_too(noise: tuple[s2.Backbone, Any, Any]) -> None:
    """As where a device learns from the samples that its lab set is of."""
    model, x, y = noise
    held = s2.adapt(model, x, y, keep=(x, y)).history.held_out
    assert held is not None
    assert held.value < 0.75


def test_validation_by_what_is_learned_is_said(noise: tuple[s2.Backbone, Any, Any]) -> None:
    model, x, y = noise
    held = s2.adapt(model, x, y, recipe="auto", validation_data=(x[:50], y[:50])).history.held_out
    assert held is not None
    assert held.notes == ("50 of 50 samples held out are trained on too, so it is too good",)
    other = s2.adapt(model, x[50:], y[50:], recipe="auto", validation_data=(x[:50], y[:50]))
    assert other.history.held_out is not None
    assert other.history.held_out.notes == ()


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_wide_rows_are_compared_a_few_at_a_time(dtype: str) -> None:
    """And are floats a few at a time: 16 MB of them, whose products would take 32."""
    backbone = NumpyBackbone([20_000, 8, 3], first_tap_is_input=True)
    x = samples(200, 20_000)
    cache = SkipCache.of(RowFormat.of(backbone, copy_input=True, dtype=dtype), len(x))
    cache.fill(backbone, np.concatenate([x[:-1], x[7:8]]))
    tracemalloc.start()
    try:
        copies = copies_in(cache)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 << 20
    assert copies is not None
    assert copies.tolist() == [*range(199), 7]
