"""Load a model by its file."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skip2lora.backbones.base import Backbone, Size
from skip2lora.backbones.taps import Selection
from skip2lora.errors import FileError, ModelError

#: Which class reads a file: its module, imported on first use, and its name. A new runtime is one
#: more line here.
SUFFIXES = {
    ".safetensors": "skip2lora.backbones.mlp:MLP",
    ".onnx": "skip2lora.backbones.onnx.backbone:OnnxBackbone",
    ".tflite": "skip2lora.backbones.litert.backbone:LiteRTBackbone",
    ".xml": "skip2lora.backbones.openvino.backbone:OpenVINOBackbone",
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
) -> Backbone:
    """Load a model by its file, or by the folder that holds ``model.safetensors``.

    ``.safetensors`` is a network of this package, ``.onnx``, ``.tflite`` and ``.xml`` with its
    ``.bin`` (OpenVINO) run in their runtimes. ``taps`` chooses which layers of those are tapped
    (:func:`skip2lora.backbones.taps.chosen`), ``grid`` how many places an axis of their maps keeps,
    by default 4. ``size`` fixes the height and width of images where the model leaves them open:
    its maps then keep a grid instead of one place. The runtime works on ``threads`` threads.
    ``class_names`` name the outputs, in their order. ``output`` is the name or number of the output
    with the classes, where there are several.

    Raises:
        FileError: there is no such file.
        ModelError: the file is of an unknown kind, truncated, or not a model.
        ParameterError: an option is out of range or fits no layer, or the model has no such choice.
        MissingExtraError: the runtime is not installed.
    """
    file, kind = _reader(path)
    return kind.load(
        file, taps=taps, grid=grid, size=size, threads=threads, class_names=class_names,
        output=output,
    )  # fmt: skip


def load_for_images(path: str | os.PathLike[str], size: Size | None, **options: Any) -> Backbone:
    """As :func:`load`, but ``size`` counts only where the model takes images of any size."""
    file, kind = _reader(path)
    return kind.load_for_images(file, size, **options)


def _reader(path: str | os.PathLike[str]) -> tuple[Path, type[Backbone]]:
    """The file of a model, and the class that reads it."""
    file = Path(path)
    if file.is_dir():
        file = file / "model.safetensors"
    if not file.exists():
        raise FileError(f"{file} does not exist, expected a model: check the path")
    if file.suffix not in SUFFIXES:
        *others, last = SUFFIXES
        raise ModelError(
            f"{file} ends in {file.suffix or 'nothing'}, expected a model as {', '.join(others)} "
            f"or {last}: make one with `skip2lora pretrain`"
        )
    module, _, name = SUFFIXES[file.suffix].partition(":")
    kind: type[Backbone] = getattr(importlib.import_module(module), name)
    return file, kind
