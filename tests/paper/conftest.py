"""Trials and times that were made up, and the simulated task in place of the recordings."""

from __future__ import annotations

from pathlib import Path

import pytest

from paper.made_up import MACHINE, WIDTHS, made_up_run
from paper.trial_files import keep
from skip2lora.datasets import simulated
from skip2lora.methods import METHODS
from skip2lora.paper import protocol, trials
from skip2lora.paper.timing_tables import TimeTable
from skip2lora.paper.timings import MethodTimes


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


@pytest.fixture
def small_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulated task in place of the recordings, and few epochs."""
    task = protocol.Experiment("damage1", 3, 3, 4)
    monkeypatch.setattr(trials, "_split", lambda *_: simulated.make_task(n_per_split=60))
    monkeypatch.setitem(protocol.TASKS, "damage1", task)
    trials._pretrained.cache_clear()


@pytest.fixture
def table() -> TimeTable:
    """Three made-up repetitions: LoRA-All at 10, Skip2-LoRA at 1, the others at 5."""
    bases = dict.fromkeys(METHODS, 5.0) | {"lora-all": 10.0, "skip2-lora": 1.0}
    runs = {
        name: tuple(made_up_run(base * factor) for factor in (1.0, 0.5, 3.0))
        for name, base in bases.items()
    }
    return TimeTable(MethodTimes("fan", WIDTHS, 300, 470, 1.0, runs), MACHINE)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulated task in place of the recordings, and few epochs."""
    monkeypatch.setattr(protocol, "load_split", lambda *_: simulated.make_task(n_per_split=60))
    for name in protocol.TASKS:
        monkeypatch.setitem(protocol.TASKS, name, protocol.Experiment(name, 2, 2, 3))
