"""What is compared between compilers. Whether either is fast, no test says."""

from __future__ import annotations

from pathlib import Path

import pytest

import compilers


def program(path: Path, learned: str) -> Path:
    """It says what it learned, and writes down with what it was started."""
    path.write_text(f'#!/bin/sh\necho "$0 $*" >>{path.parent}/log\necho {learned}\n')
    path.chmod(0o755)
    return path


def test_compilers_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a look at what each learned; a batch takes its share of the steps."""
    programs = {name: program(tmp_path / name, "loss 0.5") for name in ("gcc", "clang")}
    clock = iter((1.0, 3.0, 3.0, 3.5, 5.0, 6.0, 6.0, 10.0))

    class Usage:
        def __init__(self, of: int) -> None:
            assert of == compilers.RUSAGE_CHILDREN
            self.ru_utime = next(clock)

    monkeypatch.setattr(compilers, "getrusage", Usage)
    took = compilers.in_turn(programs, "scalar", "fan", 10, 2)
    assert took == {"gcc": [0.2, 0.1], "clang": [0.05, 0.4]}
    log = (tmp_path / "log").read_text().splitlines()
    runs = [f"{tmp_path}/{name} scalar fan skip2-lora" for name in ("gcc", "clang")]
    assert log == [f"{run} 100" for run in runs] + 2 * [f"{run} 10" for run in runs]


def test_what_learns_differently_is_not_timed(tmp_path: Path) -> None:
    programs = {name: program(tmp_path / name, f"loss of {name}") for name in ("gcc", "clang")}
    with pytest.raises(SystemExit, match="learn differently"):
        compilers.in_turn(programs, "scalar", "fan", 10, 1)
