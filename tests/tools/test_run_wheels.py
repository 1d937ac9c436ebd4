"""What ``make test-wheels`` makes of what boards say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import run_wheels

import skip2lora as s2

ROWS = "row,prediction,p_0,p_1\n0,1,0.25,0.75\n1,0,0.5,0.5\n"


def here(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """This machine predicts ``text``."""

    def predict(words: list[str], cwd: Path, **_: Any) -> None:
        (cwd / "here.csv").write_text(text)

    monkeypatch.setattr(subprocess, "run", predict)


def test_predictions_alike_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "predictions.csv").write_text(ROWS)
    here(monkeypatch, ROWS.replace("0.25", "0.250001"))
    assert run_wheels.compare(tmp_path) == 2


@pytest.mark.parametrize("other", [ROWS.replace("0.25", "0.2501"), ROWS.replace("0,1,", "0,0,")])
def test_a_prediction_that_differs_is_shown(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "predictions.csv").write_text(ROWS)
    here(monkeypatch, other)
    with pytest.raises(SystemExit, match=r"row 0 is .* there, but .* here"):
        run_wheels.compare(tmp_path)


class Answering:
    """A board whose adaptation helps by ``gain``."""

    def __init__(self, folder: Path, gain: float) -> None:
        self.folder, self.gain = folder, gain

    def run(self, *words: str) -> str:
        if "export" in words:
            (self.folder / "board").mkdir(parents=True)
            (self.folder / "board" / "Makefile").touch()
        return f'{{"accuracy": {0.5 + self.gain * ("--adapter" in words)}}}'


def test_the_job_runs_each_command_and_wants_a_gain(tmp_path: Path) -> None:
    seconds = run_wheels.job(Answering(tmp_path, 0.1))
    assert {"pretrain", "adapt", "evaluate", "predict", "export"} <= set(seconds)
    with pytest.raises(
        SystemExit, match=r"accuracy 0\.5 after adaptation, expected more than 0\.5"
    ):
        run_wheels.job(Answering(tmp_path / "other", 0.0))


def test_what_wine_lacks_this_machine_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_wheels, "PLACE", tmp_path)
    monkeypatch.setattr(run_wheels.windows_python, "tree", lambda place: place / "python")
    calls: list[tuple[list[str], dict[str, str], str]] = []

    def run(words: list[str], env: dict[str, str], input: str, **_: Any) -> Any:
        calls.append((words, env, input))
        return subprocess.CompletedProcess(words, 0, "done", "")

    monkeypatch.setattr(subprocess, "run", run)
    board = run_wheels.Wine("windows")
    assert board.run("skip2lora", "dataset", "simulated") == "done"
    assert calls[0][0] == [sys.executable, "-m", "skip2lora", "dataset", "simulated"]
    board.run("skip2lora", "pretrain", "data")
    words, env, given = calls[1]
    assert words[1:] == [f"{tmp_path}/windows/python/python.exe", "-m", "skip2lora", *words[-2:]]
    assert env["PYTHONPATH"] == "Z:" + f"{tmp_path}/boards/windows/site".replace("/", "\\")
    assert given == ""  # no terminal and no /dev/null, with which that Python ends


class Here(run_wheels.Board):
    """This machine as a board, whose ``predict`` says what ``change`` makes of it."""

    def __init__(self, folder: Path, change: Callable[[str], str] = str) -> None:
        self.folder, self.change = folder, change
        self._words, self._environment = [sys.executable], {}

    def run(self, *words: str) -> str:
        output = super().run(*words)
        path = self.folder / "served.csv"
        path.write_text(self.change(path.read_text()))
        return output


def test_a_service_answers_as_predict_and_keeps_what_it_was_sent(
    tmp_path: Path, make_model: Callable[..., s2.MLP]
) -> None:
    pytest.importorskip("starlette", reason="needs the group serve")
    make_model((9, 8, 3)).save(tmp_path / "model.safetensors")
    (tmp_path / "data").mkdir()
    x = np.random.default_rng(0).normal(size=(30, 9)).astype(np.float32)
    np.savez(tmp_path / "data" / "test.npz", X=x, y=np.arange(30) % 3)
    assert run_wheels.serve(Here(tmp_path)) == 20
    (tmp_path / "served.csv").unlink()
    with pytest.raises(SystemExit, match="but predict"):
        run_wheels.serve(Here(tmp_path, lambda text: text.replace("\n0,", "\n0,not-")))
    (tmp_path / "store" / "store.db").write_text("none")
    (tmp_path / "served.csv").unlink()
    with pytest.raises(SystemExit, match=r"the service ended: .*store\.db"):
        run_wheels.serve(Here(tmp_path))


def test_emulators_that_lack_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["run_wheels.py", "armv7"])
    monkeypatch.setattr(run_wheels.debian_python.shutil, "which", lambda *_, **__: None)
    assert run_wheels.main() == 2
    assert "missing on this system: apt" in capsys.readouterr().err
