"""``skip2lora evaluate``: how good a model is."""

from __future__ import annotations

from pathlib import Path

import click

from skip2lora.cli import common, measures
from skip2lora.cli.models import load_model, read_for
from skip2lora.data.image_options import Images
from skip2lora.tasks.measures import measure


@click.command(short_help="Measure a model on labelled data.")
@common.model_argument
@common.data_argument
@common.adapter
@common.threads
@common.saved_task
@common.image_options
@common.answer_columns
@common.class_names
@common.as_json
def command(
    model: Path, data: Path, adapter: Path | None, threads: int, task: str | None, images: Images,
    columns: tuple[str, ...] | None, class_names: tuple[str, ...] | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure MODEL, with or without an adapter, on DATA.

    Of classes: accuracy. Of several labels: exact match, F1. Of numbers: R2 and errors, in the unit
    of the numbers, or its square. All are those of scikit-learn's metrics.
    """
    loaded = load_model(model, adapter, task=task, threads=threads, class_names=class_names)
    samples = read_for(loaded.model, data, columns=columns, task=loaded.task, images=images)
    scores = measure(loaded.task, loaded.model.logits(samples.x), samples.answers)
    part = "targets" if loaded.task.name == "regression" else "classes"
    one = part.removesuffix("s" if part == "targets" else "es")
    facts = {
        "task": loaded.task.name,
        **scores.overall,
        "n_samples": len(samples.x),
        part: [{one if key == "name" else key: of[key] for key in of} for of in scores.parts],
    }
    common.show(facts, measures.lines(loaded.task, scores, len(samples.x)), as_json=as_json)
