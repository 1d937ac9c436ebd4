"""``paper`` as a user types it: tables, trials that are resumed, words that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from skip2lora.cli import run
from skip2lora.files import WRITTEN
from skip2lora.methods import METHODS


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
    assert WRITTEN[-1] in files  # as who is stopped then says
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
        fix = "expected one of those: leave --task out"
        assert said == f"skip2lora: {what} is of {expected}, got --task {task}, {fix}\n"
    assert not (tmp_path / "out").exists()
