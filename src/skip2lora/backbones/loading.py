"""Load a model by its file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from skip2lora.backbones.taps import Selection
from skip2lora.errors import FileError, ModelError, ParameterError
from skip2lora.tasks.labels import check_names


def load(
    path: str | os.PathLike[str],
    *,
    taps: Selection = None,
    grid: int | None = None,
    size: tuple[int, int] | None = None,
    class_names: Sequence[str] | None = None,
) -> Any:
    """Load a model by its file, or by the folder that holds ``model.safetensors``.

    ``.safetensors`` is a network of this package, ``.onnx`` and ``.tflite`` run in their runtimes.
    ``taps`` chooses which layers of those are tapped (:func:`skip2lora.backbones.taps.chosen`),
    ``grid`` how many places an axis of their maps keeps, by default 4. ``size`` fixes the height
    and width of images where a ``.onnx`` leaves them open: its maps then keep a grid instead of one
    place. ``class_names`` name the outputs, in their order.

    Raises:
        FileError: there is no such file.
        ModelError: the file is of an unknown kind, truncated, or not a model.
        ParameterError: ``taps`` fits no layer, or the model has no choice of taps, grid or size.
        MissingExtraError: the runtime is not installed.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "model.safetensors"
    if not file.exists():
        raise FileError(f"{file} does not exist, expected a model: check the path")
    asked = {"taps": taps, "grid": grid, "size": size}
    model = _read(file, {name: value for name, value in asked.items() if value is not None})
    names = check_names(class_names, model.n_outputs)
    return model if names is None else replace(model, class_names=names)


def _read(file: Path, asked: dict[str, Any]) -> Any:
    if file.suffix == ".onnx":
        from skip2lora.backbones.onnx.backbone import OnnxBackbone

        return OnnxBackbone.load(file, **asked)
    if file.suffix == ".tflite":
        from skip2lora.backbones.litert.backbone import LiteRTBackbone

        if "size" in asked:
            raise ParameterError(
                f"size is {asked['size']} for {file}, whose sizes are fixed: leave size out"
            )
        return LiteRTBackbone.load(file, **asked)
    if file.suffix != ".safetensors":
        raise ModelError(
            f"{file} ends in {file.suffix or 'nothing'}, expected a model as .safetensors, .onnx "
            "or .tflite: make one with `skip2lora pretrain`"
        )
    for name, value in asked.items():
        raise ParameterError(
            f"{name} is {value!r} for {file}, whose adapters start at every layer: leave {name} out"
        )
    from skip2lora.backbones.mlp import MLP

    return MLP.load(file)
