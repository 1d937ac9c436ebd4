"""Backbones that stand in for another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapters.rows import RowFormat
from skip2lora.backbones.standins import Headless, KnownRows, RandomRows

WIDTHS = [9, 16, 5, 3]


@pytest.fixture(params=["MLP", "NumPy"])
def backbone(request: pytest.FixtureRequest, make_model: Any) -> Any:
    if request.param == "MLP":
        return make_model(WIDTHS)
    return NumpyBackbone(WIDTHS, first_tap_is_input=False)


@pytest.fixture
def samples(make_samples: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_samples(60, 9)
    return x * np.float32(5) + np.arange(9, dtype=np.float32) * 3, y.astype(np.int32)


def test_headless_has_the_taps_and_no_outputs(backbone: Any, samples: Any) -> None:
    x, _ = samples
    headless = Headless(backbone, 2)
    made, whole = headless.forward(headless.check(x)), backbone.forward(x)
    for tap, want in zip(made.taps, whole.taps, strict=True):
        assert tap.tobytes() == want.tobytes()
    assert made.base_logits.shape == (60, 2)
    assert not made.base_logits.any()
    assert headless.tap_widths == backbone.tap_widths
    assert headless.fingerprint not in (backbone.fingerprint, Headless(backbone, 3).fingerprint)


def test_rows_that_are_known_are_views(backbone: Any) -> None:
    layout = RowFormat.of(backbone, copy_input=True).layout
    rows = np.random.default_rng(0).random((4, layout.row_stride), np.float32)
    known = KnownRows(backbone.tap_widths, backbone.n_outputs, layout)
    made = known.forward(known.check(rows))
    assert [tap.shape for tap in made.taps] == [(4, width) for width in backbone.tap_widths]
    for start, tap in zip(layout.tap_offsets, made.taps, strict=True):
        assert np.shares_memory(tap, rows)
        assert (tap[:, 0] == rows[:, start]).all()
    assert (made.base_logits[:, 0] == rows[:, layout.logits_offset]).all()


def test_random_rows_are_the_same_each_time() -> None:
    rows = RandomRows((5, 3), 2)
    one, other = (rows.forward(np.zeros((7, 1), np.float32)) for _ in range(2))
    assert [tap.shape for tap in one.taps] == [(7, 5), (7, 3)]
    assert one.base_logits.shape == (7, 2)
    for tap, same in zip(one.taps, other.taps, strict=True):
        assert tap.tobytes() == same.tobytes()
        assert 0 < tap.std() < 1
