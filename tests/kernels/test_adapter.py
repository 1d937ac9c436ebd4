"""The fused step and forward of skip adapters of every kernel table against the oracle."""

from itertools import product

import numpy as np
import pytest

import oracle
from kernels.cases import COUNTS, OUTPUTS, RANKS, WIDTHS, assert_close, normal
from kernels.networks import Layout, SkipAdapter

ROW = {"fc": "y", "lora": "yw", "bn": ""}  # Skip-LoRA: LoRA_yw beside frozen layers


def make_params(widths, n_outputs, rank):
    """W_B is random: at zero, gW_A would be zero and the check prove nothing."""
    return [
        {
            "weight": np.zeros((width, n_outputs)),  # of the frozen layers the oracle asks for one
            "lora_a": normal(number, width, rank, scale=1 / np.sqrt(width)),
            "lora_b": normal(10 + number, rank, n_outputs, scale=1 / np.sqrt(rank)),
        }
        for number, width in enumerate(widths)
    ]


def check_step(table, widths, n_outputs, rank, count, *, first_is_x):
    taps = [normal(20 + number, count, width) for number, width in enumerate(widths)]
    base, labels = normal(30, count, n_outputs), np.arange(count) % n_outputs
    params = make_params(widths, n_outputs, rank)
    layout = Layout(table.core, widths, n_outputs, first_is_x=first_is_x)
    adapter = SkipAdapter(table, layout, params)
    rows, what = layout.rows(taps, base), f"{count} rows, {widths}, {n_outputs}, rank {rank}"

    logits, size = base.astype(np.float64), np.abs(base).astype(np.float64)
    for tap, layer in zip(taps, params, strict=True):
        given = tap, layer["lora_a"], layer["lora_b"]
        logits += oracle.lora_forward(*given)[1]  # Eq. 17
        size += oracle.lora_forward(*map(np.abs, given))[1]
    assert_close(adapter.forward(taps[0], rows), logits, size, f"logits of {what}")

    loss = adapter.step(taps[0], rows, labels, 1.0)
    after, want_loss, grads = oracle.net_step(
        params, [ROW] * len(widths), None, labels, 1.0, lora_to_last=True, cached=(taps, base)
    )
    assert_close(loss, want_loss, 1 + want_loss, f"loss of {what}")
    for tap, (pair, new, grad) in enumerate(zip(adapter.tensors(), after, grads, strict=True)):
        for name, got in zip(("lora_a", "lora_b"), pair, strict=True):
            # A step of rate 1 moves each tensor by its gradient: as large as the tensor itself
            size = np.abs(grad[name]).max() + np.abs(params[tap][name])
            assert np.abs(grad[name]).max() > 100 * 1e-5 * size.max(), "too small to be seen"
            assert_close(got, new[name], size, f"{name} {tap} of {what}")


@pytest.mark.parametrize("rank", RANKS)
def test_one_tap(table, rank):
    """Every width: alone, as the sample itself and as a part of the row."""
    sizes = [(count, width) for count, width in product(COUNTS, WIDTHS) if rank <= width]
    for number, (count, width) in enumerate(sizes):
        n_outputs = OUTPUTS[number % len(OUTPUTS)]
        check_step(table, [width], n_outputs, rank, count, first_is_x=number % 2 == 0)


@pytest.mark.parametrize("n_outputs", OUTPUTS)
@pytest.mark.parametrize("rank", RANKS)
def test_several_taps(table, rank, n_outputs):
    wide = [width for width in WIDTHS if rank <= width]
    for number, count in enumerate(COUNTS):
        widths = [wide[(number + 5 * k) % len(wide)] for k in range(2 + number % 3)]
        check_step(table, widths, n_outputs, rank, count, first_is_x=number % 3 > 0)


def test_without_a_gradient_nothing_moves(table):
    """One class: the loss is zero whatever the adapters are, and so is every gradient."""
    params = make_params([9, 5], 1, 3)
    layout = Layout(table.core, [9, 5], 1)
    adapter = SkipAdapter(table, layout, params)
    taps = normal(1, 4, 9), normal(2, 4, 5)
    assert adapter.step(taps[0], layout.rows(taps, normal(3, 4, 1)), [0] * 4, 1.0) == 0
    for pair, layer in zip(adapter.tensors(), params, strict=True):
        np.testing.assert_array_equal(pair[0], layer["lora_a"])
        np.testing.assert_array_equal(pair[1], layer["lora_b"])
