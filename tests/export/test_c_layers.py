"""Layers as the block has them: words, arrays, taps."""

from __future__ import annotations

import numpy as np
import pytest

from skip2lora.backbones.taps import Tap
from skip2lora.export.c_layers import (
    LSTM,
    Dense,
    Steps,
    Window,
    convolution,
    each_channel,
    last_step,
    normed,
    recurrent,
    with_tap,
)

WINDOW = Window(4, (5, 6), 2, (3, 4), (3, 3))
WEIGHT = np.random.default_rng(0).normal(size=(2, 4, 3, 3)).astype(np.float32)
CONV = convolution("conv", WINDOW, WEIGHT, np.zeros(2, np.float32), 1)


def test_a_convolution_has_places_before_channels() -> None:
    matrix = CONV.matrices[0]
    assert matrix.shape == (36, 2)
    assert matrix[(1 * 3 + 2) * 4 + 3, 1] == WEIGHT[1, 3, 1, 2]
    assert (CONV.n_in, CONV.n_out, len(CONV.words)) == (120, 24, 17)


def test_batch_norm_goes_into_the_weights() -> None:
    gamma, beta, mean, var = np.random.default_rng(1).uniform(0.5, 2, (4, 2)).astype(np.float32)
    of = normed(CONV, (gamma, beta, mean, var))
    x = np.random.default_rng(2).normal(size=36)
    before = x @ CONV.matrices[0]
    expected = gamma * (before - mean) / np.sqrt(var) + beta
    np.testing.assert_allclose(x @ of.matrices[0] + of.vectors[0], expected, rtol=1e-5)
    alone = normed(each_channel("norm", 2, 7), (gamma, beta, mean, var))
    assert (alone.n_in, alone.n_out, alone.matrices[0].shape) == (14, 14, (1, 2))


def test_taps() -> None:
    tapped = with_tap(CONV, Tap("conv", "x", "map", (4, 5, 6), grid=(2, 3)))
    assert tapped is not None
    assert (tapped.tap_width, tapped.words[:2]) == (24, (2, 3))
    assert with_tap(CONV, None) is CONV
    for wrong in (
        Tap("conv", "x", "vector", (120,)),
        Tap("conv", "x", "map", (5, 6, 4), channels_last=True, grid=(2, 3)),
        Tap("conv", "x", "map", (4, 2, 5, 6), grid=(1, 2, 3)),
    ):
        assert with_tap(CONV, wrong) is None
    dense = Dense("fc", np.ones((4, 2), np.float32), np.zeros(2, np.float32))
    assert with_tap(dense, Tap("fc", "x", "sequence", (3, 2))) is None
    without = with_tap(dense, None)
    assert without is not None
    assert (without.tap_width, dense.tap_width) == (0, 4)


@pytest.mark.parametrize("width", [3, 4])
def test_sequences(width: int) -> None:
    arrays = [np.ones((20, 3)), np.ones((20, 5)), np.ones(20), np.ones(20)]
    of = recurrent("rnn", LSTM, Steps(7, 3, 5), [each.astype(np.float32) for each in arrays])
    assert (of.n_in, of.n_out, last_step(of).n_out) == (21, 35, 5)
    tapped = with_tap(of, Tap("rnn", "x", "sequence", (7, width)))
    assert (tapped is None) == (width != 3)
