"""Axes as ONNX and the C core order them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from skip2lora.export.c_axes import SAMPLES, Axes


def test_a_tensor_begins_as_it_lies() -> None:
    axes = Axes.of("x", (2, 3, 4), 1)
    assert axes.onnx == ("x.0", SAMPLES, "x.1", "x.2")
    assert (axes.memory, axes.shape, axes.width) == (("x.0", "x.1", "x.2"), (2, 3, 4), 24)
    assert axes.permuted([1, 0, 2, 3]).onnx == (SAMPLES, "x.0", "x.1", "x.2")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_one_transposition_rotates(order: tuple[int, ...]) -> None:
    """What it gives is what NumPy gives, or it is said that there is none."""
    axes = Axes.of("x", (2, 3, 4))
    turn = axes.turned([axes.memory[place] for place in order])
    values = np.arange(24)
    right = values.reshape(2, 3, 4).transpose(order).ravel()
    rotations = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    assert (turn is not None) == (order in rotations)
    if turn is not None and turn != (1, 1):
        np.testing.assert_array_equal(values.reshape(turn).T.ravel(), right)


def test_axes_of_size_1_do_not_move() -> None:
    axes = Axes.of("x", (1, 5, 1, 6))
    swapped = [axes.memory[place] for place in (1, 3, 0, 2)]
    assert axes.turned(swapped) == (1, 1)
    assert axes.without([1, 3]) is not None
    assert axes.without([2]) is None
    assert axes.without([0]) is None
    assert axes.without_ones().shape == (5, 6)
    assert axes.without_ones().with_ones("y", [2]).shape == (5, 1, 6)


@pytest.mark.parametrize("seed", range(40))
def test_axes_follow_an_array(seed: int) -> None:
    """Whatever is done to them, memory read by them has the numbers that NumPy has."""
    random = np.random.default_rng(seed)
    sizes = [int(size) for size in random.choice([1, 1, 2, 3, 5], random.integers(1, 4))]
    samples = int(random.integers(0, len(sizes) + 1))
    axes = Axes.of("x", sizes, samples)
    memory = np.arange(int(np.prod(sizes)))
    array = np.expand_dims(memory.reshape(sizes), samples).repeat(7, samples)
    for step in range(6):
        at = axes.onnx.index(SAMPLES)
        ones = [place for place, size in enumerate(array.shape) if size == 1]
        kind = random.choice(["order", "out", "all out", "in"])
        if kind == "order":
            order = [int(place) for place in random.permutation(array.ndim)]
            axes, array = axes.permuted(order), array.transpose(order)
        elif kind == "out":
            few = [place for place in ones if random.random() < 0.5]
            fewer = axes.without(few)
            assert fewer is not None
            axes, array = fewer, array.squeeze(tuple(few))
            large = [place for place in range(array.ndim) if array.shape[place] > 1]
            assert all(axes.without([place]) is None for place in large)
        elif kind == "all out":
            axes, array = axes.without_ones(), array.squeeze(tuple(ones))
        else:
            places = sorted({int(place) for place in random.integers(0, array.ndim + 1, 2)})[::-1]
            axes = axes.with_ones(f"y{step}", places)
            array = np.expand_dims(array, tuple(places))
        at = axes.onnx.index(SAMPLES)
        assert array.shape == (*axes.shape[:at], 7, *axes.shape[at:])
        assert axes.width == len(memory)
        lies = memory.reshape([axes.sizes[name] for name in axes.memory])
        order = [axes.memory.index(name) for name in axes.inner]
        np.testing.assert_array_equal(lies.transpose(order), array.take(0, at))
