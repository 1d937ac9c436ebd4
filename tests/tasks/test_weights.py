"""Weights of samples and classes, by scikit-learn's definitions."""

from typing import Any

import numpy as np
import pytest

from skip2lora.errors import DataError, ParameterError
from skip2lora.tasks.task import TASKS, Encoded, Outputs
from skip2lora.tasks.weights import check_weights, combined, leave_out, places_of, weigh

NAMES = ("normal", "damaged", "blocked")
Y = np.array([0, 0, 0, 0, 1, 1, 2, 0], np.int32)
OWN = np.array([1, 2, 0.5, 1, 3, 1, 0.25, 1])
ENCODED = Encoded(Y, Outputs(range(3), NAMES))


def class_weights(class_weight: Any, own: Any = None) -> Any:
    return weigh(TASKS["classification"], ENCODED, own, class_weight)


@pytest.mark.parametrize("own", [None, OWN], ids=["", "weighted"])
def test_balanced_is_scikit_learns(own: Any) -> None:
    utils = pytest.importorskip("sklearn.utils.class_weight")
    of_class = utils.compute_class_weight("balanced", classes=np.arange(3), y=Y, sample_weight=own)
    want = of_class[Y] * (1 if own is None else own)
    np.testing.assert_allclose(class_weights("balanced", own), want / want.mean(), rtol=1e-6)


def test_balanced_leaves_out_classes_that_do_not_occur() -> None:
    weights = combined(np.array([0, 0, 3]), None, "balanced", {})
    np.testing.assert_allclose(weights, [0.75, 0.75, 1.5])


@pytest.mark.parametrize(
    "given",
    [{"damaged": 4}, {1: 4}, {"1": 4.0}, {np.int64(1): np.float32(4)}, {"damaged": 4, 0: 1}],
    ids=str,
)
def test_a_class_goes_by_its_name_or_number(given: Any) -> None:
    want = np.where(Y == 1, 4, 1)
    np.testing.assert_allclose(class_weights(given), want / want.mean())
    np.testing.assert_allclose(class_weights(given, OWN), want * OWN / (want * OWN).mean())


def test_new_classes_have_names_and_numbers_too() -> None:
    numbered = Encoded(Y, Outputs(range(2)), (7,))
    assert places_of(numbered) == {0: 0, 1: 1, 7: 2, "0": 0, "1": 1, "7": 2}
    named = Encoded(Y, Outputs(range(2), NAMES[:2]), ("blocked",))
    for new, of in ((7, numbered), ("7", numbered), ("blocked", named)):
        weights = weigh(TASKS["classification"], of, None, {new: 8})
        np.testing.assert_allclose(weights, np.where(Y == 2, 8, 1) / (15 / 8))


def test_a_name_goes_before_a_number() -> None:
    swapped = Encoded(Y, Outputs(range(3), ("1", "0", "x")))
    assert places_of(swapped) == {0: 0, 1: 1, 2: 2, "1": 0, "0": 1, "x": 2}


def test_equal_weights_are_none() -> None:
    assert class_weights(None) is None
    assert class_weights({}) is None
    assert class_weights(dict.fromkeys(NAMES, 3)) is None
    assert class_weights(None, np.full(8, 0.1)) is None
    assert combined(np.array([0, 1, 1, 0]), None, "balanced", {}) is None


def test_extreme_weights_keep_their_ratio() -> None:
    weights = class_weights({"normal": 1e-30, "damaged": 3e38}, np.full(8, 1e300))
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights[4:6], 4)
    assert weights.mean() == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("balance", "class_weight is 'balance', expected 'balanced' or each class with its number"),
        ([1, 2, 3], "class_weight is a list, expected 'balanced' or a mapping"),
        ({"broken": 1}, "names the class 'broken', expected one of normal, damaged, blocked"),
        ({3: 1}, "names the class 3, expected one of normal, damaged, blocked"),
        ({"damaged": 1, 1: 2}, "names the class 1 twice, by name and number"),
        ({"damaged": -1}, "class_weight of 'damaged' is -1, expected a number from 0"),
        ({"damaged": np.nan}, "class_weight of 'damaged' is nan"),
        ({"damaged": np.inf}, "class_weight of 'damaged' is inf"),
        ({"damaged": "2"}, "class_weight of 'damaged' is '2'"),
        (dict.fromkeys(NAMES, 0), "class_weight is zero for every class that has samples"),
    ],
    ids=str,
)
def test_bad_class_weights_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ParameterError) as raised:
        class_weights(given)
    assert message in str(raised.value)


@pytest.mark.parametrize("task", ["regression", "multi-label"])
def test_class_weights_need_one_class_a_sample(task: str) -> None:
    encoded = Encoded(np.ones((2, 3), np.float32), Outputs(range(3)))
    with pytest.raises(ParameterError, match=f"class_weight is set with task {task}, where a "):
        weigh(TASKS[task], encoded, None, "balanced")
    np.testing.assert_allclose(weigh(TASKS[task], encoded, np.array([1.0, 3]), None), [0.5, 1.5])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1, 2], "sample_weight has shape (2,), expected (3,), one a sample"),
        ([[1], [2], [3]], "sample_weight has shape (3, 1), expected (3,)"),
        (2.0, "sample_weight has shape ()"),
        ([1, -2, 3], "sample_weight is -2 in row 1 (from 0), expected a number from 0"),
        ([1, 2, np.nan], "sample_weight is nan in row 2"),
        ([np.inf, 2, 1], "sample_weight is inf in row 0"),
        ([0, 0, 0], "sample_weight is zero for all 3 samples, expected one above zero"),
        (["a", "b", "c"], "sample_weight has dtype <U1, expected real numbers"),
        ([1, None, 2], "sample_weight"),
    ],
    ids=str,
)
def test_bad_sample_weights_are_refused(given: Any, message: str) -> None:
    with pytest.raises(DataError) as raised:
        check_weights(given, 3)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_samples_of_weight_0_are_left_out() -> None:
    x, weights = np.arange(6).reshape(3, 2), np.array([1.0, 0, 2])
    some, answers, left = leave_out(x, ["a", "b", "c"], weights)
    np.testing.assert_array_equal(some, [[0, 1], [4, 5]])
    assert answers.tolist() == ["a", "c"]
    assert left.tolist() == [1, 2]
    encoded = Encoded(np.array([2, 1, 0], np.int32), Outputs(range(3)))
    assert leave_out(x, encoded, weights)[1].y.tolist() == [2, 0]
    assert leave_out(x, None, weights)[0] is x
    assert leave_out(x, [1, 2], weights)[1].tolist() == [1, 2]  # of another length: told later
