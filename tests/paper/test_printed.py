"""Numbers copied from the paper: those that its text repeats, and sums that must hold."""

from __future__ import annotations

import pytest

from skip2lora.methods import METHODS
from skip2lora.paper import printed, protocol
from skip2lora.paper.timing_tables import paper_reductions


def test_printed_numbers() -> None:
    """Those that the text of the paper repeats."""
    assert printed.TABLE4["damage1"]["skip2-lora"] == (96.19, 2.29)
    assert printed.TABLE4["damage2"]["lora-last"] == (93.55, 3.50)
    assert printed.TABLE4["har"]["ft-last"] == (89.31, 1.06)
    assert printed.TABLE4["har"]["skip-lora"] == (92.10, 1.05)
    assert {len(row) for row in printed.TABLE4.values()} == {8}
    assert set(printed.TABLE4) == set(protocol.TASKS) == set(printed.TASK_NAMES)


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


def test_figure_4_beside_its_text() -> None:
    """Section 5.4, and 5.3 for the time."""
    assert printed.FIGURE4 == {
        "epochs": 200, "start_s": 9.0, "compute_s": 2.79, "max_mw": 1455.0, "max_degc": 44.5,
        "idle_mhz": 600.0, "run_mhz": 1000.0,
    }  # fmt: skip
    assert printed.FIGURE4["compute_s"] == printed.REQUIRED_SECONDS["har"]
