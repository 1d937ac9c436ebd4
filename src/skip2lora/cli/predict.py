"""``skip2lora predict``: samples to classes, labels or numbers in a CSV file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from skip2lora.cli import common
from skip2lora.cli.models import load_model, numbers, read_for
from skip2lora.data.image_options import Images
from skip2lora.data.reading import write_predictions
from skip2lora.files import check_output
from skip2lora.tasks.task import Task, decided


@click.command(short_help="Predict classes, labels or numbers into a CSV file.")
@common.model_argument
@common.data_argument
@common.adapter
@common.threads
@common.output("Predictions, such as predictions.csv.", metavar="FILE")
@common.force
@common.saved_task
@common.image_options
@common.targets
@common.class_names
@common.as_json
def command(
    model: Path, data: Path, adapter: Path | None, threads: int, target: Path, force: bool,
    task: str | None, images: Images, targets: tuple[str, ...] | None,
    class_names: tuple[str, ...] | None, as_json: bool,
) -> None:  # fmt: skip
    """Predict the samples in DATA with MODEL, with or without an adapter.

    Columns of answers in DATA are left out of the features and not used.
    """
    check_output(target, force=force)
    loaded = load_model(model, adapter, task=task, threads=threads, class_names=class_names)
    made = loaded.model
    samples = read_for(
        made, data, targets=targets, task=loaded.task, labels_required=False, images=images
    )
    logits = made.logits(samples.x)
    names = None if loaded.task.name == "regression" else tuple(map(str, made.classes_))
    if names == numbers(len(names or ())):
        names = None
    names = made.class_names or names
    if loaded.task.name == "regression" and adapter is None:
        names = None  # those of classes
    write_predictions(target, loaded.task, logits, names)
    facts = {"output": str(target), "task": loaded.task.name, "n_samples": len(samples.x)}
    told, line = _summary(loaded.task, logits, names or numbers(logits.shape[1]))
    common.show(facts | told, [f"{target}: {len(samples.x):,} samples: {line}"], as_json=as_json)


def _summary(
    task: Task, logits: NDArray[np.float32], names: Sequence[str]
) -> tuple[dict[str, Any], str]:
    """How many samples each class got, or the range of each output."""
    made = decided(task, logits)
    if task.name == "regression":
        ranges = {
            name: {"smallest": float(low), "mean": float(mean), "largest": float(high)}
            for name, low, mean, high in zip(
                names, made.min(axis=0), made.mean(axis=0), made.max(axis=0), strict=True
            )
        }
        shown = (
            f"{name + ' ' if len(names) > 1 or name != '0' else ''}"
            f"{of['smallest']:.4g} to {of['largest']:.4g}"
            for name, of in ranges.items()
        )
        return {"predicted": ranges}, ", ".join(shown)
    counts = made.sum(axis=0) if task.targets else np.bincount(made, minlength=len(names))
    by_class = {name: int(count) for name, count in zip(names, counts, strict=True)}
    line = ", ".join(f"{name} {count:,}" for name, count in by_class.items() if count)
    return {"predicted": by_class}, line or "no labels"
