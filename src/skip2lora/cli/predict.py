"""``skip2lora predict``: samples to labels in a CSV file."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from skip2lora.classifier import softmax
from skip2lora.cli import common
from skip2lora.cli.models import load_model, read_for
from skip2lora.data import write_predictions
from skip2lora.files import check_output
from skip2lora.images import Images


@click.command(short_help="Predict labels into a CSV file.")
@common.model_argument
@common.data_argument
@common.adapter
@common.output("Predictions, such as predictions.csv.", metavar="FILE")
@common.force
@common.image_options
@common.label
@common.as_json
def command(
    model: Path, data: Path, adapter: Path | None, target: Path, force: bool, images: Images,
    label: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Predict the samples in DATA with MODEL, with or without an adapter.

    A label column in DATA is left out of the features and not used.
    """
    check_output(target, force=force)
    _, classifier = load_model(model, adapter)
    samples = read_for(classifier, data, label=label, labels_required=False, images=images)
    probabilities = softmax(classifier.logits(samples.x))
    outputs = probabilities.argmax(axis=1)
    names = tuple(map(str, classifier.classes_))
    numbered = names == tuple(map(str, range(len(names))))
    named: tuple[str, ...] | None = getattr(classifier, "class_names", None)
    write_predictions(target, outputs, probabilities, named or (None if numbered else names))
    names = named or names
    counts = np.bincount(outputs, minlength=classifier.n_outputs)
    by_class = {name: int(count) for name, count in zip(names, counts, strict=True)}
    facts = {"output": str(target), "n_samples": len(samples.x), "predicted": by_class}
    told = ", ".join(f"{name} {count:,}" for name, count in by_class.items() if count)
    common.show(facts, [f"{target}: {len(samples.x):,} samples: {told}"], as_json=as_json)
