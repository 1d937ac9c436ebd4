"""``skip2lora predict``: samples to classes, labels or numbers in a CSV file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import label_array
from skip2lora.cli import common
from skip2lora.cli import options as shared
from skip2lora.cli.common import load_model, read_for, read_to_predict
from skip2lora.cli.follow import follow
from skip2lora.cli.help import Command
from skip2lora.cli.measures import named_thresholds, thresholds_line
from skip2lora.cli.media import every_window, media_of, media_options, stream_group
from skip2lora.data.media import Media
from skip2lora.data.predictions import check_labels_file, check_name, write_predictions
from skip2lora.data.samples import Table
from skip2lora.errors import DataError, ParameterError
from skip2lora.files import check_output
from skip2lora.replacing import resolved
from skip2lora.tasks.labels import encode
from skip2lora.tasks.task import CLASSIFICATION, Outputs, Task, probabilities_of
from skip2lora.tasks.thresholds import (
    NO_PLACE,
    NONE_OF_THESE,
    checked_thresholds,
    choose_thresholds,
)


@click.command(
    cls=Command, short_help="Predict classes, labels or numbers into a CSV file.",
    example="skip2lora predict fan.safetensors fan/test.npz --adapter adapter -o predictions.csv",
)  # fmt: skip
@shared.model_argument
@shared.data_argument
@shared.adapter
@shared.threads
@shared.output_name
@shared.mask
@shared.output(
    "Predictions, such as predictions.csv, or - for standard output.", metavar="FILE", needed=False
)
@shared.force
@shared.saved_task
@media_options
@stream_group
@shared.columns
@shared.no_target
@shared.class_names
@shared.thresholds
@click.option(
    "--follow",
    "following",
    is_flag=True,
    help="Read rows of sensors as they come, from - or a device, and write a line a window.",
)
@shared.as_json
def command(
    model: Path, data: Path, adapter: Path | None, output: Path | None, force: bool,
    as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Predict the samples in DATA with MODEL, with or without an adapter.

    DATA may be one image or recording, or - for a table, a .npz or an image on standard input.
    Answers in DATA are left out of the features, and written beside the predictions. Of recordings
    each window is a row; of one, -o NAME.txt writes labels as Audacity reads them. With --follow
    DATA is - or a device or pipe that sends rows of sensors.
    """
    if options.pop("following"):
        _follow(model, data, adapter, output, as_json=as_json, **options)
        return
    if output is None:
        raise click.UsageError("Missing option '-o' / '--output'.")
    check_output(output, force=force)
    check_name(output)
    aside = resolved(output) == 1  # standard output
    if aside and as_json:
        raise ParameterError(
            "--output is standard output with --json, which prints its object there, expected one "
            "of them: leave --json out"
        )
    keys = ("task", "threads", "class_names", "output_name", "mask")
    loading = {key: options.pop(key) for key in keys}
    images, columns = media_of(options, data), common.columns_of(options)
    loaded = load_model(model, adapter, **loading)
    outputs = Outputs.of(loaded.model, loaded.task)
    images = every_window(images, loaded.model.images)
    least, said = _thresholds(loaded, data, columns, images, **options)
    table = read_to_predict(
        loaded.model, data, columns=columns, task=loaded.task, class_names=outputs.names,
        images=images,
    )  # fmt: skip
    if table.spans is not None:
        check_labels_file(output, loaded.task, table)
    titles = outputs.titles
    names = None if outputs.is_plain else titles
    beside = _places(table)
    if loaded.task is CLASSIFICATION and table.answers.values is not None:
        beside |= _true(table, outputs)
    logits = common.logits_of(loaded.model, table.x, "predict")
    predictions = write_predictions(
        output, loaded.task, logits, names, beside=beside, thresholds=least, spans=table.spans
    )
    facts = {"output": str(output), "task": loaded.task.name, "n_samples": len(logits), **said}
    predicted, line = _summary(loaded.task, predictions, titles, least is not None)
    lines = [f"{output}: {len(logits):,} samples: {line}"]
    common.show(facts | predicted, lines, as_json=as_json, aside=aside)


def _follow(
    model: Path, data: Path, adapter: Path | None, output: Path | None, *, as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """A line a window, on standard output, of rows that come one after another."""
    if output is not None and resolved(output) != 1:
        raise ParameterError(
            f"--output is {output} with --follow, which writes to standard output, expected none: "
            "leave --output out"
        )
    keys = ("task", "threads", "class_names", "output_name", "mask")
    loaded = load_model(model, adapter, **{key: options.pop(key) for key in keys})
    names = options.pop("channels")
    media, columns = media_of(options, Path("-")), common.columns_of(options)
    least, _ = _thresholds(loaded, data, columns, media, **options)
    names = None if names is None else [name.strip() for name in names.split(",")]
    follow(loaded, data, media, names=names, thresholds=least, as_json=as_json)


def _places(table: Table) -> dict[str, Sequence[Any]]:
    """The file of each sample and which part of it: a box, seconds, or rows without a clock."""
    beside: dict[str, Sequence[Any]] = {} if table.files is None else {"file": table.files}
    if table.spans is not None:
        ends = zip(("start", "end"), table.spans.seconds.T, strict=True)
        digits = 3 if table.spans.unit == "s" else 0
        beside |= {name: [f"{value:.{digits}f}" for value in values] for name, values in ends}
    return {**beside, **table.places}


def _thresholds(
    loaded: common.Loaded,
    data: Path,
    columns: dict[str, Any],
    images: Media | None,
    *,
    threshold: dict[str, float] | float | None,
    threshold_data: Path | None,
    precision: float,
) -> tuple[NDArray[np.float64] | None, dict[str, Any]]:
    """The least probability of each output, and what is told of it.

    Raises:
        ParameterError: it is given twice, or is to be chosen on the data that are predicted.
    """
    model, task = loaded.model, loaded.task
    titles = Outputs.of(model, task).titles
    if threshold_data is None:
        own = model.thresholds
        if threshold is not None:
            least = checked_thresholds(task, threshold, titles)
        elif own is not None:
            least = own.least(task)
        else:
            return None, {}
        return least, {"thresholds": named_thresholds(least, titles)}
    if threshold is not None:
        raise ParameterError(
            "--threshold and --threshold-data are both given, expected one: leave one out"
        )
    if data.exists() and threshold_data.exists() and data.samefile(threshold_data):
        raise ParameterError(
            f"--threshold-data is {data}, which is to be predicted, expected other samples: choose "
            "data that nothing is measured on"
        )
    samples = read_for(model, threshold_data, columns=columns, task=task, images=images)
    logits = common.logits_of(model, samples.x, "thresholds")
    shares = probabilities_of(task, logits)
    least = choose_thresholds(
        task, logits if shares is None else shares, samples.answers.y, precision
    )
    chosen = named_thresholds(least, titles)
    listed = thresholds_line(chosen)
    right = f"{common.percent(precision)} of predictions above them are right"
    common.say_notes(
        [f"thresholds from {threshold_data} ({len(logits):,} samples), where {right}: {listed}"]
    )
    return least, {"thresholds": chosen, "thresholds_from": str(threshold_data)}


def _true(table: Table, outputs: Outputs) -> dict[str, list[str]]:
    """The true class of each sample, "" where it has none: as the model calls it, if it does."""
    values = label_array(table.answers.values)
    if values.ndim > 1:
        shape = f"has answers of shape {values.shape}, no label a sample"
        common.say_notes([f"{table.answers.source} {shape}, so there is no column true"])
        return {}
    known = values != "" if values.dtype.kind == "U" else np.ones(len(values), bool)
    labels = np.full(len(values), "", object)
    answers = replace(table.answers, values=values[known])
    try:
        places = encode(CLASSIFICATION, answers, int(known.sum()), outputs).y
        labels[known] = [outputs.titles[place] for place in places]
    except DataError:
        said = "has answers that are none of the model, written as they are to the column true"
        common.say_notes([f"{table.answers.source} {said}"])
        labels[known] = values[known].tolist()
    return {"true": [str(label) for label in labels]}


def _summary(
    task: Task, predictions: NDArray[Any], names: Sequence[str], some_are_none: bool
) -> tuple[dict[str, Any], str]:
    """How many samples each class got, or the range of each output."""
    if task.name == "regression":
        ranges = {
            name: {"smallest": float(low), "mean": float(mean), "largest": float(high)}
            for name, low, mean, high in zip(
                names, *(of(predictions, axis=0) for of in (np.min, np.mean, np.max)), strict=True
            )
        }
        shown = (
            f"{name + ' ' if len(names) > 1 or name != '0' else ''}"
            f"{of['smallest']:.4g} to {of['largest']:.4g}"
            for name, of in ranges.items()
        )
        return {"predicted": ranges}, ", ".join(shown)
    without = int(((predictions == 1).sum(axis=1) == 0).sum()) if task.numeric_targets else 0
    if task.numeric_targets:  # the places of the ones
        predictions = np.nonzero(predictions)[1]
    counts = np.bincount(predictions[predictions != NO_PLACE].astype(np.intp), minlength=len(names))
    by_class = {name: int(count) for name, count in zip(names, counts, strict=True)}
    if some_are_none:
        by_class[NONE_OF_THESE] = without + int((predictions == NO_PLACE).sum())
    line = ", ".join(f"{name} {count:,}" for name, count in by_class.items() if count)
    return {"predicted": by_class}, line or "no labels"
