"""The paper's tables from trials: kept, resumed, never mixed, beside the printed numbers."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import numpy as np
import pytest

from skip2lora.cli import run
from skip2lora.datasets import simulated
from skip2lora.errors import FileError, MissingExtraError, ModelError
from skip2lora.methods import METHODS
from skip2lora.paper import printed, protocol, report, trials
from skip2lora.paper.tables import Cell, figure3, jobs_of, table3, table4, table5


def keep(out: Path, part: str, task: str, seed: int, numbers: dict, version: int = 1) -> None:
    file = trials.trial_file(out, part, task, seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"version": version, "numbers": numbers}))


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Three made-up trials of each part of damage1."""
    for seed, share in enumerate((0.9, 0.95, 0.97)):
        methods = {name: share - 0.01 * at for at, name in enumerate(METHODS)}
        keep(tmp_path, "before-after", "damage1", seed, {"before": 0.5 + seed / 10, "after": share})
        keep(tmp_path, "methods", "damage1", seed, methods)
        keep(tmp_path, "tuned", "damage1", seed, {trials.TUNED: share})
        curve = {"accuracy": [0.5, share - 0.02, share - 0.005, share], "cache_fill_ms": 2.0 + seed}
        keep(tmp_path, "curve", "damage1", seed, curve | {"training_ms_an_epoch": 0.25})
    return tmp_path


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


def test_printed_numbers() -> None:
    """Those that the text of the paper repeats."""
    assert printed.TABLE4["damage1"]["skip2-lora"] == (96.19, 2.29)
    assert printed.TABLE4["damage2"]["lora-last"] == (93.55, 3.50)
    assert printed.TABLE4["har"]["ft-last"] == (89.31, 1.06)
    assert printed.TABLE4["har"]["skip-lora"] == (92.10, 1.05)
    assert {len(row) for row in printed.TABLE4.values()} == {8}
    assert set(printed.TABLE4) == set(protocol.TASKS) == set(printed.TASK_NAMES)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulated task in place of the recordings, and few epochs."""
    task = protocol.Experiment("damage1", 3, 3, 4)
    monkeypatch.setattr(trials, "_split", lambda *_: simulated.make_task(n_per_split=60))
    monkeypatch.setitem(protocol.TASKS, "damage1", task)
    trials._pretrained.cache_clear()


@pytest.mark.parametrize("part", [part for part in trials.PARTS if part != "tinytl"])
def test_parts_give_plain_numbers(part: str, small: None) -> None:
    numbers = trials.PARTS[part]("damage1", Path(), 0)
    again = trials.PARTS[part]("damage1", Path(), 0)
    json.dumps(numbers)
    scores = (
        numbers["accuracy"]
        if part == "curve"
        else [v for v in numbers.values() if isinstance(v, float)]
    )
    assert scores
    assert all(0 <= score <= 1 for score in scores)
    assert {k: v for k, v in numbers.items() if "_ms" not in k} == {
        k: v for k, v in again.items() if "_ms" not in k
    }
    if part == "methods":
        assert list(numbers) == list(METHODS)
        assert numbers["skip-lora"] == numbers["skip2-lora"]
    if part == "curve":
        assert len(scores) == 4


def test_recipe_is_chosen_without_the_test_part(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the test part says, the recipe is the same."""
    first = trials.tuned("damage1", Path(), 0)
    split = simulated.make_task(n_per_split=60)
    other = split._replace(test=simulated.make_task(seed=9, n_per_split=60).pretrain)
    monkeypatch.setattr(trials, "_split", lambda *_: other)
    second = trials.tuned("damage1", Path(), 0)
    assert first["recipe"] == second["recipe"]
    assert first["recipe"] in protocol.RECIPES
    assert first["best_epoch"] == second["best_epoch"]


def test_kept_trials_are_not_run_again(kept: Path) -> None:
    jobs = jobs_of(["methods", "curve"], ["damage1"], 3)
    assert jobs[:2] == [("methods", "damage1", 0), ("curve", "damage1", 0)]
    assert list(trials.run_trials(kept, kept / "no data", jobs)) == jobs


def test_other_versions_are_not_mixed(kept: Path) -> None:
    keep(kept, "methods", "damage1", 1, {}, version=2)
    with pytest.raises(ModelError, match="of another version, expected 1"):
        list(trials.run_trials(kept, kept, [("methods", "damage1", 1)]))
    (kept / "report.json").write_text('{"version": 0}')
    with pytest.raises(ModelError, match="is of version 0, expected 1: it is not mixed"):
        report.check_report(kept)


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="12cm_hmlo_normal_silentA_1"):
        protocol.load_split("damage1", tmp_path)
    with pytest.raises(FileError, match="holds no HAR data"):
        protocol.load_split("har", tmp_path)


def test_report_holds_everything(kept: Path) -> None:
    tables = [table3(kept, ["damage1"], 3), table4(kept, ["damage1"], 3)]
    curves = figure3(kept, ["damage1"], 3)
    facts = report.facts_of(tables, curves, n_trials=3)
    report.write_report(kept, facts, tables, curves)
    assert json.loads((kept / "report.json").read_text()) == json.loads(json.dumps(facts))
    page = (kept / "report.html").read_text()
    for part in (
        "Table 3",
        "Table 4",
        "Figure 3",
        "98.73±2.11",
        "data:image/png;base64,",
        "1.06 s",
    ):
        assert part in page
    assert "http" not in page.replace("</html>", "").replace("<!doctype html>", "")
    report.check_report(kept)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["table9"], ["table9", "table3"]),
        (["table3", "--trials", "0"], ["trials is 0", "from 1"]),
        (["table3"], ["12cm_hmlo_normal_silentA_1"]),
        (["table1", "--net", "256"], ["--net is '256'", "256-96-96-3"]),
        (["table1", "--net", "256-0-3"], ["--net is '256-0-3'"]),
        (["table3", "--task", "har"], ["HAR"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_words(
    words: list[str], parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["paper", *words, "--data", str(tmp_path), "--out", str(tmp_path / "out")])
    said = capsys.readouterr()
    assert code == 2
    assert said.err.count("\n") == 1
    for part in parts:
        assert part in said.err


def test_the_command_runs_resumes_and_agrees(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["paper", "table3", "--data", str(data_folder), "--task", "damage1", "--trials", "2"]
    out = tmp_path / "report"
    assert run([*words, "--out", str(out), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    files = sorted((out / "trials").iterdir())
    assert [file.name for file in files] == [
        "damage1-before-after-0.json",
        "damage1-before-after-1.json",
    ]
    times = [file.stat().st_mtime_ns for file in files]
    assert run([*words, "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert [file.stat().st_mtime_ns for file in files] == times
    cells = first["tables"][0]["rows"]["damage1"]
    assert 35 < cells["before"]["mean"] < 75
    assert cells["after"]["mean"] > 98
    assert np.isclose(cells["after"]["difference"], cells["after"]["mean"] - 98.99)


def test_table1_needs_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["paper", "table1", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["types"]["FC_ywbx"]["forward"] == 2 * 20 * 256 * 96
    assert list(facts["methods"]) == list(METHODS)
    assert run(["paper", "table1", "--net", "561-96-96-6"]) == 0
    assert "561-96-96-6" in capsys.readouterr().out
    assert run(["paper", "table3"]) == 2
    assert "needs --data" in capsys.readouterr().err


def test_table5_without_pytorch_names_the_extra(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"skip2lora\[paper\]"):
        trials.tinytl("damage1", Path(), 0)


def test_table5_beside_the_paper(tmp_path: Path) -> None:
    counts = {f"{norm} parameters": {"all": 2_000_000, "trained": 30_000} for norm in ("gn", "bn")}
    keep(tmp_path, "tinytl", "har", 0, {"gn": 0.88, "bn": 0.9, **counts})
    table = table5(tmp_path, ["har"], 1)
    assert table.notes[0] == "HAR, gn: 2,000,000 parameters, 30,000 trained"
    row = table.cells["har"]
    assert row["gn"].text() == "88.00\n88.76±0.91 (-0.76)"
    assert row["bn"].paper == (89.27, 1.13)
