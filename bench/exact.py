"""The exact solver of the core beside scikit-learn's logistic regression, one thread each.

    python bench/exact.py [--rounds 5] [--data DIR] [--quick] [--json]

The work: on the last tap and on all of them a fit of all rows and of four folds, at six penalties
from 1 to 1e-5, each starting where the stronger one ended. Ours has everything from rows to
held-out logits: moments, one Gram matrix a choice of taps, all fits. scikit-learn gets the same
columns, standardised, and stops by its default tolerance, which at weak penalties is far from the
least objective. Rows of the fan and of HAR are a network's; without recordings, and for the other
two shapes, they are random: ReLU of causes that classes share.
"""

from __future__ import annotations

import harness  # first: one thread

# isort: split
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

import skip2lora as s2
from harness import Side
from skip2lora import _core
from skip2lora.adapters.rows import RowFormat, SkipCache
from skip2lora.datasets import har
from skip2lora.training.design import zeros

PENALTIES = 10.0 ** -np.arange(6)
N_FOLDS, TOLERANCE = 4, 3e-5


@dataclass(frozen=True)
class Shape:
    """``limit_ms`` and ``ratio`` are what somebody counts on; None: nobody does."""

    name: str
    n_samples: int
    taps: tuple[int, ...]
    n_classes: int
    limit_ms: float
    ratio: float | None

    @property
    def title(self) -> str:
        return f"{self.name}, {self.n_samples} x {sum(self.taps):,} x {self.n_classes}"


SHAPES = (
    Shape("fan", 470, (256, 96, 96), 3, 15, None),
    Shape("HAR", 1048, (561, 96, 96), 6, 200, 3),
    Shape("small images", 300, (30_000, 3200, 1280), 10, 100, 100),
    Shape("many samples", 2000, (18_720, 1280), 10, 4000, 10),
)


@dataclass(frozen=True)
class Rows:
    """Taps side by side, (n, width), in an order in which a fold's samples follow each other."""

    table: NDArray[np.float32]
    labels: NDArray[np.int64]
    taps: tuple[int, ...]

    @property
    def n_classes(self) -> int:
        return int(self.labels.max()) + 1

    def fold_weights(self) -> NDArray[np.float32]:
        """(folds and all, lanes): 0 for those held out."""
        n = len(self.labels)
        weights = zeros(N_FOLDS + 1, lanes_of(n))
        weights[:, :n] = 1
        for fold in range(N_FOLDS):
            weights[fold, fold * n // N_FOLDS : (fold + 1) * n // N_FOLDS] = 0
        weights /= weights.sum(axis=1, keepdims=True)
        return weights


def lanes_of(n: int) -> int:
    return -(-n // _core.SAMPLE_LANES) * _core.SAMPLE_LANES


def random_rows(shape: Shape, seed: int = 0) -> Rows:
    random = np.random.default_rng(seed)
    labels = random.integers(0, shape.n_classes, shape.n_samples)
    causes = random.standard_normal((shape.n_samples, 24), dtype=np.float32)
    causes[np.arange(shape.n_samples), labels] += 3
    table = causes @ random.standard_normal((24, sum(shape.taps)), dtype=np.float32)
    np.maximum(table, 0, out=table)
    table += 0.3 * random.standard_normal(table.shape, dtype=np.float32)
    return Rows(table, labels, shape.taps)


def rows_of(model: s2.MLP, x: NDArray[np.float32], labels: NDArray[np.integer]) -> Rows:
    """The taps of a network, samples in random order."""
    row_format = RowFormat.of(model, copy_input=True)
    cache = SkipCache.of(row_format, len(x))
    cache.fill(model, x)
    places = zip(row_format.layout.tap_offsets, row_format.tap_widths, strict=True)
    table = np.concatenate([cache.rows[:, at : at + width] for at, width in places], axis=1)
    order = np.random.default_rng(0).permutation(len(x))
    return Rows(table[order], np.asarray(labels)[order].astype(np.int64), row_format.tap_widths)


def rows_for(shape: Shape, data: Path | None) -> tuple[Rows, str]:
    if shape.name == "fan":
        title, split = harness.task(data, 0)
        model = harness.pretrained(split, 0)
        return rows_of(model, split.finetune.x, split.finetune.labels), title
    if shape.name == "HAR" and data is not None and (data / "har").is_dir():
        split = har.load_task(data / "har")
        fresh = s2.MLP.create(harness.NETS[1].widths, seed=0)
        part = split.pretrain
        model = s2.pretrain(fresh, part.x, part.labels, epochs=30, seed=0, standardize=False)
        return rows_of(model, split.finetune.x, split.finetune.labels), "recorded HAR"
    return random_rows(shape), "random"


def scaling(table: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    mean, var = np.empty(table.shape[1]), np.empty(table.shape[1])
    moments = _core.ColumnMoments(table.shape[1])
    moments.add(table)
    moments.finish(mean, var)
    scale = 1 / np.sqrt(var + 1e-3 * var.mean())
    return mean.astype(np.float32), scale.astype(np.float32)


def solve_exact(rows: Rows) -> None:
    """Everything from rows to coefficients and held-out logits."""
    n, width, last = len(rows.labels), rows.table.shape[1], rows.taps[-1]
    mean, scale = scaling(rows.table)
    gram, finished = (
        zeros(lanes_of(n) // _core.SAMPLE_LANES * n, _core.SAMPLE_LANES).reshape(
            -1, n, _core.SAMPLE_LANES
        )
        for _ in range(2)
    )
    targets = zeros(rows.n_classes, lanes_of(n))
    targets[rows.labels, np.arange(n)] = 1
    weights = rows.fold_weights()
    for first, size in ((width - last, last), (0, width - last)):
        _core.gram_add(rows.table, first, size, mean, scale, gram)
        finished[:] = gram
        _core.gram_finish(finished, n / _core.gram_trace(gram))
        problem = _core.DualProblem(finished, _core.SOFTMAX, targets, weights)
        size = len(weights) * rows.n_classes
        coefficients, products = (zeros(size, lanes_of(n)) for _ in range(2))
        bias = np.zeros(size, np.float32)
        for penalty in PENALTIES:
            problem.solve_all(float(penalty), TOLERANCE, coefficients, products, bias)


def solve_peer(rows: Rows) -> None:
    mean, scale = scaling(rows.table)
    z = (rows.table - mean) * scale
    held = rows.fold_weights()[:, : len(z)] == 0
    for columns in (z[:, -rows.taps[-1] :], z):
        size = float((columns**2).sum(axis=1).mean())
        for fold in held:
            x, labels = columns[~fold] / np.float32(np.sqrt(size)), rows.labels[~fold]
            peer = LogisticRegression(warm_start=True, max_iter=1000)
            for penalty in PENALTIES:
                peer.set_params(C=1 / (len(x) * penalty)).fit(x, labels)
                if fold.any():
                    peer.decision_function(columns[fold])


def measure(arguments: Any) -> dict[str, Any]:
    shapes: Sequence[Shape] = SHAPES[:1] if arguments.quick else SHAPES
    seconds = 0.01 if arguments.quick else 0.3
    results, targets = [], []
    for shape in shapes:
        rows, source = rows_for(shape, arguments.data)
        sides = {
            "core": Side(partial(solve_exact, rows)),
            "sklearn": Side(partial(solve_peer, rows)),
        }
        took = harness.in_turn(sides, rounds=arguments.rounds, seconds=seconds)
        ratio = harness.ratios(took["sklearn"], took["core"])
        ms = {name: harness.spread(of, 1e3) for name, of in took.items()}
        results.append({"shape": shape.title, "rows": source, "ms": ms, "ratio": ratio})
        took_ms = ms["core"]["median"]
        what = f"exact fits, {shape.title}: ms"
        targets.append(harness.target(what, took_ms, shape.limit_ms, at_least=False))
        if shape.ratio is not None:
            what = f"exact fits, {shape.title}: time of scikit-learn over ours"
            targets.append(harness.target(what, ratio["median"], shape.ratio))
    return {
        "versions": {"numpy": np.__version__, "scikit-learn": sklearn.__version__},
        "threads": {"skip2lora": 1, "numpy": harness.blas()},
        "shapes": results,
        "targets": targets,
    }


def lines(result: dict[str, Any]) -> list[str]:
    return [
        f"{of['shape']} ({of['rows']} rows): {harness.shown(of['ms']['core'], 'ms')}, scikit-learn "
        f"{harness.shown(of['ms']['sklearn'], 'ms')}, ratio {harness.shown(of['ratio'])}"
        for of in result["shapes"]
    ]


if __name__ == "__main__":
    harness.run(__doc__, measure, lines)
