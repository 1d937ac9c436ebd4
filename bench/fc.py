"""The FC kernels beside OpenBLAS's sgemm as NumPy calls it, one thread each.

    python bench/fc.py [--rounds 5] [--quick] [--json]

Eqs. 1, 2 and 4 on layers of both networks: forward y = x W + b, weight gradient gW = x^T gy, input
gradient gx = gy W^T, each 2 B N M operations. Ours adds the bias too. Both sides are calls from
Python into arrays that exist.
"""

from __future__ import annotations

import harness  # first: one thread

# isort: split
import statistics
from typing import Any

import numpy as np

from harness import Side
from skip2lora import _core

LAYERS = ((256, 96), (561, 96))
BATCHES = (20, 256)
LEAST_RATIO = 0.9


def sides_of(batch: int, n_in: int, n_out: int) -> dict[str, tuple[Side, Side]]:
    """By product: ours, and NumPy's."""
    random = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, dtype=np.float32)

    x, gy, weight, bias = (
        normal(batch, n_in),
        normal(batch, n_out),
        normal(n_in, n_out),
        normal(n_out),
    )
    ours = {"y": np.empty_like(gy), "gw": np.empty_like(weight), "gx": np.empty_like(x)}
    theirs = {name: np.empty_like(array) for name, array in ours.items()}
    calls = {
        "forward": (
            lambda: _core.fc_forward(x, weight, bias, ours["y"]),
            lambda: np.matmul(x, weight, out=theirs["y"]),
        ),
        "gw": (
            lambda: _core.fc_backward(x, gy, weight, ours["gw"], None, None),
            lambda: np.matmul(x.T, gy, out=theirs["gw"]),
        ),
        "gx": (
            lambda: _core.fc_backward(x, gy, weight, None, None, ours["gx"]),
            lambda: np.matmul(gy, weight.T, out=theirs["gx"]),
        ),
    }
    for pair in calls.values():
        for call in pair:
            call()
    theirs["y"] += bias
    for name, array in ours.items():  # the same product, before it is timed
        np.testing.assert_allclose(array, theirs[name], rtol=1e-3, atol=1e-3)
    return {name: (Side(mine), Side(other)) for name, (mine, other) in calls.items()}


def measure(arguments: Any) -> dict[str, Any]:
    seconds = 0.005 if arguments.quick else 0.1
    rows = []
    for n_in, n_out in LAYERS:
        for batch in BATCHES:
            operations = 2 * batch * n_in * n_out
            for product, pair in sides_of(batch, n_in, n_out).items():
                sides = dict(zip(("ours", "openblas"), pair, strict=True))
                took = harness.in_turn(sides, rounds=arguments.rounds, seconds=seconds)
                rows.append(
                    {
                        "layer": f"{n_in}x{n_out}",
                        "batch": batch,
                        "product": product,
                        "us": {name: harness.spread(of, 1e6) for name, of in took.items()},
                        "gflops": {
                            name: round(operations / statistics.median(of) / 1e9, 1)
                            for name, of in took.items()
                        },
                        "ratio": harness.ratios(took["openblas"], took["ours"]),
                    }
                )
    peaks = [_core.peak_gflops(seconds) for _ in range(arguments.rounds)]
    return {
        "versions": {"numpy": np.__version__},
        "threads": {"skip2lora": 1, "numpy": harness.blas()},
        "peak_gflops": harness.spread(peaks),
        "rows": rows,
        "targets": [
            harness.target(
                f"{row['product']} {row['layer']}, batch {row['batch']}: rate over OpenBLAS's",
                row["ratio"]["median"],
                LEAST_RATIO,
            )
            for row in rows
        ],
    }


def lines(result: dict[str, Any]) -> list[str]:
    made = [
        f"NumPy {result['versions']['numpy']}, threads: {result['threads']}",
        f"multiply-add peak of one core: {harness.shown(result['peak_gflops'], 'GFLOP/s')}",
        "layer   batch product    ours GFLOP/s  OpenBLAS  ratio of the rates",
    ]
    made += [
        f"{row['layer']:<8}{row['batch']:>5} {row['product']:<9}{row['gflops']['ours']:>13.1f} "
        f"{row['gflops']['openblas']:>9.1f}  {harness.shown(row['ratio'])}"
        for row in result["rows"]
    ]
    return made


if __name__ == "__main__":
    harness.run(__doc__, measure, lines)
