"""The paper's tables from trials: kept, resumed, never mixed, beside the printed numbers."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from paper.trial_files import keep
from skip2lora.methods import METHODS
from skip2lora.paper import printed, report, trials
from skip2lora.paper.tables import TESTED_EPOCHS, Cell, figure3, table3, table4, table5


def test_cells_are_mean_sample_deviation_and_difference(kept: Path) -> None:
    cell = table3(kept, ["damage1"], 3).cells["damage1"]["before"]
    assert cell.mean == pytest.approx(60)
    assert cell.std == pytest.approx(10)
    assert cell.paper == (60.61, 13.73)
    assert cell.difference == pytest.approx(-0.61)
    assert cell.text() == "60.00±10.00\n60.61±13.73 (-0.61)"
    table = table4(kept, ["damage1"], 3)
    assert table.columns == (*METHODS, trials.TUNED)
    row = table.cells["damage1"]
    assert row["ft-all"].mean == pytest.approx(100 * statistics.fmean((0.9, 0.95, 0.97)))
    assert row["skip2-lora"].mean == pytest.approx(row["ft-all"].mean - 7)
    assert row[trials.TUNED].paper is None
    assert row[trials.TUNED].text().endswith("\n-")
    assert table.facts()["rows"]["damage1"]["ft-all"]["paper"] == {"mean": 98.73, "std": 2.11}


def test_one_trial_has_no_deviation(kept: Path) -> None:
    cell = table3(kept, ["damage1"], 1).cells["damage1"]["after"]
    assert cell == Cell(90.0, None, 1, printed.TABLE3["damage1"]["after"])
    assert cell.text().startswith("90.00\n")


def test_required_epochs_are_the_first_within_a_point(kept: Path) -> None:
    curve = figure3(kept, ["damage1"], 3)["damage1"]
    assert curve.required_epochs == 3
    assert curve.required_ms == pytest.approx(3.0 + 3 * 0.25)
    assert (curve.paper_epochs, curve.paper_seconds) == (100, 1.06)
    assert report.draw_figure3({"damage1": curve}).startswith(b"\x89PNG")


def keep_tinytl(out: Path, norm: str, seed: int, held_out: list[float], accuracy: float) -> None:
    """A trial whose best epoch is that of the highest ``held_out``, tested where tests are."""
    curve = [
        {
            "rate": 0.005, "loss": 1.0, "held_out_loss": 1 - of, "held_out": of,
            "tested": of - 0.1 if epoch in TESTED_EPOCHS else None,
        }
        for epoch, of in enumerate(held_out, 1)
    ]  # fmt: skip
    numbers = {
        "accuracy": accuracy, "before": 0.5, "n_parameters": 2_000_000, "n_trainable": 30_000,
        "curve": curve, "best_epoch": 1 + held_out.index(max(held_out)),
    }  # fmt: skip
    keep(out, f"tinytl-{norm}", "har", seed, numbers)


def test_table5_beside_the_paper(tmp_path: Path) -> None:
    for norm, accuracy in {"gn": 0.88, "bn": 0.9}.items():
        keep_tinytl(tmp_path, norm, 0, [0.8], accuracy)
    table = table5(tmp_path, ["har"], 1)
    assert table.notes[0] == "HAR, gn: 2,000,000 parameters, 30,000 trained"
    row = table.cells["har"]
    assert row["gn"].text() == "88.00\n88.76±0.91 (-0.76)"
    assert row["bn"].paper == (89.27, 1.13)


def test_table5_has_learning_curves_in_the_mean(tmp_path: Path) -> None:
    """A trial that has ended counts with its result, not with its last epoch."""
    for norm in ("gn", "bn"):
        keep_tinytl(tmp_path, norm, 0, [0.6, 0.7, 0.9, 0.7], 0.85)
        keep_tinytl(tmp_path, norm, 1, [0.4, 0.5, 0.6, 0.6, 0.6, 0.7], 0.65)
    table = table5(tmp_path, ["har"], 2)
    accuracies, curves = table.grids()
    assert "bn" in str(accuracies.rows)
    assert curves.head == ("epoch", "HAR, gn", "HAR, bn")
    assert {row[0]: row[1] for row in curves.rows} == {
        "0": "50.0 / -",
        "1": "40.0 / 50.0",
        "2": "50.0 / 60.0",
        "5": "67.5 / 75.0",  # 85 and 90 of the first, which has ended, and 50 and 60
        "end": "75.0 / 80.0",
        "ended after": "4 (3), 6 (6)",
    }
    assert [len(trial["curve"]) for trial in table.facts()["trials"]["har"]["bn"]] == [4, 6]
