"""``skip2lora paper``: the paper's tables and figures, re-measured beside the printed numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as RichTable

from skip2lora.cli import common
from skip2lora.options import whole
from skip2lora.paper import report
from skip2lora.paper.printed import TASK_NAMES
from skip2lora.paper.protocol import TASKS
from skip2lora.paper.tables import Curve, Table, figure3, jobs_of, table3, table4
from skip2lora.paper.trials import Job, run_trials

_PARTS = {
    "table3": ("before-after",),
    "table4": ("methods", "tuned"),
    "fig3": ("curve",),
    "all": ("before-after", "methods", "tuned", "curve"),
}


def _run(out: Path, data: Path, jobs: Sequence[Job]) -> None:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        bar = progress.add_task("trials", total=len(jobs))
        for _ in run_trials(out, data, jobs):
            progress.advance(bar)


def _print_table(table: Table) -> None:
    # Tasks as columns: eight methods beside each other fit no terminal.
    shown = RichTable(title=table.title, title_justify="left", show_lines=True)
    shown.add_column("")
    for task in table.cells:
        shown.add_column(TASK_NAMES[task], justify="right")
    for column in table.columns:
        shown.add_row(column, *(row[column].text() for row in table.cells.values()))
    console = Console()
    console.print(shown)
    console.print("Above: measured here. Below: the paper's number (ours less the paper's).")


def _print_curves(curves: dict[str, Curve]) -> None:
    shown = RichTable(title="Figure 3: epochs to within a point of the last", title_justify="left")
    for column in ("", "epochs", "paper", "time", "paper (Raspberry Pi Zero 2 W)"):
        shown.add_column(column, justify="right" if column else "left")
    for task, curve in curves.items():
        shown.add_row(
            TASK_NAMES[task], str(curve.required_epochs), str(curve.paper_epochs),
            f"{curve.required_ms:.2f} ms", f"{curve.paper_seconds:.2f} s",
        )  # fmt: skip
    Console().print(shown)


@click.command(short_help="Re-measure the paper's tables and figures.")
@click.argument("what", type=click.Choice(list(_PARTS)))
@click.option(
    "--data", required=True, metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
    help="Folder with the fan recordings (or cooling-fan/) and the HAR data (har/).",
)  # fmt: skip
@click.option(
    "--task", "tasks", multiple=True, type=click.Choice(list(TASKS)), help="Default: all."
)
@click.option("--trials", default=20, show_default=True, help="Seeds 0, 1, ... of each task.")
@click.option(
    "--out", default="report", show_default=True, metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False), help="Kept trials, report.html, report.json.",
)  # fmt: skip
@common.as_json
def command(
    what: str, data: Path, tasks: tuple[str, ...], trials: int, out: Path, as_json: bool
) -> None:
    """Re-measure a table or figure of the paper, or all of them with a report.

    Trials run side by side on all cores. What is done is kept in DIR/trials: a stopped run goes on
    where it stopped.
    """
    whole("trials", trials, 1)
    report.check_report(out)
    chosen = tasks or tuple(TASKS)
    _run(out, data, jobs_of(_PARTS[what], chosen, trials))
    tables = []
    if what in ("table3", "all"):
        tables.append(table3(out, chosen, trials))
    if what in ("table4", "all"):
        tables.append(table4(out, chosen, trials))
    curves = figure3(out, chosen, trials) if what in ("fig3", "all") else {}
    _show(what, out, tables, curves, trials, as_json=as_json)


def _show(
    what: str, out: Path, tables: list[Table], curves: dict[str, Curve], trials: int, *,
    as_json: bool,
) -> None:  # fmt: skip
    facts: dict[str, Any] = {
        "tables": [table.facts() for table in tables],
        "figure3": {task: asdict(curve) for task, curve in curves.items()},
    }
    if what == "all":
        facts = report.facts_of(tables, curves, n_trials=trials)
        report.write_report(out, facts, tables, curves)
    if what == "fig3":
        image = report.draw_figure3(curves)
        report.write_bytes(out / "fig3.png", image)
    if as_json:
        common.show(facts, [], as_json=True)
        return
    for table in tables:
        _print_table(table)
    if curves:
        _print_curves(curves)
    if what in ("all", "fig3"):
        click.echo(f"written: {out / ('report.html' if what == 'all' else 'fig3.png')}")
