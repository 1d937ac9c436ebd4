"""``paper fig4`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skip2lora.cli import run
from skip2lora.paper import figure4
from skip2lora.paper.figure4 import ADAPT


def test_the_command(
    small_har: list[Path], sys_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(figure4, "AFTER_S", 0.02)
    words = ["paper", "fig4", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert run([*words, "--idle", "0.02"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "nothing measures it here" in said.out
    assert "not measured" in said.out
    assert (tmp_path / "out" / "fig4.png").read_bytes().startswith(b"\x89PNG")
    assert run([*words, "--idle", "0.02", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["figure4"]
    assert facts["power"][ADAPT]["source"] is None


@pytest.mark.parametrize("idle", ["-1", "601", "nan"])
def test_bad_rests(idle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    code = run(["paper", "fig4", "--data", str(tmp_path), "--out", str(out), "--idle", idle])
    said = capsys.readouterr()
    assert (code, said.err.count("\n")) == (2, 1)
    assert "--idle" in said.err
    assert not out.exists()


def test_missing_data_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(["paper", "fig4", "--data", str(tmp_path), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "holds no HAR data" in said
    assert said.count("\n") == 1
    assert not out.exists()
    assert run(["paper", "fig4", "--out", str(out)]) == 2
    assert "fig4 needs --data" in capsys.readouterr().err
