"""``skip2lora fill``: rows of a model into a folder, whole or a part in each of many processes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from skip2lora.adapters.store import CacheFolder
from skip2lora.backbones.base import load_for_images
from skip2lora.cli import common
from skip2lora.cli import options as shared
from skip2lora.cli.bars import counting_bar
from skip2lora.cli.common import read_to_predict
from skip2lora.cli.help import Command
from skip2lora.data.image_layout import layout_of
from skip2lora.errors import ParameterError
from skip2lora.training.filled import Filled, fill


def _shard(_: click.Context, __: click.Parameter, text: str) -> tuple[int, int]:
    """Written as 1/4."""
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal()):
        raise ParameterError(
            f"--shard is {text}, expected a number of how many, such as 1/4: correct it"
        )
    return int(number), int(of)


@click.command(
    cls=Command, short_help="Compute what adapt needs of MODEL, on many machines.",
    example="skip2lora fill model.onnx field.npz --cache-dir rows --shard 1/4",
)  # fmt: skip
@shared.model_argument
@shared.data_argument
@click.option(
    "--cache-dir", metavar="DIR", required=True, type=click.Path(path_type=Path),
    help="Folder that keeps the rows, as of adapt; any number of processes may share it.",
)  # fmt: skip
@click.option(
    "--shard", metavar="I/N", default="0/1", callback=_shard,
    help="Compute part I of N, from 0 or from 1 on, and leave the others to others. Default: all.",
)  # fmt: skip
@shared.columns
@shared.no_target
@shared.taps
@shared.grid
@shared.threads
@shared.output_name
@shared.mask
@shared.image_options
@shared.as_json
def command(
    model: Path, data: Path, cache_dir: Path, shard: tuple[int, int], as_json: bool, **options: Any
) -> None:
    """Compute the rows of MODEL for the samples in DATA, as far as DIR lacks them.

    Training then reads them: adapt with the same --cache-dir asks nothing of MODEL. What was
    computed stays whatever ends a run, and the next one goes on from there. Answers in DATA are not
    needed, and no features.
    """
    filled = fill_shard(model, data, cache_dir, shard, options)
    facts = {
        "cache_dir": str(cache_dir), **asdict(filled), "shard": shard[0] % max(1, shard[1]),
        "n_shards": shard[1],
    }  # fmt: skip
    common.show(facts, _lines(cache_dir, filled, shard), as_json=as_json)


def fill_shard(
    model: Path, data: Path, cache_dir: Path, shard: tuple[int, int], options: dict[str, Any]
) -> Filled:
    """As :func:`fill`, of files; ``options`` are those of the command, of model and data."""
    options = dict(options)
    images, columns = common.images_of(options), common.columns_of(options, "train")
    output, size = options.pop("output_name"), None if images is None else images.size
    backbone = load_for_images(model, size, output=output, **options)
    common.say_output(backbone)
    table = read_to_predict(backbone, data, columns=columns, task=None, images=images)
    resolved = None if table.images is None else table.images.resolved(layout_of(backbone.inputs))
    with counting_bar("cache") as progress:
        return fill(
            backbone, table.x, CacheFolder(cache_dir), shard=shard, images=resolved,
            columns=table.columns, progress=progress,
        )  # fmt: skip


def _lines(folder: Path, filled: Filled, shard: tuple[int, int]) -> list[str]:
    number, n_shards = shard
    of = "" if n_shards == 1 else f", shard {number}/{n_shards}"
    there = "rows of other shards are missing"
    if filled.digest is not None:
        there = f"all rows are there, SHA-256 {filled.digest}"
    return [
        f"{folder}: {filled.n_samples:,} samples{of}, {filled.n_forwards:,} computed now; {there}"
    ]
