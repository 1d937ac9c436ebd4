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

from skip2lora.cli import common, figure4, power
from skip2lora.costs import FC_TYPES, LORA_TYPES, fc_cost, lora_cost, method_costs
from skip2lora.errors import ParameterError
from skip2lora.options import whole
from skip2lora.paper import report
from skip2lora.paper.figure4 import Figure4
from skip2lora.paper.figure4 import draw as draw_figure4
from skip2lora.paper.printed import TASK_NAMES
from skip2lora.paper.protocol import BATCH_SIZE, RANK, TASKS
from skip2lora.paper.tables import Curve, Table, figure3, jobs_of, table3, table4, table5
from skip2lora.paper.trials import Job, run_trials

_PARTS = {
    "table1": (),
    "table3": ("before-after",),
    "table4": ("methods", "tuned"),
    "table5": ("tinytl",),
    "fig3": ("curve",),
    "fig4": (),
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
    for note in table.notes:
        console.print(note, highlight=False)
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


def _widths(context: click.Context, parameter: click.Parameter, text: str) -> list[int]:
    del context, parameter
    words = text.split("-")
    if len(words) < 3 or not all(word.isdigit() and int(word) > 0 for word in words):
        raise ParameterError(f"--net is {text!r}, expected widths such as 256-96-96-3")
    return [int(word) for word in words]


def _show_costs(net: list[int], *, as_json: bool) -> None:
    """Table 1, and what the paper omits for space."""
    n_in, n_out = net[0], net[1]
    types = {f"FC_{of}": fc_cost(of, BATCH_SIZE, n_in, n_out) for of in FC_TYPES}
    types |= {f"LoRA_{of}": lora_cost(of, BATCH_SIZE, n_in, n_out, RANK) for of in LORA_TYPES}
    epochs = TASKS["damage1"].epochs
    costs = method_costs(net, batch=BATCH_SIZE, rank=RANK, epochs=epochs)
    if as_json:
        facts = {"types": types, "methods": costs}
        common.show(
            {kind: {name: asdict(cost) for name, cost in of.items()} for kind, of in facts.items()},
            [], as_json=True,
        )  # fmt: skip
        return
    titles = {
        f"Table 1: compute types of a layer {n_in}-{n_out}, batch {BATCH_SIZE}, rank {RANK}": types,
        f"Methods on {'-'.join(map(str, net))}, a batch in the mean over {epochs} epochs": costs,
    }
    for title, rows in titles.items():
        shown = RichTable(title=title, title_justify="left")
        for column in ("", "forward kFLOP", "backward kFLOP", "KiB touched"):
            shown.add_column(column, justify="right" if column else "left")
        for name, cost in rows.items():
            kilo = [f"{number / 1000:,.1f}" for number in (cost.forward, cost.backward)]
            shown.add_row(name, *kilo, f"{cost.n_bytes / 1024:,.1f}")
        Console().print(shown)


@click.command(short_help="Re-measure the paper's tables and figures.")
@click.argument("what", type=click.Choice(list(_PARTS)))
@click.option(
    "--data", metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
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
@click.option(
    "--net", default="256-96-96-3", show_default=True, callback=_widths, help="Of table1."
)
@click.option("--tinytl", is_flag=True, help="Table 5 in `all` too (PyTorch; hours for 20 trials).")
@figure4.idle_option
@power.sensor_options
@common.as_json
def command(
    what: str, data: Path | None, tasks: tuple[str, ...], trials: int, out: Path, net: list[int],
    tinytl: bool, idle_s: float, i2c: str | None, shunt_ohms: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Re-measure a table or figure of the paper, or all of them with a report.

    Trials run side by side on all cores. What is done is kept in DIR/trials: a stopped run goes on
    where it stopped.
    """
    whole("trials", trials, 1)
    if what == "table1":
        _show_costs(net, as_json=as_json)
        return
    if data is None:
        raise ParameterError(f"{what} needs --data: the folder of the recordings and of HAR")
    report.check_report(out)
    chosen = tasks or tuple(TASKS)
    parts = (*_PARTS[what], "tinytl") if what == "all" and tinytl else _PARTS[what]
    if parts:
        _run(out, data, jobs_of(parts, chosen, trials))
    tables = [
        make(out, chosen, trials)
        for name, make in {"table3": table3, "table4": table4, "table5": table5}.items()
        if what == name or (what == "all" and (name != "table5" or tinytl))
    ]
    curves = figure3(out, chosen, trials) if what in ("fig3", "all") else {}
    powered = None
    if what == "fig4" or (what == "all" and "har" in chosen):
        powered = figure4.run_figure4(out, data, idle_s, i2c, shunt_ohms)
    _show(what, out, tables, curves, powered, trials, as_json=as_json)


def _show(
    what: str, out: Path, tables: list[Table], curves: dict[str, Curve], powered: Figure4 | None,
    trials: int, *, as_json: bool,
) -> None:  # fmt: skip
    facts: dict[str, Any] = {
        "tables": [table.facts() for table in tables],
        "figure3": {task: asdict(curve) for task, curve in curves.items()},
        "figure4": powered.facts() if powered else None,
    }
    if what == "all":
        facts = report.facts_of(tables, curves, powered, n_trials=trials)
        report.write_report(out, facts, tables, curves, powered)
    if what == "fig3":
        image = report.draw_figure3(curves)
        report.write_bytes(out / "fig3.png", image)
    if powered:
        report.write_bytes(out / "fig4.png", draw_figure4(powered))
    if as_json:
        common.show(facts, [], as_json=True)
        return
    for table in tables:
        _print_table(table)
    if curves:
        _print_curves(curves)
    if powered:
        figure4.print_figure4(powered)
    if what in ("all", "fig3", "fig4"):
        click.echo(f"written: {out / ('report.html' if what == 'all' else f'{what}.png')}")
