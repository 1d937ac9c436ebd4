"""The nodes that turn a tap of an ONNX graph into rows of numbers, and the logits.

Pooling follows the layout in which the runtime holds a map, so that it reads each value once and
moves none: blocks of channels for floats, channels last for integers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from skip2lora.backbones.onnx.anatomy import Anatomy, Fold, Source
from skip2lora.backbones.onnx.graph import Graph, Read
from skip2lora.backbones.onnx.integers import make_unsigned
from skip2lora.backbones.onnx.masks import weights_of
from skip2lora.backbones.taps import Tap, averaging

PREFIX = "skip2lora."
_OWN_DOMAIN = "com.microsoft"


class Builder:
    """Appends nodes to a graph under names of its own, which begin with ``prefix``."""

    def __init__(self, graph: Graph, prefix: str = PREFIX) -> None:
        self.graph = graph
        self.prefix = prefix
        self._onnx = graph.onnx
        self._made: set[str] = set()
        _raise_ir_version(graph.model)

    def made(self, name: str) -> str | None:
        """The full name of a tensor that was made under ``name``, None where there is none."""
        return self.prefix + name if name in self._made else None

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """An initializer of that name; asking again gives the same."""
        full = self.prefix + name
        if name not in self._made:
            tensor = self._onnx.numpy_helper.from_array(np.asarray(array, order="C"), full)
            self.graph.add_initializer(tensor)
            self._made.add(name)
        return full

    def node(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        *,
        renamed: str | None = None,
        **attributes: Any,
    ) -> str:
        """A node of that name; it makes a tensor of the same name, or the one it is renamed to."""
        name = self.prefix + output
        tensor = renamed or name
        self.graph.model.graph.node.append(
            self._onnx.helper.make_node(operator, list(inputs), [tensor], name=name, **attributes)
        )
        self._made.add(output)
        return tensor

    def own_node(self, operator: str, inputs: Sequence[str], output: str) -> str:
        """A node of an operator that onnxruntime adds to the standard ones."""
        imports = self.graph.model.opset_import
        if not any(each.domain == _OWN_DOMAIN for each in imports):
            imports.append(self._onnx.helper.make_opsetid(_OWN_DOMAIN, 1))
        return self.node(operator, inputs, output, domain=_OWN_DOMAIN)

    def reshape(self, tensor: str, shape: Sequence[int], output: str) -> str:
        """The tensor in another shape; 0 keeps a size, -1 is what remains."""
        name = "shape." + "x".join(map(str, shape))
        constant = self.constant(name, np.array(shape, np.int64))
        return self.node("Reshape", [tensor, constant], output)

    def mean(self, tensor: str, axes: Sequence[int], output: str) -> str:
        """The mean over axes, which vanish; opset 18 made them an input."""
        if self.graph.opset < 18:
            return self.node("ReduceMean", [tensor], output, axes=list(axes), keepdims=0)
        name = "axes." + ".".join(map(str, axes))
        constant = self.constant(name, np.array(axes, np.int64))
        return self.node("ReduceMean", [tensor, constant], output, keepdims=0)

    def as_float(self, tensor: str, output: str, *, like: str | None = None) -> str:
        """The tensor as float32, itself where it is; ``like`` is one with the same type."""
        if self.graph.types.get(like or tensor) == self._onnx.TensorProto.FLOAT:
            return tensor
        return self.node("Cast", [tensor], output, to=self._onnx.TensorProto.FLOAT)


def _raise_ir_version(model: Any) -> None:
    """Make initializers constants: before version 4 each was an input as well."""
    if model.ir_version >= 4:
        return
    initializers = {tensor.name for tensor in model.graph.initializer}
    fed = [value for value in model.graph.input if value.name not in initializers]
    del model.graph.input[:]
    model.graph.input.extend(fed)
    model.ir_version = 4


T = TypeVar("T")
_BLOCK = 8  # channels that the runtime keeps together
_PANEL = 16  # columns of integers that the runtime multiplies together; what is left over is slow
# Places from which a map of floats, a strip of integers is averaged over one axis after the other.
_LARGE_MAP, _LARGE_STRIP = 100, 200
_BYTES = (np.int8, np.uint8)


def last_first(items: Sequence[T]) -> list[tuple[int, T]]:
    """Numbers and items in the order in which their nodes are to be appended.

    The runtime goes back from the ends of a graph, from those that were appended last. So the first
    tap is appended last: each map is averaged as soon as it is there, while it is in the
    processor's caches, and its memory is free for the next.
    """
    return list(reversed(list(enumerate(items))))


def add_rows(
    graph: Graph, anatomy: Anatomy, sources: Sequence[Source]
) -> tuple[str | None, tuple[str, ...]]:
    """The base logits, None without a head, and the rows of each tap, under names of our own."""
    builder, logits, rows = Builder(graph), None, {}
    if anatomy.head is not None:
        logits = add_logits(builder, anatomy.head.logits, "logits", anatomy.columns)
    for number, source in last_first(sources):
        tensor = add_tap(builder, source, f"tap.{number}")
        if not tensor.startswith(PREFIX):  # stripping must find it
            tensor = builder.node("Identity", [tensor], f"tap.{number}")
        rows[number] = tensor
    return logits, tuple(rows[number] for number in range(len(sources)))


def add_logits(builder: Builder, tensor: str, output: str, columns: Any = None) -> str:
    """The base logits, (samples, n_outputs) float32: those of a tensor, times ``columns``."""
    flat = builder.node("Flatten", [tensor], f"{output}.flat", axis=1)
    real = builder.as_float(flat, output if columns is None else f"{output}.real", like=tensor)
    if columns is None:
        return real
    return builder.node("MatMul", [real, builder.constant(f"{output}.columns", columns)], output)


class Pooled(NamedTuple):
    """A tap that may lack its last steps, which its reader can take on.

    ``shape`` is that of one sample of ``tensor``. With ``channels_last`` the places come before the
    channels, which rows have the other way round; ``factor``, in that shape or broadcast to it, is
    what the numbers are still to be multiplied by.
    """

    tensor: str
    shape: tuple[int, ...]
    channels_last: bool = False
    factor: NDArray[np.float32] | None = None


def add_tap(builder: Builder, source: Source, output: str) -> str:
    """The rows of a tap, (samples, width) float32."""
    pooled = add_pooled(builder, source, f"{output}.pooled")
    tensor = pooled.tensor
    if pooled.factor is not None:
        factor = builder.constant(f"{output}.factor", pooled.factor)
        tensor = builder.node("Mul", [tensor, factor], f"{output}.averaged")
    if pooled.channels_last:
        perm = [0, len(pooled.shape), *range(1, len(pooled.shape))]
        tensor = builder.node("Transpose", [tensor], f"{output}.turned", perm=perm)
    if len(pooled.shape) == 1:
        return tensor
    return builder.node("Flatten", [tensor], output, axis=1)


def add_pooled(builder: Builder, source: Source, output: str) -> Pooled:
    """What a tap's rows are made of, with as few steps as the runtime's layout allows."""
    read, tap, tensor = source.read, source.tap, source.read.tensor
    if read.scale is not None:
        zero = _zero_of(builder, read)
        if _pools_bytes(builder, read, tap, zero):
            return _pooled_bytes(builder, read, tap, str(zero), output)
        # Not the layer's own: with another reader onnxruntime would run the layer in floats.
        quantised = [read.quantised or tensor, read.scale, *([zero] if zero else [])]
        tensor = builder.node("DequantizeLinear", quantised, f"{output}.dequantised")
    tensor = builder.as_float(tensor, f"{output}.float", like=read.scale)
    if tap.kind == "map":
        return (_last if tap.channels_last else _first)(builder, tap, tensor, output)
    if tap.kind == "sequence":
        tensor = _sequence(builder, source, tensor, output)
    return Pooled(tensor, (tap.width,))


def _zero_of(builder: Builder, read: Read) -> str | None:
    """The zero point that goes with what is read, which this or another tap makes unsigned."""
    graph = builder.graph
    unsigned = read.quantised and make_unsigned(graph, read.quantised)
    if unsigned:
        return unsigned
    maker = graph.producer.get(read.quantised or "")
    if maker is not None and maker.op_type == "QuantizeLinear" and len(maker.input) > 2:
        return str(maker.input[2])
    return read.zero


def _pools_bytes(builder: Builder, read: Read, tap: Tap, zero: str | None) -> bool:
    """Whether the integers themselves can be added up."""
    if tap.kind != "map" or tap.channels_last or len(tap.shape) != 3 or None in tap.shape:
        return False
    scale, point = (builder.graph.array(name) if name else None for name in (read.scale, zero))
    if scale is None or point is None:
        return False
    return bool(scale.size == point.size == 1 and point.dtype in _BYTES)


def _pooled_bytes(builder: Builder, read: Read, tap: Tap, zero: str, output: str) -> Pooled:
    """Sums of integers, which are exact, as a product with ones; then their average.

    Behind a quantised convolution the map lies with its channels last, and the first transposition
    here undoes one of the runtime's. Each strip of rows that becomes one row of cells is a product
    of its own where the rows allow; a large map takes one product an axis.
    """
    channels, height, width = filter(None, tap.shape)
    tensor, grid = read.quantised or read.tensor, tap.grid
    scale = builder.graph.array(str(read.scale)).astype(np.float32).reshape(())
    if channels < _BLOCK:
        ones = _ones([height], grid[:1])
        sums = _sums(builder, tensor, zero, ones, f"{output}.sums")
        right = _matrix(builder, [width], grid[1:], last=True)
        averaged = builder.node("MatMul", [sums, right], output)
        return Pooled(averaged, (channels, *grid), factor=_factor(scale, ones)[:, None])
    tensor = builder.node("Transpose", [tensor], f"{output}.last", perm=[0, 2, 3, 1])
    strips = grid[0] if height % grid[0] == 0 else 1
    rows, cells = height // strips, grid[0] // strips  # of a strip
    if rows * width <= _LARGE_STRIP or (strips > 1 and channels % _PANEL == 0):
        tensor = builder.reshape(tensor, [0, strips, rows * width, channels], f"{output}.places")
        ones = _ones([rows, width], (cells, grid[1]))
        sums = _sums(builder, tensor, zero, ones, f"{output}.sums")
        shape = (strips, len(ones), channels)
        return Pooled(sums, shape, strips * len(ones) > 1, _factor(scale, ones)[:, None])
    tensor = builder.reshape(tensor, [0, strips, rows, width * channels], f"{output}.places")
    ones = _ones([rows], (cells,))
    sums = _sums(builder, tensor, zero, ones, f"{output}.sums")
    tensor = builder.reshape(sums, [0, grid[0], width, channels], f"{output}.rows")
    matrices = averaging(width, grid[1])[None] * _factor(scale, ones)[:, None, None]
    left = builder.constant(f"{output}.scale", matrices.astype(np.float32))
    averaged = builder.node("MatMul", [left, tensor], output)
    return Pooled(averaged, (*grid, channels), math.prod(grid) > 1)


def _ones(sizes: Sequence[int], grid: Sequence[int]) -> NDArray[np.uint8]:
    """Which places are in which cell, (kept places, places)."""
    return (_averages(sizes, grid) > 0).astype(np.uint8)


def _factor(scale: NDArray[np.float32], ones: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What makes averages of sums, (kept places,)."""
    factor: NDArray[np.float32] = scale / ones.sum(axis=1, dtype=np.float32)
    return factor


def _sums(builder: Builder, tensor: str, zero: str, ones: NDArray[np.uint8], output: str) -> str:
    """Integers added up over the last axis but one, ``ones`` (kept, summed) from the left."""
    left = builder.constant(f"{output}.ones", ones)
    nothing = builder.constant("zero.byte", np.zeros((), np.uint8))
    one = builder.constant("one.float", np.ones((), np.float32))
    return builder.own_node("MatMulIntegerToFloat", [left, tensor, one, one, nothing, zero], output)


def _first(builder: Builder, tap: Tap, tensor: str, output: str) -> Pooled:
    """A map with its channels first: (samples, channels, ...) with the places that are kept."""
    places, channels = tap.shape[1:], tap.shape[0] or 1
    shape = (channels, *tap.grid)
    if places == tap.grid:
        return Pooled(tensor, shape)
    if set(tap.grid) == {1}:
        return Pooled(builder.node("GlobalAveragePool", [tensor], output), shape)
    sizes = [*filter(None, places)]  # all of them, or one cell would do
    if len(sizes) == 2 and channels < _BLOCK:  # of no use to the runtime's blocked layout
        left = _matrix(builder, sizes[:1], tap.grid[:1], last=False)
        tensor = builder.node("MatMul", [left, tensor], f"{output}.rows")
        right = _matrix(builder, sizes[1:], tap.grid[1:], last=True)
        return Pooled(builder.node("MatMul", [tensor, right], output), shape)
    if all(size % n_cells == 0 for size, n_cells in zip(sizes, tap.grid, strict=True)):
        return Pooled(_pool(builder, sizes, tap.grid, tensor, output), shape)
    flat = builder.reshape(tensor, [0, channels, math.prod(sizes)], f"{output}.places")
    matrix = _matrix(builder, sizes, tap.grid, last=True)
    averaged = builder.node("MatMul", [flat, matrix], output)
    return Pooled(averaged, (channels, math.prod(tap.grid)))


def _pool(
    builder: Builder, sizes: Sequence[int], grid: Sequence[int], tensor: str, output: str
) -> str:
    """The matrices' averages as pooling, which leaves the runtime its layout of the map."""
    step = [size // n_cells for size, n_cells in zip(sizes, grid, strict=True)]
    if len(sizes) == 2 and np.prod(sizes) >= _LARGE_MAP and min(step) > 1:
        column = [step[0], 1]  # one axis after the other reads a large map twice as fast
        tensor = builder.node(
            "AveragePool", [tensor], f"{output}.columns", kernel_shape=column, strides=column
        )
        step = [1, step[1]]
    return builder.node("AveragePool", [tensor], output, kernel_shape=step, strides=step)


def _last(builder: Builder, tap: Tap, tensor: str, output: str) -> Pooled:
    """A map with its channels last: (samples, channels, places)."""
    channels = tap.shape[-1] or 1
    if set(tap.grid) == {1}:
        return Pooled(builder.mean(tensor, range(1, len(tap.shape)), output), (channels,))
    sizes = [*filter(None, tap.shape[:-1])]  # all of them, or one cell would do
    flat = builder.reshape(tensor, [0, math.prod(sizes), channels], f"{output}.places")
    matrix = _matrix(builder, sizes, tap.grid, last=False)
    averaged = builder.node("MatMul", [matrix, flat], output)
    return Pooled(averaged, (math.prod(tap.grid), channels), channels_last=True)


def _averages(sizes: Sequence[int], grid: Sequence[int]) -> NDArray[np.float32]:
    """The matrix that averages all places at once, (kept places, places)."""
    matrix = np.ones((1, 1), np.float32)
    for size, n_cells in zip(sizes, grid, strict=True):
        matrix = np.kron(matrix, averaging(size, n_cells)).astype(np.float32)
    return matrix


def _matrix(builder: Builder, sizes: Sequence[int], grid: Sequence[int], *, last: bool) -> str:
    """What averages all places at once, from the right or from the left."""
    matrix, title = (
        _averages(sizes, grid),
        f"{'x'.join(map(str, sizes))}.{'x'.join(map(str, grid))}",
    )
    if last:
        return builder.constant(f"averaging.{title}", matrix.T)
    return builder.constant(f"averaging.left.{title}", matrix)


def _sequence(builder: Builder, source: Source, tensor: str, output: str) -> str:
    """Mean of the tokens that count, then the first token: (samples, 2 x width)."""
    tokens, width = source.tap.shape
    if source.fold is not None:
        tensor = _unfolded(builder, source.fold, width or 1, tensor, output)
    zero = builder.constant("zero", np.array(0, np.int64))
    first = builder.node("Gather", [tensor, zero], f"{output}.first", axis=1)
    if source.mask is None and tokens is None:
        mean = builder.mean(tensor, [1], f"{output}.mean")
    else:  # a product is faster than a mean over an axis in the middle
        row = (
            _matrix(builder, [tokens or 1], [1], last=False)
            if source.mask is None
            else weights_of(builder, source.mask)
        )
        weighted = builder.node("MatMul", [row, tensor], f"{output}.sum")
        mean = builder.node("Flatten", [weighted], f"{output}.mean", axis=1)
    return builder.node("Concat", [mean, first], output, axis=1)


def _unfolded(builder: Builder, fold: Fold, width: int, tensor: str, output: str) -> str:
    """The samples first, then their tokens, then the width."""
    lead, trail = fold
    sizes: list[int | None]  # None for the samples
    if 1 in fold:
        sizes = [None, -1] if lead == 1 else [-1, None]
    else:
        sizes = [-1, None, trail] if lead is None else [lead, None, -1]
    parts = [_samples(builder) if size is None else _whole(builder, size) for size in sizes]
    shape = builder.node("Concat", [*parts, _whole(builder, width)], f"{output}.shape", axis=0)
    tensor = builder.node("Reshape", [tensor, shape], f"{output}.folded")
    if lead == 1:
        return tensor
    perm = [1, 0, *range(2, 1 + len(parts))]
    tensor = builder.node("Transpose", [tensor], f"{output}.swapped", perm=perm)
    return tensor if trail == 1 else builder.reshape(tensor, [0, -1, width], f"{output}.tokens")


def _whole(builder: Builder, size: int) -> str:
    return builder.constant(f"size.{size}", np.array([size], np.int64))


def _samples(builder: Builder) -> str:
    """The number of samples, (1,)."""
    count = builder.made("samples")
    if count is None:
        name, axis = builder.graph.samples
        shape = builder.node("Shape", [name], "samples.shape")
        count = builder.node("Gather", [shape, _whole(builder, axis)], "samples", axis=0)
    return count
