"""Measures are those of scikit-learn, also where there is nothing to divide by."""

from __future__ import annotations

import numpy as np
import pytest

from skip2lora.tasks.measures import measured, r2
from skip2lora.tasks.task import TASKS

metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn: pip group sklearn")


def test_r2_of_equal_answers() -> None:
    answers = np.array([[1, 1, 0.0], [1, 1, 4]])
    made = np.array([[1, 2, 1.0], [1, 1, 3]])
    expected = metrics.r2_score(answers, made, multioutput="raw_values")
    np.testing.assert_allclose(r2(made, answers), expected)
    assert expected.tolist() == [1.0, 0.0, 0.75]


def test_labels_never_given_or_never_right() -> None:
    answers = np.array([[0, 1, 0, 1], [0, 1, 1, 0], [0, 0, 1, 0]])
    made = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1]])
    found = measured(TASKS["multi-label"], made, answers, ("a", "b", "c", "d"))
    expected = metrics.precision_recall_fscore_support(answers, made, zero_division=0)
    got = [[of[key] for of in found.parts] for key in ("precision", "recall", "f1", "n_samples")]
    np.testing.assert_allclose(got, np.array(expected))
    macro = metrics.f1_score(answers, made, average="macro", zero_division=0)
    assert found.overall["f1_macro"] == pytest.approx(macro)
    nothing = np.zeros((2, 2), int)
    assert measured(TASKS["multi-label"], nothing, nothing, "ab").overall == {
        "exact_match": 1.0, "f1_micro": 0.0, "f1_macro": 0.0, "hamming_loss": 0.0,
    }  # fmt: skip


def test_classes_that_are_there() -> None:
    found = measured(
        TASKS["classification"], np.array([0, 2, 2]), np.array([0, 2, 0]), ("a", "b", "c")
    )
    assert found.overall == {"accuracy": pytest.approx(2 / 3)}
    assert found.parts == (
        {"name": "a", "n_samples": 2, "accuracy": 0.5},
        {"name": "c", "n_samples": 1, "accuracy": 1.0},
    )
