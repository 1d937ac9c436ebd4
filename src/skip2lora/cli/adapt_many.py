"""``skip2lora adapt-many``: one adapter for each of many devices, persons or places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from skip2lora.adapt import adapt_and_measure
from skip2lora.adapted import RESULT_FILES
from skip2lora.arrays import listing
from skip2lora.backbones.base import Backbone
from skip2lora.cli import adapt as one
from skip2lora.cli import common
from skip2lora.cli import options as shared
from skip2lora.cli.bars import counting_bar
from skip2lora.cli.common import read_for
from skip2lora.cli.help import Command
from skip2lora.cli.learning import cache_of, groups_of, keep_of, loaded, way_within
from skip2lora.cli.media import grouped, media_of, names_groups
from skip2lora.cli.messages import shown, with_options
from skip2lora.data.file_folder import KINDS, SENSORS
from skip2lora.data.media import Media
from skip2lora.data.reading import is_data
from skip2lora.engine import Engine, engine_at
from skip2lora.errors import DataError, ParameterError, Skip2LoraError
from skip2lora.files import check_output, holding, make_folder, unreadable
from skip2lora.tasks.task import NO_OUTPUTS, Outputs, Task
from skip2lora.tasks.thresholds import check_precision
from skip2lora.training.rehearsal import Keep
from skip2lora.training.suspects import write_suspects

#: Options of adapt that say something of one run, not of each of many.
_OF_ONE = {
    "model", "data", "output", "suspects", "validation_data", "checkpoint", "checkpoint_every",
    "resume", "with_power", "i2c", "shunt_ohms", "keep_rows", "continue_from", "forget",
}  # fmt: skip
#: Adapters a task, as an empty one costs a cluster 5 ms and an adapter perhaps 16; and how many
#: tasks a worker gets where there are very many.
_LEAST, _TURNS = 50, 16
#: Of a list of suspects, beside the adapter whose name comes before it.
_SUSPECTS = ".suspects.csv"
#: How a sample of Edge Impulse begins: what signs it, then this.
_PAYLOAD, _HEAD_BYTES = b'"payload"', 4096
_Item = tuple[str, Path]


@click.command(
    cls=Command, short_help="Fit to the field data of each of many devices.",
    example="skip2lora adapt-many fan.safetensors devices -o adapters",
    params=[option for option in one.command.params if option.name not in _OF_ONE],
)  # fmt: skip
@shared.model_argument
@click.argument("folder", type=click.Path(path_type=Path))
@shared.engine
@click.option(
    "--suspects",
    is_flag=True,
    help=f"Write the labels that samples held out contradict, as NAME{_SUSPECTS} beside each "
    "adapter.",
)
@shared.output("Folder of the adapters, one sub-folder each.", metavar="FOLDER")
def command(
    model: Path, folder: Path, output: Path, engine: str | None, force: bool, as_json: bool,
    **options: Any,
) -> int:  # fmt: skip
    """Fit MODEL to each file of samples, or sub-folder of files, in FOLDER: what adapt takes.

    Each is adapted as adapt does, into a sub-folder of its name. Those that are done already are
    left as they are, so that a run that was stopped goes on. What fails is listed, the others are
    made all the same, and the exit code is 2.
    """
    items = _items(folder, output, options["segments"])
    place = make_folder(output)
    if engine is not None:  # whose workers stand elsewhere
        model, place = model.resolve(), place.resolve()
        items = [(name, data.resolve()) for name, data in items]
    results: list[dict[str, Any]] = [{}] * len(items)
    with engine_at(engine) as runner, counting_bar("adapters") as progress:
        size = _size(len(items), runner, here=engine is None)
        opening = partial(_open, model, place, force, options | {"first": items[0][1]})
        tasks = [items[at : at + size] for at in range(0, len(items), size)]
        n_done = 0
        for number, rows in runner.results(opening, _adapted, tasks):
            results[number * size : number * size + len(rows)] = rows
            n_done += len(rows)
            if progress is not None:
                progress(n_done, len(items))
    failed = [row for row in results if row["error"] is not None]
    n_skipped = sum(row["skipped"] for row in results)
    facts = {
        "output": str(output), "n_adapted": len(results) - n_skipped - len(failed),
        "n_skipped": n_skipped, "n_failed": len(failed), "engine": engine, "adapters": results,
    }  # fmt: skip
    common.show(facts, _lines(output, facts, failed), as_json=as_json)
    return 2 if failed else 0


def _items(folder: Path, output: Path, segments: Path | None) -> list[_Item]:
    """Names and data, sorted; what is neither a file of samples nor a folder is left out, said.

    Raises:
        DataError: there are none, or two of one name.
        FileError: the folder cannot be read.
    """
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise unreadable(folder, error) from error
    own = output.resolve()
    entries = [path for path in entries if path.resolve() != own]
    data = [path for path in entries if path.is_dir() or _is_task(path, segments)]
    others = sorted({path.name for path in entries} - {path.name for path in data})
    if not data:
        raise DataError(
            f"{folder} has {len(others) or 'no'} files and none of samples, expected a .npz, .csv "
            "or the like, or a sub-folder of files, for each adapter: choose another folder"
        )
    if others:
        common.say_notes([f"{folder}: {listing(others)} left out, as no file of samples"])
    names: dict[str, Path] = {}
    for path in data:
        packed = path.suffix.lower() in (".gz", ".gzip")
        name = path.name if path.is_dir() else (path.with_suffix("") if packed else path).stem
        if name in names:
            raise DataError(
                f"{folder} has {names[name].name} and {path.name}, which would both be {name}, "
                "expected names of their own: rename one"
            )
        names[name] = path
    return list(names.items())


def _is_task(path: Path, segments: Path | None) -> bool:
    """Whether it alone is DATA: one image or recording only if ``segments`` say what is where.

    A .json may be anything: it is if it begins as a sample of Edge Impulse does.
    """
    if segments is not None and segments.exists() and path.samefile(segments):
        return False
    if path.suffix.lower() == ".json":
        return path.is_file() and _PAYLOAD in _head(path)
    known = (SENSORS,) if segments is None else KINDS
    return is_data(path) or any(kind.holds(path) for kind in known)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error


def _size(n_items: int, runner: Engine, *, here: bool) -> int:
    """How many adapters a task makes: all workers get some, and no task is too small."""
    if here:
        return 1
    each = -(-n_items // runner.n_at_once)
    return min(max(_LEAST, -(-each // _TURNS)), each)


@dataclass(frozen=True, eq=False)
class _Opened:
    """What all adapters have in common; ``options`` are those of ``adapt``."""

    model: Backbone
    task: Task
    columns: dict[str, Any]
    aside: dict[str, Any]
    images: Media | None
    class_names: tuple[str, ...] | None
    keep: Keep | None
    output: Path
    force: bool
    precision: float | None
    options: dict[str, Any]


def _open(model: Path, output: Path, force: bool, given: Mapping[str, Any]) -> _Opened:
    options = dict(given)
    names, first = options.pop("class_names"), options.pop("first")
    precision = options.pop("precision")
    if precision is not None:
        check_precision(precision)
    images = media_of(options, first, beside="group")
    if names is not None and not options["keep_outputs"]:
        raise ParameterError(
            f"--class-names is {listing(names)} with --no-keep-outputs, expected one of them, as "
            "it leaves the outputs of MODEL out: leave one out"
        )
    backbone, learned = loaded(model, None, names, images, options)
    images, group = grouped(images, options.pop("group"), backbone, first)
    columns = common.columns_of(options, "train")
    aside = dict(columns.get("aside", {})) | ({} if group is None else {"group": group})
    keep = keep_of(backbone, learned, images, columns, options)
    options["cache"] = cache_of(options.pop("cache_dir"), options["cache"])
    return _Opened(
        backbone, learned, columns, aside, images, names, keep, output, force, precision, options
    )


def _adapted(opened: _Opened, items: Sequence[_Item]) -> list[dict[str, Any]]:
    """A row of the table for each; what is wrong with one is no matter of the others."""
    rows = []
    for name, data in items:
        row = {
            "name": name, "data": str(data), "n_samples": None, "accuracy": None, "before": None,
            "after": None, "held_out": None, "memory": None, "suspects": None, "skipped": False,
            "error": None,
        }  # fmt: skip
        try:
            row |= _adapt(opened, name, data)
        except Skip2LoraError as error:
            row["error"] = shown(with_options(str(error)))
        rows.append(row)
    return rows


def _adapt(opened: _Opened, name: str, data: Path) -> dict[str, Any]:
    place, options = opened.output / name, opened.options
    listed = place.with_name(name + _SUSPECTS) if options["suspects"] else None
    if not opened.force and any((place / each).is_file() for each in RESULT_FILES):
        if listed is not None and not listed.exists():
            raise ParameterError(
                f"--suspects is set, but {place} was made without {listed.name}, expected both: "
                "pass --force to make them anew, or leave --suspects out"
            )
        return {"skipped": True}
    check_output(place, force=opened.force, names=RESULT_FILES)
    keep_outputs, learned, model = options["keep_outputs"], opened.task, opened.model
    columns = opened.columns | ({"aside": opened.aside} if opened.aside else {})
    samples = read_for(
        model, data, columns=columns, task=learned, images=opened.images,
        outputs=Outputs.of(model, learned) if keep_outputs else NO_OUTPUTS,
        new_classes=options["new_classes"] or not keep_outputs,
        in_order=opened.class_names is not None,
    )  # fmt: skip
    images = samples.images
    saved = None if images is None else images.resolved(model.inputs)
    options, way = dict(options), None
    limit = options.pop("memory")
    if limit is not None:
        way = way_within(limit, model, samples, options)
        options |= way.options
    named = "group" in opened.aside or names_groups(opened.images)
    groups = groups_of(samples, options, named=named)
    with holding(place):
        adapted, fit = adapt_and_measure(
            model, samples.x, samples.answers, output_names=opened.class_names, images=saved,
            columns=samples.columns, groups=groups,
            sample_weight=samples.aside.get("weight"), keep=opened.keep, **options,
        )  # fmt: skip
        if opened.precision is not None:
            adapted = adapted.with_thresholds(opened.precision)
        if listed is not None:  # first, as it is the adapter that says that it is done
            write_suspects(listed, fit.suspects or (), samples.files, samples.aside.get("row"))
        adapted.save(place)
    held_out = None if adapted.history is None else adapted.history.held_out
    return {
        "n_samples": len(samples.x),
        "accuracy": fit.on_all.overall.get("accuracy"),
        "before": None if fit.before is None else fit.before.overall,
        "after": fit.after.overall,
        "held_out": None if held_out is None else asdict(held_out),
        "memory": None if way is None else way.name,
        "suspects": one.suspect_facts(listed, fit),
    }


def _lines(
    output: Path, facts: Mapping[str, Any], failed: Sequence[Mapping[str, Any]]
) -> list[str]:
    lists = [row["suspects"] for row in facts["adapters"] if row["suspects"] is not None]
    counts = [each["count"] or 0 for each in lists if each["output"] is not None]
    n_labels, suspects = sum(counts), []
    if counts:
        what = f"{n_labels:,} label{'s' * (n_labels != 1)} that samples held out contradict"
        suspects = [f"{output}: NAME{_SUSPECTS} of {len(counts):,}, {what}"]
    return [
        *(f"{row['name']}: {row['error']}" for row in failed),
        *suspects,
        f"{output}: {facts['n_adapted']:,} adapted, {facts['n_skipped']:,} done before, "
        f"{facts['n_failed']:,} failed",
    ]
