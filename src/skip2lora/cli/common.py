"""What several commands do: load MODEL and its adapter, read DATA, show results."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from skip2lora.adapted import AdaptedModel, restored
from skip2lora.adapters.folder import is_adapter, model_beside, read_adapter
from skip2lora.arrays import listing
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.loading import load
from skip2lora.backbones.standins import Headless, for_task
from skip2lora.backbones.taps import SAMPLES_AT_ONCE
from skip2lora.cli.bars import counting_bar
from skip2lora.cli.messages import CONTROL, shown, spelled
from skip2lora.data.file_folder import IMAGES, KINDS, kind_for
from skip2lora.data.image_layout import layout_of
from skip2lora.data.image_options import Images
from skip2lora.data.lazy import parts_of, read
from skip2lora.data.media import Media
from skip2lora.data.piped import NAME, named_as, standard_input
from skip2lora.data.reading import is_data, read_table
from skip2lora.data.samples import Table
from skip2lora.data.sensor_options import Sensors
from skip2lora.data.sound_options import Sound
from skip2lora.errors import ParameterError
from skip2lora.limits import is_folder
from skip2lora.plan import TapPlan
from skip2lora.tasks.columns import Columns
from skip2lora.tasks.labels import encode
from skip2lora.tasks.task import TASKS, Encoded, Outputs, Task


def columns_of(options: dict[str, Any], usual_split: str | None = None) -> dict[str, Any]:
    """Which columns are no features, as options taken out say it, and which part is usual."""
    options["usual_split"] = usual_split
    names = ("target", "ignore", "no_target", "split", "usual_split")
    said = {name: options.pop(name) for name in names if name in options}
    weight = options.pop("weight", None)
    said["aside"] = None if weight is None else {"weight": weight}
    return {name: value for name, value in said.items() if value is not None}


def show(facts: dict[str, Any], lines: list[str], *, as_json: bool, aside: bool = False) -> None:
    """Print the facts as one JSON object, or the lines for a person; on standard error if aside."""
    text = "\n".join(CONTROL.sub(spelled, line) for line in lines)
    click.echo(json.dumps(facts) if as_json else text, err=aside)


def say_notes(notes: Sequence[str]) -> None:
    """Say how a file was understood, a line each, on standard error."""
    for note in notes:
        click.echo(f"skip2lora: {shown(note)}", err=True)


def percent(share: float) -> str:
    """A share from 0 to 1 for a person."""
    return f"{100 * share:.1f} %"


def size(n_bytes: int) -> str:
    """Bytes for a person."""
    for unit, of in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n_bytes >= of:
            return f"{n_bytes / of:.1f} {unit}"
    return f"{n_bytes} bytes"


def duration(milliseconds: float, *, digits: int = 1) -> str:
    """Milliseconds for a person."""
    if milliseconds < 1000:
        return f"{milliseconds:.{digits}f} ms"
    return f"{milliseconds / 1000:.2f} s"


def shape_text(shape: Sequence[int | None]) -> str:
    """Such as 3x224x224, with ? for a size that changes."""
    return "x".join("?" if n is None else str(n) for n in shape)


def tap_lines(taps: Sequence[TapPlan]) -> list[str]:
    """A table of taps, a line each, with its head."""
    rows = [("tap", "layer", "kind", "shape", "width", "bytes a sample")]
    for number, tap in enumerate(taps):
        n_bytes = f"{tap.bytes_a_sample:,}" if tap.bytes_a_sample else "the sample"
        rows.append(
            (str(number), tap.layer, tap.kind, shape_text(tap.shape), f"{tap.width:,}", n_bytes)
        )
    wide = [max(len(row[column]) for row in rows) for column in range(6)]
    return [
        f"  {row[0]:>{wide[0]}}  {row[1]:<{wide[1]}}  {row[2]:<{wide[2]}}  {row[3]:>{wide[3]}}  "
        f"{row[4]:>{wide[4]}}  {row[5]:>{wide[5]}}"
        for row in rows
    ]


@dataclass(frozen=True, eq=False)
class Loaded:
    """What predicts, a backbone with or without its adapter, and the task it is for."""

    model: Backbone | AdaptedModel
    task: Task


def load_adapted(
    model: Path,
    adapter: Path,
    *,
    output_name: str | None = None,
    mask: str | None = None,
    **loading: Any,
) -> AdaptedModel:
    """The model with its adapter, which says how it is tapped; ``loading`` as of ``load``.

    Raises:
        ParameterError: ``output_name`` or ``mask`` is not that of the adapter.
    """
    about, tensors = read_adapter(adapter)
    saved = about.tapping.output
    output = saved if output_name is None else output_name
    backbone = about.tapping.load(model, output=output, **loading)
    if saved is not None and backbone.output != saved:
        raise ParameterError(
            f"--output-name is {output_name}, {adapter} was made for {saved}, expected the same: "
            "leave --output-name out"
        )
    if mask is not None and backbone.with_mask(mask).mask != about.tapping.mask:
        raise ParameterError(
            f"--mask is {mask}, {adapter} was made for {about.tapping.mask}, expected the same: "
            "leave --mask out"
        )
    return restored(backbone, adapter, about, tensors)


def say_output(model: Backbone) -> None:
    """Say which output is taken, where there are several."""
    if len(model.outputs) > 1 and model.output is not None:
        names = ", ".join(spec.name for spec in model.outputs)
        say_notes([f"output {model.output} of {names} is taken"])


def output_facts(model: Backbone) -> dict[str, Any]:
    """The output that is taken, and all of them, for ``--json``."""
    outputs = [spec.to_json() for spec in model.outputs]
    taken = (spec for spec in outputs if spec["name"] == model.output)
    return {"output": next(taken, None), "outputs": outputs}


def output_lines(model: Backbone) -> list[str]:
    """The output that is taken, and the others, for a person."""
    taken = [str(spec) for spec in model.outputs if spec.name == model.output]
    others = [str(spec) for spec in model.outputs if spec.name != model.output]
    return [
        *(f"output {spec}" for spec in taken),
        *([f"other outputs {', '.join(others)}"] if others else []),
    ]


def load_model(
    model: Path,
    adapter: Path | None,
    *,
    task: str | None = None,
    class_names: tuple[str, ...] | None = None,
    **options: Any,
) -> Loaded:
    """The model with its adapter, or alone; ``options`` are those of :func:`load_adapted`.

    Raises:
        ParameterError: ``task`` is not that of the adapter.
    """
    beside = model_beside(model) if adapter is None and is_adapter(model) else None
    if beside is not None:
        say_notes([f"{model} is an adapter, its model {beside} is taken"])
        model, adapter = beside, model
    if adapter is None:
        output = options.pop("output_name", None)
        backbone = load(model, output=output, class_names=class_names, **options)
        say_output(backbone)
        if task is not None:
            backbone = for_task(backbone, task)
        return Loaded(backbone, TASKS[backbone.task if task is None else task])
    adapted = load_adapted(model, adapter, class_names=class_names, **options)
    say_output(adapted.backbone.base)
    if task not in (None, adapted.task):
        raise ParameterError(
            f"--task is {task}, {adapter} was made for {adapted.task}, expected the same: leave "
            "--task out"
        )
    saved_names = adapted.output_names
    if class_names is not None and isinstance(adapted.backbone, Headless):
        raise ParameterError(
            f"--class-names is {listing(class_names)}, {adapter} takes none as it leaves the "
            f"outputs of {model} out: leave --class-names out"
        )
    if class_names is not None and saved_names is not None and class_names != saved_names:
        raise ParameterError(
            f"--class-names is {listing(class_names)}, {adapter} was made for "
            f"{listing(saved_names)}, expected the same: leave --class-names out"
        )
    return Loaded(adapted, TASKS[adapted.task])


@dataclass(frozen=True, eq=False)
class EncodedSamples:
    """Samples, with their answers encoded as the outputs of a model."""

    x: Any
    answers: Encoded
    columns: Columns
    images: Media | None = None
    aside: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] | None = None


def read_for(
    model: Backbone | AdaptedModel,
    data: Path,
    *,
    columns: dict[str, Any],
    task: Task,
    outputs: Outputs | None = None,
    new_classes: bool = False,
    in_order: bool = False,
    images: Media | None = None,
) -> EncodedSamples:
    """Samples whose answers are encoded as ``outputs``, by default those of ``model``.

    New labels are new outputs if ``new_classes``. Numbers count the names of classes where the user
    lists these, ``in_order``.

    Raises:
        DataError: names of classes that cannot be matched with the outputs.
        ParameterError: options for images that are not those of the adapter.
    """
    outputs = Outputs.of(model, task) if outputs is None else outputs
    outputs = replace(outputs, in_order=in_order)
    names = None if new_classes else outputs.names
    table = _read(model, data, images, task=task, class_names=names, **columns)
    encoded = encode(task, table.answers, len(table.x), outputs, new_outputs=new_classes)
    if encoded.names_adopted:
        titles = listing(encoded.outputs.titles)
        known = "the model has no class names, its outputs are taken as"
        say_notes([f"{known} {titles}, in the order of {data}"])
    return EncodedSamples(table.x, encoded, table.columns, table.images, table.aside, table.files)


def read_old(
    model: Backbone, data: Path, *, columns: dict[str, Any], task: Task, images: Media | None
) -> Table:
    """Samples of the old domain, with their answers as the file says them."""
    names = Outputs.of(model, task).names
    return _read(model, data, images, task=task, class_names=names, **columns)


def read_to_validate(
    model: Backbone, data: Path, *, columns: dict[str, Any], like: EncodedSamples, task: Task
) -> tuple[Any, ...]:
    """Other samples, read as ``like``, their answers as the file says them, and weights if any."""
    table = _read(
        model, data, like.images, task=task, class_names=like.answers.outputs.names,
        usual_split="val", learned=like.columns, aside=columns.get("aside", {}),
    )  # fmt: skip
    return (table.x, table.answers, *([table.aside["weight"]] if "weight" in table.aside else []))


def read_to_predict(
    model: Backbone | AdaptedModel, data: Path, *, columns: dict[str, Any],
    task: Task | None, images: Media | None, class_names: tuple[str, ...] | None = None,
) -> Table:  # fmt: skip
    """The samples, with their answers as the file says them, where there are any."""
    return _read(
        model, data, images, task=task, class_names=class_names, labels_required=False, **columns
    )


def _read(
    model: Backbone | AdaptedModel, data: Path, images: Media | None, **options: Any
) -> Table:
    """What the file says; images in the layout of ``model``, as its adapter was made."""
    if str(data) == "-":
        _check_has_name(model, images)
        with standard_input() as file:
            table = _unsaid(model, file, images, called=NAME, **options)
            table = named_as(NAME, file.name, replace(table, x=read(table.x)))  # it is soon gone
    else:
        table = _unsaid(model, data, images, **options)
    say_notes(table.notes)
    return table


def _check_has_name(model: Backbone | AdaptedModel, media: Media | None) -> None:
    """Raise ParameterError for boxes of what comes on standard input, which is called nothing."""
    if isinstance(model.images, Images) and isinstance(media, Sound) and media.segments:
        raise ParameterError(
            f"segments= names images by their files, {NAME} has no name, expected a file or a "
            "folder: pass one"
        )


def _unsaid(
    model: Backbone | AdaptedModel, data: Path, images: Media | None, **options: Any
) -> Table:
    of_rows = isinstance(images or model.images, Sensors) and data.suffix.lower() != ".npz"
    if of_rows or (not is_data(data) and (is_folder(data) or any(k.holds(data) for k in KINDS))):
        return _from_folder(model, data, images, **options)
    if isinstance(images, Images) and isinstance(model, Backbone) and model.size == images.size:
        images = replace(images, size=None)  # its taps are fixed to it, nothing is resized
    inputs = model.inputs
    sizes = [size or 0 for size in inputs[0].shape] if len(inputs) == 1 else []
    options.setdefault("learned", model.columns)
    return read_table(
        data, images=images, n_features=math.prod(sizes) or None,
        inputs=tuple(each.name for each in inputs) if len(inputs) > 1 else (), **options,
    )  # fmt: skip


def _from_folder(
    model: Backbone | AdaptedModel, data: Path, media: Media | None, **options: Any
) -> Table:
    """Images, recordings or streams, as what was learned says them."""
    kind = kind_for(media or model.images, data)
    known, task = model.images, options.get("task")
    if isinstance(known, Sensors) and task is not None and task.name != "regression":
        known = known.of_classes()  # it may have learned numbers before
    media = (media or kind.media()).following(known)
    layout = layout_of(model.inputs) if kind is IMAGES else model.inputs
    if isinstance(media, Sensors):
        options.setdefault("learned", model.columns)
    with counting_bar(f"check {media.files}") as progress:
        return read_table(data, images=media, layout=layout, progress=progress, **options)


def logits_of(model: Backbone | AdaptedModel, x: Any, what: str) -> NDArray[np.float32]:
    """Logits of all samples, read a part at a time, with a bar that says ``what`` is done."""
    parts, n_done = [], 0
    whole = model.base.network is not None  # which is fast
    with counting_bar(what) as progress:
        for part in parts_of(x, len(x) if whole else SAMPLES_AT_ONCE):
            parts.append(model.logits(read(x[part])))
            n_done += len(parts[-1])
            if progress is not None:
                progress(n_done, len(x))
    return np.concatenate(parts)
