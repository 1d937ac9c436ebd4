"""Inputs of an OpenVINO network: what they take, and the sizes that it leaves open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skip2lora.backbones.inputs import InputSpec
from skip2lora.backbones.openvino.graph import Graph
from skip2lora.backbones.openvino.runtime import openvino, reason_of
from skip2lora.data.image_layout import check_size, layout_of
from skip2lora.errors import DataError, ModelError, ParameterError

_TYPES = {
    "f16": "float16", "f32": "float32", "f64": "float64", "boolean": "bool",
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
}  # fmt: skip
_SAMPLES = (2, 3)
_PLACES = (224, 256, 320)  # height and width of images, where they are open
_TOKENS = (12, 20, 576)  # the last for what reads sound

#: Sizes of one tensor, None for one that may change.
Sizes = tuple[int | None, ...]


def specs_of(graph: Graph, path: Path) -> tuple[InputSpec, ...]:
    """The inputs, without the axis of the samples.

    Raises:
        ModelError: an input without such an axis, or that takes no numbers.
    """
    specs = []
    for port in graph.model.inputs:
        name = graph.name_of(port) or str(port.get_node().get_friendly_name())
        kind, shape = port.get_element_type().get_type_name(), port.get_partial_shape()
        if kind not in _TYPES:
            raise ModelError(
                f"{path}: input {name} has type {kind}, expected numbers: convert the model "
                "without the part that reads them"
            )
        if shape.rank.is_dynamic or len(shape) == 0:
            raise ModelError(
                f"{path}: input {name} has shape {shape}, expected an axis of samples and a known "
                "number of axes: convert the model with a shape for this input"
            )
        specs.append(InputSpec(name, sizes_of(port)[1:], _TYPES[kind]))
    if not specs:
        raise ModelError(f"{path} has no inputs, expected at least one: is this the whole network?")
    return tuple(specs)


def sizes_of(port: Any) -> Sizes:
    """Of an input or output with a known number of axes."""
    return tuple(
        None if size.is_dynamic else int(size.get_length()) for size in port.get_partial_shape()
    )


def batch_of(model: Any) -> int | None:
    """The number of samples that the model was fixed to, None where any will do."""
    return max((size for port in model.inputs if (size := sizes_of(port)[0])), default=None)


def takes_any_size(inputs: Sequence[InputSpec]) -> bool:
    """Whether the only one of these inputs is one image whose height is open."""
    places = _places(inputs[0]) if len(inputs) == 1 else None
    return places is not None and inputs[0].shape[places[0]] is None


def fix_size(model: Any, inputs: Sequence[InputSpec], path: Path, size: tuple[int, int]) -> None:
    """Fix the open axes of the only image among the inputs, in place.

    Raises:
        ParameterError: no input is one image, its sizes are fixed to others, or cannot be these.
    """
    height, width = check_size(size)
    images = [(number, axes) for number, each in enumerate(inputs) if (axes := _places(each))]
    start = f"size is {height}x{width}, but"
    if len(images) != 1:
        raise ParameterError(
            f"{start} {len(images)} inputs of {path} are images with 1 or 3 channels, expected "
            "one: leave size out"
        )
    shapes = [list(sizes_of(port)) for port in model.inputs]
    number, axes = images[0]
    for axis, side in zip(axes, (height, width), strict=True):
        if inputs[number].shape[axis] not in (None, side):
            takes = "x".join(str(inputs[number].shape[place] or "any") for place in axes)
            raise ParameterError(f"{start} {path} takes {takes}: leave size out")
        shapes[number][1 + axis] = side
    try:
        _set(model, shapes)
    except RuntimeError as error:
        raise ParameterError(
            f"{start} {path} does not take it: {reason_of(error)}, expected one that fits: choose "
            "another size"
        ) from error


def _places(spec: InputSpec) -> tuple[int, int] | None:
    """The axes of height and width of a sample, None for what is no image."""
    try:
        axes = layout_of([spec]).axes
    except DataError:
        return None
    return {"chw": (1, 2), "hwc": (0, 1)}.get(axes)


def _set(model: Any, shapes: Sequence[Sequence[int | None]]) -> None:
    """Give the inputs these shapes; RuntimeError where an operator does not take them.

    ``Model.reshape`` would replace operators as well.
    """
    for node, shape in zip(model.get_parameters(), shapes, strict=True):
        sizes = [-1 if size is None else size for size in shape]
        node.set_partial_shape(openvino.PartialShape(sizes))
    model.validate_nodes_and_infer_types()


def fix_batch(model: Any, batch: int) -> None:
    """Say in the inputs how many samples they take, in place."""
    _set(model, [(batch, *sizes_of(port)[1:]) for port in model.inputs])


@contextmanager
def fixed(model: Any, shapes: Sequence[Sequence[int]]) -> Iterator[None]:
    """The model with inputs of these shapes, as long as it takes."""
    before = [sizes_of(port) for port in model.inputs]
    try:
        _set(model, shapes)
        yield
    finally:
        _set(model, before)


def shapes_of(model: Any, sources: Sequence[Any]) -> tuple[list[Any], list[Any], tuple[int, int]]:
    """The shapes of ``sources`` for inputs of two sizes, and the two numbers of samples.

    A shape is None where it is not known then either. A model that refuses these sizes has the
    shapes that it says itself, open axes as None.
    """
    batch = batch_of(model)
    samples = _SAMPLES if batch is None else (batch, batch)
    seen = []
    try:
        for at in (0, 1):
            with fixed(model, [filled(sizes_of(port), samples[at], at) for port in model.inputs]):
                seen.append([_shape_of(source) for source in sources])
    except RuntimeError:
        shapes = [_shape_of(source) for source in sources]
        return shapes, shapes, samples
    return seen[0], seen[1], samples


def filled(shape: Sizes, samples: int, at: int) -> list[int]:
    """A shape of so many samples, with one of the sizes tried for an open one."""
    side = (_PLACES if len(shape) > 3 else _TOKENS)[at]
    return [samples, *(side if size is None else size for size in shape[1:])]


def _shape_of(source: Any) -> Sizes | None:
    return None if source.get_partial_shape().rank.is_dynamic else sizes_of(source)
