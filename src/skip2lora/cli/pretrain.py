"""``skip2lora pretrain``: data to a model."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from skip2lora.arrays import check_samples, listing
from skip2lora.backbones.mlp import MLP
from skip2lora.cli import bars, common
from skip2lora.cli import options as shared
from skip2lora.cli.help import Command
from skip2lora.cli.lab_sets import check_lab_set, lab_set_lines, save_lab_set
from skip2lora.cli.measures import measures_line
from skip2lora.cli.media import image_options, media_of, stream_group, window_options
from skip2lora.cli.options import training_options
from skip2lora.data.reading import read_samples
from skip2lora.data.samples import Samples
from skip2lora.errors import ParameterError
from skip2lora.files import check_output
from skip2lora.tasks.task import TASKS, Outputs, measure
from skip2lora.training.lab_set import LabSet
from skip2lora.training.pretraining import pretrain

_FEWEST_STEPS = 20  # between rows, of which equal ones count them
_MOST_LOOKED_AT = 1 << 16  # rows
_LARGE, _COARSE = 1e5, 64  # numbers beyond, and steps of float32 that all of a column is within


@click.command(
    cls=Command, short_help="Train a small network on data from the lab.",
    example="skip2lora pretrain fan/pretrain.npz -o fan.safetensors",
)  # fmt: skip
@shared.data_argument
@shared.task("classification", "What is learned: one class, several labels, or numbers.")
@click.option(
    "--hidden",
    default="96,96",
    show_default=True,
    callback=shared.widths("96,96"),
    help="Widths of hidden layers.",
)
@click.option("--batch-norm/--no-batch-norm", default=True, show_default=True)
@training_options(pretrain)
@shared.weights
@shared.output("The model, such as model.safetensors.", metavar="FILE")
@shared.force
@shared.lab_set
@image_options
@window_options
@stream_group
@shared.columns
@shared.as_json
def command(
    data: Path, hidden: list[int], batch_norm: bool, output: Path, force: bool, as_json: bool,
    lab_set: int | None, **options: Any,
) -> None:  # fmt: skip
    """Train all weights of a new network on DATA (SGD) and write it.

    The network has one input a feature of DATA and one output a class, a label or a number. It
    learns scaled features, and takes them as they are.
    """
    check_output(output, force=force)
    if output.suffix != ".safetensors":
        raise ParameterError(f"output is {output}, expected .safetensors at its end: name it so")
    check_lab_set(output, lab_set, force=force)
    samples = _read(data, options)
    n_outputs = _n_outputs(data, samples)
    common.say_notes([f"{data}: {note}" for note in _doubts(samples, n_outputs)])
    fresh = replace(
        MLP.create(
            [samples.x.shape[1], *hidden, n_outputs], seed=options["seed"],
            batch_norm=batch_norm, class_names=samples.class_names, task=options["task"],
        ),
        columns=samples.columns,
    )  # fmt: skip
    if samples.images is not None:
        fresh = replace(fresh, images=samples.images.resolved(fresh.inputs))
    start = time.perf_counter()
    with bars.progress_bar("pretrain") as callback:
        model = pretrain(
            fresh, samples.x, samples.labels, sample_weight=samples.weight, callback=callback,
            **options,
        )  # fmt: skip
    took_ms = 1e3 * (time.perf_counter() - start)
    lab = None
    if lab_set is not None:
        lab = LabSet.of(model, samples.x, samples.labels, lab_set, seed=options["seed"])
    model.save(output)
    names = Outputs.of(model, model.learned).titles
    scores = measure(model.learned, model.logits(samples.x), samples.labels, names)
    facts: dict[str, Any] = {
        "output": str(output),
        "task": model.task,
        "widths": model.widths,
        "n_parameters": model.n_parameters,
        "n_samples": len(samples.x),
        "epochs": options["epochs"],
        "training_ms": took_ms,
        **scores.overall,
        "fingerprint": model.fingerprint,
        "lab_set": save_lab_set(output, lab),
    }
    lines = [
        f"{output}: {'-'.join(map(str, model.widths))}, {model.n_parameters:,} parameters",
        f"{len(names):,} output{'s' * (len(names) != 1)}: {listing(names)}",
        f"{len(samples.x):,} samples, {options['epochs']} epochs in {common.duration(took_ms)}, "
        f"on them {measures_line(model.learned, scores)}",
        *lab_set_lines(facts["lab_set"]),
    ]
    common.show(facts, lines, as_json=as_json)


def _read(data: Path, options: dict[str, Any]) -> Samples:
    """A table of samples, as ``options`` say that are taken out."""
    images, columns = media_of(options, data), common.columns_of(options, "train")
    with bars.counting_bar("check files") as progress:
        samples = read_samples(
            data, task=TASKS[options["task"]], images=images, progress=progress, **columns
        )
    common.say_notes(samples.notes)
    check_samples(samples.x)
    return samples


def _doubts(samples: Samples, n_outputs: int) -> Iterator[str]:
    """What is learned as the file has it, but is seldom meant."""
    names = samples.feature_names or tuple(map(str, range(samples.x.shape[1])))
    for name, column in zip(names, samples.x.T, strict=True):
        steps = np.diff(column[:_MOST_LOOKED_AT])
        if len(steps) >= _FEWEST_STEPS and steps[0] != 0 and (steps == steps[0]).all():
            yield (
                f'column "{name}" counts the rows, so what is learned of it is their order: leave '
                f"it out with --ignore {shlex.quote(name)}"
            )
        largest, step = np.abs(column).max(), np.spacing(np.abs(column).max())
        if largest > _LARGE and np.ptp(column) <= _COARSE * step:
            yield (
                f'column "{name}" has numbers near {largest:.9g}, which float32 tells apart by '
                f"{step:.3g} alone: subtract their mean, or leave it out with --ignore "
                f"{shlex.quote(name)}"
            )
    if samples.labels.ndim == 1 and len(samples.labels) > 1:  # one alone tells nothing
        counts = np.bincount(samples.labels.astype(np.intp), minlength=n_outputs)
        titles = samples.class_names or tuple(map(str, range(n_outputs)))
        if counts.max() == 1:
            yield (
                f"each sample is a class of its own ({listing(titles)}): if these are no classes, "
                "say which column holds them with --target"
            )
        empty = [title for title, count in zip(titles, counts, strict=True) if count == 0]
        if empty:
            yield (
                f"{len(empty):,} of {n_outputs:,} outputs have no samples ({listing(empty)}), as "
                "labels count outputs from 0"
            )


def _n_outputs(data: Path, samples: Samples) -> int:
    """One a column of numbers, or one a class.

    Raises:
        ParameterError: there is one class alone.
    """
    if samples.labels.ndim > 1:
        return int(samples.labels.shape[1])
    n_classes = len(samples.class_names or ()) or int(samples.labels.max()) + 1
    if n_classes < 2:
        raise ParameterError(
            f"{data} has one class only, expected two or more: add samples of another"
        )
    return n_classes
