"""``skip2lora evaluate``: how often a model is right."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from skip2lora.cli import common
from skip2lora.cli.models import load_model, read_for
from skip2lora.images import Images
from skip2lora.samples import check_labels


@click.command(short_help="Measure accuracy on labelled data.")
@common.model_argument
@common.data_argument
@common.adapter
@common.image_options
@common.label
@common.as_json
def command(
    model: Path, data: Path, adapter: Path | None, images: Images, label: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Measure the accuracy of MODEL, with or without an adapter, on DATA."""
    _, classifier = load_model(model, adapter)
    samples = read_for(classifier, data, label=label, labels_required=True, images=images)
    classes_ = classifier.classes_
    known = len(classes_) if samples.class_names else int(classes_.max()) + 1
    y = check_labels(samples.labels, len(samples.x), known)
    # Names in the data are numbered as the outputs are; numbers are labels themselves.
    outputs = classifier.logits(samples.x).argmax(axis=1)
    right = (outputs if samples.class_names else classes_[outputs]) == y
    accuracy = float(right.mean())
    classes = []
    for number in np.unique(y):
        of_class = right[y == number]
        name = samples.class_names[number] if samples.class_names else str(number)
        classes.append(
            {"class": name, "n_samples": len(of_class), "accuracy": float(of_class.mean())}
        )
    facts = {"accuracy": accuracy, "n_samples": len(y), "classes": classes}
    width = max(len(str(of["class"])) for of in classes)
    lines = [f"accuracy {common.percent(accuracy)} of {len(y):,} samples"]
    lines += [
        f"  {of['class']:<{width}}  {common.percent(of['accuracy']):>7} of {of['n_samples']:,}"  # type: ignore[arg-type]
        for of in classes
    ]
    common.show(facts, lines, as_json=as_json)
