"""``skip2lora fill``: rows of a model into a folder, whole or a part in each of many processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from skip2lora.adapters.store import CacheFolder
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.loading import load_for_images
from skip2lora.backbones.taps import SAMPLES_AT_ONCE
from skip2lora.cli import common
from skip2lora.cli import options as shared
from skip2lora.cli.bars import counting_bar
from skip2lora.cli.common import read_to_predict
from skip2lora.cli.help import Command
from skip2lora.cli.learning import files_known_to
from skip2lora.cli.media import media_of, media_options, stream_group
from skip2lora.data.lazy import LazySamples
from skip2lora.data.media import Media
from skip2lora.data.stored import CheckedHere, StoredArray
from skip2lora.engine import engine_at
from skip2lora.errors import ParameterError
from skip2lora.files import WRITTEN
from skip2lora.tasks.columns import Columns
from skip2lora.training.filled import Filled, fill, part_of_shard
from skip2lora.training.running import Progress

_TURNS = 16  # shards a worker computes, so that none waits long for the last


def _shard(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """Written as 1/4."""
    if text is None:
        return None
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
    "--shard", metavar="I/N", callback=_shard,
    help="Compute part I of N, from 0 or from 1 on, and leave the others to others. Default: all.",
)  # fmt: skip
@shared.engine
@shared.columns
@shared.no_target
@shared.taps
@shared.grid
@shared.threads
@shared.output_name
@shared.mask
@media_options
@stream_group
@shared.as_json
def command(
    model: Path, data: Path, cache_dir: Path, shard: tuple[int, int] | None, engine: str | None,
    as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Compute the rows of MODEL for the samples in DATA, as far as DIR lacks them.

    Training then reads them: adapt with the same --cache-dir asks nothing of MODEL. What was
    computed stays whatever ends a run, and the next one goes on from there. Answers in DATA are not
    needed, and no features.
    """
    with _telling_of(cache_dir):
        if engine is None:
            opened, shard = _open(model, data, cache_dir, options), shard or (0, 1)
            with counting_bar("cache") as progress:
                filled, n_shards = _fill(opened, shard, digest=True, progress=progress), shard[1]
        else:
            _check_alone(data, shard)
            filled, n_shards = _filled_on(engine, model, data, cache_dir, options)
    number = None if shard is None else shard[0] % n_shards
    facts = {
        "cache_dir": str(cache_dir), **asdict(filled), "shard": number, "n_shards": n_shards,
        "engine": engine,
    }  # fmt: skip
    lines = [_line(cache_dir, filled, None if shard is None else shard[0], n_shards)]
    common.show(facts, lines, as_json=as_json)


@contextmanager
def _telling_of(cache_dir: Path) -> Iterator[None]:
    """Where this is stopped, say that rows are kept, if any are."""
    try:
        yield
    except KeyboardInterrupt:
        if any(cache_dir.glob("*.npy")):
            WRITTEN.append(cache_dir)
        raise


def _check_alone(data: Path, shard: tuple[int, int] | None) -> None:
    """Raise ParameterError for what cannot be beside ``--engine``."""
    if shard is not None:
        raise ParameterError(
            f"--shard is {shard[0]}/{shard[1]} beside --engine, which shares out the samples "
            "itself, expected one of them: leave one out"
        )
    if str(data) == "-":
        raise ParameterError(
            "DATA is - with --engine, whose workers cannot read standard input, expected a file "
            "that all of them see: name one"
        )


@dataclass(frozen=True, eq=False)
class _Opened:
    """A model, and samples that are read where they are needed."""

    model: Backbone
    x: Any
    columns: Columns
    images: Media | None
    cache: CacheFolder


def _open(
    model: Path,
    data: Path,
    cache_dir: Path,
    options: Mapping[str, Any],
    checked: CheckedHere | None = None,
) -> _Opened:
    """``options`` are those of the command, of model and data; ``checked`` was so elsewhere."""
    loading = dict(options)
    images, columns = media_of(loading, data), common.columns_of(loading, "train")
    output, size = loading.pop("output_name"), None if images is None else images.size
    backbone = load_for_images(model, size, output=output, **loading)
    common.say_output(backbone)
    cache = CacheFolder(cache_dir)
    columns |= files_known_to(cache) if checked is None else {"checked": checked}
    table = read_to_predict(backbone, data, columns=columns, task=None, images=images)
    resolved = None if table.images is None else table.images.resolved(backbone.inputs)
    return _Opened(backbone, table.x, table.columns, resolved, cache)


def _fill(
    opened: _Opened,
    shard: tuple[int, int],
    *,
    digest: bool = False,
    progress: Progress | None = None,
) -> Filled:
    return fill(
        opened.model, opened.x, opened.cache, shard=shard, digest=digest,
        images=opened.images, columns=opened.columns, progress=progress,
    )  # fmt: skip


def _filled_on(
    engine: str, model: Path, data: Path, cache_dir: Path, options: Mapping[str, Any]
) -> tuple[Filled, int]:
    """What a cluster filled, and in how many shards; the digest is of what is there then."""
    model, data, folder = (path.resolve() for path in (model, data, cache_dir))  # for all workers
    opening, n_forwards, n_done = partial(_open, model, data, folder, options), 0, 0
    with engine_at(engine) as cluster:
        opened = opening()
        source = opened.x.source if isinstance(opened.x, LazySamples) else None
        if isinstance(source, StoredArray):  # which each worker need not read whole
            opening = partial(opening, checked=CheckedHere(source.mark))
        n_shards = max(1, min(-(-len(opened.x) // SAMPLES_AT_ONCE), _TURNS * cluster.n_at_once))
        shards = [(number, n_shards) for number in range(n_shards)]
        with counting_bar("cache") as progress:
            for number, filled in cluster.results(opening, _fill, shards):
                start, end = part_of_shard(len(opened.x), shards[number])
                n_forwards, n_done = n_forwards + filled.n_forwards, n_done + end - start
                if progress is not None:
                    progress(n_done, len(opened.x))
    opened.cache.known.look_again()  # workers on this machine have hashed the samples
    whole = _fill(opened, (0, 1), digest=True)
    return replace(whole, n_forwards=whole.n_forwards + n_forwards), n_shards


def _line(folder: Path, filled: Filled, number: int | None, n_shards: int) -> str:
    """For a person, who knows the shard by the ``number`` that was typed."""
    there = "rows of other shards are missing"
    if filled.digest is not None:
        there = f"all rows are there, SHA-256 {filled.digest}"
    of = f", {n_shards:,} shards" if number is None else f", shard {number}/{n_shards}"
    return (
        f"{folder}: {filled.n_samples:,} samples{of if n_shards > 1 else ''}, "
        f"{filled.n_forwards:,} computed now; {there}"
    )
