"""``report.json`` and one self-contained ``report.html``: numbers, figures, machine, versions."""

from __future__ import annotations

import base64
import html
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from skip2lora import _core
from skip2lora.drawing import new_figure, png
from skip2lora.errors import ModelError
from skip2lora.files import write_together
from skip2lora.limits import check_file
from skip2lora.machine import cpu_name
from skip2lora.paper.figure4 import Figure4, draw, missing_lines, rows
from skip2lora.paper.printed import TASK_NAMES
from skip2lora.paper.tables import Curve, Grid, Measured
from skip2lora.system import n_cores

VERSION = 1
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}
th,td{border:1px solid #ccc;padding:.35rem .6rem;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
.paper{color:#666;font-size:.85em}
img{max-width:100%}
"""


def machine() -> dict[str, str]:
    """Processor, system and versions that the numbers depend on."""
    return {
        "processor": cpu_name(),
        "cores": str(n_cores()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "skip2lora": version("skip2lora"),
        "kernels": _core.kernels(),
    }


def facts_of(
    tables: Sequence[Measured], curves: dict[str, Curve], figure4: Figure4 | None = None, *,
    n_trials: int,
) -> dict[str, Any]:  # fmt: skip
    """Everything in the report, for a machine."""
    return {
        "version": VERSION,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "trials": n_trials,
        "seeds": f"0 to {n_trials - 1}",
        "machine": machine(),
        "tables": [table.facts() for table in tables],
        "figure3": {task: asdict(curve) for task, curve in curves.items()},
        "figure4": figure4.facts() if figure4 else None,
    }


def check_report(out: Path) -> None:
    """Raise ModelError if ``out`` holds a report of another version."""
    file = out / "report.json"
    if not file.exists():
        return
    try:
        check_file(file, "a report")
        written = json.loads(file.read_text(encoding="utf-8")).get("version")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{file} cannot be read ({error}), expected a report of version {VERSION}: choose "
            "another folder"
        ) from error
    if written != VERSION:
        raise ModelError(
            f"{file} is of version {written}, expected {VERSION} as it is not mixed with new "
            "trials: choose another folder"
        )


def draw_figure3(curves: dict[str, Curve]) -> bytes:
    """Training curves with the required epochs marked, as PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = new_figure(figsize=(4.2 * len(curves), 3.6), layout="constrained")
    for axes, (task, curve) in zip(
        figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True
    ):
        epochs = range(1, len(curve.accuracy) + 1)
        axes.plot(epochs, curve.accuracy, color="#1f5fa8")
        axes.axvline(
            curve.required_epochs,
            color="#1f5fa8",
            linestyle="--",
            linewidth=1,
            label=f"required here: {curve.required_epochs}",
        )
        axes.axvline(
            curve.paper_epochs,
            color="#b0722a",
            linestyle=":",
            linewidth=1.5,
            label=f"required in the paper: {curve.paper_epochs}",
        )
        axes.set(title=TASK_NAMES[task], xlabel="epochs", ylabel="test accuracy (%)")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize="small")
    return png(figure)


def write_report(
    out: Path, facts: dict[str, Any], tables: Sequence[Measured], curves: dict[str, Curve],
    figure4: Figure4 | None = None,
) -> None:  # fmt: skip
    """Write ``report.json`` and ``report.html`` into ``out``.

    Raises:
        FileError: the system refused.
        MissingExtraError: a figure needs matplotlib, which is not installed.
    """
    page = _page(facts, tables, curves, figure4)
    text = json.dumps(facts, indent=1) + "\n"
    write_together(
        {
            out / "report.json": lambda path: path.write_bytes(text.encode()),
            out / "report.html": lambda path: path.write_bytes(page.encode()),
        }
    )


def _page(
    facts: dict[str, Any], tables: Sequence[Measured], curves: dict[str, Curve],
    figure4: Figure4 | None,
) -> str:  # fmt: skip
    parts = [
        f"<p>{facts['trials']} trials, seeds {facts['seeds']}, {facts['date']}. In each cell: "
        "measured here, of accuracies mean and sample standard deviation; below it the paper's "
        "number and the difference.</p>"
    ]
    parts += [_table(grid) for table in tables for grid in table.grids()]
    if curves:
        image = base64.b64encode(draw_figure3(curves)).decode("ascii")
        parts.append("<h2>Figure 3: training curves of Skip2-LoRA</h2>")
        parts.append(f'<img alt="Test accuracy by epoch" src="data:image/png;base64,{image}">')
        parts.append(_required(curves))
    if figure4:
        parts += _power(figure4)
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>"
        for name, value in {**facts["machine"], "command": " ".join(sys.argv[1:])}.items()
    )
    parts.append(f"<h2>Machine and versions</h2><table>{rows}</table>")
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Skip2-LoRA re-measured</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>Skip2-LoRA re-measured</h1>\n{body}\n</body></html>\n"
    )


def _table(grid: Grid) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in grid.head)
    rows = "".join(f"<tr>{''.join(map(_td, row))}</tr>" for row in grid.rows)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in grid.notes)
    return f"<h2>{html.escape(grid.title)}</h2><table><tr>{head}</tr>{rows}</table>{notes}"


def _td(text: str) -> str:
    ours, *beside = map(html.escape, text.split("\n"))
    below = f'<br><span class="paper">{"<br>".join(beside)}</span>' if beside else ""
    return f"<td>{ours}{below}</td>"


def _power(figure4: Figure4) -> list[str]:
    image = base64.b64encode(draw(figure4)).decode("ascii")
    lines = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows(figure4)
    )
    return [
        "<h2>Figure 4: power while Skip2-LoRA adapts to HAR</h2>",
        f'<img alt="Power, temperature and clock by time" src="data:image/png;base64,{image}">',
        "<table><tr><th></th><th>here</th><th>in the paper, Raspberry Pi Zero 2 W</th></tr>"
        f"{lines}</table>",
        *(f"<p>{html.escape(line)}</p>" for line in missing_lines(figure4)),
    ]


def _required(curves: dict[str, Curve]) -> str:
    head = (
        "required epochs", "in the paper", "time to them here",
        "in the paper, Raspberry Pi Zero 2 W",
    )  # fmt: skip
    rows = [
        (
            TASK_NAMES[task], curve.required_epochs, curve.paper_epochs,
            f"{curve.required_ms:.2f} ms", f"{curve.paper_seconds:.2f} s",
        )
        for task, curve in curves.items()
    ]  # fmt: skip
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr><th></th>{''.join(f'<th>{h}</th>' for h in head)}</tr>{lines}</table>"
