"""``skip2lora predict``: samples to classes, labels or numbers in a CSV file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from skip2lora.cli import common
from skip2lora.cli import options as shared
from skip2lora.cli.common import load_model, read_without_answers
from skip2lora.cli.help import Command
from skip2lora.data.reading import write_predictions
from skip2lora.files import check_output
from skip2lora.tasks.task import Outputs, Task


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
@shared.output("Predictions, such as predictions.csv.", metavar="FILE")
@shared.force
@shared.saved_task
@shared.image_options
@shared.columns
@shared.no_target
@shared.class_names
@shared.as_json
def command(
    model: Path, data: Path, adapter: Path | None, output: Path, force: bool, as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Predict the samples in DATA with MODEL, with or without an adapter.

    Columns of answers in DATA are left out of the features and not used.
    """
    check_output(output, force=force)
    keys = ("task", "threads", "class_names", "output_name", "mask")
    loading = {key: options.pop(key) for key in keys}
    images, columns = common.images_of(options), common.columns_of(options)
    loaded = load_model(model, adapter, **loading)
    outputs = Outputs.of(loaded.model, loaded.task)
    x = read_without_answers(
        loaded.model, data, columns=columns, task=loaded.task, class_names=outputs.names,
        images=images,
    )  # fmt: skip
    titles = outputs.titles
    names = None if outputs.is_plain else titles
    predictions = write_predictions(output, loaded.task, loaded.model.logits(x), names)
    facts = {"output": str(output), "task": loaded.task.name, "n_samples": len(x)}
    predicted, line = _summary(loaded.task, predictions, titles)
    common.show(facts | predicted, [f"{output}: {len(x):,} samples: {line}"], as_json=as_json)


def _summary(
    task: Task, predictions: NDArray[Any], names: Sequence[str]
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
    if task.numeric_targets:  # the places of the ones
        predictions = np.nonzero(predictions)[1]
    counts = np.bincount(predictions, minlength=len(names))
    by_class = {name: int(count) for name, count in zip(names, counts, strict=True)}
    line = ", ".join(f"{name} {count:,}" for name, count in by_class.items() if count)
    return {"predicted": by_class}, line or "no labels"
