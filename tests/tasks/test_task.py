"""Losses and probabilities of each task."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest

import oracle
from skip2lora.errors import ModelError, ParameterError
from skip2lora.tasks.task import (
    CLASSIFICATION,
    NO_OUTPUTS,
    TASKS,
    Encoded,
    Goal,
    Outputs,
    mean_loss,
    measured,
    predictions_of,
    probabilities_of,
    r2,
    sample_losses,
    softmax,
    task_for,
)

OUTPUTS = np.array([[2.0, -1.0, 0.5], [-300.0, 0.0, 300.0]], np.float32)


def test_tasks_by_name() -> None:
    assert TASKS["classification"] is CLASSIFICATION
    assert [task.numeric_targets for task in TASKS.values()] == [False, True, True]
    with pytest.raises(ParameterError, match="task is 'ranking', expected one of classification"):
        TASKS["ranking"]


def test_a_copy_of_a_task_is_the_task() -> None:
    for task in TASKS.values():
        assert copy.deepcopy(task) is task
        assert pickle.loads(pickle.dumps(Goal(task))).task is task  # noqa: S301 - ours


def test_softmax_does_not_overflow() -> None:
    rows = softmax(OUTPUTS)
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-6)
    assert rows[1].tolist() == [0, 0, 1]
    np.testing.assert_allclose(rows[0] / rows[0, 0], np.exp(OUTPUTS[0] - 2), rtol=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_of_no_number_there_is_no_prediction(task: str, refused: Callable[..., str]) -> None:
    """The first class would be the largest; infinity, of a probability of 0, is a number."""
    outputs = np.array([[1, -np.inf, 0], [2, -np.inf, 0]], np.float32)
    assert len(predictions_of(TASKS[task], outputs)) == 2
    outputs[1, 2] = np.nan
    calls: list[Callable[..., object]] = [predictions_of, probabilities_of]
    for call in calls:
        assert "NaN first for row 1 " in refused(ModelError, call, TASKS[task], outputs)


def test_losses_are_those_of_the_definitions() -> None:
    labels = np.array([0, 1], np.int32)
    want, _ = oracle.softmax_cross_entropy(OUTPUTS, labels)
    assert mean_loss(CLASSIFICATION, OUTPUTS, labels) == pytest.approx(want)
    targets = np.array([[1, 0, 1], [0, 1, 1]], np.float32)
    squared = 0.5 * ((OUTPUTS - targets).astype(float) ** 2).sum(axis=1).mean()
    assert mean_loss(TASKS["regression"], OUTPUTS, targets) == pytest.approx(squared)
    chances = 1 / (1 + np.exp(-OUTPUTS[:1].astype(float)))
    entropy = -np.where(targets[:1] == 1, np.log(chances), np.log(1 - chances)).sum()
    assert mean_loss(TASKS["multi-label"], OUTPUTS[:1], targets[:1]) == pytest.approx(entropy)
    assert np.isfinite(mean_loss(TASKS["multi-label"], OUTPUTS, targets))


def test_losses_have_weights() -> None:
    labels, weight = np.array([0, 1], np.int32), np.array([3, 1], np.float32)
    one, other = sample_losses(CLASSIFICATION, OUTPUTS, labels)
    weighted = mean_loss(CLASSIFICATION, OUTPUTS, labels, weight)
    assert weighted == pytest.approx((3 * one + other) / 4)
    assert OUTPUTS[1, 2] == 300  # left as they were


def test_predictions_and_probabilities() -> None:
    several, numbers = TASKS["multi-label"], TASKS["regression"]
    assert predictions_of(CLASSIFICATION, OUTPUTS).tolist() == [0, 2]
    assert predictions_of(several, OUTPUTS).tolist() == [[1, 0, 1], [0, 0, 1]]
    assert predictions_of(several, OUTPUTS).dtype == np.int64
    assert predictions_of(numbers, OUTPUTS) is OUTPUTS
    assert probabilities_of(numbers, OUTPUTS) is None
    np.testing.assert_array_equal(probabilities_of(CLASSIFICATION, OUTPUTS), softmax(OUTPUTS))
    expected = 1 / (1 + np.exp(-OUTPUTS.astype(np.float64)))
    np.testing.assert_allclose(probabilities_of(several, OUTPUTS), expected, atol=1e-6)


class Model:
    """What answers are for."""

    def __init__(self, task: str, n_classes: int, names: tuple[str, ...] | None = None) -> None:
        self.task, self.class_names = task, names
        self.class_numbers = np.arange(n_classes) + 5


def test_the_task_is_that_of_the_model_or_what_is_asked() -> None:
    assert task_for(Model("regression", 3), None) is TASKS["regression"]
    assert task_for(Model("multi-label", 3), None) is CLASSIFICATION
    for model in ("regression", "classification"):
        for asked in TASKS:
            assert task_for(Model(model, 3), asked) is TASKS[asked]


def test_names_are_of_classes_or_of_numbers() -> None:
    names = ("a", "b", "c")
    for task, model, same in (
        ("classification", "classification", True), ("classification", "regression", False),
        ("regression", "classification", False), ("regression", "regression", True),
        ("multi-label", "classification", True), ("multi-label", "regression", False),
    ):  # fmt: skip
        outputs = Outputs.of(Model(model, 3, names), TASKS[task])
        assert outputs == Outputs([5, 6, 7], names if same else None)
    assert Outputs.of(Model("classification", 1), CLASSIFICATION) == Outputs(range(2))
    assert Outputs.of(Model("regression", 1), TASKS["regression"]) == Outputs([5])


@pytest.mark.parametrize(
    ("outputs", "numbers", "new", "named"),
    [
        (Outputs(), ["1", "99"], False, False), (Outputs(), ["1", "100"], False, True),
        (Outputs(), [str(at) for at in range(59)] + ["120"], False, True),
        (Outputs(), [str(at) for at in range(59)] + ["119"], False, False),
        (Outputs(), ["100", "x"], False, False), (Outputs(), [], False, False),
        (Outputs(range(3)), [str(2**31)], True, True),
        (Outputs(range(3)), [str(2**31 - 1)], True, False),
        (Outputs(range(3)), [str(2**31)], False, False), (Outputs(), ["9" * 5000], False, True),
    ],
)  # fmt: skip
def test_numbers_that_name_classes(
    outputs: Outputs, numbers: list[str], new: bool, named: bool
) -> None:
    assert outputs.called_by(numbers, new) is named


@pytest.mark.parametrize(
    ("own", "new", "expected"),
    [
        (Outputs(range(2)), (), Outputs(range(2))), (Outputs(range(2)), (9,), Outputs([0, 1, 9])),
        (Outputs(range(2), ("a", "b")), ("c",), Outputs(range(3), ("a", "b", "c"))),
        (Outputs(range(2)), ("c",), Outputs(range(3), ("0", "1", "c"))),
        (Outputs(range(2), ("a", "b")), (7,), Outputs(range(3), ("a", "b", "7"))),
        (Outputs(), (4, 6), Outputs([4, 6])),
    ],
)  # fmt: skip
def test_new_outputs_come_last(own: Outputs, new: tuple[int, ...], expected: Outputs) -> None:
    assert Encoded(np.zeros(1, np.int32), own, new_labels=new).all_outputs == expected


def test_a_bias_where_the_paper_has_none() -> None:
    assert not Goal(CLASSIFICATION).bias
    assert Goal(CLASSIFICATION, n_outputs=5).bias
    assert Goal(TASKS["regression"]).bias


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


def test_titles_of_outputs() -> None:
    assert Outputs(range(2), ("off", "on")).titles == ("off", "on")
    assert Outputs((3, 7)).titles == ("3", "7")
    assert (Outputs().count, NO_OUTPUTS.count, Outputs((3, 7)).count) == (None, 0, 2)
    encoded = Encoded(np.zeros(3, np.int32), Outputs(range(2)), new_labels=(9,))
    assert encoded.titles == ("0", "1", "9")


def test_outputs_that_are_but_numbered() -> None:
    assert Outputs(range(3)).is_plain
    assert NO_OUTPUTS.is_plain
    assert not Outputs((0, 2)).is_plain
    assert not Outputs(range(2), ("0", "1")).is_plain
