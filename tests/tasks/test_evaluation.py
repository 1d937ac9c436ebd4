"""Measures of an evaluation are those of scikit-learn, or of a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from skip2lora.tasks.evaluation import (
    at_thresholds,
    auroc,
    average_precision,
    calibration_error,
    evaluate,
    wilson_interval,
)
from skip2lora.tasks.task import TASKS, softmax

metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
CLASSES = TASKS["classification"]
NAMES = ("ant", "bee", "cat", "dog", "eel")


def outputs(seed: int, n_samples: int, n_outputs: int, ties: bool) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, 2, (n_samples, n_outputs))
    return (logits.round(0) if ties else logits).astype(np.float32)


@pytest.mark.parametrize("n_outputs", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_classes(n_outputs: int, seed: int) -> None:
    logits = outputs(seed, 60, n_outputs, ties=seed % 2 == 0)
    y = np.random.default_rng(seed + 9).integers(0, n_outputs, 60)
    y[:n_outputs] = np.arange(n_outputs)
    predicted, probabilities = logits.argmax(axis=1), softmax(logits.astype(np.float64))
    scores = evaluate(CLASSES, logits, y, NAMES[:n_outputs])
    overall = scores.overall
    assert overall["accuracy"] == pytest.approx(metrics.accuracy_score(y, predicted))
    balanced = metrics.balanced_accuracy_score(y, predicted)
    assert overall["balanced_accuracy"] == pytest.approx(balanced)
    assert overall["f1_macro"] == pytest.approx(metrics.f1_score(y, predicted, average="macro"))
    own = probabilities[:, 1] if n_outputs == 2 else probabilities
    area = metrics.roc_auc_score(y, own, multi_class="ovr")
    assert overall["auroc"] == pytest.approx(area, abs=1e-6)
    matrix = metrics.confusion_matrix(y, predicted)
    assert [list(row) for row in scores.confusion] == matrix.tolist()
    assert scores.classes == NAMES[:n_outputs]
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        y, predicted, zero_division=0
    )
    for at, of in enumerate(scores.parts):
        assert (of["precision"], of["recall"], of["f1"]) == pytest.approx(
            (precision[at], recall[at], f1[at])
        )
        assert of["auroc"] == pytest.approx(
            metrics.roc_auc_score(y == at, probabilities[:, at]), abs=1e-6
        )
        assert of["average_precision"] == pytest.approx(
            metrics.average_precision_score(y == at, probabilities[:, at]), abs=1e-6
        )
    mean = np.mean([of["average_precision"] for of in scores.parts])
    assert overall["average_precision"] == pytest.approx(mean)


def test_classes_that_samples_or_predictions_lack() -> None:
    y, predicted = np.array([3, 3, 0, 0]), np.array([3, 1, 0, 3])
    logits = np.eye(5, dtype=np.float32)[predicted] * 4
    scores = evaluate(CLASSES, logits, y, NAMES)
    assert scores.classes == ("ant", "bee", "dog")
    assert scores.confusion == ((1, 0, 1), (0, 0, 0), (0, 1, 1))
    assert [of["name"] for of in scores.parts] == ["ant", "dog"]
    labels = [0, 1, 3]
    f1 = metrics.f1_score(y, predicted, average="macro", labels=labels, zero_division=0)
    assert scores.overall["f1_macro"] == pytest.approx(f1)
    assert scores.overall["balanced_accuracy"] == 0.5
    alone = evaluate(CLASSES, logits[:2], y[:2], NAMES)
    assert alone.overall["auroc"] is None
    assert alone.parts[0]["auroc"] is None


def test_several_labels() -> None:
    logits = outputs(1, 50, 3, ties=True)
    y = (np.random.default_rng(2).random((50, 3)) > 0.5).astype(np.float32)
    y[:, 2] = 1
    scores = evaluate(TASKS["multi-label"], logits, y, NAMES[:3])
    areas = [metrics.roc_auc_score(y[:, at], logits[:, at]) for at in (0, 1)]
    assert [of["auroc"] for of in scores.parts] == [*map(pytest.approx, areas), None]
    assert scores.overall["auroc"] == pytest.approx(np.mean(areas))
    mean = metrics.average_precision_score(y, logits, average="macro")
    assert scores.overall["average_precision"] == pytest.approx(mean)
    assert scores.confusion == ()


def test_numbers_are_as_before() -> None:
    logits = outputs(1, 50, 2, ties=False)
    scores = evaluate(TASKS["regression"], logits, logits + 1, NAMES[:2])
    assert "auroc" not in scores.overall
    assert scores.overall["mean_absolute_error"] == pytest.approx(1)


def test_auroc_of_ties_and_extremes() -> None:
    right = np.array([False, True])
    assert auroc(np.array([0.1, 0.9]), right) == 1
    assert auroc(np.array([0.9, 0.1]), right) == 0
    assert auroc(np.array([0.5, 0.5]), right) == 0.5


def test_average_precision_of_ties_and_none() -> None:
    right = np.array([False, True, True])
    scores = np.array([0.5, 0.5, 0.1])
    expected = metrics.average_precision_score(right, scores)
    assert average_precision(scores, right) == pytest.approx(expected) == 0.5 / 2 + 2 / 3 / 2
    assert average_precision(scores, np.zeros(3, bool)) is None


def test_classes_by_thresholds() -> None:
    logits = outputs(5, 80, 3, ties=False)
    y = np.random.default_rng(6).integers(0, 3, 80)
    least = np.array([0.6, 0.9, np.inf])
    done = at_thresholds(CLASSES, logits, y, least, NAMES[:3])
    shares = softmax(logits.astype(np.float64))
    best = shares.argmax(axis=1)
    said = np.where(shares[np.arange(80), best] >= least[best], best, -1)
    assert done["none_of_these"] == pytest.approx(np.mean(said == -1))
    assert done["accuracy"] == pytest.approx(np.mean(said[said >= 0] == y[said >= 0]))
    kinds = {"labels": [0, 1, 2], "average": None, "zero_division": np.nan}
    precision, recall = (
        of(y, said, **kinds) for of in (metrics.precision_score, metrics.recall_score)
    )
    for at, of in enumerate(done["parts"]):
        assert of["n_predicted"] == np.count_nonzero(said == at)
        assert of["recall"] == pytest.approx(recall[at])
        assert of["precision"] == (None if at == 2 else pytest.approx(precision[at]))
    never = at_thresholds(CLASSES, logits, y, np.full(3, np.inf), NAMES[:3])
    assert (never["none_of_these"], never["accuracy"]) == (1, None)


def test_several_labels_by_thresholds() -> None:
    logits = np.array([[3, -3], [0, -3], [-3, -3], [3, 3]], np.float32)
    y = np.array([[1, 0], [1, 0], [0, 0], [0, 1]], np.float32)
    done = at_thresholds(TASKS["multi-label"], logits, y, np.array([0.7, 0.5]), NAMES[:2])
    assert (done["none_of_these"], done["accuracy"]) == (0.5, 0.5)
    assert [(of["precision"], of["recall"]) for of in done["parts"]] == [(0.5, 0.5), (1, 1)]


@pytest.mark.parametrize("seed", range(3))
def test_calibration_error(seed: int) -> None:
    random = np.random.default_rng(seed)
    confidences = np.append(random.random(200), [0.0, 1.0])
    right = random.random(202) < confidences**2
    expected = 0.0
    for low in range(15):
        inside = (confidences >= low / 15) & ((confidences < (low + 1) / 15) | (low == 14))
        if inside.any():
            gap = abs(confidences[inside].mean() - right[inside].mean())
            expected += inside.mean() * gap
    assert calibration_error(confidences, right) == pytest.approx(expected)
    assert calibration_error(np.ones(5), np.ones(5, bool)) == 0
    assert calibration_error(np.ones(5), np.zeros(5, bool)) == 1


@pytest.mark.parametrize(("n_right", "n"), [(0, 5), (3, 10), (97, 100), (470, 470)])
def test_wilson_interval(n_right: int, n: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")
    level = 2 * stats.norm.cdf(2.25) - 1
    expected = stats.binomtest(n_right, n).proportion_ci(level, method="wilson")
    assert wilson_interval(n_right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_classes_of_a_sample_or_two(seed: int) -> None:
    """Some are predicted once, or have one sample, and some neither."""
    logits = outputs(seed, 6, 5, ties=False)
    answers = np.random.default_rng(seed + 100).integers(0, 5, 6)
    made = evaluate(CLASSES, logits, answers, NAMES)
    labels = np.unique(answers)
    want = metrics.precision_recall_fscore_support(
        answers, logits.argmax(axis=1), labels=labels, zero_division=0
    )
    for name, values in zip(("precision", "recall", "f1"), want, strict=False):
        np.testing.assert_allclose([part[name] for part in made.parts], values)
