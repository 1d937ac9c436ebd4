"""``skip2lora evaluate``: how good a model is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from skip2lora.cli import common
from skip2lora.cli.models import load_model, read_for
from skip2lora.tasks.task import measure


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
def command(model: Path, data: Path, adapter: Path | None, as_json: bool, **options: Any) -> None:
    """Measure MODEL, with or without an adapter, on DATA.

    Of classes: accuracy. Of several labels: exact match, F1. Of numbers: R2 and errors, in the unit
    of the numbers, or its square. All are those of scikit-learn's metrics.
    """
    loading = {name: options.pop(name) for name in ("task", "threads", "class_names")}
    loaded = load_model(model, adapter, **loading)
    samples = read_for(loaded.model, data, task=loaded.task, **options)
    scores = measure(
        loaded.task, loaded.model.logits(samples.x), samples.answers.y, samples.answers.titles
    )
    part = "targets" if loaded.task.name == "regression" else "classes"
    one = part.removesuffix("s" if part == "targets" else "es")
    facts = {
        "task": loaded.task.name,
        **scores.overall,
        "n_samples": len(samples.x),
        part: [{one if key == "name" else key: of[key] for key in of} for of in scores.parts],
    }
    common.show(facts, common.measures_table(loaded.task, scores, len(samples.x)), as_json=as_json)
