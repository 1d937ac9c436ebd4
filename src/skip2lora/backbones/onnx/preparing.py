"""Writes a tapped copy of a model, for a device without the package onnx."""

from __future__ import annotations

import os
from pathlib import Path

from skip2lora.backbones.base import Size
from skip2lora.backbones.onnx.backbone import OnnxBackbone
from skip2lora.backbones.onnx.file import embed, model_writer, read_model
from skip2lora.backbones.onnx.session import open_session
from skip2lora.backbones.onnx.tapped import Description, tap_model
from skip2lora.backbones.taps import Selection, check_grid
from skip2lora.data.image_layout import check_size as checked_size
from skip2lora.files import write_file


def prepare(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    taps: Selection = None,
    grid: int | None = None,
    size: Size | None = None,
    output: str | int | None = None,
    mask: str | None = None,
) -> Description:
    """Write a copy of the model with its taps as outputs, which loads without the package onnx.

    The outputs of the model come first, unchanged; external data is taken into the file.

    Raises:
        FileError, ModelError, MissingExtraError, ParameterError: as :meth:`OnnxBackbone.load`.
    """
    file = Path(path)
    grid = check_grid(grid)
    size = None if size is None else checked_size(size)
    model = read_model(file)
    if mask is None and len(model.graph.input) > 1:  # running the model tells
        mask = OnnxBackbone.load(file, grid=grid, size=size, output=output).mask
    description = tap_model(
        model, file, taps=taps, grid=grid, size=size, output=output, mask=mask, keep_outputs=True
    )
    embed(model, file.parent)
    open_session(model.SerializeToString(), path=file)  # a file that does not run is not written
    write_file(out, model_writer(model))
    return description
