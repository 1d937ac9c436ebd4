"""How good a model is on labelled samples, beyond what is told while it is trained.

All measures but the calibration error are those of scikit-learn's metrics of the same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.tasks.task import Measures, Task, measure, predictions_of, probabilities_of
from skip2lora.tasks.thresholds import NO_PLACE, decide

_BINS = 15  # of confidences, as wide as each other: Guo et al., "On calibration", 2017


@dataclass(frozen=True)
class Evaluation(Measures):
    """Measures, and of classes ``confusion[true][predicted]``, of those in ``classes``."""

    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()


def evaluate(
    task: Task, logits: NDArray[np.float32], answers: NDArray[Any], names: Sequence[str]
) -> Evaluation:
    """How good outputs before softmax or sigmoid are, (samples, n_outputs).

    ``names[number]`` is the class of label ``number``, or the name of a column of both. A measure
    that is not defined is None: AUROC where all samples are of a class, or none, and average
    precision of a class without samples.
    """
    basic = measure(task, logits, answers, names)
    # In double precision certain ones still differ, and have an order.
    probabilities = probabilities_of(task, logits.astype(np.float64))
    if probabilities is None:
        return Evaluation(basic.overall, basic.parts)
    if task.numeric_targets:
        return _of_sets(basic, probabilities, answers)
    return _of_classes(basic, predictions_of(task, logits), probabilities, answers, names)


def _of_classes(
    basic: Measures,
    predictions: NDArray[Any],
    probabilities: NDArray[Any],
    answers: NDArray[Any],
    names: Sequence[str],
) -> Evaluation:
    known = np.union1d(answers, predictions)
    matrix = np.zeros((len(known), len(known)), np.int64)
    np.add.at(matrix, (np.searchsorted(known, answers), np.searchsorted(known, predictions)), 1)
    hits, n_true, n_predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    precision, recall = (hits / np.maximum(of, 1) for of in (n_predicted, n_true))
    f1 = 2 * hits / (n_true + n_predicted)
    areas = {int(label): auroc(probabilities[:, label], answers == label) for label in known}
    ranks = {
        int(label): average_precision(probabilities[:, label], answers == label) for label in known
    }
    parts = [
        {"precision": float(precision[at]), "recall": float(recall[at]), "f1": float(f1[at]),
         "auroc": areas[int(label)], "average_precision": ranks[int(label)]}
        for at, label in enumerate(known) if n_true[at]
    ]  # fmt: skip
    right = predictions == answers
    overall = {
        "balanced_accuracy": float(recall[n_true > 0].mean()),
        "f1_macro": float(f1.mean()),
        "auroc": _mean([area for area in areas.values() if area is not None]),
        "average_precision": _mean([area for area in ranks.values() if area is not None]),
        "expected_calibration_error": calibration_error(probabilities.max(axis=1), right),
    }
    return Evaluation(
        basic.overall | overall,
        tuple(of | more for of, more in zip(basic.parts, parts, strict=True)),
        tuple(names[label] for label in known),
        tuple(map(tuple, matrix.tolist())),
    )


def _of_sets(basic: Measures, probabilities: NDArray[Any], answers: NDArray[Any]) -> Evaluation:
    true = answers == 1
    areas = [auroc(*of) for of in zip(probabilities.T, true.T, strict=True)]
    ranks = [average_precision(*of) for of in zip(probabilities.T, true.T, strict=True)]
    overall = {
        "auroc": _mean([area for area in areas if area is not None]),
        "average_precision": _mean([area for area in ranks if area is not None]),
        "expected_calibration_error": calibration_error(probabilities.ravel(), true.ravel()),
    }
    parts = (
        of | {"auroc": area, "average_precision": rank}
        for of, area, rank in zip(basic.parts, areas, ranks, strict=True)
    )
    return Evaluation(basic.overall | overall, tuple(parts))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def auroc(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float | None:
    """Area under the curve of true over false positives, of ``scores`` (samples,); ties count half.

    None where ``positive`` is true of all samples, or of none.
    """
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return None
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # from 1, means of ties
    above = ranks[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def average_precision(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float | None:
    """Mean precision over the steps of recall, of ``scores`` (samples,), the largest first.

    None where ``positive`` is true of no sample.
    """
    values, places = np.unique(-scores, return_inverse=True)
    hits = np.bincount(places.astype(np.intp), weights=positive, minlength=len(values))
    counts = np.bincount(places.astype(np.intp), minlength=len(values))
    n_positive = int(positive.sum())
    if not n_positive:
        return None
    return float((hits * np.cumsum(hits) / np.cumsum(counts)).sum() / n_positive)


def at_thresholds(
    task: Task,
    logits: NDArray[np.float32],
    answers: NDArray[Any],
    least: NDArray[np.float64],
    names: Sequence[str],
) -> dict[str, Any]:
    """How good predictions are that go by the ``least`` probability of each output.

    ``none_of_these`` is the share of samples without any, ``accuracy`` that of the others that are
    right: of several labels, with every label. Precision and recall are those of scikit-learn, a
    class a row; precision is None of a class that was never predicted.
    """
    shares = probabilities_of(task, logits.astype(np.float64))
    predictions = decide(task, logits if shares is None else shares, least)
    if task.numeric_targets:
        predicted, true = predictions == 1, answers == 1
        some, right = predicted.any(axis=1), (predicted == true).all(axis=1)
    else:
        places = np.arange(len(names))
        predicted, true = predictions[:, None] == places, answers[:, None] == places
        some, right = predictions != NO_PLACE, predictions == answers
    hits, n_predicted, n_true = (of.sum(axis=0) for of in (predicted & true, predicted, true))
    parts = [
        {
            "name": name, "n_samples": int(of), "n_predicted": int(count),
            "precision": float(hit / count) if count else None,
            "recall": float(hit / of) if of else None,
        }
        for name, hit, count, of in zip(names, hits, n_predicted, n_true, strict=True)
        if of or count
    ]  # fmt: skip
    return {
        "none_of_these": float(1 - some.mean()),
        "accuracy": float(right[some].mean()) if some.any() else None,
        "parts": parts,
    }


def calibration_error(confidences: NDArray[Any], right: NDArray[np.bool_]) -> float:
    """How far confidences (samples,) are from the share that is right, by bin, on average."""
    bins = np.minimum((confidences.astype(np.float64) * _BINS).astype(np.int64), _BINS - 1)
    gaps = np.bincount(
        bins.astype(np.intp), weights=confidences.astype(np.float64) - right, minlength=_BINS
    )
    return float(np.abs(gaps).sum() / len(right))


def wilson_interval(n_right: float, n: float, z: float = 2.25) -> tuple[float, float]:
    """Where a share of ``n_right`` in ``n`` samples lies, 0 to 1: Wilson's score interval.

    Held-out answers of folds depend on each other: with the ``z`` of 2.25 for 1.96 the interval
    covers the share on new samples in 96 of 100 cases.
    """
    share, square = n_right / n, z * z / n
    middle = share + square / 2
    half = z * ((share * (1 - share) + square / 4) / n) ** 0.5
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))
