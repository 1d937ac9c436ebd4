"""How the time of training on cached rows grows: samples, tap width, rank, outputs, taps.

    python bench/growth.py [--rounds 5] [--quick] [--json]

One variable at a time around 256-96-96-3, rank 4, batch 20. The cost is meant to be linear in each:
a line a + b x is fitted so that the squares of the relative deviations are smallest (over three
decades plain squares would see the largest point alone). "No cliff" compares the time an operation
takes with that of the net at rank 4.
"""

from __future__ import annotations

import harness  # first: one thread

# isort: split
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness import BATCH, RANK, RATE, Side, options
from skip2lora import _core
from skip2lora.adapters.rows import RowFormat
from skip2lora.training.costs import lora_cost

CLIFF = 2.5


@dataclass(frozen=True)
class Shape:
    """Cached rows; the first tap is the sample itself, as with an MLP."""

    taps: tuple[int, ...] = (256, 96, 96)
    n_outputs: int = 3
    rank: int = RANK
    n_samples: int = 470

    @property
    def n_batches(self) -> int:
        return -(-self.n_samples // BATCH)

    @property
    def operations_an_epoch(self) -> int:
        sizes = (self.n_outputs, self.rank)
        return sum(lora_cost("yw", self.n_samples, tap, *sizes).operations for tap in self.taps)


@dataclass(frozen=True)
class Curve:
    """``unit`` is what the times are divided by: 'batch' or 'epoch'."""

    title: str
    values: tuple[int, ...]
    shape: Callable[[int], Shape]
    unit: str = "batch"


WIDTHS = tuple(128 << k for k in range(8))
CURVES = {
    "samples": Curve(
        "samples",
        (500, 2000, 10_000, 30_000, 100_000, 300_000, 1_000_000),
        lambda n: Shape(n_samples=n),
        "epoch",
    ),
    # 200 samples: at the largest width their rows still fit into most last-level caches.
    "tap_width": Curve(
        "width of the one tap", WIDTHS, lambda width: Shape(taps=(width,), n_samples=200)
    ),
    "rank": Curve(
        "rank", (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64), lambda rank: Shape(rank=rank)
    ),
    "outputs": Curve(
        "outputs",
        (2, 3, 4, 6, 10, 16, 30, 60, 100, 200, 400, 700, 1000),
        lambda outputs: Shape(n_outputs=outputs),
    ),
    "taps": Curve(
        "taps of width 96", (1, 2, 4, 8, 16, 26, 39, 52), lambda taps: Shape(taps=(96,) * taps)
    ),
}


def rows_and_samples(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Random numbers as a full cache of that shape: rows (n, row_stride), samples (n, width)."""
    layout = _core.RowLayout(shape.taps, shape.n_outputs, True)
    rows = RowFormat(shape.taps, shape.n_outputs, 0, True, layout).empty(shape.n_samples)
    x = np.empty((shape.n_samples, shape.taps[0]), np.float32)
    random = np.random.default_rng(0)
    for array in (rows, x):
        block = random.standard_normal((min(1000, len(array)), array.shape[1]), np.float32)
        for at in range(0, len(array), len(block)):
            array[at : at + len(block)] = block[: len(array) - at]
    return rows, x


def epochs_on(shape: Shape, rows: np.ndarray, x: np.ndarray, unit: str) -> Side:
    """Epochs on the first samples of those."""
    layout = _core.RowLayout(shape.taps, shape.n_outputs, True)
    random = np.random.default_rng(0)
    x, rows = x[: shape.n_samples], rows[: shape.n_samples]
    labels = random.integers(0, shape.n_outputs, len(x), dtype=np.int32)
    source = _core.RowSource(layout, rows, np.ones(len(rows), np.uint8), _refuse)
    adapter = _core.SkipAdapter(layout, shape.rank)
    adapter.init(0)
    trainer = _core.SkipTrainer(adapter, BATCH, options().core_optimizer(), 0)

    def epoch() -> None:
        # A small rate: random labels must not drive the adapters out of range, however long.
        status = trainer.epoch(x, labels, source, RATE / 1000).status
        assert status == _core.OK, status

    return Side(epoch, 1 if unit == "epoch" else shape.n_batches)


def _refuse(indices: np.ndarray, rows: np.ndarray) -> None:
    del rows
    raise RuntimeError(f"{len(indices)} rows are not in the cache")


def fit(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """a + b x with the smallest squares of (a + b x - y) / y.

    ``worst`` is the largest of these deviations, without its sign; ``r2`` is that of the plain
    deviations: 1 is a line. ``exponent`` is the slope of log y over log x in the last decade: 1 is
    linear, 2 would be a square, less than 1 a fixed part that still counts.
    """
    at, value = np.asarray(x, np.float64), np.asarray(y, np.float64)
    system = np.stack([1 / value, at / value], axis=1)
    (a, b), *_ = np.linalg.lstsq(system, np.ones(len(at)), rcond=None)
    off = a + b * at - value
    spread = ((value - value.mean()) ** 2).sum()
    late = at >= at.max() / 10
    return {
        "a": float(a),
        "b": float(b),
        "r2": float(1 - (off**2).sum() / spread),
        "worst": float(np.abs(off / value).max()),
        "exponent": float(np.polyfit(np.log(at[late]), np.log(value[late]), 1)[0]),
    }


def measure_curve(curve: Curve, *, rounds: int, quick: bool) -> dict[str, Any]:
    values = [value for value in curve.values if not quick or value <= 10_000]
    shapes = {value: curve.shape(value) for value in values}
    if curve.unit == "epoch":  # all on the same pages: the samples alone differ
        made = rows_and_samples(shapes[values[-1]])
        filled = dict.fromkeys(values, made)
    else:
        filled = {value: rows_and_samples(shape) for value, shape in shapes.items()}
    sides = {
        str(value): epochs_on(shape, *filled[value], curve.unit) for value, shape in shapes.items()
    }
    took = harness.in_turn(sides, rounds=rounds, seconds=0.002 if quick else 0.1)
    points = [
        {
            "x": value,
            "us": harness.spread(took[str(value)], 1e6),
            "operations": round(shape.operations_an_epoch / sides[str(value)].units),
        }
        for value, shape in shapes.items()
    ]
    medians = [point["us"]["median"] for point in points]
    return {"title": curve.title, "unit": curve.unit, "points": points, "fit": fit(values, medians)}


def cliffs(curves: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Time an operation of each rank and number of outputs, over that at rank 4 and 3 outputs.

    Each curve is compared with its own measurement of that point, which was taken in turn with it.
    """
    ratios = {}
    for name, at in (("rank", Shape.rank), ("outputs", Shape.n_outputs)):
        points = curves[name]["points"]
        cost = {point["x"]: point["us"]["median"] / point["operations"] for point in points}
        ratios[name] = {str(x): round(of / cost[at], 3) for x, of in cost.items()}
    return ratios


def measure(arguments: Any) -> dict[str, Any]:
    curves = {
        name: measure_curve(curve, rounds=arguments.rounds, quick=arguments.quick)
        for name, curve in CURVES.items()
    }
    steps = cliffs(curves)
    return {
        "versions": {"numpy": np.__version__},
        "threads": {"skip2lora": 1},
        "batch_size": BATCH,
        "curves": curves,
        "time_an_operation": steps,
        "targets": [
            harness.target(
                f"{name} {', '.join((first, '...', last))}: time an operation over that at rank 4",
                max(of.values()), CLIFF, at_least=False,
            )
            for name, of in steps.items()
            for first, *_, last in [list(of)]
        ],
    }  # fmt: skip


def lines(result: dict[str, Any]) -> list[str]:
    made = []
    for curve in result["curves"].values():
        of = curve["fit"]
        made.append(
            f"{curve['title']}: us {'an' if curve['unit'] == 'epoch' else 'a'} {curve['unit']} = "
            f"{of['a']:.3g} + {of['b']:.3g} x, R2 {of['r2']:.4f}, worst deviation "
            f"{100 * of['worst']:.0f} %, x to the power of {of['exponent']:.2f} in the last decade"
        )
        made += [
            f"  {point['x']:>9,}  {harness.shown(point['us'], 'us')}" for point in curve["points"]
        ]
    for name, ratios in result["time_an_operation"].items():
        told = ", ".join(f"{value}: {ratio:.2f}" for value, ratio in ratios.items())
        made.append(f"time an operation over that at rank {RANK}, by {name}: {told}")
    return made


if __name__ == "__main__":
    harness.run(__doc__, measure, lines)
