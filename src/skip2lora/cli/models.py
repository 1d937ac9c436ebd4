"""Loading for commands that take MODEL, ``--adapter`` and DATA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapt import AdaptedModel
from skip2lora.backbones import load
from skip2lora.classifier import Classifier
from skip2lora.cli import common
from skip2lora.data import read_samples
from skip2lora.errors import DataError
from skip2lora.images import Images
from skip2lora.layouts import ANY_LAYOUT, layout_of
from skip2lora.samples import Samples, listing


def load_model(model: Path, adapter: Path | None) -> tuple[Any, Classifier]:
    """The backbone, and what predicts: the backbone itself or with its adapter."""
    backbone = load(model)
    return backbone, backbone if adapter is None else AdaptedModel.load(backbone, adapter)


def read_for(
    model: Any,
    data: Path,
    *,
    label: str | None,
    labels_required: bool = True,
    new_classes: bool = False,
    images: Images | None = None,
) -> Samples:
    """Samples whose labels are numbered as the outputs of ``model``.

    With ``new_classes`` they keep the names of the file, for there may be more of them. A folder of
    images is read in the layout of ``model``.

    Raises:
        DataError: names of classes that cannot be matched with the outputs.
    """
    names = None if new_classes else getattr(model, "class_names", None)
    folder = data.is_dir()
    layout = layout_of(getattr(model, "backbone", model)) if folder else ANY_LAYOUT
    with common.reading_bar() as progress:
        samples = read_samples(
            data, label=label, class_names=names, labels_required=labels_required,
            images=images, layout=layout, progress=progress,
        )  # fmt: skip
    found = samples.class_names
    if folder and found and names is None and not new_classes and len(found) != model.n_outputs:
        raise DataError(
            f"{data} has {len(found)} class{'es' * (len(found) != 1)} ({listing(found)}), the "
            f"model has {model.n_outputs} outputs without names: call each sub-folder by the "
            "number of its output, or learn new classes"
        )
    return samples


def answers_of(samples: Samples, *, new_classes: bool) -> NDArray[Any]:
    """Labels as numbers, or as names where the file has names and some may be new."""
    labels = samples.labels
    if new_classes and samples.class_names is not None:
        return np.array(samples.class_names, np.str_)[labels]
    return labels
