"""``skip2lora merge``: the adapters of many devices as one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from skip2lora.adapted import RESULT_FILES
from skip2lora.cli import common
from skip2lora.cli import options as shared
from skip2lora.cli.help import Command
from skip2lora.errors import ParameterError
from skip2lora.files import check_output, holding
from skip2lora.fleet.merging import Merged, merge


@click.command(
    cls=Command, short_help="Average the adapters of many devices.",
    example="skip2lora merge fan-1 fan-2 fan-3 --weights 120,80,300 -o fans",
)  # fmt: skip
@click.argument("adapters", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--weights", "shares", metavar="W,W,...",
    callback=lambda _context, _option, text: _numbers(text),
    help="How much each counts, such as its number of samples.  [default: all the same]",
)  # fmt: skip
@click.option(
    "--rank", type=click.IntRange(min=1),
    help="Of the result; exact from the number of outputs on.  [default: the largest there is]",
)  # fmt: skip
@shared.output("Folder of the merged adapter.", metavar="FOLDER")
@shared.force
@shared.as_json
def command(
    adapters: tuple[Path, ...], shares: list[float] | None, rank: int | None, output: Path,
    force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write the weighted mean of what ADAPTERS, of one model, add to its logits.

    They were learned apart, with the same options. The result is one more adapter: what it is worth
    at a device, that device's own samples say (evaluate).
    """
    check_output(output, force=force, names=RESULT_FILES)
    with holding(output):
        merged = merge(adapters, output, weights=shares, rank=rank)
    common.show({"output": str(output), **asdict(merged)}, _lines(merged, output), as_json=as_json)


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ParameterError(
            f"weights are {text}, expected numbers with commas between: correct them"
        ) from error


def _lines(merged: Merged, output: Path) -> list[str]:
    lost = (
        f", {merged.lost:.1%} of the squares lost" if merged.rank < merged.n_outputs else ", exact"
    )
    shares = ", ".join(f"{share:.0%}" for share in merged.weights)
    return [
        f"{output}: {merged.n_adapters} adapters ({shares}), rank {merged.rank}{lost}, "
        f"{merged.trainable_parameters:,} numbers"
    ]
