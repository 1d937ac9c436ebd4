"""Reads a model from its file, with the class that its name says."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skip2lora.backbones import formats
from skip2lora.backbones.base import Backbone, Size
from skip2lora.backbones.standins import Binary
from skip2lora.backbones.taps import Selection
from skip2lora.errors import ModelError
from skip2lora.limits import check_file, is_folder

#: Which class reads a file, imported on first use. A new runtime is one more line here.
SUFFIXES = {
    ".safetensors": "skip2lora.backbones.mlp:MLP",
    ".onnx": "skip2lora.backbones.onnx.backbone:OnnxBackbone",
    ".tflite": "skip2lora.backbones.litert.backbone:LiteRTBackbone",
    ".xml": "skip2lora.backbones.openvino.backbone:OpenVINOBackbone",
    ".toml": "skip2lora.backbones.onnx.backbone:OnnxBackbone",
}


def load(
    path: str | os.PathLike[str],
    *,
    taps: Selection = None,
    grid: int | None = None,
    size: Size | None = None,
    threads: int = 1,
    class_names: Sequence[str] | None = None,
    output: str | int | None = None,
    mask: str | None = None,
) -> Backbone:
    """Load a model by its file, or by the folder that holds ``model.safetensors``.

    ``.safetensors`` is a network of this package, ``.onnx`` (or a chain of them, ``.toml``),
    ``.tflite`` and ``.xml`` (OpenVINO) run in their runtimes. ``taps`` chooses which layers of
    those are tapped (:func:`skip2lora.backbones.taps.chosen`), ``grid`` how many places an axis of
    their maps keeps, by default 4. ``size`` fixes the pixels of images where the model leaves open:
    its maps then keep a grid instead of one place. The runtime works on ``threads`` threads.
    ``class_names`` name the outputs, in order. ``output`` is the name or number of the output with
    the classes. ``mask`` says which tokens count where an input does: "tokens" (1 where one does),
    "padding", "additive", "lengths", "none", or "pad=padding" where several inputs may be meant.

    Raises:
        FileError: there is no such file.
        ModelError: the file is of an unknown kind, truncated, or not a model.
        ParameterError: an option is out of range or fits no layer, or the model has no such choice.
        MissingExtraError: the runtime is not installed.
    """
    file, kind = _reader(path)
    with formats.told_apart(file):
        model = kind.load(
            file, taps=taps, grid=grid, size=size, threads=threads, output=output, mask=mask
        )
        return as_said(model).named(class_names)


def load_for_images(path: str | os.PathLike[str], size: Size | None, **options: Any) -> Backbone:
    """As :func:`load`, but ``size`` counts only where the model takes images of any size."""
    file, kind = _reader(path)
    with formats.told_apart(file):
        return as_said(kind.load_for_images(file, size, **options))


def as_said(model: Backbone) -> Backbone:
    """``model``, or its one output as the two classes that its file says it was adapted to."""
    return Binary(model) if model.said.binary(model.n_outputs) else model


#: Of the folder of an adapter: it is told from a model's by this.
CONFIG_FILE = "adapter_config.json"


def _reader(path: str | os.PathLike[str]) -> tuple[Path, type[Backbone]]:
    """The file of a model, and the class that reads it."""
    file = Path(path)
    if is_folder(file):
        if (file / CONFIG_FILE).is_file():
            raise ModelError(
                f"{file} is an adapter, expected the model that it was made for: load that model, "
                f"then both with AdaptedModel.load(model, {str(file)!r})"
            )
        formats.refuse_folder(file)
        file = file / "model.safetensors"
    check_file(file, "a model")
    if file.suffix not in SUFFIXES:
        formats.refuse_stranger(file, readable=False)
        raise ModelError(
            f"{file} ends in {file.suffix or 'nothing'}, expected a model as "
            f"{', '.join(SUFFIXES)}: make one with `skip2lora pretrain`"
        )
    module, _, name = SUFFIXES[formats.suffix_of(file)].partition(":")
    return file, getattr(importlib.import_module(module), name)
