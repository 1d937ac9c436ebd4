"""``skip2lora evaluate``: how good a model is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from skip2lora.cli import common
from skip2lora.cli import options as shared
from skip2lora.cli.common import load_model, read_for
from skip2lora.cli.help import Command
from skip2lora.cli.measures import measures_table, named_thresholds, thresholds_table
from skip2lora.cli.media import media_of, media_options, stream_group
from skip2lora.tasks.evaluation import Evaluation, at_thresholds, evaluate
from skip2lora.tasks.task import Encoded


@click.command(
    cls=Command, short_help="Measure a model on labelled data.",
    example="skip2lora evaluate fan.safetensors fan/test.npz --adapter adapter",
)  # fmt: skip
@shared.model_argument
@shared.data_argument
@shared.adapter
@shared.threads
@shared.output_name
@shared.mask
@shared.saved_task
@media_options
@stream_group
@shared.columns
@shared.class_names
@shared.as_json
def command(model: Path, data: Path, adapter: Path | None, as_json: bool, **options: Any) -> None:
    """Measure MODEL, with or without an adapter, on DATA.

    Of classes: accuracy, balanced accuracy, F1, AUROC, calibration error, and which are taken for
    which. Of several labels: exact match, F1, AUROC. Of numbers: R2 and errors, in the unit of the
    numbers, or its square. All but the calibration error are those of scikit-learn's metrics. An
    adapter with thresholds is measured by these as well.
    """
    keys = ("task", "threads", "class_names", "output_name", "mask")
    loading = {key: options.pop(key) for key in keys}
    images, columns = media_of(options, data), common.columns_of(options, "test")
    loaded = load_model(model, adapter, **loading)
    samples = read_for(
        loaded.model, data, task=loaded.task, images=images, columns=columns,
        in_order=loading["class_names"] is not None,
    )  # fmt: skip
    logits = common.logits_of(loaded.model, samples.x, "evaluate")
    scores = evaluate(loaded.task, logits, samples.answers.y, samples.answers.titles)
    sure, lines = _sure(loaded, logits, samples.answers)
    part = "targets" if loaded.task.name == "regression" else "classes"
    one = part.removesuffix("s" if part == "targets" else "es")
    facts = {
        "task": loaded.task.name,
        **scores.overall,
        "n_samples": len(samples.x),
        **_confusion(scores),
        **sure,
        part: [{one if key == "name" else key: of[key] for key in of} for of in scores.parts],
    }
    lines = [*measures_table(loaded.task, scores, len(samples.x)), *lines]
    common.show(facts, lines, as_json=as_json)


def _sure(
    loaded: common.Loaded, logits: NDArray[np.float32], answers: Encoded
) -> tuple[dict[str, Any], list[str]]:
    """What the thresholds of the adapter make of it, if it has any: facts, and lines."""
    chosen = loaded.model.thresholds
    if chosen is None:
        return {}, []
    least = chosen.least(loaded.task)
    done = at_thresholds(loaded.task, logits, answers.y, least, answers.titles)
    rows = [{"class": of.pop("name"), **of} for of in done.pop("parts")]
    facts = {
        "thresholds": named_thresholds(least, answers.titles),
        "at_thresholds": {**done, "classes": rows},
    }
    return facts, thresholds_table(done, rows)


def _confusion(scores: Evaluation) -> dict[str, Any]:
    """Of classes which are taken for which: a row a true class, a column a predicted one."""
    if not scores.classes:
        return {}
    return {"confusion": {"classes": scores.classes, "matrix": scores.confusion}}
