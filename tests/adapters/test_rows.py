"""Rows: taps side by side, padded, then the base logits; the sample itself is not in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora import _core
from skip2lora.adapters.rows import RowFormat, SkipCache, as_they_are
from skip2lora.backbones.known_rows import KnownRows
from skip2lora.backbones.standins import Watched
from skip2lora.data import lazy
from skip2lora.data.lazy import LazySamples, digests_of
from skip2lora.errors import ModelError

MARK = np.float32(-12345)  # no tap or logit has this value


def filled(row_format: RowFormat, backbone: Any, x: np.ndarray) -> np.ndarray:
    rows = row_format.empty(len(x))
    rows[...] = MARK
    row_format.compute(backbone, x, rows)
    return rows


class Source:
    """Rows of an array, and how many were asked for at a time."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.asked = values, []
        self.shape, self.dtype = values.shape, values.dtype

    def read(self, places: np.ndarray) -> np.ndarray:
        self.asked.append(len(places))
        return self.values[places]

    def digests(self, places: np.ndarray, known: object = None) -> list[bytes]:
        return digests_of(self.values[places])


@pytest.fixture
def backbones(make_model: Callable[..., s2.MLP]) -> list[Any]:
    widths = [17, 16, 33, 5, 3]
    return [
        make_model(widths),
        make_model(widths, batch_norm=False),
        NumpyBackbone(widths, first_tap_is_input=True),
        NumpyBackbone(widths, first_tap_is_input=False),
    ]


@pytest.mark.parametrize("first_tap", [0, 1, 3])
def test_layout_has_no_overlap(backbones: list[Any], first_tap: int) -> None:
    for backbone in backbones:
        row_format = RowFormat.of(backbone, first_tap)
        layout = row_format.layout
        widths = backbone.tap_widths[first_tap:]
        assert row_format.tap_widths == widths
        assert row_format.first_tap_is_input == (first_tap == 0 and backbone.first_tap_is_input)
        places = list(zip(layout.tap_offsets, widths, strict=True))
        if row_format.first_tap_is_input:
            assert places.pop(0)[0] == -1  # x^1 is the sample, which is not copied
        places.append((layout.logits_offset, 3))
        assert places[0][0] == 0
        for (at, width), (following, _) in pairwise([*places, (layout.row_stride, 0)]):
            assert at % 16 == 0
            assert at + width <= following < at + width + 16  # at most the padding is between
        assert row_format.payload_bytes == 4 * sum(width for _, width in places)


def test_sizes_of_the_paper(make_model: Callable[..., s2.MLP]) -> None:
    row_format = RowFormat.of(make_model([256, 96, 96, 3]))
    assert row_format.payload_bytes == 4 * (96 + 96 + 3)
    assert row_format.layout.row_stride == 96 + 96 + 16
    assert RowFormat.of(make_model([256, 96, 96, 3]), 2).payload_bytes == 4 * (96 + 3)
    assert RowFormat.of(make_model([256, 96, 96, 3]), 1).payload_bytes == 4 * (96 + 96 + 3)


@pytest.mark.parametrize("n_rows", [1, 3, 70])
def test_empty_rows_are_zero_and_aligned(backbones: list[Any], n_rows: int) -> None:
    for backbone in backbones:
        rows = RowFormat.of(backbone).empty(n_rows)
        assert rows.shape == (n_rows, RowFormat.of(backbone).layout.row_stride)
        assert rows.dtype == np.float32
        assert rows.flags.c_contiguous
        assert rows.ctypes.data % 64 == 0
        assert not rows.any()


@pytest.mark.parametrize("first_tap", [0, 1, 3])
@pytest.mark.parametrize("n_samples", [1, 7, 70])
def test_rows_hold_taps_and_logits(
    backbones: list[Any], first_tap: int, n_samples: int, make_samples: Any
) -> None:
    x, _ = make_samples(n_samples, 17)
    for backbone in backbones:
        row_format = RowFormat.of(backbone, first_tap)
        rows = filled(row_format, backbone, x)
        made = backbone.forward(x)
        written = np.zeros(rows.shape, bool)
        offsets = row_format.layout.tap_offsets
        for tap, at in zip(made.taps[first_tap:], offsets, strict=True):
            if at >= 0:
                np.testing.assert_array_equal(rows[:, at : at + tap.shape[1]], tap)
                written[:, at : at + tap.shape[1]] = True
        at = row_format.layout.logits_offset
        np.testing.assert_array_equal(rows[:, at : at + 3], made.base_logits)
        written[:, at : at + 3] = True
        assert (rows[~written] == MARK).all()  # nothing else is touched
        assert (rows[written] != MARK).all()


def test_the_sample_is_not_in_its_row(make_model: Callable[..., s2.MLP]) -> None:
    model = make_model([17, 16, 5, 3])
    x = (np.arange(3 * 17).reshape(3, 17) + 1000).astype(np.float32)
    assert not np.isin(filled(RowFormat.of(model), model, x), x).any()


def test_which_backbones_run_in_the_core(backbones: list[Any]) -> None:
    assert [type(backbone.network) for backbone in backbones] == [
        _core.Network,
        _core.Network,
        type(None),
        type(None),
    ]


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


@pytest.mark.parametrize(
    ("start", "n_samples", "want"),
    [(0, 70, [*range(70)]), (3, 4, [3, 4, 5, 6]), (75, 70, [*range(75, 100)]), (100, 5, [])],
)
def test_what_is_filled_from_any_place(start: int, n_samples: int, want: list[int]) -> None:
    """In chunks, as far as there is room."""
    x = np.random.default_rng(0).standard_normal((n_samples, 8)).astype(np.float32)
    backbone = NumpyBackbone([8, 6, 3], first_tap_is_input=True)
    cache = SkipCache.create(backbone, 200, capacity=100)
    cache.fill(backbone, x, start)
    assert np.flatnonzero(cache.filled).tolist() == want
    rows = cache.format.empty(n_samples)
    cache.format.compute(backbone, x, rows)
    assert cache.rows[start : start + len(want)].tobytes() == rows[: len(want)].tobytes()
    assert not np.delete(cache.rows, want, axis=0).any()


@pytest.mark.parametrize("n_more", [-1, 1])
def test_a_model_that_gives_another_number_of_taps_is_named(n_more: int, refused: Any) -> None:
    class Other(NumpyBackbone):
        def forward(self, x: Any) -> Any:
            output = super().forward(x)
            taps = output.taps[:-1] if n_more < 0 else (*output.taps, output.taps[-1])
            return dataclasses.replace(output, taps=taps)

    backbone = Other([8, 6, 5, 3], first_tap_is_input=False)
    message = refused(
        ModelError, filled, RowFormat.of(backbone), backbone, np.ones((2, 8), np.float32)
    )
    assert f"the model gave {3 + n_more} taps, expected 3 as it says" in message


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


def test_rows_of_samples_that_are_yet_to_be_read(
    backbones: list[Any], make_samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read a few at a time, also where the first tap is the sample."""
    x, _ = make_samples(100, 17)
    for backbone in backbones:
        row_format = RowFormat.of(backbone)
        monkeypatch.setattr(lazy, "READ_BYTES", 30 * 17 * 4)
        source = Source(x)
        samples = LazySamples.of(source).checked(backbone.check)
        source.asked.clear()
        assert (
            filled(row_format, backbone, samples).tobytes()
            == filled(row_format, backbone, x).tobytes()
        )
        assert source.asked == [30, 30, 30, 10]
        features = row_format.features(samples)
        assert len(features) == 100
        if row_format.first_tap_is_input:
            assert features.tobytes() == x.tobytes()


def test_a_model_gets_as_many_samples_at_once_as_it_says(make_samples: Any) -> None:
    class Few(NumpyBackbone):
        samples_at_once = 24

    x, _ = make_samples(150, 17)
    for kind, passed in ((NumpyBackbone, [64, 64, 22]), (Few, [24] * 6 + [6])):
        backbone = kind([17, 16, 3], first_tap_is_input=False)
        seen: list[int] = []
        rows = filled(RowFormat.of(backbone), Watched(backbone, seen.append), x)
        assert seen == passed
        assert rows.tobytes() == filled(RowFormat.of(backbone), backbone, x).tobytes()


def test_what_reads_itself_gets_samples_as_they_are(make_samples: Any) -> None:
    class Reading(Watched):
        reads = True

        def forward(self, x: Any) -> Any:
            assert isinstance(x, LazySamples)
            self.seen(len(x))
            return self.backbone.forward(x.read())

    x, _ = make_samples(150, 17)
    backbone = NumpyBackbone([17, 16, 3], first_tap_is_input=False)
    seen: list[int] = []
    rows = filled(RowFormat.of(backbone), Reading(backbone, seen.append), LazySamples.of(Source(x)))
    assert seen == [150]
    assert rows.tobytes() == filled(RowFormat.of(backbone), backbone, x).tobytes()


def test_tables_that_do_not_fit_are_refused() -> None:
    layout = _core.RowLayout((6, 5), 3, True)
    rows, filled = np.zeros((4, layout.row_stride), np.float32), np.zeros(4, np.uint8)

    def source(count: int, policy: int = _core.LRU, there: int = 0) -> _core.RowSource:
        flags = filled.copy()
        flags[:there] = 1
        return _core.RowSource(
            layout, rows, flags, lambda *_: None, policy, np.zeros(count, np.uint32)
        )

    source(3 * 4 + 9, there=4)
    with pytest.raises(ValueError, match="no place for every slot"):
        source(3 * 4 - 1)
    with pytest.raises(ValueError, match="more rows are there than samples"):
        source(3 * 4 + 2, there=3)
    with pytest.raises(ValueError, match="the policy is unknown"):
        source(3 * 4 + 9, policy=3)
    filled[2] = 1
    with pytest.raises(ValueError, match="rows are there behind some that are not"):
        source(3 * 4 + 9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["taps", "base_logits"])
def test_a_model_that_gives_no_numbers_is_named(where: str, bad: float, refused: Any) -> None:
    class Broken(NumpyBackbone):
        def forward(self, x: np.ndarray) -> Any:
            made = super().forward(x)
            (made.taps[1] if where == "taps" else made.base_logits)[1, 2] = bad
            return made

    model = Broken((5, 4, 3), first_tap_is_input=False)
    rows = RowFormat.of(model, copy_input=True)
    said = refused(ModelError, rows.compute, model, np.ones((3, 5), np.float32), rows.empty(3))
    assert said.startswith("the model gave NaN or infinity for finite samples")


@pytest.mark.parametrize(
    ("case", "is_known"),
    [("same", True), ("other outputs", False), ("other taps", False), ("moved", False),
     ("in columns", False), ("no array", False), ("codes", False), ("no rows", False)],
)  # fmt: skip
def test_rows_that_lie_as_they_are_to_lie_are_not_copied(case: str, is_known: bool) -> None:
    taps, n_outputs = ((20, 4), 3) if case == "other taps" else ((4, 4), 3)
    model = NumpyBackbone([4, 4, 3], first_tap_is_input=True)
    of = RowFormat.of(model, copy_input=True)
    rows = of.empty(6)
    rows[...] = np.arange(rows.size).reshape(rows.shape)
    known: Any = KnownRows(taps, n_outputs, _core.RowLayout(taps, n_outputs, False), "f")
    x: Any = rows
    match case:
        case "other outputs":  # in the same padded row
            known = KnownRows(taps, 2, _core.RowLayout(taps, 2, False), "f")
            assert known.layout.row_stride == of.layout.row_stride
        case "moved":
            x = np.concatenate([rows.reshape(-1), rows[0]])[1 : 1 + rows.size].reshape(rows.shape)
        case "in columns":
            x = np.asfortranarray(rows)
        case "no array":
            x = LazySamples.of(Source(rows))
        case "codes":
            of = dataclasses.replace(of, dtype="float16")
        case "no rows":
            known = model
    cache = as_they_are(of, known, x)
    assert (cache is not None) == is_known
    if cache is not None:
        assert cache.floats is rows
        assert cache.filled.tolist() == [1] * 6


def test_rows_that_lie_between_those_they_are_read_from_are_copied(make_model: Any) -> None:
    """Memory that overlaps by its bounds alone is not the same place."""
    backbone = make_model([9, 16, 5, 3])
    of = RowFormat.of(backbone, copy_input=True)
    side_by_side = np.zeros((4, 2 * of.layout.row_stride), np.float32)
    known, rows = np.split(side_by_side, 2, axis=1)
    of.compute(backbone, np.random.default_rng(0).random((4, 9), np.float32), made := of.empty(4))
    known[:] = made
    of.compute(KnownRows(backbone.tap_widths, backbone.n_outputs, of.layout), known, rows)
    assert (rows == made).all()


@pytest.mark.parametrize(
    ("policy", "capacity", "n_numbers"),
    [("pin", 3, 0), ("lru", 3, 7 + 3 * 3), ("fifo", 7, 0), ("lru", 0, 0)],
)
def test_tables_are_there_where_rows_take_turns(
    make_model: Callable[..., s2.MLP], policy: str, capacity: int, n_numbers: int
) -> None:
    """A number for each sample, and three for each row."""
    cache = SkipCache.of(RowFormat.of(make_model([4, 3, 2])), 7, capacity, policy)
    assert (0 if cache.tables is None else cache.tables.size) == n_numbers
