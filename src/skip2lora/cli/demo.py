"""``skip2lora demo``: the whole story in a few seconds, on simulated data."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.table import Table

from skip2lora.cli import bars, common
from skip2lora.cli import options as shared
from skip2lora.cli.help import Command
from skip2lora.cli.story import Setting, tell
from skip2lora.demo import ADAPT_EPOCHS, METHODS, DemoResult, draw_curve, run_demo
from skip2lora.errors import MissingExtraError, ParameterError

_CURVE = Path("demo") / "curve.png"


def _facts(result: DemoResult, curve: str | None) -> dict[str, Any]:
    methods = {
        method: {
            "accuracy": result.accuracy[method],
            "trainable_parameters": adapted.trainable_parameters,
            "timing": asdict(adapted.timing),
        }
        for method, adapted in result.adapted.items()
    }
    return {
        "silent_accuracy": result.silent_accuracy,
        "accuracy": result.noisy_accuracy,
        "methods": methods,
        "curve": curve,
    }


def _table(result: DemoResult) -> Table:
    table = Table(title="In the noisy room", title_justify="left")
    for column in ("adaptation", "accuracy", "trainable", "cache fill", "training"):
        table.add_column(column, justify="left" if column == "adaptation" else "right")
    table.add_row("none", common.percent(result.noisy_accuracy), "0", "-", "-")
    for method, adapted in result.adapted.items():
        timing = adapted.timing
        mark = "" if adapted.cache_bytes else "no cache: "
        table.add_row(
            METHODS[method],
            common.percent(result.accuracy[method]),
            f"{adapted.trainable_parameters:,}",
            f"{mark}{timing.cache_fill_ms:.1f} ms",
            f"{timing.training_ms:.1f} ms",
        )
    return table


def _check_no_field(context: click.Context) -> None:
    """Raise ParameterError where an option of the service was typed without the service."""
    for name in ("store", "port", "seconds", "stay"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise ParameterError(
                f"got --{name} without --field, expected both, as it is of the service: add --field"
            )


@click.command(
    cls=Command, short_help="Show the whole story on simulated data.",
    example="skip2lora demo",
)  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Seed of data and training.")
@click.option(
    "--field", is_flag=True,
    help="A service in the field instead: noise, labels, learning, with its page.",
)  # fmt: skip
@click.option(
    "--store", metavar="DIR", type=click.Path(path_type=Path),
    help="With --field: where the service stays, a new folder; its model goes beside it.",
)  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=0,
              help="With --field: port of the page.  [default: any that is free]")  # fmt: skip
@click.option(
    "--seconds", type=float, default=20.0, show_default=True,
    help="With --field: how long samples come, about; 0 is as fast as can be.",
)  # fmt: skip
@click.option("--stay", is_flag=True, help="With --field: keep the page until Ctrl-C.")
@shared.as_json
def command(seed: int, as_json: bool, field: bool, **options: Any) -> None:
    """Pre-train in a silent room, move to a noisy one, adapt.

    The data is simulated: spectra of a fan that stands still, is sound or is damaged. Writes the
    training curve to demo/curve.png.

    With --field a service meets the noise, notices it, asks for labels, learns, and refuses what
    is bad; its page shows all of it. Nothing is written unless --store says where.
    """
    if field:
        tell(Setting(seed, **options), as_json=as_json)
        return
    _check_no_field(click.get_current_context())
    with bars.progress_bar("pretrain") as callback:
        result = run_demo(seed=seed, callback=callback)
    note = ""
    try:
        draw_curve(result, _CURVE)
    except MissingExtraError as error:
        note = f"no curve: {error}"
    if as_json:
        common.show(_facts(result, None if note else str(_CURVE)), [], as_json=True)
        return
    split = result.split
    console = Console()
    widths = "-".join(map(str, result.model.widths))
    story = (
        f"A fan monitor on simulated data: {', '.join(result.model.class_names or ())}; "
        f"network {widths}.",
        f"Pre-trained on {len(split.pretrain.x)} spectra of a silent room: "
        f"{common.percent(result.silent_accuracy)} right.",
        f"Moved beside a ventilation fan: {common.percent(result.noisy_accuracy)} right.",
        f"Adapted there on {len(split.finetune.x)} spectra, {ADAPT_EPOCHS} epochs:",
    )
    console.print("\n".join(story), highlight=False)
    console.print(_table(result))
    console.print("cache fill: forward pass of the frozen layers; without a cache, every epoch.")
    console.print(note or f"Training curve: {_CURVE}", highlight=False, markup=False)
