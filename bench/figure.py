"""The figure of docs/performance.md: time against each variable, with the fitted line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def draw(of: Mapping[str, Any], path: Path) -> None:
    """Write one log-log panel a variable; equal results give an equal SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    curves = of["curves"]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "growth", "font.size": 9}):
        figure = Figure(figsize=(10, 5.8), layout="constrained")
        panels = figure.subplots(2, 3).flat
        for axes, curve in zip(panels, curves.values(), strict=False):
            _panel(axes, curve)
        for axes in list(figure.axes)[len(curves) :]:
            axes.set_axis_off()
            handles, labels = figure.axes[0].get_legend_handles_labels()
            axes.legend(handles, labels, loc="center", frameon=False, fontsize=10)
        kind = path.suffix[1:]
        figure.savefig(path, format=kind, metadata={"Date": None} if kind == "svg" else None)


def _panel(axes: Any, curve: Mapping[str, Any]) -> None:
    points, fitted = curve["points"], curve["fit"]
    x = [point["x"] for point in points]
    median, low, high = (
        [point["us"][name] for point in points] for name in ("median", "smallest", "largest")
    )
    scale, unit = (1e-3, "ms") if max(median) >= 1e4 else (1.0, "us")
    scaled = [scale * value for value in median]
    off = [
        [scale * (m - a) for m, a in zip(median, low, strict=True)],
        [scale * (b - m) for m, b in zip(median, high, strict=True)],
    ]
    first, last = x[0], x[-1]
    steps = [first * (last / first) ** (k / 40) for k in range(41)]
    line = [scale * (fitted["a"] + fitted["b"] * step) for step in steps]
    axes.plot(steps, line, color="#b0722a", linewidth=1.3, label="fit a + b x")
    axes.errorbar(
        x, scaled, yerr=off, fmt="o", markersize=4, color="#1f5fa8", elinewidth=1,
        label="median (smallest to largest)",
    )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel=curve["title"], ylabel=f"{unit} a {curve['unit']}")
    axes.set_ylabel(axes.get_ylabel().replace("a epoch", "an epoch"))
    axes.set_title(f"R² {fitted['r2']:.3f}, exponent {fitted['exponent']:.2f}", fontsize=9)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.grid(alpha=0.3)
