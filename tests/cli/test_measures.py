"""How measures are printed."""

from __future__ import annotations

import numpy as np

from skip2lora.cli.measures import (
    chosen_facts,
    chosen_lines,
    measures_line,
    measures_table,
    thresholds_table,
)
from skip2lora.tasks.evaluation import evaluate
from skip2lora.tasks.task import TASKS, measure
from skip2lora.tasks.thresholds import NEVER, Thresholds


def printed(task: str, logits: object, answers: object, *names: str) -> list[str]:
    of, y = TASKS[task], np.array(answers)
    return measures_table(of, evaluate(of, np.array(logits, np.float32), y, names), len(y))


def sure_of(predictions: list[int], n_classes: int) -> np.ndarray:
    return 50 * np.eye(n_classes, dtype=np.float32)[predictions]


def test_classes() -> None:
    lines = printed("classification", sure_of([0, 1, 1, 0], 2), [0, 1, 0, 0], "no", "yes, twice")
    assert lines == [
        "accuracy 75.0 %, balanced accuracy 83.3 %, F1 macro 0.733, AUROC 0.833, "
        "average precision 0.708, calibration error 0.250 of 4 samples",
        "              samples  precision  recall     F1  AUROC  average precision",
        "  no                3      1.000   0.667  0.800  0.833              0.917",
        "  yes, twice        1      0.500   1.000  0.667  0.833              0.500",
        "samples of a class (rows) taken for (columns)",
        "              no  yes, twice",
        "  no           2           1",
        "  yes, twice   0           1",
    ]


def test_one_class_alone_has_no_auroc() -> None:
    lines = printed("classification", sure_of([1, 1], 2), [1, 1], "no", "yes")
    assert "AUROC -, " in lines[0]
    assert lines[2:] == ["  yes        2      1.000   1.000  1.000      -              1.000"]


def test_of_many_classes_the_commonest_errors() -> None:
    names = [f"c{at}" for at in range(13)]
    y = [*range(13), 5, 5, 7]
    predicted = [*range(13), 6, 6, 0]
    lines = printed("classification", sure_of(predicted, 13), y, *names)
    assert lines[-1] == "most often taken: c5 for c6 2, c7 for c0 1"


def test_training_tells_the_accuracy_alone() -> None:
    of = TASKS["classification"]
    scores = measure(of, sure_of([0, 1], 2), np.array([0, 1]), ("no", "yes"))
    assert measures_line(of, scores) == "accuracy 100.0 %"


def test_several_labels() -> None:
    lines = printed("multi-label", [[1, -1], [1, 1]], [[1, 0], [0, 1]], "wet", "hot")
    assert lines[0].startswith("exact match 50.0 %, F1 micro 0.800, F1 macro 0.833, AUROC 0.750")
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


def test_thresholds_that_were_chosen() -> None:
    chosen = Thresholds(0.9, (0.25, None, NEVER), (12, 3, 40))
    facts = chosen_facts(chosen, ("no", "yes", "hardly"))
    assert facts == {
        "precision": 0.9, "of": {"no": 0.25, "hardly": None}, "too_few": {"yes": 3},
    }  # fmt: skip
    assert chosen_lines(facts) == [
        "thresholds where 90.0 % of held-out predictions are right: no 0.250, hardly never",
        "no threshold, as fewer than 10 samples are held out: yes 3",
    ]


def test_what_thresholds_make_of_it() -> None:
    row = {"class": "no", "n_samples": 0, "n_predicted": 1, "precision": 0.0, "recall": None}
    assert thresholds_table({"none_of_these": 0.25, "accuracy": None}, [row]) == [
        "by the thresholds of the adapter: none of these 25.0 %, of the others - right",
        "      predicted  precision  recall",
        "  no          1      0.000       -",
    ]
