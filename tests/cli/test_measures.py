"""Measures as ``evaluate`` prints them."""

from __future__ import annotations

import numpy as np

from skip2lora.cli import measures
from skip2lora.tasks.task import TASKS, measured


def printed(task: str, predictions: object, answers: object, *names: str) -> list[str]:
    of = TASKS[task]
    found = measured(of, np.array(predictions), np.array(answers), names)
    return measures.lines(of, found, len(np.array(answers)))


def test_classes() -> None:
    assert printed("classification", [0, 1, 1, 0], [0, 1, 0, 0], "no", "yes, twice") == [
        "accuracy 75.0 % of 4 samples",
        "              samples  accuracy",
        "  no                3    66.7 %",
        "  yes, twice        1   100.0 %",
    ]


def test_several_labels() -> None:
    lines = printed("multi-label", [[1, 0], [1, 1]], [[1, 0], [0, 1]], "wet", "hot")
    assert lines[0] == "exact match 50.0 %, F1 micro 0.800, F1 macro 0.833 of 2 samples"
    assert [line.split()[0] for line in lines[2:]] == ["wet", "hot"]


def test_one_number_has_a_unit() -> None:
    lines = printed("regression", [[1.0], [3.0]], [[1.0], [2.0]], "mass")
    assert lines == [
        "R2 -1.000, MAE 0.5, RMSE 0.7071 of 2 samples",
        "MAE and RMSE are in the unit of the target",
    ]


def test_several_numbers_have_units_of_their_own() -> None:
    """Their errors are not averaged."""
    answers = [[1.0, 10.0], [2.0, 30.0]]
    lines = printed("regression", answers, answers, "mass", "price")
    assert lines[0] == "mean R2 1.000 of 2 samples"
    assert [line.split()[0] for line in lines[2:4]] == ["mass", "price"]
    assert lines[-1] == "MAE and RMSE are each in the unit of its target"
