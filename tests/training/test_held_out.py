"""What held-out answers say, against numbers worked out otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from skip2lora.tasks.evaluation import wilson_interval
from skip2lora.tasks.task import TASKS
from skip2lora.training.held_out import HeldOut


def test_accuracy_counts_samples_and_the_loss_weighs_them() -> None:
    logits = np.log(np.float32([[0.8, 0.2], [0.4, 0.6], [0.5, 0.5]]))
    weight = np.float32([1, 3, 0])
    of = HeldOut.of(TASKS["classification"], logits, np.int32([0, 0, 1]), 4, weight)
    assert (of.measure, of.n_samples, of.n_folds) == ("accuracy", 3, 4)
    assert of.value == pytest.approx(1 / 3)
    assert (of.low, of.high) == wilson_interval(1, 3)
    assert of.loss == pytest.approx(-(np.log(0.8) + 3 * np.log(0.4)) / 4)
    low, high = 100 * wilson_interval(1, 3)[0], 100 * wilson_interval(1, 3)[1]
    assert str(of) == f"accuracy 33.3 % ({low:.1f} to {high:.1f} %), 4 folds"
    half = HeldOut("accuracy", 0.5, 0.366, 0.634, 1.0, 50, 4)
    assert str(half) == "accuracy 50.0 % (36.6 to 63.4 %), 4 folds"


def test_several_labels_are_right_together() -> None:
    logits = np.float32([[2, -1], [2, 1], [-1, -1]])
    of = HeldOut.of(TASKS["multi-label"], logits, np.float32([[1, 0], [1, 0], [0, 0]]), 1)
    assert (of.measure, of.value) == ("exact_match", pytest.approx(2 / 3))
    assert str(of).endswith(" %), 3 samples held out")


def test_numbers_have_r2_and_no_interval() -> None:
    numbers = np.float32([[1], [2], [3], [6]])
    of = HeldOut.of(TASKS["regression"], numbers + 1, numbers, 4)
    assert (of.measure, of.low, of.high) == ("r2", None, None)
    assert of.value == pytest.approx(1 - 4 / 14)
    assert str(of) == "r2 0.7143, 4 folds"
    assert of.loss == pytest.approx(0.5)
