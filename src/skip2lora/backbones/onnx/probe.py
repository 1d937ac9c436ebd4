"""Shapes that shape inference leaves open: seen by running the model on two sizes of input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skip2lora.backbones.onnx.graph import BATCH, Folded, Graph, Size, input_sizes, matched
from skip2lora.backbones.onnx.session import RUNTIME_ERRORS, dtype_of, open_session, run_options

_SAMPLES = (2, 3)
_PLACES = (224, 256)  # height and width of images, where the model leaves them open
_TOKENS = (12, 20)
# Sizes that do not fit together, or a type that NumPy does not know.
_REFUSED: tuple[type[Exception], ...] = (*RUNTIME_ERRORS, KeyError, TypeError)

Seen = dict[str, tuple[Size, ...]]


def probe(
    graph: Graph, path: Path, tensors: Sequence[str], shapes: dict[str, tuple[Size, ...]]
) -> Seen:
    """The shapes of ``tensors``, or nothing where the model refuses inputs of any size we try.

    The first axis of a tensor may be :class:`Folded`.

    Raises:
        ModelError: the runtime does not take the graph at all.
    """
    onnx = graph.onnx
    names = [value.name for value in graph.inputs]
    sizes = _sizes(shapes, names)
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    del model.graph.output[:]
    wanted = [name for name in dict.fromkeys(tensors) if name not in names]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wanted)
    try:
        session = open_session(model.SerializeToString(), folder=path.parent, path=path)
        runs = []
        for size in sizes:
            feed = {
                value.name: np.ones(
                    [_length(each, size) for each in shapes[value.name]],
                    dtype_of(value),
                )
                for value in session.get_inputs()
            }
            runs.append([np.shape(array) for array in session.run(wanted, feed, run_options())])
    except _REFUSED:
        return {}
    batch = tuple(size.get(BATCH, _fixed(shapes, names)) for size in sizes)
    return {
        name: _shape(one, other, sizes, batch)
        for name, one, other in zip(wanted, *runs, strict=True)
        if one and len(one) == len(other)
    }


def _length(size: Size, sizes: dict[str, int]) -> int:
    return sizes[size] if isinstance(size, str) else size if isinstance(size, int) else 1


def _sizes(
    shapes: dict[str, tuple[Size, ...]], names: Sequence[str]
) -> tuple[dict[str, int], dict[str, int]]:
    images = {size for name in names if len(shapes[name]) >= 4 for size in shapes[name]}
    sizes: tuple[dict[str, int], dict[str, int]] = ({}, {})
    for at in (0, 1):
        if any(shapes[name][0] == BATCH for name in names):
            sizes[at][BATCH] = _SAMPLES[at]
        for number, name in enumerate(input_sizes(shapes, names)):
            # Different sizes for different names, so that one is not taken for another.
            sizes[at][name] = (
                _PLACES[at] + 32 * number * (1 + at)
                if name in images
                else _TOKENS[at] + number * (1 + 2 * at)
            )
    return sizes


def _fixed(shapes: dict[str, tuple[Size, ...]], names: Sequence[str]) -> int:
    size = shapes[names[0]][0]
    return size if isinstance(size, int) else 1


def _shape(
    one: tuple[int, ...],
    other: tuple[int, ...],
    sizes: tuple[dict[str, int], dict[str, int]],
    batch: tuple[int, ...],
) -> tuple[Size, ...]:
    shape = matched(one, other, sizes)
    fixed = batch[0] == batch[1]
    if shape[0] == (batch[0] if fixed else BATCH) or one[0] % batch[0] or other[0] % batch[1]:
        return shape
    inner = matched((one[0] // batch[0],), (other[0] // batch[1],), sizes)[0]
    return (Folded(inner), *shape[1:])
