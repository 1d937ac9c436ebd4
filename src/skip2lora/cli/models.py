"""Loading for commands that take MODEL, ``--adapter`` and DATA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from skip2lora.adapt import AdaptedModel
from skip2lora.arrays import listing
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.loading import load
from skip2lora.cli import common
from skip2lora.data.image_layout import layout_of
from skip2lora.data.image_options import Images
from skip2lora.data.reading import read_samples, read_table
from skip2lora.data.samples import Samples, Table
from skip2lora.errors import ParameterError
from skip2lora.tasks.answers import NO_OUTPUTS, Encoded
from skip2lora.tasks.labels import encode
from skip2lora.tasks.task import TASKS, Task

_Read = TypeVar("_Read", Table, Samples)


@dataclass(frozen=True)
class Loaded:
    """What predicts, a backbone with or without its adapter, and the task it is for."""

    model: Backbone | AdaptedModel
    task: Task


def load_model(
    model: Path,
    adapter: Path | None,
    *,
    task: str | None = None,
    threads: int = 1,
    class_names: tuple[str, ...] | None = None,
) -> Loaded:
    """The model with its adapter, or alone.

    Raises:
        ParameterError: ``task`` is not that of the adapter.
    """
    backbone = load(model, threads=threads, class_names=class_names)
    if adapter is None:
        return Loaded(backbone, backbone.learned if task is None else TASKS[task])
    adapted = AdaptedModel.load(backbone, adapter)
    if task not in (None, adapted.task):
        raise ParameterError(
            f"--task is {task}, {adapter} was made for {adapted.task}, expected the same: leave "
            "--task out"
        )
    saved_names = adapted.output_names
    if class_names is not None and adapted.base is not adapted.backbone:
        raise ParameterError(
            f"--class-names is {listing(class_names)}, {adapter} takes none as it leaves the "
            f"outputs of {model} out: leave --class-names out"
        )
    if class_names is not None and saved_names is not None and class_names != saved_names:
        raise ParameterError(
            f"--class-names is {listing(class_names)}, {adapter} was made for "
            f"{listing(saved_names)}, expected the same: leave --class-names out"
        )
    return Loaded(adapted, adapted.learned)


@dataclass(frozen=True, eq=False)
class EncodedSamples:
    """Samples, with their answers encoded as the outputs of a model."""

    x: Any
    answers: Encoded


def read_for(
    model: Backbone | AdaptedModel,
    data: Path,
    *,
    columns: tuple[str, ...] | None,
    task: Task,
    keep_outputs: bool = True,
    new_classes: bool = False,
    images: Images | None = None,
) -> EncodedSamples:
    """Samples whose answers are encoded as the outputs of ``model``, and new ones if allowed.

    Raises:
        DataError: names of classes that cannot be matched with the outputs.
        ParameterError: options for images that are not those of the adapter.
    """
    outputs = model.outputs_for(task) if keep_outputs else NO_OUTPUTS
    new_outputs = new_classes or not keep_outputs
    names = None if new_outputs else outputs.names
    table = _read(read_table, model, data, images, target=columns, task=task, class_names=names)
    encoded = encode(task, table.answers, len(table.x), outputs, new_outputs=new_outputs)
    if encoded.names_adopted:
        click.echo(
            "skip2lora: the model has no class names, its outputs are taken as "
            f"{listing(encoded.outputs.titles)}, in the order of {data}",
            err=True,
        )
    return EncodedSamples(table.x, encoded)


def read_without_answers(
    model: Backbone | AdaptedModel, data: Path, *, columns: tuple[str, ...] | None,
    task: Task | None, images: Images | None, class_names: tuple[str, ...] | None = None,
) -> Any:  # fmt: skip
    """The samples alone; answers need not be there, but those that are must be some.

    Raises:
        DataError: no samples, or answers that are not those of ``class_names``.
        ParameterError: as :func:`read_for`.
    """
    samples = _read(
        read_samples, model, data, images, target=columns, task=task, class_names=class_names,
        labels_required=False,
    )  # fmt: skip
    return samples.x


def _read(
    read: Callable[..., _Read],
    model: Backbone | AdaptedModel,
    data: Path,
    images: Images | None,
    **options: Any,
) -> _Read:
    """What ``read`` gives; images in the layout of ``model``, as its adapter was made."""
    if data.is_dir():
        saved = model.images if isinstance(model, AdaptedModel) else None
        layout, images = layout_of(model.inputs), (images or Images()).following(saved)
        with common.reading_bar() as progress:
            return read(data, images=images, layout=layout, progress=progress, **options)
    if images is not None and isinstance(model, Backbone) and model.size == images.size:
        images = replace(images, size=None)  # its taps are fixed to it, nothing is resized
    return read(data, images=images, **options)
