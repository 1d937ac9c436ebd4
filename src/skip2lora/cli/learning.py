"""What ``adapt`` is to learn: a model, or an adapter to go on from, and samples of several DATA."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
from numpy.typing import NDArray

from skip2lora.adapted import AdaptedModel
from skip2lora.adapters.kept import CACHE, Version, folder_beside, kept_beside, version_of
from skip2lora.adapters.store import CacheFolder
from skip2lora.arrays import listing
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.loading import load_for_images
from skip2lora.backbones.standins import for_task
from skip2lora.cli import common
from skip2lora.data.joined import joined as joined_samples
from skip2lora.data.media import Media
from skip2lora.data.sensor_options import Sensors
from skip2lora.errors import ParameterError, brief
from skip2lora.plan import choose
from skip2lora.tasks.columns import Columns
from skip2lora.tasks.joined import joined as joined_answers
from skip2lora.tasks.task import NO_OUTPUTS, TASKS, Outputs, Task, task_for
from skip2lora.training.loop import checked
from skip2lora.training.options import by_steps, method_of
from skip2lora.training.rehearsal import LAB_SET_SUFFIX, Keep
from skip2lora.training.room import Choice

_Function = TypeVar("_Function", bound=Callable[..., Any])
_IDS = re.compile(r"[0-9]{1,15}(-[0-9]{1,15})?")
#: Of a range; a longer one is a slip of the pen.
_MOST = 10_000_000


def _ids(context: click.Context, option: click.Parameter, text: str | None) -> list[int] | None:
    """Numbers and ranges with commas."""
    del context, option
    if text is None:
        return None
    ids: list[int] = []
    for word in text.split(","):
        if not _IDS.fullmatch(word.strip()):
            raise ParameterError(
                f"--forget is {brief(text)!r}, expected ids of samples such as 3,7,10-19: correct "
                "it"
            )
        first, _, last = word.strip().partition("-")
        if int(last or first) - int(first) >= _MOST:
            raise ParameterError(
                f"--forget has the range {word.strip()}, expected at most {_MOST:,} ids: correct it"
            )
        ids += range(int(first), int(last or first) + 1)
    return ids


def going_on(function: _Function) -> _Function:
    """``--keep-rows``, ``--continue`` and ``--forget``."""
    for option in (
        click.option(
            "--forget", metavar="IDS", callback=_ids,
            help="Samples of --continue to leave out for good, such as 3,7,10-19: their rows are "
            "overwritten.",
        ),
        click.option(
            "--continue", "continue_from", metavar="FOLDER", type=click.Path(path_type=Path),
            help="Adapter of --keep-rows to go on from: DATA joins what it learned.",
        ),
        click.option(
            "--keep-rows", is_flag=True,
            help="Keep rows and answers of the samples beside the adapter, for --continue.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def check_data(data: Sequence[Path], options: Mapping[str, Any], output: Path | None) -> Path:
    """Where the result goes; refuse what does not go together.

    Raises:
        ParameterError: nothing to learn or forget, no output, or options that exclude each other.
    """
    earlier, forget = options["continue_from"], options["forget"]
    if not data and forget is None:
        raise click.UsageError("Missing argument 'DATA'.")
    if forget is not None and earlier is None:
        raise ParameterError("--forget is set without --continue, expected both: add the adapter")
    if options["suspects"] is not None and (earlier is not None or len(data) > 1):
        raise ParameterError(
            "--suspects is set with several DATA or --continue, expected one DATA, whose rows it "
            "numbers: leave one of them out"
        )
    for name, of in (("validation_data", "it judges"), ("group", "it is a column of")):
        if options[name] is not None and not data:
            raise ParameterError(
                f"--{name.replace('_', '-')} is set without DATA, expected it beside the samples "
                f"that {of}: leave it out"
            )
    for name in ("taps", "grid", "class_names") if earlier is not None else ():
        if options[name] is not None:
            raise ParameterError(
                f"--{name.replace('_', '-')} is set with --continue, expected none, as it is as "
                "the adapter has it: leave it out"
            )
    if output is None and earlier is None:
        raise click.UsageError("Missing option '-o' / '--output'.")
    return output or earlier


def earlier_of(model: Path, adapter: Path, options: Mapping[str, Any]) -> AdaptedModel:
    """The adapter to go on from, with what is kept of it.

    Raises:
        ParameterError: the task is another, or nothing is kept.
    """
    memory = kept_beside(adapter)
    task, names = options["task"], ("output_name", "mask", "threads")
    adapted = common.load_adapted(model, adapter, **{name: options[name] for name in names})
    if task not in (None, adapted.task):
        raise ParameterError(
            f"--task is {task}, {adapter} was made for {adapted.task}, expected the same: leave "
            "--task out"
        )
    return replace(adapted, memory=memory)


def outputs_of(
    earlier: AdaptedModel | None, backbone: Backbone, learned: Task, options: Mapping[str, Any]
) -> tuple[Outputs, bool]:
    """What answers are encoded as, and whether new labels become outputs."""
    if earlier is None or earlier.memory is None:
        if not options["keep_outputs"]:
            return NO_OUTPUTS, True
        return Outputs.of(backbone, learned), options["new_classes"]
    samples = earlier.memory.samples
    anew = samples.asked.get("new_classes", False) or not samples.asked.get("keep_outputs", True)
    return samples.answers.outputs, options["new_classes"] or anew


def read_all(
    data: Sequence[Path], read: Callable[..., common.EncodedSamples], columns: dict[str, Any]
) -> common.EncodedSamples | None:
    """Samples of all files, one after the other; columns go by the names of the first."""
    parts: list[common.EncodedSamples] = []
    for file in data:
        learned = parts[0].columns if parts else Columns()
        known = columns if learned == Columns() else columns | {"learned": learned}
        media = parts[0].images if parts else None
        like = {"images": media} if isinstance(media, Sensors) else {}  # channels and rate
        parts.append(read(file, columns=known, **like))
    if len(parts) < 2:
        return parts[0] if parts else None
    first, aside = parts[0], {}
    of_files = first.images is not None and any("group" in part.aside for part in parts)
    for name in set(first.aside) - {"row", *(["group"] if of_files else [])}:
        aside[name] = np.concatenate([part.aside[name] for part in parts])
    if of_files:
        aside["group"] = _groups(parts)
    return replace(
        first, x=joined_samples([part.x for part in parts]), aside=aside, files=None,
        answers=joined_answers([part.answers for part in parts]),
    )  # fmt: skip


def _groups(parts: Sequence[common.EncodedSamples]) -> NDArray[np.str_]:
    """What is held out together of files: groups as a column names them, or those of each file."""
    media = parts[0].images
    named = isinstance(media, Sensors) and media.group is not None
    groups = []
    for number, part in enumerate(parts):
        own = part.aside.get("group", np.full(len(part.x), ""))
        groups.append(own if named and "group" in part.aside else [f"{number}/{n}" for n in own])
    return np.concatenate([np.array(each, np.str_) for each in groups])


def groups_of(
    samples: common.EncodedSamples | None, options: Mapping[str, Any], beside: Any = None, *,
    named: bool,
) -> Any:  # fmt: skip
    """What is held out together: as options name it, else of files, where something is.

    ``beside`` are other samples to judge by, if there are any.

    Raises:
        ParameterError: samples are to be held out one by one of which several belong together.
    """
    groups = None if samples is None else samples.aside.get("group")
    if groups is None or named:
        return groups
    if options["validation"] and beside is None:
        raise ParameterError(
            f"--validation is {options['validation']:g}, some of the samples belong together "
            f"({listing(sorted(set(groups.tolist())))}), expected whole ones held out: leave it "
            "out, or pass --validation-data"
        )
    return groups if beside is None and not by_steps(options) else None


def cache_beside(output: Path, backbone: Backbone) -> CacheFolder | None:
    """Where rows are kept; None of a network whose samples are kept instead."""
    if backbone.network is not None:
        return None
    return CacheFolder(folder_beside(output) / CACHE)


def kept_facts(adapted: AdaptedModel, output: Path) -> dict[str, Any] | None:
    """What is kept beside the adapter, for ``--json``."""
    if adapted.memory is None:
        return None
    samples, version = adapted.memory.samples, version_of(output)
    return {
        "folder": str(output.with_name(folder_beside(output).name)),
        "version": version.number,
        "n_samples": len(samples),
        "ids": [int(samples.ids[0]), int(samples.ids[-1])],
    }


def rows_lines(facts: Mapping[str, Any], output: Path, cache_dir: Path | None) -> list[str]:
    """How many rows a folder lacked, and which samples ``output`` can go on from."""
    lines, count, beside = [], facts["n_forwards"], facts["kept"]
    if cache_dir is not None:
        lines.append(f"{cache_dir}: {count:,} row{'s' * (count != 1)} computed that it lacked")
    if beside is not None:
        (first, last), number = beside["ids"], beside["version"]
        lines.append(
            f"{beside['folder']}: version {number}, {beside['n_samples']:,} samples, ids {first} "
            f"to {last}; more join by --continue {output}"
        )
    return lines


def version_facts(version: Version, *, now: bool) -> dict[str, Any]:
    """What a version is, for ``--json``."""
    samples = version.samples()
    return {
        "version": version.number,
        "n_samples": len(samples),
        "ids": [int(samples.ids[0]), int(samples.ids[-1])],
        "now": now,
    }


def n_learned(adapted: AdaptedModel, samples: common.EncodedSamples | None) -> int:
    """How many samples an adapter learned, with those that were kept."""
    if adapted.memory is not None:
        return len(adapted.memory.samples)
    return 0 if samples is None else len(samples.x)


def cache_of(folder: Path | None, cache: bool | None) -> bool | CacheFolder | None:
    """What ``adapt`` is told; ParameterError for a folder beside ``--cache`` or ``--no-cache``."""
    if folder is None:
        return cache
    if cache is not None:
        raise ParameterError(
            f"--{'' if cache else 'no-'}cache is set beside --cache-dir, expected one of them: "
            "leave one out"
        )
    return CacheFolder(folder)


def files_known_to(cache: bool | CacheFolder | None) -> dict[str, Any]:
    """For reading: of files whose samples a folder remembers, which were checked before it did."""
    return {"checked": cache.known} if isinstance(cache, CacheFolder) else {}


def loaded(
    model: Path,
    earlier: AdaptedModel | None,
    class_names: tuple[str, ...] | None,
    images: Media | None,
    options: dict[str, Any],
) -> tuple[Backbone, Task]:
    """The model as the options of loading say it, which are taken out, and what it is to learn."""
    loading = {name: options.pop(name) for name in ("taps", "grid", "threads", "mask")}
    output = options.pop("output_name")
    if earlier is not None:
        return earlier.base, TASKS[earlier.task]
    size = None if images is None else images.size
    backbone = load_for_images(model, size, output=output, **loading)
    common.say_output(backbone)
    learned = task_for(backbone, options["task"])
    one = options["keep_outputs"] and backbone.n_outputs == 1
    if one and method_of(options["method"]).skip:
        backbone = for_task(backbone, learned.name)
    if class_names is not None:
        backbone = backbone.named(class_names)
    return backbone, learned


def keep_of(
    backbone: Backbone,
    learned: Task,
    images: Media | None,
    columns: dict[str, Any],
    options: dict[str, Any],
) -> Keep | None:
    """Old samples, as options taken out say them."""
    old, no_lab_set = options.pop("keep"), options.pop("no_lab_set")
    if old is None or old.suffix == LAB_SET_SUFFIX:
        return old if old is not None else False if no_lab_set else None
    table = common.read_old(backbone, old, columns=columns, task=learned, images=images)
    more = (table.aside["weight"],) if "weight" in table.aside else ()
    return (table.x, table.answers, *more)


def within(
    limit: str, backbone: Backbone, samples: common.EncodedSamples | None, options: dict[str, Any]
) -> Choice:
    """The best way to adapt that takes at most ``limit``."""
    if samples is None:
        raise ParameterError(
            f"--memory is {limit} beside --continue, which goes on as the adapter began, expected "
            "one of them: leave --memory out"
        )
    way = way_within(limit, backbone, samples, options)
    common.say_notes([f"memory {limit}: {way.name}, about {common.size(way.peak_bytes)}"])
    return way


def way_within(
    limit: str, backbone: Backbone, samples: common.EncodedSamples, options: Mapping[str, Any]
) -> Choice:
    """The best way to adapt to ``samples`` that takes at most ``limit``.

    Raises:
        ParameterError: there is none.
    """
    n_outputs = len(samples.answers.titles)
    return choose(backbone, checked(backbone, samples.x), limit, n_outputs=n_outputs, **options)


def way_facts(way: Choice | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The way that ``--memory`` chose, and few columns of taps where asked, for ``--json``."""
    memory, projection = None, None
    if way is not None:
        memory = {
            "limit": options["memory"], "chosen": way.name, "peak_bytes": way.peak_bytes,
            "options": dict(way.options),
        }  # fmt: skip
    if options["projection"] is not None:
        kind = options["projection_from"] or "pls"
        projection = {"columns": options["projection"], "from": kind}
    return {"memory": memory, "projection": projection}


def check_no_sensors(**sensors: object) -> None:
    """Raise ParameterError for an option of sensors without ``--power``."""
    for name, value in sensors.items():
        if value is not None:
            raise ParameterError(
                f"--{name.replace('_', '-')} is {value} and nothing is recorded, expected --power "
                "too: add it"
            )
