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


#: Lines of the paper's tables as its text has them.
TABLES = {
    "damage1": (
        "60.61±13.73 98.99±2.81",
        "98.73±2.11 94.19±2.24 79.42±7.50 98.63±2.14 98.26±1.32 94.67±2.92 96.07±2.14 96.19±2.29",
        "98.66±0.76 99.49±0.32",
    ),
    "damage2": (
        "51.86±8.04 90.88±5.65",
        "88.12±6.13 92.43±3.67 79.56±6.47 88.88±5.73 86.45±4.90 93.55±3.50 93.24±3.86 93.46±3.21",
        "92.09±3.17 96.01±2.74",
    ),
    "har": (
        "79.97±5.62 86.09±4.40",
        "90.99±1.86 89.31±1.06 82.21±1.27 90.40±2.49 91.09±1.26 89.79±1.46 92.10±1.05 91.99±1.00",
        "88.76±0.91 89.27±1.13",
    ),
}
PREDICT = "0.142 0.144 0.148 0.150 0.155 0.143 0.151 0.154"


@pytest.mark.parametrize("task", TABLES)
def test_printed_accuracies(task: str) -> None:
    """In the paper's order: Tables 3, 4 and 5."""
    tables = (printed.TABLE3, printed.TABLE4, printed.TABLE5)
    for table, line in zip(tables, TABLES[task], strict=True):
        of = table[task].values()
        assert " ".join(f"{each.mean:.2f}±{each.std:.2f}" for each in of) == line
    assert (tuple(printed.TABLE3[task]), tuple(printed.TABLE5[task])) == (
        ("before", "after"), ("gn", "bn"),
    )  # fmt: skip
    assert tuple(printed.TABLE4[task]) == (
        "ft-all", "ft-last", "ft-bias", "ft-all-lora", "lora-all", "lora-last", "skip-lora",
        "skip2-lora",
    )  # fmt: skip


def test_printed_times_of_a_sample() -> None:
    times = (printed.time_ms("fan", method, "predict@sample") for method in printed.TABLE4["har"])
    assert " ".join(f"{ms:.3f}" for ms in times) == PREDICT
    assert printed.time_ms("har", "skip2-lora", "train@batch") == 0.595
    assert printed.time_ms("har", "skip2-lora", "forward") is None
    assert printed.time_ms("har", "lora-all", "train@batch") is None


def test_figure_3_and_what_is_saved() -> None:
    """As Section 5.3 says."""
    assert printed.REQUIRED_EPOCHS == {"damage1": 100, "damage2": 60, "har": 200}
    assert printed.REQUIRED_SECONDS == {"damage1": 1.06, "damage2": 0.64, "har": 2.79}
    assert printed.REDUCTIONS == {
        "backward": (82.5, 88.3), "forward": (89.0, 93.5), "total": (89.0, 92.0),
    }  # fmt: skip


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
