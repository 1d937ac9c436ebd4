"""``paper`` as a user types it: tables, trials that are resumed, words that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from skip2lora.cli import run
from skip2lora.datasets import simulated
from skip2lora.files import WRITTEN
from skip2lora.methods import METHODS
from skip2lora.paper import protocol
from skip2lora.paper.cache import CHOICES


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


def test_the_size_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(protocol, "load_split", lambda *_: simulated.make_task(n_per_split=40))
    for task in protocol.TASKS:
        monkeypatch.setitem(protocol.TASKS, task, protocol.Experiment(task, 1, 1, 2))
    out = tmp_path / "out"
    words = ["paper", "cache", "--data", str(tmp_path), "--trials", "1", "--out", str(out)]
    assert run(words) == 0
    said = capsys.readouterr()
    assert said.err == ""
    for part in ("Damage2", "none: Skip-LoRA", "90 %, lru", "bfloat16", "bit for"):
        assert part in said.out
    assert (out / "cache.png").read_bytes().startswith(b"\x89PNG")
    assert run([*words, "--task", "har", "--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    assert table == json.loads((out / "cache.json").read_text())
    assert [len(table["rows"]), len(table["rows"]["har"])] == [1, len(CHOICES)]
    assert run(["paper", "cache"]) == 2
    assert "cache needs --data" in capsys.readouterr().err
