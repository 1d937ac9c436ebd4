"""``skip2lora paper``: the paper's tables and figures, re-measured beside the printed numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table as RichTable

from skip2lora.arrays import whole
from skip2lora.cli import bars, common, figure4, power
from skip2lora.cli import options as shared
from skip2lora.cli.help import Command
from skip2lora.drawing import need_matplotlib
from skip2lora.errors import ParameterError
from skip2lora.files import make_folder, write_bytes
from skip2lora.methods import METHODS
from skip2lora.paper import cache, report
from skip2lora.paper.figure4 import Figure4
from skip2lora.paper.figure4 import draw as draw_figure4
from skip2lora.paper.printed import TASK_NAMES
from skip2lora.paper.protocol import BATCH_SIZE, RANK, TASKS
from skip2lora.paper.tables import Curve, Grid, Measured, figure3, jobs_of, table3, table4, table5
from skip2lora.paper.timing_tables import LayerTable, TimeTable
from skip2lora.paper.timings import time_layers, time_methods
from skip2lora.paper.trials import Job, run_trials
from skip2lora.training.costs import FC_TYPES, LORA_TYPES, fc_cost, lora_cost, method_costs

_TINYTL = ("tinytl-gn", "tinytl-bn")
_PARTS = {
    "table1": (),
    "table2": (),
    "table3": ("before-after",),
    "table4": ("methods", "tuned"),
    "table5": _TINYTL,
    "table6": (),
    "table7": (),
    "fig3": ("curve",),
    "fig4": (),
    "cache": (),
    "all": ("before-after", "methods", "tuned", "curve"),
}
#: The data sets that a table of times is of, and the tasks whose data are such.
_TIMED = {"table2": ("fan", "har"), "table6": ("fan",), "table7": ("har",)}
_TASKS_OF = {"fan": ("damage1", "damage2"), "har": ("har",)}
#: What is measured anew, alone, and of how many runs.
_ALONE = (*_TIMED, "cache")
_TRIALS, _TIMED_RUNS = 20, 5


def _run(out: Path, data: Path, jobs: Sequence[Job]) -> None:
    with bars.rounds_bar("trials", len(jobs)) as advance:
        for _ in run_trials(out, data, jobs):
            advance()


def _timed_tasks(what: str, tasks: Sequence[str]) -> dict[str, str]:
    """The task that stands for each data set of a table: the two of the fan take the same time."""
    known = {dataset: _TASKS_OF[dataset] for dataset in _TIMED[what]}
    chosen = {
        dataset: next(task for task in of if task in tasks)
        for dataset, of in known.items()
        if any(task in tasks for task in of)
    }
    if not chosen:
        expected = ", ".join(task for of in known.values() for task in of)
        raise ParameterError(
            f"{what} is of {expected}, got --task {', '.join(tasks)}, expected one of those: leave "
            "--task out"
        )
    return chosen


def _measure(what: str, data: Path, tasks: Sequence[str], n_runs: int) -> Measured:
    """A table of times."""
    chosen, machine = _timed_tasks(what, tasks), report.machine()
    a_run = 1 if what == "table2" else len(METHODS)
    with bars.rounds_bar(f"{what}, runs", len(chosen) * n_runs * a_run) as advance:
        if what == "table2":
            layers = [
                time_layers(dataset, task, data, n_runs=n_runs, follow=advance)
                for dataset, task in chosen.items()
            ]
            return LayerTable(tuple(layers), machine)
        ((dataset, task),) = chosen.items()
        times = time_methods(dataset, task, data, n_runs=n_runs, follow=advance)
        return TimeTable(times, machine)


def _measure_cache(data: Path, tasks: Sequence[str], n_trials: int) -> cache.CacheTable:
    need_matplotlib()  # a missing matplotlib is told before the run, not after it
    rounds = len(tasks) * n_trials * len(cache.CHOICES)
    with bars.rounds_bar("cache, trainings", rounds) as advance:
        return cache.measure(tasks, data, report.machine(), n_trials=n_trials, follow=advance)


def _print_grid(grid: Grid) -> None:
    shown = RichTable(title=grid.title, title_justify="left", show_lines=True)
    for place, name in enumerate(grid.head):
        shown.add_column(name, justify="right" if place else "left", overflow="fold")
    for row in grid.rows:
        shown.add_row(*row)
    console = Console()
    console.print(shown)
    for note in grid.notes:
        console.print(note, highlight=False)


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


@click.command(
    cls=Command, short_help="Re-measure the paper's tables and figures.",
    example="skip2lora paper table4 --data fan-recordings --trials 3",
)  # fmt: skip
@click.argument("what", type=click.Choice(list(_PARTS)))
@click.option(
    "--data", metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
    help="Folder with the fan recordings (or cooling-fan/) and the HAR data (har/).",
)  # fmt: skip
@click.option(
    "--task", "tasks", multiple=True, type=click.Choice(list(TASKS)), help="Default: all."
)
@click.option(
    "--trials", type=int, metavar="N",
    help=f"Seeds 0, 1, ... of each task (default: {_TRIALS}); of table2, 6, 7 and cache, runs to "
    f"take the median of (default: {_TIMED_RUNS}).",
)  # fmt: skip
@click.option(
    "--out", default="report", show_default=True, metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False), help="Kept trials, report.html, report.json.",
)  # fmt: skip
@click.option(
    "--net",
    default="256-96-96-3",
    show_default=True,
    help="Of table1.",
    callback=shared.widths("256-96-96-3", at_least=3),
)
@click.option("--tinytl", is_flag=True, help="Table 5 in `all` too (PyTorch; hours for 20 trials).")
@figure4.idle_option
@power.sensor_options
@shared.as_json
def command(
    what: str, data: Path | None, tasks: tuple[str, ...], trials: int | None, out: Path,
    net: list[int], as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Re-measure a table or figure of the paper, or all of them with a report.

    Trials run side by side on all cores. What is done is kept in DIR/trials: a stopped run goes on
    where it stopped. Times (table2, table6, table7) are measured anew, alone on one core, and
    written to DIR with the machine they are of; `cache`, the trade-off between the size of the
    Skip-Cache, time and accuracy, too.
    """
    default = _TIMED_RUNS if what in _ALONE else _TRIALS
    trials = whole("trials", default if trials is None else trials, 1)
    if what == "table1":
        _show_costs(net, as_json=as_json)
        return
    if data is None:
        raise ParameterError(
            f"{what} needs --data, the folder of the recordings and of HAR: name it"
        )
    report.check_report(out)
    chosen = tasks or tuple(TASKS)
    timed = _timed_tables(what, chosen)
    parts = (*_PARTS[what], *_TINYTL) if what == "all" and options["tinytl"] else _PARTS[what]
    if parts:
        _run(out, data, jobs_of(parts, chosen, trials))
    tables: list[Measured] = [
        make(out, chosen, trials)
        for name, make in {"table3": table3, "table4": table4, "table5": table5}.items()
        if what == name or (what == "all" and (name != "table5" or options["tinytl"]))
    ]
    for name in timed:  # last, when no trial runs beside them
        runs = trials if name == what else min(trials, _TIMED_RUNS)
        tables.append(_measure(name, data, chosen, runs))
        _keep(out, name, tables[-1])
    if what == "cache":
        tables.append(_measure_cache(data, chosen, trials))
        _keep(out, what, tables[-1])
    curves = figure3(out, chosen, trials) if what in ("fig3", "all") else {}
    powered = None
    if what == "fig4" or (what == "all" and "har" in chosen):
        powered = figure4.run_figure4(
            out, data, *(options[name] for name in ("idle_s", "i2c", "shunt_ohms"))
        )
    _show(what, out, tables, curves, powered, trials, as_json=as_json)


def _timed_tables(what: str, tasks: Sequence[str]) -> list[str]:
    """The tables of times that are asked for and that these tasks have."""
    if what != "all":
        return [what] if what in _TIMED and _timed_tasks(what, tasks) else []
    return [
        name
        for name, datasets in _TIMED.items()
        if any(task in tasks for dataset in datasets for task in _TASKS_OF[dataset])
    ]


def _keep(out: Path, name: str, table: Measured) -> None:
    make_folder(out)
    write_bytes(out / f"{name}.json", (json.dumps(table.facts(), indent=1) + "\n").encode())


def _show(
    what: str, out: Path, tables: list[Measured], curves: dict[str, Curve],
    powered: Figure4 | None, trials: int, *, as_json: bool,
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
        write_bytes(out / "fig3.png", image)
    if powered:
        write_bytes(out / "fig4.png", draw_figure4(powered))
    for table in tables:
        if isinstance(table, cache.CacheTable):
            write_bytes(out / "cache.png", cache.draw(table))
    if as_json:
        common.show(facts, [], as_json=True)
        return
    for table in tables:
        for grid in table.grids():
            _print_grid(grid)
    if curves:
        _print_curves(curves)
    if powered:
        figure4.print_figure4(powered)
    written = {"all": "report.html", "fig3": "fig3.png", "fig4": "fig4.png"}
    written["cache"] = "cache.png and cache.json"
    written |= {name: f"{name}.json" for name in _TIMED}
    if what in written:
        click.echo(f"written: {out / written[what]}")
