"""Sizes that an ONNX model fixes or leaves open: of its images, and how many samples it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skip2lora.backbones.inputs import InputSpec
from skip2lora.backbones.onnx.graph import Graph, sizes_of
from skip2lora.data.image_layout import CHANNELS
from skip2lora.errors import ParameterError


def leaves_open(model: Any) -> bool:
    """Whether the only input of a ModelProto is one image whose height is open."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initializers]
    axes = _places(inputs[0]) if len(inputs) == 1 else None
    return axes is not None and _fixed(axes[0]) is None


def any_size(inputs: Sequence[InputSpec]) -> bool:
    """Whether the only one of these inputs is one image whose height is open."""
    if len(inputs) != 1 or len(inputs[0].shape) != 3:
        return False
    first, *_, last = inputs[0].shape
    if (first in CHANNELS) == (last in CHANNELS):
        return False
    return inputs[0].shape[1 if first in CHANNELS else 0] is None


def fix_size(model: Any, path: Path, size: tuple[int, int]) -> None:
    """Fix the open axes of the only image among the inputs of a ModelProto, in place.

    Raises:
        ParameterError: no input is one image, or its sizes are fixed to others.
    """
    initializers = {tensor.name for tensor in model.graph.initializer}
    images = [
        axes
        for value in model.graph.input
        if value.name not in initializers and (axes := _places(value)) is not None
    ]
    if len(images) != 1:
        raise ParameterError(
            f"size is {size[0]}x{size[1]}, but {len(images)} inputs of {path} are images with 1 or "
            "3 channels, expected one: leave size out"
        )
    for axis, side in zip(images[0], size, strict=True):
        if _fixed(axis) not in (None, side):
            raise ParameterError(
                f"size is {size[0]}x{size[1]}, but {path} takes "
                f"{'x'.join(str(_fixed(axis) or 'any') for axis in images[0])}: leave size out"
            )
    pairs = list(zip(images[0], size, strict=True))
    wanted = {axis.dim_param: side for axis, side in pairs if axis.dim_param}
    if any(wanted.get(axis.dim_param, side) != side for axis, side in pairs):
        raise ParameterError(
            f"size is {size[0]}x{size[1]}, but {path} takes squares alone: give one number"
        )
    for axis, side in pairs:
        axis.dim_value = side
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in wanted:
                axis.dim_value = wanted[axis.dim_param]


def _places(value: Any) -> tuple[Any, Any] | None:
    """The axes of height and width, None for what is no image."""
    axes = value.type.tensor_type.shape.dim
    if len(axes) != 4:
        return None
    first, last = (_fixed(axes[at]) in CHANNELS for at in (1, 3))
    if first == last:
        return None
    return (axes[2], axes[3]) if first else (axes[1], axes[2])


def _fixed(axis: Any) -> int | None:
    return int(axis.dim_value) if axis.dim_value > 0 else None


def batch_of(graph: Graph, axes: Mapping[str, int]) -> int | None:
    """The number of samples that the inputs are fixed to, None where any will do."""
    sizes = [(sizes_of(value) or ())[axes.get(value.name, 0) :][:1] for value in graph.inputs]
    fixed = [size for (size,) in filter(None, sizes) if isinstance(size, int) and size > 0]
    return max(fixed, default=None)


def fix_batch(graph: Graph, axes: Mapping[str, int], batch: int) -> None:
    """Say in the inputs how many samples they take, in place."""
    for value in graph.inputs:
        value.type.tensor_type.shape.dim[axes[value.name]].dim_value = batch
