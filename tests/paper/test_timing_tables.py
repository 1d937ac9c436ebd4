"""Tables 2, 6 and 7 beside the paper's numbers, and what is saved."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest

from paper.made_up import MACHINE, WIDTHS, made_up_run
from skip2lora.methods import METHODS
from skip2lora.paper import printed
from skip2lora.paper.timing_tables import LayerTable, TimeTable
from skip2lora.paper.timings import LayerTimes, MethodTimes
from skip2lora.spread import Spread
from skip2lora.training.costs import method_costs


def test_times_beside_the_paper(table: TimeTable) -> None:
    spread = table.spread("skip2-lora", "forward")
    assert spread == Spread(3, 1.5, 9)  # rows and forward
    assert table.spread("skip2-lora", "weight update") is None
    assert table.spread("ft-bias", "weight update") == Spread(20, 10, 60)
    here, there = table.shares("skip2-lora", "train@batch")
    assert here == pytest.approx(10)
    assert there == pytest.approx(100 * 0.450 / 4.113)
    assert table.shares("skip2-lora", "weight update") == (None, pytest.approx(100 * 10 / 14))
    assert not any("idle" in note for note in table.grids()[0].notes)
    assert table.grids()[0].title.endswith("(median of 3 runs)")
    once = {name: runs[:1] for name, runs in table.measured.runs.items()}
    one = TimeTable(replace(table.measured, runs=once), MACHINE)
    assert one.grids()[0].title.endswith("(median of 1 run)")
    cells = {row[0]: row[1:] for row in table.grids()[0].rows}
    assert list(cells) == list(METHODS)
    assert cells["skip2-lora"][1] == "3.00 µs\n0.309 ms\n10/11 %"
    assert cells["skip2-lora"][3] == "in backward\n0.010 ms\n-/71 %"
    assert cells["lora-all"][0].endswith("4.113 ms\n100/100 %")


def test_sum_of_the_phases_beside_the_run_without_marks(table: TimeTable) -> None:
    assert table.difference("ft-all") == pytest.approx(19)
    cells = {row[0]: row[1:] for row in table.grids()[1].rows}
    assert cells["ft-all"] == ("84.03\n42.02 to 252.10", "5.00", "50.00", "100.00", "+19.0 %")


def test_what_is_saved(table: TimeTable) -> None:
    saved = {name: astuple(spread) for name, spread in table.reductions().items()}
    assert saved["backward"] == pytest.approx((50, 50, 50))  # 15 of 30
    assert saved["forward"] == pytest.approx((80, 80, 80))  # 3 of 15
    assert saved["total"] == pytest.approx((90, 90, 90))
    cells = {row[0]: row[1:] for row in table.grids()[2].rows}
    assert cells["total, skip2-lora against lora-all"] == (
        "90.0\n90.0 to 90.0", "89.1", "89.0 to 92.0",
    )  # fmt: skip
    assert cells["backward, skip-lora against lora-all"][1:] == ("88.2", "82.5 to 88.3")
    assert cells["total that arithmetic alone allows"][0] == f"{table.bound:.1f}"


def test_saved_in_repetitions_of_their_own() -> None:
    """Each repetition is compared with itself, not median with median."""
    runs = {name: tuple(made_up_run(base) for base in (1.0, 2.0, 4.0)) for name in METHODS}
    runs["skip2-lora"] = tuple(made_up_run(base) for base in (0.1, 1.0, 0.4))
    table = TimeTable(MethodTimes("fan", WIDTHS, 300, 470, 1.0, runs), MACHINE)
    assert astuple(table.reductions()["total"]) == pytest.approx((90, 50, 90))


def test_operations_of_the_whole(table: TimeTable) -> None:
    totals, costs = table.totals(), method_costs(WIDTHS, batch=20, rank=4, epochs=300)
    for name, of in totals.items():
        operations = (costs[name].forward + costs[name].backward) / 20 * 470 * 300
        assert of["gflop"] == pytest.approx(operations / 1e9)
        base = {"lora-all": 10.0, "skip2-lora": 1.0}[name]
        assert of["total_ms"] == pytest.approx(20 * base / 1.19 * 100 / 1e3)
        assert of["gflop_per_s"] == pytest.approx(of["gflop"] / (of["total_ms"] / 1e3), rel=1e-9)
    assert 92 < table.bound < 93


def test_table_7_has_dashes_where_our_copy_has_nothing(table: TimeTable) -> None:
    of = table.measured
    har = TimeTable(MethodTimes("har", (561, 96, 96, 6), 600, 1048, 0.5, of.runs), MACHINE)
    assert har.title.startswith("Table 7")
    for name, *cells in har.grids()[0].rows:
        for column, text in zip(printed.TIMES, cells, strict=True):
            known = (name, column) == ("skip2-lora", "train@batch")
            assert text.split("\n")[-2] == ("0.595 ms" if known else "-")
            assert text.endswith("/- %")
    assert any("the core for 50.0 %" in note and "idle" in note for note in har.grids()[0].notes)
    facts = har.facts()
    assert facts["rows"]["skip2-lora"]["train@batch"]["paper_ms"] == 0.595
    assert facts["rows"]["lora-all"]["train@batch"]["paper_ms"] is None
    assert facts["saved_percent_paper"] == {}
    assert [row[2] for row in har.grids()[2].rows] == ["-", "-", "-", "-", ""]


def test_layers_are_percent_of_their_direction() -> None:
    first, second = np.zeros((2, 3, 2, 4))
    first[0, 0, 0], first[2, 0, 1] = 3.0, 1.0  # forward FC1, LoRA3
    second[0, 0, 0], second[2, 0, 1] = 1.0, 1.0
    for of in (first, second):
        of[1, 1, 3] = 2.0  # backward Act2
    table = LayerTable((LayerTimes("har", 600, 0.99, (first, second)),), MACHINE)
    assert table.spread(table.measured[0], "forward FC1", percent=True) == Spread(62.5, 50, 75)
    assert table.spread(table.measured[0], "forward LoRA3", percent=False) == Spread(1, 1, 1)
    (grid,) = table.grids()
    cells = dict(grid.rows)
    assert grid.head == ("", "HAR")
    assert grid.notes[0].startswith("Median of 2 runs of all epochs, ")
    [once] = LayerTable((LayerTimes("har", 600, 0.99, (first,)),), MACHINE).grids()
    assert once.notes[0].startswith("Median of 1 run of all epochs, ")
    assert cells["forward FC1"] == "62.50\n88.58 (-26.08)"
    assert cells["backward Act2"] == "100.00\n0.16 (+99.84)"
    assert set(cells) == set(printed.TABLE2["har"])
