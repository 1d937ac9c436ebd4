"""The exact solver for many samples, and ridge, beside scikit-learn; one thread each.

    python bench/primal.py [--quick] [--json]

One fit of all rows at six penalties from 1 to 1e-5, each starting where the stronger one ended.
Rows are random: ReLU of causes that classes share, columns of unequal size. scikit-learn gets the
same columns, standardised, and stops by its default tolerance. Both objectives are taken anew in
float64; `excess` is how much more scikit-learn's last one is than ours. Ridge: one sample more and
the oldest one less; `drift` is how far outputs are from a fresh solution after all of them.
"""

from __future__ import annotations

import harness  # first: one thread

# isort: split
import time
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from skip2lora import _core

PENALTIES = 10.0 ** -np.arange(6)
TOLERANCE = 3e-5
SHAPES = ((20_000, 1024, 10), (100_000, 448, 3))
QUICK = ((2000, 64, 3),)
RIDGE_SAMPLES, RIDGE_CHANGES = 500, 1000


def in_lanes(array: NDArray[Any]) -> NDArray[np.float32]:
    lanes = -(-len(array) // _core.SAMPLE_LANES) * _core.SAMPLE_LANES
    padded = np.zeros((lanes, *array.shape[1:]), np.float32)
    padded[: len(array)] = array
    return np.ascontiguousarray(padded.T)


def random_rows(n: int, width: int, n_classes: int) -> tuple[NDArray[np.float32], NDArray[Any]]:
    random = np.random.default_rng(0)
    causes = random.standard_normal((n, 32), dtype=np.float32)
    mixed = causes @ random.standard_normal((32, n_classes), dtype=np.float32)
    labels = (mixed * 0.8 + random.gumbel(size=mixed.shape)).argmax(axis=1)
    rows = causes @ random.standard_normal((32, width), dtype=np.float32) / 6
    rows += 0.3 * random.standard_normal(rows.shape, dtype=np.float32)
    np.maximum(rows, 0, out=rows)
    return rows * np.exp(random.normal(size=width)).astype(np.float32), labels


def scaling(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and scale of the columns, so that the squares of a sample have mean 1."""
    moments = _core.ColumnMoments(rows.shape[1])
    moments.add(rows)
    mean, var = np.empty(rows.shape[1]), np.empty(rows.shape[1])
    moments.finish(mean, var)
    scale = 1 / np.sqrt(var + 1e-3 * var.mean())
    return mean.astype(np.float32), (scale / np.sqrt((var * scale**2).sum())).astype(np.float32)


def ours(
    rows: NDArray[np.float32], labels: NDArray[Any], n_classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights (width, classes) and bias at the weakest penalty, everything from the rows on."""
    mean, scale = scaling(rows)
    targets = in_lanes(np.eye(n_classes, dtype=np.float32)[labels])
    weights = in_lanes(np.full(len(rows), 1 / len(rows), np.float32))
    taps = [(0, rows.shape[1])]
    problem = _core.PrimalProblem(rows, taps, mean, scale, _core.SOFTMAX, targets, weights)
    metric = _core.Metric(problem)
    start = np.zeros((n_classes, rows.shape[1]), np.float32)
    solution = start, np.zeros_like(targets), np.zeros(n_classes, np.float32)
    for penalty in PENALTIES:
        metric.factorize(problem, penalty, *solution)
        metric.solve(problem, penalty, TOLERANCE, *solution)
    return solution[0].T, solution[2]


def peers(z: NDArray[np.float32], labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    peer = LogisticRegression(warm_start=True, max_iter=1000)
    for penalty in PENALTIES:
        peer.C = 1 / (len(z) * penalty)
        peer.fit(z, labels)
    return peer.coef_.T, peer.intercept_


def objective(z: NDArray[np.float32], labels: NDArray[Any], fit: tuple[Any, Any]) -> float:
    weights, bias = (np.asarray(part, np.float64) for part in fit)
    logits = z @ weights + bias
    logits -= logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(z)), labels]
    return float(losses.mean() + PENALTIES[-1] / 2 * (weights**2).sum())


def timed(call: Any, *given: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call(*given)
    return (time.perf_counter() - start) * 1e3, result


def fit(shape: tuple[int, int, int]) -> dict[str, Any]:
    rows, labels = random_rows(*shape)
    own_ms, own = timed(ours, rows, labels, shape[2])
    mean, scale = scaling(rows)
    z = (rows - mean) * scale
    peer_ms, peer = timed(peers, z, labels)
    least, other = objective(z, labels, own), objective(z, labels, peer)
    return {
        "shape": list(shape), "ms": own_ms, "sklearn_ms": peer_ms, "ratio": peer_ms / own_ms,
        "objective": least, "sklearn_excess": other / least - 1,
    }  # fmt: skip


def panels(gram: NDArray[np.float32]) -> NDArray[np.float32]:
    wide = in_lanes(gram)  # symmetric: (n, lanes)
    return np.ascontiguousarray(wide.reshape(len(gram), -1, _core.SAMPLE_LANES).transpose(1, 0, 2))


def ridge(penalty: float) -> dict[str, Any]:
    n = RIDGE_SAMPLES
    rows, labels = random_rows(n + RIDGE_CHANGES, 448, 3)
    mean, scale = scaling(rows)
    z = (rows - mean) * scale
    gram, present = z @ z.T, list(range(n))
    moving, fresh = (_core.Ridge(n + 1) for _ in range(2))
    fit_ms, _ = timed(moving.factorize, panels(gram[:n, :n]), None, n * penalty)
    times: dict[str, list[float]] = {"append": [], "remove": []}
    for added in range(n, n + RIDGE_CHANGES):
        products = np.ascontiguousarray(gram[added, [*present, added]])
        times["append"].append(timed(moving.append, products)[0])
        times["remove"].append(timed(moving.remove, 0)[0])
        present = [*present[1:], added]
    fresh.factorize(panels(gram[np.ix_(present, present)]), None, n * penalty)
    targets, outputs = in_lanes(np.eye(3, dtype=np.float32)[labels[present]]), []
    for of in (moving, fresh):
        coefficients, bias = np.zeros_like(targets), np.zeros(3, np.float32)
        of.solve(targets, coefficients, bias)
        outputs.append(gram[:, present] @ coefficients[:, :n].T + bias)
    loo_ms, _ = timed(moving.leave_one_out, coefficients, np.zeros_like(coefficients))
    drift = np.abs(outputs[0] - outputs[1]).max() / np.abs(outputs[1]).max()
    return {
        "penalty": penalty, "factorize_ms": fit_ms, "leave_one_out_ms": loo_ms,
        **{f"{name}_ms": float(np.median(of)) for name, of in times.items()}, "drift": float(drift),
    }  # fmt: skip


def measure(arguments: Any) -> dict[str, Any]:
    fits = [fit(shape) for shape in (QUICK if arguments.quick else SHAPES)]
    of_ridge = [ridge(penalty) for penalty in (0.1, 1e-3, 1e-5)]
    what = f"ridge of {RIDGE_SAMPLES} samples, penalty 0.001: "
    middle = of_ridge[1]
    return {
        "versions": {"numpy": np.__version__, "scikit-learn": sklearn.__version__},
        "threads": {"skip2lora": 1, "numpy": harness.blas()},
        "fits": fits,
        "ridge": of_ridge,
        "ridge_samples": RIDGE_SAMPLES,
        "ridge_changes": RIDGE_CHANGES,
        "targets": [
            harness.target(f"{what}append (ms)", middle["append_ms"], 0.05, at_least=False),
            harness.target(f"{what}remove (ms)", middle["remove_ms"], 0.2, at_least=False),
            harness.target(
                f"{what}drift after {RIDGE_CHANGES:,} of both", middle["drift"], 1e-4,
                at_least=False,
            ),
        ],
    }  # fmt: skip


def lines(result: dict[str, Any]) -> list[str]:
    return [
        ", ".join(f"{key} {shown(value)}" for key, value in part.items())
        for part in (*result["fits"], *result["ridge"])
    ]


def shown(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value


if __name__ == "__main__":
    harness.run(__doc__, measure, lines)
