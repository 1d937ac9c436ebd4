"""Several skip adapters as one: the logits that their weighted sum has, and no more rank."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.adapters.merging import mixed, of_rows

WIDTHS = [9, 16, 5]  # of the taps
MIX = [0.75, 0.25]


def adapters_of(rank: int, n_outputs: int, *, first_tap: int = 0, seed: int = 0) -> SkipAdapters:
    random = np.random.default_rng(seed)
    widths = WIDTHS[first_tap:]
    a = tuple(random.normal(size=(width, rank)).astype(np.float32) for width in widths)
    b = tuple(random.normal(size=(rank, n_outputs)).astype(np.float32) for _ in widths)
    bias = random.normal(size=n_outputs).astype(np.float32)
    return SkipAdapters(a, b, first_tap, bias)


def added(adapters: SkipAdapters, backbone: NumpyBackbone, x: np.ndarray) -> np.ndarray:
    """What they add to the base logits, in double precision."""
    taps = backbone.forward(x).taps[adapters.first_tap :]
    total = np.zeros((len(x), adapters.n_outputs)) + (0 if adapters.bias is None else adapters.bias)
    for tap, a, b in zip(taps, adapters.lora_a, adapters.lora_b, strict=True):
        total += tap.astype(np.float64) @ a @ b
    return total


@pytest.mark.parametrize(
    ("ranks", "n_outputs", "rank"),
    [((2, 1), 7, 3), ((4, 6), 7, 7), ((20, 4), 20, 16)],
    ids=["side by side", "as many as outputs", "as wide as a tap"],
)
def test_the_mix_adds_the_weighted_sum(ranks: tuple, n_outputs: int, rank: int) -> None:
    backbone = NumpyBackbone([*WIDTHS, n_outputs], first_tap_is_input=True)
    x = np.random.default_rng(1).normal(size=(11, 9)).astype(np.float32)
    parts = [
        adapters_of(ranks[0], n_outputs, first_tap=2),
        adapters_of(ranks[1], n_outputs, seed=1),
    ]
    mix = mixed(parts, MIX, WIDTHS)
    assert (mix.rank, mix.first_tap, len(mix.lora_a)) == (rank, 0, 3)
    expected = sum(share * added(part, backbone, x) for share, part in zip(MIX, parts, strict=True))
    np.testing.assert_allclose(added(mix, backbone, x), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        mix.logits(backbone, x), backbone.forward(x).base_logits + expected, rtol=1e-4, atol=1e-3
    )


def test_outputs_that_no_part_changes_take_no_rank() -> None:
    part = adapters_of(6, 7)
    for b in part.lora_b:
        b[:, [0, 3, 4, 5]] = 0
    mix = mixed([part], [1.0], WIDTHS)
    assert mix.rank == 3
    for a, b, (old_a, old_b) in zip(
        mix.lora_a, mix.lora_b, zip(part.lora_a, part.lora_b, strict=True), strict=True
    ):
        np.testing.assert_allclose(a @ b, old_a @ old_b, rtol=1e-5, atol=1e-5)


def test_base_logits_count_as_much_as_they_are_to() -> None:
    """Of 4 outputs of the model; 2 more are new."""
    random = np.random.default_rng(2)
    part, base_logits = adapters_of(3, 6), random.normal(size=(11, 4))
    factor = np.array([0.5, 0.5, 1.0, 0.5])
    for b in part.lora_b:
        b[:, [1, 2]] = 0
    mix = mixed([replace(part, bias=None), part], MIX, WIDTHS, factor)
    assert [len(a) for a in mix.lora_a] == [4, *WIDTHS]
    assert mix.rank == 5  # of 6 outputs, one does not change
    np.testing.assert_allclose(mix.bias, 0.25 * part.bias)
    for array in (*mix.lora_a, *mix.lora_b):  # as the core takes them
        assert array.flags.c_contiguous
    product = base_logits @ mix.lora_a[0] @ mix.lora_b[0]
    np.testing.assert_allclose(product[:, :4], (factor - 1) * base_logits, atol=1e-6)
    np.testing.assert_array_equal(product[:, 4:], 0)
    for a, b, old_a, old_b in zip(
        mix.lora_a[1:], mix.lora_b[1:], part.lora_a, part.lora_b, strict=True
    ):
        np.testing.assert_allclose(a @ b, old_a @ old_b, rtol=1e-4, atol=1e-5)


def test_a_rank_beyond_the_widest_tap_is_of_another_tap() -> None:
    """As of the base logits, which rows have apart."""
    part = adapters_of(max(WIDTHS), 9)
    assert of_rows(part) is part
    wide = adapters_of(max(WIDTHS) + 2, 9)
    narrow = of_rows(wide)
    assert narrow.rank == max(WIDTHS)
    assert narrow.bias is wide.bias
    for a, b, old_a, old_b in zip(
        narrow.lora_a, narrow.lora_b, wide.lora_a, wide.lora_b, strict=True
    ):
        np.testing.assert_allclose(a @ b, old_a @ old_b, rtol=1e-5, atol=1e-5)


def test_parts_that_change_no_output_have_a_rank_still() -> None:
    dead = [
        replace(part, lora_b=tuple(np.zeros_like(b) for b in part.lora_b))
        for part in (adapters_of(3, 3), adapters_of(3, 3, seed=1))
    ]
    mix = mixed(dead, MIX, WIDTHS)
    assert mix.rank == 1
    backbone = NumpyBackbone([*WIDTHS, 3], first_tap_is_input=True)
    x = np.ones((2, 9), np.float32)
    expected = backbone.forward(x).base_logits + mix.bias
    np.testing.assert_allclose(mix.logits(backbone, x), expected, rtol=1e-6)


def test_wide_taps_are_mixed_without_copies_of_all_parts() -> None:
    """Doubles of some rows are there at a time, and one product."""
    random, width, n_outputs = np.random.default_rng(0), 50_000, 10
    parts = [
        SkipAdapters(
            (random.normal(size=(width, n_outputs)).astype(np.float32),),
            (np.eye(n_outputs, dtype=np.float32),), bias=np.zeros(n_outputs, np.float32),
        )
        for _ in range(3)
    ]  # fmt: skip
    weights = [0.5, 0.3, 0.2]
    tracemalloc.start()
    try:
        mix = mixed(parts, weights, [width])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = parts[0].lora_a[0].nbytes
    assert peak < 1.5 * size
    expected = sum(of * part.lora_a[0] for of, part in zip(weights, parts, strict=True))
    np.testing.assert_allclose(mix.lora_a[0] @ mix.lora_b[0], expected, rtol=1e-5, atol=1e-6)
