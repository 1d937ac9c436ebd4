"""Figure 4 of ``skip2lora paper``: records it and prints it."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table as RichTable

from skip2lora.arrays import real
from skip2lora.cli import power
from skip2lora.drawing import need_matplotlib
from skip2lora.files import make_folder
from skip2lora.paper import figure4
from skip2lora.paper.figure4 import Figure4
from skip2lora.paper.printed import FIGURE4

idle_option = click.option(
    "--idle", "idle_s", default=FIGURE4["start_s"], show_default=True,
    metavar="FLOAT", type=power.checked(
        click.FLOAT, lambda value: real("--idle", value, 0, 600, "0 to 600 seconds")
    ),
    help="Of fig4: seconds recorded before.",
)  # fmt: skip


def run_figure4(
    out: Path, data: Path, idle_s: float, i2c: str | None, shunt_ohms: float | None
) -> Figure4:
    """Record it; where standard error is a terminal it shows that something goes on.

    Raises:
        FileError: ``out`` cannot be made, or the data are missing.
        MissingExtraError: matplotlib is not installed.
    """
    need_matplotlib()  # a missing matplotlib is told before the run, not after it
    instruments = power.sensors_for(i2c, shunt_ohms)
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(f"figure 4: pre-training, then {idle_s:g} s of rest and the run"):
            figure = figure4.measure(data, instruments, idle_s=idle_s)
    else:
        figure = figure4.measure(data, instruments, idle_s=idle_s)
    make_folder(out)
    return figure


def print_figure4(figure: Figure4) -> None:
    """Measured here beside the paper, and what could not be read."""
    shown = RichTable(title="Figure 4: power while adapting to HAR", title_justify="left")
    for column in ("", "here", "paper (Raspberry Pi Zero 2 W)"):
        shown.add_column(column, justify="right" if column else "left")
    for row in figure4.rows(figure):
        shown.add_row(*row)
    Console().print(shown)
    for line in figure4.missing_lines(figure):
        click.echo(line)
