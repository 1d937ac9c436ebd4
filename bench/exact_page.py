"""The sections of docs/performance.md on exact solvers; measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from text import number, spread, table

Results = Mapping[str, Any]


def exact(of: Results) -> list[str]:
    rows = [
        (
            shape["shape"], shape["rows"], spread(shape["ms"]["core"]),
            spread(shape["ms"]["sklearn"]), spread(shape["ratio"]),
        )
        for shape in of["shapes"]
    ]  # fmt: skip
    columns = ("samples x columns x classes", "rows", "ms", "ms, scikit-learn", "ratio")
    return [
        "## Exact fits beside scikit-learn",
        "",
        "On the last tap and on all: all rows and four folds, six penalties each.",
        "",
        *table(columns, rows),
    ]


def primal(of: Results) -> list[str]:
    fits = [
        (
            " x ".join(f"{size:,}" for size in fit["shape"]), number(fit["ms"]),
            number(fit["sklearn_ms"]), number(fit["ratio"]), f"{fit['sklearn_excess']:.2g}",
        )
        for fit in of["fits"]
    ]  # fmt: skip
    columns = (
        "samples x columns x classes", "ms", "ms, scikit-learn", "ratio",
        "objective of scikit-learn over ours, less 1",
    )  # fmt: skip
    ridges = [
        (
            f"{ridge['penalty']:g}", number(ridge["factorize_ms"]),
            number(ridge["leave_one_out_ms"]), number(ridge["append_ms"]),
            number(ridge["remove_ms"]), f"{ridge['drift']:.2g}",
        )
        for ridge in of["ridge"]
    ]  # fmt: skip
    return [
        "## Exact fits of many samples, and ridge",
        "",
        "All rows, six penalties, in the coordinates of the columns; one run each.",
        "",
        *table(columns, fits),
        f"Ridge of {of['ridge_samples']:,} samples of 448 columns; drift of the outputs from a "
        f"fresh solution after {of['ridge_changes']:,} samples came and went:",
        "",
        *table(
            ("penalty", "factorise, ms", "leave-one-out, ms", "append, ms", "remove, ms", "drift"),
            ridges,
        ),
    ]
