"""Ways to adapt: what each takes at most, and which is the best that fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapters.rows import RowFormat
from skip2lora.adapters.store import CacheFolder
from skip2lora.errors import ParameterError
from skip2lora.plan import Plan, choose, plan
from skip2lora.training import room
from skip2lora.training.beyond import Blocks, _count

WIDTHS, N, HELD = (8, 60, 40, 3), 400, 500_000
Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def _steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that holds always the same."""
    monkeypatch.setattr(room, "highest_bytes", lambda: HELD)
    monkeypatch.setattr("skip2lora.plan.held_bytes", lambda: HELD)


@pytest.fixture
def backbone() -> NumpyBackbone:
    return NumpyBackbone(WIDTHS, first_tap_is_input=True)


@pytest.fixture
def x(make_samples: Any) -> np.ndarray:
    return make_samples(N)[0]


def planned(backbone: Any, x: Any, memory: int | str | None = None, **asked: Any) -> Plan:
    return plan(backbone, x, memory=memory, seconds=1e-4, **asked)


def test_less_memory_keeps_less(backbone: NumpyBackbone, x: np.ndarray) -> None:
    """As asked, in int8, by steps, with some rows, with none; each takes what it may at most."""
    ways = {way.name: way for way in planned(backbone, x).choices}
    assert list(ways) == [
        "as asked", "as asked, int8", "by steps", "by steps, int8",
        "16 numbers of each tap", "by steps, rows of some", "by steps, no rows kept",
    ]  # fmt: skip
    small, none = ways["by steps, int8"].peak_bytes, ways["by steps, no rows kept"].peak_bytes
    capacities = []
    for memory, name in (
        (ways["as asked"].peak_bytes, "as asked"),
        (ways["as asked"].peak_bytes - 1, "as asked, int8"),
        (ways["as asked, int8"].peak_bytes - 1, "by steps"),
        (ways["by steps"].peak_bytes, "by steps"),
        (ways["by steps"].peak_bytes - 1, "by steps, int8"),
        (small, "by steps, int8"),
        (small - 1, "by steps, rows of some"),
        ((2 * small + none) // 3, "by steps, rows of some"),
        (none, "by steps, no rows kept"),
    ):
        of = planned(backbone, x, memory)
        assert (of.limit_bytes, of.chosen.name) == (memory, name)
        assert of.chosen.peak_bytes <= memory
        assert choose(backbone, x, memory) == of.chosen
        capacities.append(of.chosen.capacity)
    assert capacities[:6] == [N] * 6
    assert N > capacities[6] > capacities[7] > capacities[8] == 0
    assert planned(backbone, x, none - 1).chosen is None
    with pytest.raises(ParameterError, match=r"^memory is \d MB, but adapting to 400"):
        choose(backbone, x, none - 1)
    way = choose(backbone, x, small - 1)  # and is what adapting then takes
    adapted = s2.adapt(backbone, x, np.arange(N) % 3, epochs=1, **way.options)
    assert adapted.history.cache.capacity == way.capacity


def test_what_is_set_is_kept(backbone: NumpyBackbone, x: np.ndarray) -> None:
    of = planned(backbone, x, cache_samples=30, epochs=2)
    assert [(way.name, way.capacity) for way in of.choices] == [("as asked", 30)]
    assert of.choices[0].options == {}
    assert of.chosen is of.choices[0]  # the machine has as much
    adapted = s2.adapt(backbone, x, np.arange(N) % 3, cache_samples=30, epochs=2)
    assert of.memory.cache_bytes == adapted.cache_bytes
    assert of.memory.cache_overhead_bytes == adapted.cache_overhead_bytes
    steps = planned(backbone, x, memory=HELD + 600_000, epochs=2)
    assert [way.name for way in steps.choices] == [
        "as asked", "by steps, int8", "16 numbers of each tap",
        "by steps, rows of some", "by steps, no rows kept",
    ]  # fmt: skip


def test_what_the_process_had_is_not_undone(
    backbone: NumpyBackbone, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "highest_bytes", lambda: 3 * HELD)
    of = planned(backbone, x, 2 * HELD)
    assert of.chosen is None
    assert {way.peak_bytes for way in of.choices} == {3 * HELD}
    assert of.memory.peak_bytes == 3 * HELD


def test_rows_that_are_no_more_are_computed_again(backbone: NumpyBackbone, x: np.ndarray) -> None:
    """The time of a fill is that of every pass of a sample."""
    few, all_rows = (
        planned(backbone, x, epochs=7, standardize=scaled, cache_samples=size)
        for scaled, size in ((False, 100), (False, None))
    )
    assert few.cache_fill_ms == pytest.approx((100 + 300 * 7) * few.fill_us_a_sample / 1e3)
    assert all_rows.cache_fill_ms == pytest.approx(N * all_rows.fill_us_a_sample / 1e3)


@pytest.mark.parametrize("memory", ["much", -5])
def test_no_memory(backbone: NumpyBackbone, x: np.ndarray, memory: Any, refused: Refused) -> None:
    assert f"memory is {memory!r}, expected " in refused(
        ParameterError, planned, backbone, x, memory
    )


@pytest.mark.parametrize("asked", [{}, {"epochs": 2}, {"solver": "exact", "penalty": 0.1}])
def test_few_columns_are_counted_as_they_are_kept(
    asked: dict[str, Any], backbone: NumpyBackbone, x: np.ndarray
) -> None:
    of = planned(backbone, x, projection=4, **asked)
    adapted = s2.adapt(backbone, x, np.arange(N) % 3, projection=4, **asked)
    assert of.memory.cache_bytes == adapted.cache_bytes == N * 4 * (4 + 4 + 4 + 3)
    assert of.memory.cache_overhead_bytes == adapted.cache_overhead_bytes
    assert not any("numbers of each tap" in way.name for way in of.choices)
    whole = planned(backbone, x, **asked)
    bias = 3 if "epochs" in asked else 0  # which the means end in
    assert of.n_parameters == whole.n_parameters + bias >= adapted.trainable_parameters


def test_few_columns_are_a_way_where_nothing_larger_fits(make_samples: Any) -> None:
    x = make_samples(12_000)[0]
    wide = NumpyBackbone((8, 3000, 40, 3), first_tap_is_input=False)
    ways = {way.name: way for way in planned(wide, x).choices}
    few = ways["16 numbers of each tap"]
    assert few.peak_bytes < ways["by steps, int8"].peak_bytes
    assert few.options == {"projection": 16}
    assert choose(wide, x, few.peak_bytes) == few
    first = 300 * 4 * (16 + 3008 + 48 + 16) + 300 * 3 * 8 * 3000  # whole rows, and a tap of them
    assert few.peak_bytes == HELD + first
    narrow = NumpyBackbone((8, 16, 3), first_tap_is_input=False)
    assert not any("each tap" in way.name for way in planned(narrow, x).choices)


@pytest.mark.parametrize("widths", [WIDTHS, (8, 3000, 3)])
def test_beside_a_folder_rows_are_read(
    widths: tuple[int, ...], tmp_path: Path, make_samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is what adapting then does: rows in memory, rows read, and room for blocks."""
    backbone, (x, y) = NumpyBackbone(widths, first_tap_is_input=False), make_samples(N, widths[0])
    asked: dict[str, Any] = {"epochs": 3, "standardize": False, "cache": CacheFolder(tmp_path)}
    ways = {way.name: way for way in planned(backbone, x, **asked).choices}
    assert [*ways][-2:] == ["by steps, some rows on disk", "by steps, all rows on disk"]
    assert ways["as asked"].n_rows_read == 0
    none = ways["by steps, all rows on disk"]
    assert (none.capacity, none.n_rows_read) == (0, 3 * N)
    memory = (none.peak_bytes + ways["by steps, int8"].peak_bytes) // 2
    some = choose(backbone, x, memory, **asked)
    if len(widths) == 3:  # narrow rows in blocks take as much as all in int8
        assert some.name == "by steps, some rows on disk"
    blocks: list[int] = []
    epoch = Blocks.epoch

    def watched(of: Blocks, *given: Any) -> Any:
        blocks.append(max(map(_count, of.pairs(0))))
        return epoch(of, *given)

    monkeypatch.setattr(Blocks, "epoch", watched)
    for options in ({"cache_samples": 0}, {"cache_samples": 150}):
        of = planned(backbone, x, **asked, **options)
        adapted = s2.adapt(backbone, x, y, **asked, **options)
        use = adapted.history.cache
        assert use.on_disk
        first = 0 if widths == WIDTHS else use.capacity  # rows that stay are read once, and then
        assert use.capacity == options["cache_samples"]
        assert use.misses - first == of.n_rows_read == 3 * (N - use.capacity)
        assert (of.memory.cache_bytes, of.memory.cache_overhead_bytes) == (
            adapted.cache_bytes, adapted.cache_overhead_bytes
        )  # fmt: skip
        assert of.read_us_a_row > 0
        assert of.cache_fill_ms == pytest.approx(N * of.fill_us_a_sample / 1e3)  # each passes once
        plain = planned(backbone, x, **asked | {"cache": None}, **options)
        more = of.memory.workspace_bytes - plain.memory.workspace_bytes
        rows = RowFormat.of(backbone, copy_input=True)
        of_blocks = max(blocks, default=0) * rows.row_bytes
        assert more == 88 * N + of_blocks
        assert (plain.n_rows_read, plain.read_us_a_row) == (0, None)
    assert bool(blocks) == (widths == WIDTHS)


def test_all_rows_in_memory_are_read_from_no_folder(
    backbone: NumpyBackbone, x: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"epochs": 3, "solver": "steps", "cache": CacheFolder(tmp_path)}
    assert planned(backbone, x, **asked).n_rows_read == 0
    assert planned(backbone, x, **asked, cache_samples=N).n_rows_read == 0
    monkeypatch.setenv("SKIP2LORA_MAX_BYTES", "100000")  # which bounds the rows, too
    of = planned(backbone, x, **asked)
    row_bytes = RowFormat.of(backbone, copy_input=True).row_bytes
    assert of.n_rows_read == 3 * (N - 100_000 // row_bytes)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("n_kept", [N - 1, N])
def test_tables_of_a_policy_are_counted_where_rows_are_of_some(
    n_kept: int, backbone: NumpyBackbone, x: np.ndarray, make_samples: Any
) -> None:
    beside = []
    for policy in ("pin", "lru"):
        asked = {"cache_samples": n_kept, "cache_policy": policy, "epochs": 1}
        beside.append(planned(backbone, x, **asked).memory.cache_overhead_bytes)
        adapted = s2.adapt(backbone, *make_samples(N), **asked)
        assert adapted.cache_overhead_bytes == beside[-1]
    numbers = N + 3 * n_kept if n_kept < N else 0
    assert beside[1] - beside[0] == numbers * np.uint32().itemsize


@pytest.mark.parametrize("n_outputs", [2, 3])
@pytest.mark.parametrize("rank", [1, 2, None])
@pytest.mark.parametrize("solver", ["exact", "steps", "auto"])
def test_parameters_are_those_of_the_result_at_most(
    solver: str, rank: int | None, n_outputs: int, make_samples: Any
) -> None:
    """By steps just as many; the recipe auto may add a tap of the logits."""
    model = NumpyBackbone((8, 60, 40, n_outputs), first_tap_is_input=True)
    asked: dict[str, Any] = {"rank": rank, "solver": solver}
    if solver == "auto":
        asked = {"recipe": "auto"}
    of = planned(model, np.zeros((60, 8), np.float32), **asked)
    most, rank = of.n_parameters, of.rank
    made = s2.adapt(model, *make_samples(60, 8, n_outputs), **asked)
    widths = [8, 60, 40, *[n_outputs] * (solver == "auto")]
    assert most == sum((width + n_outputs) * rank for width in widths) + n_outputs * (
        solver != "steps"
    )
    numbers = made.trainable_parameters
    assert numbers == most if solver == "steps" else numbers <= most
