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
