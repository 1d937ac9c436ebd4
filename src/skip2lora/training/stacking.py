"""Stacking: the mix of several candidates whose outputs do best on samples held out of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.tasks.task import Task, probabilities_of, sample_losses

_MOST_STEPS = 50
# Of the loss: what another step would gain.
_TOLERANCE = 1e-9
# Of the mean curvature: candidates may be alike, and then any mix of them is as good.
_RIDGE = 1e-9


def stack_weights(
    task: Task,
    logits: NDArray[Any],
    answers: NDArray[Any],
    weight: NDArray[np.floating] | None = None,
) -> NDArray[np.float64]:
    """What each candidate counts, (candidates,): 0 or more, 1 in all.

    The mix of their held-out ``logits``, (candidates, n, n_outputs), has the smallest mean loss
    over the checked ``answers``, each counted by ``weight``, (n,). Newton's method on the simplex:
    with so few candidates, every face of it is tried.
    """
    start = np.full(len(logits), 1 / len(logits))
    mix = np.maximum(_least(task, logits, answers, weight, start, _best_on_simplex), 0)
    return np.asarray(mix / mix.sum())


def best_factor(
    task: Task,
    scores: NDArray[Any],
    answers: NDArray[Any],
    weight: NDArray[np.floating] | None = None,
) -> float:
    """What held-out ``scores``, (n, n_outputs), are multiplied by to be logits, 0 or more.

    The mean loss over the checked ``answers``, each counted by ``weight``, (n,), is then the
    smallest, or 1 in n + 1: where no answer is wrong, the loss of none is 0 for all that.
    """
    enough = 1 / (len(answers) + 1)
    factor = _least(task, scores[None], answers, weight, np.ones(1), _best_from_0, enough)
    return float(factor[0])


def _least(
    task: Task,
    logits: NDArray[Any],
    answers: NDArray[Any],
    weight: NDArray[np.floating] | None,
    mix: NDArray[np.float64],
    best: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
    enough: float = 0.0,
) -> NDArray[np.float64]:
    """The mix with the least loss, or a loss of at most ``enough``, from that ``mix`` on.

    ``best(curvature, linear)`` is where u . curvature . u / 2 + linear . u is smallest, of what a
    mix can be.
    """
    values = logits.astype(np.float64)
    counts = np.ones(len(answers)) if weight is None else weight.astype(np.float64)
    counts /= counts.sum()

    def loss(mix: NDArray[np.float64]) -> float:
        return float(sample_losses(task, np.tensordot(mix, values, 1), answers) @ counts)

    now = loss(mix)
    for _ in range(_MOST_STEPS):
        if now <= enough:
            break
        slope, curvature = _derivatives(task, values, answers, counts, mix)
        step = best(curvature, slope - curvature @ mix) - mix
        gain = -float(slope @ step)
        if gain <= _TOLERANCE * max(now, _TOLERANCE):
            break
        size = 1.0
        while (then := loss(mix + size * step)) > now - 1e-4 * size * gain and size > 1e-6:
            size /= 2
        mix, now = mix + size * step, min(now, then)
    return mix


def _derivatives(
    task: Task,
    values: NDArray[np.float64],
    answers: NDArray[Any],
    counts: NDArray[np.float64],
    mix: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gradient, (candidates,), and Hessian of the mean loss by the mix."""
    outputs = np.tensordot(mix, values, 1)
    predicted = probabilities_of(task, outputs)
    targets = np.asarray(answers, np.float64)
    around = values
    if predicted is None:
        predicted, curved = outputs, np.ones_like(outputs)
    elif task.numeric_targets:
        curved = predicted * (1 - predicted)
    else:
        targets = np.zeros_like(outputs)
        targets[np.arange(len(answers)), answers] = 1
        curved = predicted
        around = values - (predicted * values).sum(axis=2, keepdims=True)
    missing = counts[:, None] * (predicted - targets)
    curved = counts[:, None] * curved
    slope = np.tensordot(values, missing, 2)
    return slope, np.tensordot(around * curved, around, ([1, 2], [1, 2]))


def _best_from_0(
    curvature: NDArray[np.float64], linear: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Where curvature u^2 / 2 + linear u is smallest, of one number of 0 or more."""
    return np.asarray(np.maximum(-linear / np.maximum(curvature[0], 1e-300), 0))


def _best_on_simplex(
    curvature: NDArray[np.float64], linear: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Where u . curvature . u / 2 + linear . u is smallest; u is 0 or more, and 1 in all."""
    count = len(linear)
    curvature = curvature + np.eye(count) * (_RIDGE * max(np.trace(curvature) / count, 1e-300))
    best, lowest = np.zeros(count), np.inf
    for size in range(count, 0, -1):
        for chosen in combinations(range(count), size):
            part = np.array(chosen)
            system = np.ones((size + 1, size + 1))
            system[:size, :size] = curvature[np.ix_(part, part)]
            system[size, size] = 0
            inside = np.linalg.lstsq(system, np.append(-linear[part], 1.0), rcond=None)[0][:size]
            if (inside < 0).any():
                continue
            point = np.zeros(count)
            point[part] = inside
            height = float(point @ curvature @ point / 2 + linear @ point)
            if height < lowest:
                best, lowest = point, height
        if size == count and np.isfinite(lowest):  # the least of all that add up to 1
            break
    return best
