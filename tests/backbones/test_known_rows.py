"""Rows in the place of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skip2lora.adapters.rows import RowFormat
from skip2lora.backbones.known_rows import KnownRows, RandomRows
from skip2lora.errors import ModelError

WIDTHS = [9, 16, 5, 3]


def test_rows_that_are_known_are_views(make_model: Any) -> None:
    backbone = make_model(WIDTHS)
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


@pytest.mark.parametrize("first_tap", [0, 1, 2])
def test_known_rows_are_written_where_others_begin(
    first_tap: int, make_model: Any, refused: Any
) -> None:
    """What is copied is what ``forward`` gives; before it nothing changes, new outputs are 0."""
    model = make_model(WIDTHS)
    whole = RowFormat.of(model, copy_input=True).layout
    known = KnownRows(model.tap_widths, 3, whole)
    rows = np.random.default_rng(0).random((4, whole.row_stride), np.float32)
    part = RowFormat.of(model, first_tap, n_outputs=5, copy_input=True).layout
    out = np.full((4, 32 + part.row_stride), -1, np.float32)
    known.write(rows, part, first_tap, out, column=32)
    assert (out[:, :32] == -1).all()
    made = known.forward(rows)
    for start, tap in zip(part.tap_offsets, made.taps[first_tap:], strict=True):
        assert (out[:, 32 + start : 32 + start + tap.shape[1]] == tap).all()
    at = 32 + part.logits_offset
    assert (out[:, at : at + 3] == made.base_logits).all()
    assert not out[:, at + 3 : at + 5].any()
    rows[2, whole.logits_offset] = np.nan
    refused(ModelError, known.write, rows, part, first_tap, out, 32)
