"""Least probabilities: what is decided with them, and how they are chosen."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.errors import ParameterError
from skip2lora.tasks.task import TASKS, softmax
from skip2lora.tasks.thresholds import (
    FEWEST,
    NEVER,
    Thresholds,
    check_precision,
    checked_thresholds,
    choose_thresholds,
    decide,
)

CLASSES, SETS, NUMBERS = (TASKS[name] for name in ("classification", "multi-label", "regression"))
TITLES = ["stop", "go", 2]
SHARES = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.4, 0.1, 0.5]])


@pytest.mark.parametrize(
    ("threshold", "least"),
    [
        (0.7, [0.7, 0.7, 0.7]),
        (np.float32(0.5), [0.5, 0.5, 0.5]),
        ("0.25", [0.25, 0.25, 0.25]),
        ([0.1, 0.2, 1], [0.1, 0.2, 1.0]),
        ({"go": 0.9}, [0.0, 0.9, 0.0]),
        ({2: 0.5, "stop": NEVER}, [NEVER, 0.0, 0.5]),
        ({}, [0.0, 0.0, 0.0]),
    ],
)
def test_least_probabilities(threshold: Any, least: list[float]) -> None:
    assert checked_thresholds(CLASSES, threshold, TITLES).tolist() == least


def test_of_several_labels_one_half_is_usual() -> None:
    assert checked_thresholds(SETS, {"go": 0.9}, TITLES).tolist() == [0.5, 0.9, 0.5]
    assert decide(SETS, SHARES, np.array([0.6, 0.5, 0.2])).tolist() == [
        [1, 0, 0], [0, 1, 0], [0, 0, 1],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("task", "threshold", "said"),
    [
        (CLASSES, 1.5, "threshold= is 1.5, expected a number from 0 to 1"),
        (CLASSES, -0.1, "expected a number from 0 to 1"),
        (CLASSES, "many", "threshold= is 'many'"),
        (CLASSES, float("nan"), "expected a number from 0 to 1"),
        (CLASSES, [0.5, 0.5], "has 2 numbers, expected 3"),
        (CLASSES, {"left": 0.5}, 'names "left", expected some of stop, go, 2'),
        (NUMBERS, 0.5, "the outputs are numbers"),
    ],
)
def test_what_is_no_threshold(task: Any, threshold: Any, said: str) -> None:
    with pytest.raises(ParameterError) as caught:
        checked_thresholds(task, threshold, TITLES)
    assert said in str(caught.value)


def test_below_it_a_sample_is_none() -> None:
    assert decide(CLASSES, SHARES, np.array([0.6, 0.71, 0.0])).tolist() == [0, -1, 2]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("precision", [0.5, 0.8, 1.0])
def test_chosen_thresholds_are_the_least_that_are_right_so_often(
    seed: int, precision: float
) -> None:
    random = np.random.default_rng(seed)
    shares = softmax(random.normal(0, 2, (80, 3)).round(1 + seed % 2))
    answers = np.where(random.random(80) < 0.7, shares.argmax(axis=1), random.integers(0, 3, 80))
    least = choose_thresholds(CLASSES, shares, answers, precision)
    best = shares.argmax(axis=1)
    for place in range(3):
        own = best == place
        right_from = {
            of: (answers[own & (shares[:, place] >= of)] == place).mean()
            for of in shares[own, place]
        }
        good = [of for of, right in right_from.items() if right >= precision]
        assert least[place] == min(good, default=NEVER)


def test_chosen_for_several_labels() -> None:
    answers = np.array([[1, 0, 0], [0, 1, 1], [1, 0, 0]])
    least = choose_thresholds(SETS, SHARES, answers, 1.0)
    assert least[:2].tolist() == [0.4, 0.7]
    assert least[2] == NEVER


def test_precision_is_a_share() -> None:
    for precision in (0, 1.1):
        with pytest.raises(ParameterError, match="precision="):
            choose_thresholds(CLASSES, SHARES, np.zeros(3, int), precision)
    with pytest.raises(ParameterError, match="the outputs are numbers"):
        choose_thresholds(NUMBERS, SHARES, SHARES, 0.9)


@pytest.mark.parametrize("names", [None, ["no", "yes"]])
def test_models_and_adapters_take_thresholds(names: list[str] | None) -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(60, 4)).astype(np.float32)
    y = (x[:, 0] + random.normal(0, 0.5, 60) > 0).astype(int)
    model = s2.pretrain(s2.MLP.create([4, 8, 2], class_names=names), x, y, epochs=20)
    none = -1 if names is None else "none of these"
    for predictor in (model, s2.adapt(model, x, y, epochs=5)):
        usual, shares = predictor.predict(x), predictor.predict_proba(x).max(axis=1)
        middle = float(np.median(shares))
        sure = shares >= middle
        assert 0 < sure.sum() < 60
        decided = predictor.predict(x, threshold=middle)
        assert decided[sure].tolist() == usual[sure].tolist()
        assert decided[~sure].tolist() == [none] * int((~sure).sum())
        assert (predictor.predict_index(x, threshold=middle) == -1).tolist() == (~sure).tolist()
        chosen = predictor.choose_threshold(x, y, precision=0.9)
        assert list(chosen) == predictor.classes_.tolist()
        kept = predictor.predict_index(x, threshold=chosen)
        assert (kept[kept >= 0] == y[kept >= 0]).mean() >= 0.9


def test_chosen_on_enough_samples_alone() -> None:
    random = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [FEWEST, FEWEST - 1, 40]).astype(np.int32)
    logits = (2 * np.eye(3)[y] + random.normal(size=(len(y), 3))).astype(np.float32)
    chosen = Thresholds.of(CLASSES, logits, y, 0.8)
    whole = choose_thresholds(CLASSES, softmax(logits.astype(np.float64)), y, 0.8)
    assert chosen.counts == (FEWEST, FEWEST - 1, 40)
    assert chosen.values == (whole[0], None, whole[2])
    assert chosen.least(CLASSES).tolist() == [whole[0], 0, whole[2]]
    columns = (y[:, None] == np.arange(3)).astype(np.float32)
    sets = Thresholds.of(SETS, logits, columns, 0.8)
    assert (sets.counts, sets.values[1]) == (chosen.counts, None)
    assert sets.least(SETS)[1] == 0.5


def test_kept_as_json() -> None:
    chosen = Thresholds(0.9, (0.25, None, NEVER), (12, 3, 40))
    said = json.loads(json.dumps(chosen.to_json(), allow_nan=False))
    assert Thresholds.from_json(said) == chosen
    for damaged in (
        {"values": [0.5]},
        {"values": [2, None, 0]},
        {"counts": None},
        {"precision": 7},
    ):
        with pytest.raises((TypeError, ValueError, ParameterError)):
            Thresholds.from_json(said | damaged)


@pytest.mark.parametrize("precision", [0, -1, 1.01, float("nan")])
def test_no_share(precision: float) -> None:
    with pytest.raises(ParameterError, match="expected more than 0, to 1"):
        check_precision(precision)
