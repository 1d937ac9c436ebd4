"""Loading for commands that take MODEL, ``--adapter`` and DATA."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from skip2lora.adapt import AdaptedModel
from skip2lora.arrays import check_labels, listing
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.loading import load, load_for_images
from skip2lora.backbones.taps import Selection
from skip2lora.cli import common
from skip2lora.data.image_layout import ANY_LAYOUT, layout_of
from skip2lora.data.image_options import Images
from skip2lora.data.reading import read_samples
from skip2lora.data.samples import Samples
from skip2lora.errors import DataError, ParameterError
from skip2lora.tasks.measures import Measures, measured
from skip2lora.tasks.task import Task, check_answers, decided, find_task


def load_to_adapt(
    model: Path,
    *,
    taps: Selection,
    grid: int | None = None,
    threads: int = 1,
    images: Images,
    class_names: tuple[str, ...] | None = None,
) -> Backbone:
    """The backbone; images of any size are fixed to that of ``images``, if told."""
    return load_for_images(
        model, images.size, taps=taps, grid=grid, threads=threads, class_names=class_names
    )


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
        return Loaded(backbone, backbone.learned if task is None else find_task(task))
    adapted = AdaptedModel.load(backbone, adapter)
    if task not in (None, adapted.task):
        raise ParameterError(
            f"--task is {task}, {adapter} was made for {adapted.task}: leave --task out"
        )
    kept = adapted.output_names
    if class_names is not None and adapted.base is not adapted.backbone:
        raise ParameterError(
            f"--class-names is {listing(class_names)}, {adapter} leaves the outputs of {model} "
            "out: leave --class-names out"
        )
    if class_names is not None and kept is not None and class_names != kept:
        raise ParameterError(
            f"--class-names is {listing(class_names)}, {adapter} was made for "
            f"{listing(kept)}: leave --class-names out"
        )
    return Loaded(adapted, adapted.learned)


def read_for(
    model: Backbone | AdaptedModel,
    data: Path,
    *,
    targets: tuple[str, ...] | None,
    task: Task | None,
    labels_required: bool = True,
    new_outputs: bool = False,
    images: Images | None = None,
) -> Samples:
    """Samples whose answers are numbered as the outputs of ``model``.

    With ``new_outputs`` they keep the names of the file, for there may be others. A folder of
    images is read in the layout of ``model``, and as the adapter was made.

    Raises:
        DataError: names of classes that cannot be matched with the outputs.
        ParameterError: options for images that are not those of the adapter.
    """
    names = None if new_outputs else _names_of(model, task)
    layout, images = ANY_LAYOUT, images or Images()
    if data.is_dir():
        layout = layout_of(model.inputs)
        images = images.following(model.images if isinstance(model, AdaptedModel) else None)
    elif images.size is not None and isinstance(model, Backbone) and model.size == images.size:
        images = replace(images, size=None)  # its taps are fixed to it, nothing is resized
    with common.reading_bar() as progress:
        samples = read_samples(
            data, target=targets, task=task, class_names=names, labels_required=labels_required,
            images=images, layout=layout, progress=progress,
        )  # fmt: skip
    if task is None or not labels_required or new_outputs:
        return samples
    if task.targets:
        _check_count(samples, model.n_outputs, data)
    if names is None and not (task.targets and targets):
        _match_names(samples, model.n_outputs, data, task)
    return samples


def _check_count(samples: Samples, n_outputs: int, data: Path) -> None:
    n_targets = n_outputs if samples.y is None else samples.y.shape[1]
    if n_targets != n_outputs:
        told = f" ({listing(samples.class_names)})" if samples.class_names else ""
        columns = "choose the columns with --target, or " if n_outputs else ""
        raise DataError(
            f"{data} has {n_targets} target{'s' * (n_targets != 1)}{told}, expected {n_outputs}, "
            f"one an output of the model: {columns}learn new outputs with skip2lora adapt "
            "--no-keep-outputs"
        )


def _names_of(model: Backbone | AdaptedModel, task: Task | None) -> tuple[str, ...] | None:
    """Names of outputs; those of classes are none of numbers, but for those of the adapter."""
    names = model.class_names
    regression = task is not None and task.name == "regression"
    return None if regression and not isinstance(model, AdaptedModel) else names


def _match_names(samples: Samples, n_outputs: int, data: Path, task: Task) -> None:
    """Names in the data of a model without: safe where the file gives each output its own.

    Raises:
        DataError: their order is a guess, or there are more or fewer.
    """
    names = samples.class_names
    if names is None or samples.y is None or task.name == "regression":
        return
    classes = f"{data} has {len(names)} class{'es' * (len(names) != 1)} ({listing(names)})"
    todo = "name the outputs with --class-names"
    more = "" if task.targets else ", or learn new classes with skip2lora adapt --new-classes"
    if len(names) != n_outputs:
        raise DataError(
            f"{classes}, the model has {n_outputs} output{'s' * (n_outputs != 1)} without names, "
            f"expected one an output: {todo}{more}"
        )
    if samples.names_guessed:
        raise DataError(
            f"{classes} in no order, the model has {n_outputs} outputs without names, expected to "
            f"know which is which: {todo}, such as {','.join(names[:8])}{more}"
        )
    click.echo(
        f"skip2lora: the model has no class names, its outputs are taken as {listing(names)}, in "
        f"the order of {data}",
        err=True,
    )


def answers_of(samples: Samples, *, new_classes: bool) -> NDArray[Any]:
    """Labels as numbers, or as names where the file has names and some may be new."""
    labels: NDArray[Any] = samples.labels
    if new_classes and samples.class_names is not None and labels.ndim == 1:
        labels = np.array(samples.class_names, np.str_)[labels]
    return labels


def names_to_keep(
    backbone: Backbone,
    samples: Samples,
    told: tuple[str, ...] | None,
    task: Task,
    *,
    new_outputs: bool,
) -> tuple[str, ...] | None:
    """Names of outputs that are kept with an adapter, as the model has none of its own for them."""
    if new_outputs:  # new classes are called as in the samples anyway
        return samples.class_names if task.targets else told
    own = None if task.name == "regression" else backbone.class_names
    return samples.class_names if told is None and own is None else told


def compared(model: Backbone | AdaptedModel, task: Task, samples: Samples) -> Measures:
    """How good the model is on the samples.

    Raises:
        DataError: answers that the model cannot give.
    """
    made = decided(task, model.logits(samples.x))
    found = samples.class_names
    if task.targets:
        answers = check_answers(task, samples.y, len(made), model.n_outputs)
        return measured(task, made, answers, found or numbers(model.n_outputs))
    if found is None:
        classes = model.classes_
        y = check_labels(samples.labels, len(made), int(classes.max()) + 1)
        return measured(task, classes[made], y, numbers(int(classes.max()) + 1))
    names = model.class_names or found
    place = [names.index(name) if name in names else -1 for name in found]
    y = np.array(place)[check_labels(samples.labels, len(made), len(found))]
    return measured(task, made, y, names)


def numbers(count: int) -> tuple[str, ...]:
    """Names where there are none."""
    return tuple(map(str, range(count)))
