"""Loading for commands that take MODEL, ``--adapter`` and DATA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapt import AdaptedModel
from skip2lora.backbones import load
from skip2lora.classifier import Classifier
from skip2lora.data import read_samples
from skip2lora.samples import Samples


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
) -> Samples:
    """Samples whose labels are numbered as the outputs of ``model``.

    With ``new_classes`` they keep the names of the file, for there may be more of them.
    """
    names = None if new_classes else getattr(model, "class_names", None)
    return read_samples(data, label=label, class_names=names, labels_required=labels_required)


def answers_of(samples: Samples, *, new_classes: bool) -> NDArray[Any]:
    """Labels as numbers, or as names where the file has names and some may be new."""
    labels = samples.labels
    if new_classes and samples.class_names is not None:
        return np.array(samples.class_names, np.str_)[labels]
    return labels
