"""Tables 2, 6 and 7: what is measured, how it is set beside the paper, and the command."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from skip2lora.cli import run
from skip2lora.datasets import simulated
from skip2lora.methods import METHODS
from skip2lora.paper import printed, protocol, report, timings
from skip2lora.paper.timing_tables import LayerTable, Spread, TimeTable, paper_reductions
from skip2lora.paper.timings import LayerTimes, MethodTimes, Run
from skip2lora.training.costs import method_costs

MACHINE = {"processor": "Abacus", "kernels": "wooden"}
WIDTHS = (256, 96, 96, 3)


def made_up_run(base: float) -> Run:
    """Phases of 1, 2, 3, 4 and 10 times base, 19 % above a run without marks."""
    phases = dict(zip(timings.PHASES, (base, 2 * base, 3 * base, 4 * base, 10 * base), strict=True))
    return Run(20 * base / 1.19, phases, 7 * base, 100)


@pytest.fixture
def table() -> TimeTable:
    """Three made-up repetitions: LoRA-All at 10, Skip2-LoRA at 1, the others at 5."""
    bases = dict.fromkeys(METHODS, 5.0) | {"lora-all": 10.0, "skip2-lora": 1.0}
    runs = {
        name: tuple(made_up_run(base * factor) for factor in (1.0, 0.5, 3.0))
        for name, base in bases.items()
    }
    return TimeTable(MethodTimes("fan", WIDTHS, 300, 470, 1.0, runs), MACHINE)


def test_spread() -> None:
    assert Spread.of([3, 1, 2, 9]) == (2.5, 1, 9)
    assert Spread.of([3.14159]).text(2) == "3.14\n3.14 to 3.14"


def test_times_beside_the_paper(table: TimeTable) -> None:
    spread = table.spread("skip2-lora", "forward")
    assert spread == (3, 1.5, 9)  # rows and forward
    assert table.spread("skip2-lora", "weight update") is None
    assert table.spread("ft-bias", "weight update") == (20, 10, 60)
    here, there = table.shares("skip2-lora", "train@batch")
    assert here == pytest.approx(10)
    assert there == pytest.approx(100 * 0.450 / 4.113)
    assert table.shares("skip2-lora", "weight update") == (None, pytest.approx(100 * 10 / 14))
    assert not any("idle" in note for note in table.grids()[0].notes)
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
    saved = table.reductions()
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
    assert table.reductions()["total"] == pytest.approx((90, 50, 90))


def test_operations_of_the_whole(table: TimeTable) -> None:
    whole, costs = table.whole(), method_costs(WIDTHS, batch=20, rank=4, epochs=300)
    for name, of in whole.items():
        operations = (costs[name].forward + costs[name].backward) / 20 * 470 * 300
        assert of["gflop"] == pytest.approx(operations / 1e9)
        base = {"lora-all": 10.0, "skip2-lora": 1.0}[name]
        assert of["total_ms"] == pytest.approx(20 * base / 1.19 * 100 / 1e3)
        assert of["gflop_per_s"] == pytest.approx(of["gflop"] / (of["total_ms"] / 1e3))
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


def test_printed_times() -> None:
    """Columns add up as the paper says, and to the reductions that its text names."""
    for method in METHODS:
        parts = [printed.time_ms("fan", method, of) for of in printed.TIMES[1:4]]
        assert sum(part or 0 for part in parts) == pytest.approx(
            printed.time_ms("fan", method, "train@batch"), abs=2e-3
        )
    for name, (smallest, largest) in printed.REDUCTIONS.items():
        assert smallest - 0.1 <= paper_reductions("fan")[name] <= largest + 0.1
    for shares in printed.TABLE2.values():
        for direction in ("forward", "backward"):
            of = [share for part, share in shares.items() if part.startswith(direction)]
            assert len(of) == 10
            assert sum(of) == pytest.approx(100, abs=0.02)


def test_layers_are_percent_of_their_direction() -> None:
    first, second = np.zeros((2, 3, 2, 4))
    first[0, 0, 0], first[2, 0, 1] = 3.0, 1.0  # forward FC1, LoRA3
    second[0, 0, 0], second[2, 0, 1] = 1.0, 1.0
    for of in (first, second):
        of[1, 1, 3] = 2.0  # backward Act2
    table = LayerTable((LayerTimes("har", 600, 0.99, (first, second)),), MACHINE)
    assert table.spread(table.measured[0], "forward FC1", percent=True) == (62.5, 50, 75)
    assert table.spread(table.measured[0], "forward LoRA3", percent=False) == (1, 1, 1)
    (grid,) = table.grids()
    cells = dict(grid.rows)
    assert grid.head == ("", "HAR")
    assert cells["forward FC1"] == "62.50\n88.58 (-26.08)"
    assert cells["backward Act2"] == "100.00\n0.16 (+99.84)"
    assert set(cells) == set(printed.TABLE2["har"])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulated task in place of the recordings, and few epochs."""
    monkeypatch.setattr(protocol, "load_split", lambda *_: simulated.make_task(n_per_split=60))
    for name in protocol.TASKS:
        monkeypatch.setitem(protocol.TASKS, name, protocol.Experiment(name, 2, 2, 3))


def test_methods_are_measured_as_they_are(small: None) -> None:
    calls: list[int] = []
    times = timings.time_methods("fan", "damage1", Path(), n_runs=2, follow=lambda: calls.append(1))
    assert len(calls) == 2 * len(METHODS)
    assert (times.epochs, times.n_samples) == (3, 60)
    assert 0 < times.core_share < 1.01
    for name, runs in times.runs.items():
        assert len(runs) == 2
        for of in runs:
            assert of.n_batches == 3 * 3
            assert min(of.untimed_us, of.predict_us, of.forward_us) > 0
            assert set(of.phases_us) == set(timings.PHASES)
            assert (of.phases_us["rows"] > 0) == METHODS[name].freezes_below
            assert (of.phases_us["update"] > 0) == (not METHODS[name].skip)
            assert of.sum_us == pytest.approx(sum(of.phases_us.values()))


def test_one_core_while_it_is_measured(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of those allowed, from the first run to the last, and all of them again after."""
    now = [{0, 2, 3}]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: now[-1], raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, to: now.append(to), raising=False)
    seen: list[set[int]] = []
    for measure in (timings.time_layers, timings.time_methods):
        measure("fan", "damage1", Path(), n_runs=1, follow=lambda: seen.append(now[-1]))
        assert now == [{0, 2, 3}, {3}, {0, 2, 3}]
        del now[1:]
    assert seen == [{3}] * (1 + len(METHODS))
    with pytest.raises(KeyError), timings.one_core():
        raise KeyError
    assert now == [{0, 2, 3}, {3}, {0, 2, 3}]


def test_a_system_that_pins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with timings.one_core() as share:
        time.sleep(0.05)
        first = share()
        while share() <= first:
            pass  # it runs again
    assert 0 <= first < 1


@pytest.mark.parametrize("what", ["table2", "table6", "table7"])
def test_the_command(
    what: str, small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    words = ["paper", what, "--data", str(tmp_path), "--trials", "2", "--out", str(out)]
    assert run([*words, "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["tables"]
    assert facts == json.loads((out / f"{what}.json").read_text())
    assert facts["machine"]["kernels"] == report.machine()["kernels"]
    if what == "table2":
        assert list(facts["rows"]) == ["fan", "har"]
        fan = facts["rows"]["fan"]
        assert fan["forward FC1"]["paper"] == 71.80
        made = np.array(facts["repetitions_us"]["fan"])
        assert made.shape == (2, 3, 2, 4)
        assert fan["forward FC1"]["us"]["smallest"] == made[:, 0, 0, 0].min() > 0
        for direction in ("forward", "backward"):
            of = [cell["percent"]["median"] for p, cell in fan.items() if p.startswith(direction)]
            assert all(share > 0 for share in of)
            assert 90 < sum(of) < 110
    else:
        assert list(facts["rows"]) == list(METHODS)
        assert facts["dataset"] == ("fan" if what == "table6" else "har")
        assert {len(runs) for runs in facts["runs"].values()} == {2}
        assert facts["rows"]["skip2-lora"]["weight update"]["us"] is None
        assert set(facts["saved_percent"]) > set(printed.REDUCTIONS)
        assert facts["whole"]["lora-all"]["gflop_per_s"] > 0
    assert run(words) == 0
    said = capsys.readouterr().out
    assert f"Table {what[-1]}" in said
    assert "kernels" in said
    assert f"{what}.json" in said


def test_a_task_that_the_table_is_not_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    for what, task, expected in (
        ("table6", "har", "damage1, damage2"),
        ("table7", "damage2", "har"),
    ):
        assert run(["paper", what, "--task", task, *words]) == 2
        said = capsys.readouterr().err
        assert said == f"skip2lora: {what} is of {expected}, got --task {task}: leave --task out\n"
    assert not (tmp_path / "out").exists()


def test_the_report_shows_them(table: TimeTable, tmp_path: Path) -> None:
    facts = report.facts_of([table], {}, n_trials=3)
    report.write_report(tmp_path, facts, [table], {})
    page = (tmp_path / "report.html").read_text()
    for part in ("Table 6: execution time on Fan", "0.309 ms", "89.0 to 92.0", "Abacus", "+19.0 %"):
        assert part in page
    kept = json.loads((tmp_path / "report.json").read_text())
    assert kept["tables"][0]["rows"]["ft-all"]["backward"]["paper_ms"] == 2.866
