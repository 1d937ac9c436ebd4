"""Loading for commands that take MODEL, ``--adapter`` and DATA."""

from __future__ import annotations

from pathlib import Path

from skip2lora.adapt import AdaptedModel
from skip2lora.backbones import load
from skip2lora.backbones.mlp import MLP
from skip2lora.classifier import Classifier
from skip2lora.data import read_samples
from skip2lora.samples import Samples


def load_model(model: Path, adapter: Path | None) -> tuple[MLP, Classifier]:
    """The backbone, and what predicts: the backbone itself or with its adapter."""
    backbone = load(model)
    return backbone, backbone if adapter is None else AdaptedModel.load(backbone, adapter)


def read_for(backbone: MLP, data: Path, *, label: str | None, labels_required: bool) -> Samples:
    """Samples whose labels are numbered as the outputs of ``backbone``."""
    return read_samples(
        data, label=label, class_names=backbone.class_names, labels_required=labels_required
    )
