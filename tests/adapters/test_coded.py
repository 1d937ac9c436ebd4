"""Rows with less precision: what they hold, ranges that grow, scaling, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from skip2lora import _core
from skip2lora.adapters.coded import DTYPES, ROWS_AT_ONCE, CodedRows
from skip2lora.adapters.rows import RowFormat, SkipCache, for_core, parts
from skip2lora.errors import ParameterError

CODED = [name for name in DTYPES if name != "float32"]
LAYOUT = _core.RowLayout((20, 37, 5), 3, False)
LOGITS = LAYOUT.logits_offset
#: Of the span of a column, or of the number itself, by which a number may move.
NEAR = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "int8": 0.502 / 255, "int4": 0.502 / 15}


def rows_of(n_samples: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = np.zeros((n_samples, LAYOUT.row_stride), np.float32)
    for at, width in zip(LAYOUT.tap_offsets, (20, 37, 5), strict=True):
        spread = np.linspace(0, 9, width)  # the first is the same everywhere
        rows[:, at : at + width] = random.normal(3, 1, (n_samples, width)) * spread
    rows[:, LOGITS : LOGITS + 3] = random.normal(size=(n_samples, 3))
    return rows


def coded(rows: np.ndarray, kind: str, *, at: tuple[int, ...] = ()) -> CodedRows:
    """Written in parts that begin at ``at``."""
    codes = CodedRows.empty(LAYOUT, len(rows), kind)
    for start, stop in zip((0, *at), (*at, len(rows)), strict=True):
        codes.write(start, rows[start:stop])
    return codes


def allowed(rows: np.ndarray, kind: str) -> np.ndarray:
    taps = rows[:, :LOGITS]
    size = np.abs(taps) if "float" in kind else np.ptp(taps, axis=0)
    return NEAR[kind] * size + 1e-5


@pytest.mark.parametrize("kind", CODED)
def test_rows_come_back_near_and_logits_exactly(kind: str) -> None:
    rows = rows_of(50)
    codes = coded(rows, kind)
    assert codes.shape == rows.shape
    assert len(codes) == 50
    back = codes[:]
    assert (np.abs(back - rows)[:, :LOGITS] <= allowed(rows, kind)).all()
    np.testing.assert_array_equal(back[:, LOGITS:], rows[:, LOGITS:])
    np.testing.assert_array_equal(codes.floats_behind(), rows[:, LOGITS : LOGITS + 3])
    np.testing.assert_array_equal(back[:, 0], 0)


@pytest.mark.parametrize("kind", CODED)
def test_any_rows_in_any_order(kind: str) -> None:
    codes = coded(rows_of(600), kind)
    whole = codes[:]
    assert not np.array_equal(whole[0], whole[1])
    for which in (
        slice(3, 9), slice(590, 700), slice(9, 3), slice(0, 600, 7), slice(None, None, -1),
        np.array([5, 0, 599, 5]), np.arange(600) % 3 == 1, np.array([], np.intp), -np.arange(1, 4),
    ):  # fmt: skip
        np.testing.assert_array_equal(codes[which], whole[which])
    some = list(parts(codes))
    assert [len(rows) for _, rows in some] == [ROWS_AT_ONCE, ROWS_AT_ONCE, 600 - 2 * ROWS_AT_ONCE]
    for at, rows in some:
        np.testing.assert_array_equal(rows, whole[at])
    ((at, rows),) = parts(codes, 7, 11)
    assert at == slice(7, 11)
    np.testing.assert_array_equal(rows, whole[7:11])
    with pytest.raises(IndexError):
        codes[np.array([600])]


def test_floats_are_parts_as_they_are() -> None:
    rows = rows_of(600)
    ((at, same),) = parts(rows)
    assert at == slice(0, 600)
    assert np.shares_memory(same, rows)
    assert for_core(rows) is rows
    assert list(parts(rows[:0])) == []


@pytest.mark.parametrize("kind", CODED)
def test_a_range_grows_with_the_samples(kind: str) -> None:
    """As of samples in the order of their classes: what is there stays as near as it can."""
    rows = rows_of(300)
    rows[100:, :LOGITS] *= 3
    rows[200:, :LOGITS] *= -2
    codes = coded(rows, kind, at=(100, 200, 201, 299))
    off = np.abs(codes[:] - rows)[:, :LOGITS]
    grown = 1 if "float" in kind else 3 * 1.5  # rounded with each range, of half a margin more
    assert (off <= grown * allowed(rows, kind)).all()
    np.testing.assert_array_equal(codes[:][:, LOGITS:], rows[:, LOGITS:])


@pytest.mark.parametrize("kind", CODED)
def test_scaling_is_of_the_tables(kind: str) -> None:
    rows, random = rows_of(40), np.random.default_rng(1)
    codes = coded(rows, kind)
    mean, scale = random.normal(size=(2, LAYOUT.row_stride)).astype(np.float32)
    before, bytes_before = codes[:], codes.codes[:, :-16].copy()
    codes.standardise(mean, scale)
    expected = (before - mean) * scale
    expected[:, LOGITS + 3 :] = 0
    np.testing.assert_allclose(codes[:], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(codes.codes[:, :-16], bytes_before)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_a_tap_too_large_is_refused(kind: str) -> None:
    rows = rows_of(4)
    limit = _core.code_limit(DTYPES[kind])
    rows[2, 17] = -limit
    assert coded(rows, kind)[:][2, 17] == -limit
    rows[2, 17] *= np.float32(1.002)
    with pytest.raises(ParameterError, match=f"cache_dtype is {kind}, and a tap of the model has"):
        coded(rows, kind)
    rows[2, 17] = max(rows[2, 17], np.float32(-1e6))
    assert coded(rows, "int8")[:][2, 17] == pytest.approx(rows[2, 17], rel=0.01)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_span_beyond_floats_is_refused(kind: str) -> None:
    rows = rows_of(3)
    rows[:, 5] = 1.4e38, 0, -1.4e38
    assert np.isfinite(coded(rows, kind)[:]).all()
    rows[:, 5] = 3e38, 0, -3e38
    with pytest.raises(ParameterError, match=f"cache_dtype is {kind}, and a tap of the model span"):
        coded(rows, kind)


@pytest.mark.parametrize("kind", CODED)
def test_no_code_is_nan(kind: str) -> None:
    rows = rows_of(4)
    rows[2, 17] = np.nan
    with pytest.raises(ParameterError, match=f"cache_dtype is {kind}, and a tap .* nan, expected"):
        coded(rows, kind)
    codes = CodedRows.empty(LAYOUT, 8, kind)
    codes.write(0, rows_of(4))
    with pytest.raises(ParameterError, match="nan, expected at most"):
        codes.write(4, rows)


@pytest.mark.parametrize("kind", CODED)
def test_codes_of_another_layout_are_refused(kind: str) -> None:
    codes, filled = coded(rows_of(5), kind), np.ones(5, np.uint8)
    for widths, n_outputs in ((20, 37, 5), 4), ((20, 37), 20):
        layout = _core.RowLayout(widths, n_outputs, False)
        with pytest.raises(ValueError, match="another shape than the layout"):
            _core.RowSource(layout, codes.core, filled, print)


@pytest.mark.parametrize("kind", CODED)
def test_the_core_refuses_what_does_not_fit(kind: str) -> None:
    codes, rows = coded(rows_of(5), kind), rows_of(5)
    for call in (
        lambda: codes.core.encode(1, rows),
        lambda: codes.core.decode(1, rows),
        lambda: codes.core.gather(np.array([0, 5], np.uint32), rows[:2]),
        lambda: codes.core.gather(np.array([0], np.uint32), rows[:2]),
        lambda: codes.core.decode(0, np.ascontiguousarray(rows[:, 1:])),
        lambda: _core.CodedRows(LAYOUT, 0, codes.codes, codes.scale, codes.offset),
        lambda: _core.CodedRows(LAYOUT, 5, codes.codes, codes.scale, codes.offset),
        lambda: _core.CodedRows(LAYOUT, DTYPES[kind], codes.codes, codes.scale[1:], codes.offset),
        lambda: _core.CodedRows(
            LAYOUT, DTYPES[kind], np.ascontiguousarray(codes.codes[:, 8:]), codes.scale,
            codes.offset,
        ),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"fewer rows|width|size|each|unknown"):
            call()


@pytest.mark.parametrize(
    ("kind", "payload", "row"),
    [("float32", 780, 832), ("float16", 396, 400), ("int8", 204, 208), ("int4", 108, 112)],
)
def test_bytes_of_a_row(kind: str, payload: int, row: int) -> None:
    layout = _core.RowLayout((256, 96, 96), 3, True)
    of = RowFormat((256, 96, 96), 3, 0, True, layout, kind)
    assert (of.payload_bytes, of.row_bytes) == (payload, row)
    cache = SkipCache.of(of, 100)
    assert cache.payload_bytes == 100 * payload
    tables = 0 if kind == "float32" else 4 * 4 * 192
    assert sum(cache.n_bytes) == 100 * (row + 1) + tables
    small = RowFormat((5,), 1, 0, False, _core.RowLayout((5,), 1, False), "int4")
    assert small.payload_bytes == 3 + 4
