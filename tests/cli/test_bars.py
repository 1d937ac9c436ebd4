"""Progress bars: on a terminal alone, and one at a time."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from skip2lora.cli import bars
from skip2lora.training.loop import EpochReport


class Screen(io.StringIO):
    """What was shown on a terminal of 80 columns, whose clock stands at ``now``."""

    now = 0.0


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    shown = Screen()

    def console(**_: Any) -> Console:
        return Console(file=shown, force_terminal=True, width=80, get_time=lambda: shown.now)

    monkeypatch.setattr(bars, "_may_be_seen", lambda: True)
    monkeypatch.setattr("rich.console.Console", console)
    return shown


def report(epoch: int, epochs: int) -> EpochReport:
    return EpochReport(epoch, epochs, 0.25, 0.5, None, dict)


def test_no_bar_where_there_is_no_terminal() -> None:
    with bars.progress_bar("train") as follow:
        assert follow is None
    with bars.counting_bar("check images") as follow:
        assert follow is None
    with bars.adapting_bars() as both:
        assert both == (None, None)
    with bars.rounds_bar("trials", 3) as advance:
        advance()


def test_who_asks_for_bars_without_a_terminal_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with bars.progress_bar("train") as follow:
        assert follow is not None


def test_the_rest_of_a_fill_is_told_in_time(screen: Screen) -> None:
    """Of 200 samples 64 took a quarter of a second each."""
    with bars.adapting_bars() as (progress, _):
        assert progress is not None
        for done in range(0, 65, 16):
            screen.now = done / 4
            progress(done, 200)
    shown = screen.getvalue()
    for words in ("cache", "64/200", "0:00:34"):
        assert words in shown
    assert "epoch" not in shown


def test_epochs_take_the_place_of_the_fill(screen: Screen) -> None:
    with bars.adapting_bars() as (progress, callback):
        assert progress is not None
        assert callback is not None
        progress(200, 200)
        callback(report(3, 50))
    last = screen.getvalue()[screen.getvalue().rindex("adapt, epoch") :]
    for words in ("3/50", "loss 0.2500"):
        assert words in last
    assert "cache" not in last
