"""Taps in an ONNX graph: their kinds, and the nodes that turn each into rows of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.backbones.onnx_file import need_onnx
from skip2lora.backbones.onnx_graph import BATCH, Folded, Graph, Size, infer
from skip2lora.backbones.onnx_integers import make_unsigned
from skip2lora.backbones.onnx_layers import Head, Read, head_of, weight_layers
from skip2lora.backbones.onnx_probe import probe
from skip2lora.backbones.taps import Tap, averaging, grid_of
from skip2lora.errors import ModelError

PREFIX = "skip2lora."
_MOST_OUTPUTS = 1 << 20
_BLOCK = 8  # channels that the runtime keeps together
_LARGE_MAP = 400  # places


@dataclass(frozen=True)
class Source:
    """A tap, what its layer reads, and how the tensor comes to have the samples first.

    ``steps`` are "fold" (samples times tokens become two axes) or "swap" (tokens come first);
    ``mask`` is the input that says which tokens count.
    """

    tap: Tap
    read: Read
    steps: str = ""
    mask: str | None = None


@dataclass(frozen=True)
class Anatomy:
    """What was found in a graph: all taps there could be, in order, and where the logits are.

    ``head`` is None for a model whose output is no row of logits, such as a text encoder;
    ``logits_shape`` is that of one sample's logits in the graph, such as (1000, 1, 1).
    """

    sources: tuple[Source, ...]
    head: Head | None
    n_outputs: int
    logits_shape: tuple[int, ...] = ()


def anatomy(graph: Graph, path: Path, *, grid: int) -> Anatomy:
    """Find the layers and the logits of a graph.

    Raises:
        ModelError: there is no layer with weights whose input has a known width.
    """
    shapes = infer(graph)
    names = [value.name for value in graph.inputs]
    if not names or any(not shapes.get(name) for name in names):
        raise ModelError(
            f"{path}: an input has no shape or no axis of samples, expected both: export the model "
            "with its shapes, or fix the input to a constant"
        )
    reads = weight_layers(graph)
    if not reads:
        raise ModelError(
            f"{path} has no layer with weights (Gemm, MatMul, Conv, ...), expected at least one: "
            "is this the whole network?"
        )
    heads = [head_of(graph, value.name) for value in graph.model.graph.output]
    batch = shapes[names[0]][0]
    wanted = [each.tensor for each in reads] + [each.logits for each in heads]
    open_ones = [name for name in wanted if _is_open(shapes.get(name), batch)]
    if open_ones:
        shapes = {**shapes, **probe(graph, path.parent, open_ones, shapes)}
    head, logits_shape = _choose_head(heads, shapes, batch)
    mask = _mask(names, shapes)
    if head is None:
        output = heads[0].output
        reads.append(Read(output, "output", output))
    made = [_source(read, shapes.get(read.tensor), batch, mask, grid) for read in reads]
    sources = tuple(source for source in made if source is not None)
    if not sources:
        raise ModelError(
            f"{path}: no input of a layer with weights has a known width, expected at least one: "
            "export the model with fixed shapes (only the samples and tokens may vary)"
        )
    return Anatomy(sources, head, int(np.prod(logits_shape)) if head else 0, logits_shape)


def _is_open(shape: tuple[Size, ...] | None, batch: Size) -> bool:
    if not shape or shape[-1] is None or isinstance(shape[-1], str):
        return True
    return shape[0] != batch and (isinstance(batch, str) or not isinstance(shape[0], int))


def _choose_head(
    heads: Sequence[Head], shapes: dict[str, tuple[Size, ...]], batch: Size
) -> tuple[Head | None, tuple[int, ...]]:
    """The first output that has one row of logits for each sample; one with an activation wins."""
    for head in sorted(heads, key=lambda head: not head.activations):
        shape = shapes.get(head.logits)
        if not shape or len(shape) < 2 or shape[0] != batch:
            continue
        sizes = [size for size in shape[1:] if isinstance(size, int)]
        if len(sizes) == len(shape) - 1 and max(sizes) == int(np.prod(sizes)) < _MOST_OUTPUTS:
            return head, tuple(sizes)
    return None, ()


def _mask(names: Sequence[str], shapes: dict[str, tuple[Size, ...]]) -> tuple[str, Size] | None:
    for name in names:
        if "mask" in name.lower() and len(shapes[name]) == 2:
            return name, shapes[name][1]
    return None


def _source(
    read: Read,
    shape: tuple[Size, ...] | None,
    batch: Size,
    mask: tuple[str, Size] | None,
    grid: int,
) -> Source | None:
    if not shape or len(shape) < 2:
        return None
    first, inner = shape[0], tuple(None if isinstance(s, str | Folded) else s for s in shape[1:])
    if first == batch and read.convolves and len(shape) > 2:
        return _map(read, inner, grid, channels_last=False)
    if first == batch and read.places_first and len(shape) == 3:
        return _map(read, inner, grid, channels_last=False)
    if first == batch and len(shape) == 4:
        return _map(read, inner, grid, channels_last=True)
    if inner[-1] is None or read.convolves:
        return None
    if first == batch and len(shape) == 2:
        return Source(Tap(read.layer, read.tensor, "vector", inner), read)
    steps, tokens = _tokens(shape, batch)
    if steps is None:
        return None
    count = tokens if isinstance(tokens, int) else None
    tap = Tap(read.layer, read.tensor, "sequence", (count, inner[-1]))
    counted = mask is not None and tokens is not None and mask[1] == tokens
    return Source(tap, read, steps, mask[0] if mask is not None and counted else None)


def _map(
    read: Read, inner: tuple[int | None, ...], grid: int, *, channels_last: bool
) -> Source | None:
    channels = inner[-1 if channels_last else 0]
    places = inner[:-1] if channels_last else inner[1:]
    if channels is None:
        return None
    # Where sizes change from sample to sample, one average over all places is what stays the same.
    kept = (1,) * len(places) if None in places else grid_of(channels, places, grid=grid)
    return Source(Tap(read.layer, read.tensor, "map", inner, channels_last, kept), read)


def _tokens(shape: tuple[Size, ...], batch: Size) -> tuple[str | None, Size]:
    """How samples become the first axis, and the number of tokens."""
    first = shape[0]
    if first == batch and len(shape) == 3:
        return "", shape[1]
    if len(shape) == 3 and shape[1] == batch and batch == BATCH:
        return "swap", first
    if len(shape) == 2 and isinstance(first, Folded):
        return "fold", first.inner
    if len(shape) == 2 and isinstance(first, int) and isinstance(batch, int) and not first % batch:
        return "fold", first // batch
    if first == batch or isinstance(first, Folded) or isinstance(batch, int):
        return "fold", None
    return None, None


class Builder:
    """Appends nodes to a graph under names of its own, which begin with ``prefix``."""

    def __init__(self, graph: Graph, prefix: str = PREFIX) -> None:
        self.graph = graph
        self.prefix = prefix
        self._onnx = need_onnx("rewriting a model")
        self._made: dict[Any, str] = {}
        raise_ir_version(graph.model)

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """An initializer of that name; asking again gives the same."""
        full = self.prefix + name
        if full not in self._made:
            tensor = self._onnx.numpy_helper.from_array(np.asarray(array, order="C"), full)
            self.graph.model.graph.initializer.append(tensor)
            self._made[full] = full
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
        made = renamed or name
        self.graph.model.graph.node.append(
            self._onnx.helper.make_node(operator, list(inputs), [made], name=name, **attributes)
        )
        return made

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

    def logits(self, head: Head, output: str) -> str:
        """The base logits, (samples, n_outputs) float32."""
        flat = self.node("Flatten", [head.logits], f"{output}.flat", axis=1)
        return self.as_float(flat, output, like=head.logits)

    def rows(self, source: Source, output: str) -> str:
        """The rows of a tap, (samples, width) float32."""
        read, tap = source.read, source.tap
        tensor = read.quantised or read.tensor
        if read.scale is not None:
            # Not the layer's own: with another reader onnxruntime would run the layer in floats.
            zero = read.quantised and make_unsigned(self.graph, read.quantised)
            zero = zero or self._zero_of(read)
            quantised = [tensor, read.scale, *([zero] if zero else [])]
            tensor = self.node("DequantizeLinear", quantised, f"{output}.dequantised")
            self.graph.types[tensor] = self._onnx.TensorProto.FLOAT
        tensor = self.as_float(tensor, f"{output}.float")
        if tap.kind == "sequence":
            return self._sequence(source, tensor, output)
        if tap.kind == "map":
            tensor = (self._last if tap.channels_last else self._first)(tap, tensor, output)
            tensor = self.node("Flatten", [tensor], output, axis=1)
        return tensor

    def _zero_of(self, read: Read) -> str | None:
        """The zero point that goes with what is read, which another tap may have made unsigned."""
        maker = self.graph.producer.get(read.quantised or "")
        if maker is not None and maker.op_type == "QuantizeLinear" and len(maker.input) > 2:
            return str(maker.input[2])
        return read.zero

    def _first(self, tap: Tap, tensor: str, output: str) -> str:
        """A map with its channels first: (samples, channels, ...) with the places that are kept."""
        places, channels = tap.shape[1:], tap.shape[0] or 1
        if places == tap.grid:
            return tensor
        if set(tap.grid) == {1}:
            return self.node("GlobalAveragePool", [tensor], f"{output}.pooled")
        sizes = [size or 1 for size in places]
        if len(sizes) == 2 and channels < _BLOCK:  # of no use to the runtime's blocked layout
            right = self._matrix(sizes[1:], tap.grid[1:], last=True)
            left = self._matrix(sizes[:1], tap.grid[:1], last=False)
            tensor = self.node("MatMul", [tensor, right], f"{output}.columns")
            return self.node("MatMul", [left, tensor], f"{output}.pooled")
        if all(size % kept == 0 for size, kept in zip(sizes, tap.grid, strict=True)):
            return self._pool(sizes, tap.grid, tensor, output)
        count = int(np.prod(sizes))
        shape = self.constant(f"shape.{channels}x{count}", np.array([0, channels, count], np.int64))
        flat = self.node("Reshape", [tensor, shape], f"{output}.places")
        matrix = self._matrix(sizes, tap.grid, last=True)
        return self.node("MatMul", [flat, matrix], f"{output}.pooled")

    def _pool(self, sizes: Sequence[int], grid: Sequence[int], tensor: str, output: str) -> str:
        """The matrices' averages as pooling, which leaves the runtime its layout of the map."""
        step = [size // kept for size, kept in zip(sizes, grid, strict=True)]
        if len(sizes) == 2 and np.prod(sizes) >= _LARGE_MAP and min(step) > 1:
            column = [step[0], 1]  # one axis after the other reads a large map twice as fast
            tensor = self.node(
                "AveragePool", [tensor], f"{output}.columns", kernel_shape=column, strides=column
            )
            step = [1, step[1]]
        return self.node(
            "AveragePool", [tensor], f"{output}.pooled", kernel_shape=step, strides=step
        )

    def _last(self, tap: Tap, tensor: str, output: str) -> str:
        """A map with its channels last: (samples, channels, places)."""
        if set(tap.grid) == {1}:
            return self.mean(tensor, range(1, len(tap.shape)), f"{output}.pooled")
        sizes, channels = [size or 1 for size in tap.shape[:-1]], tap.shape[-1]
        count = int(np.prod(sizes))
        shape = self.constant(f"shape.{count}x{channels}", np.array([0, count, channels], np.int64))
        flat = self.node("Reshape", [tensor, shape], f"{output}.places")
        matrix = self._matrix(sizes, tap.grid, last=False)
        pooled = self.node("MatMul", [matrix, flat], f"{output}.averaged")
        return self.node("Transpose", [pooled], f"{output}.pooled", perm=[0, 2, 1])

    def _matrix(self, sizes: Sequence[int], grid: Sequence[int], *, last: bool) -> str:
        """What averages all places at once, from the right or from the left."""
        matrix = np.ones((1, 1), np.float32)
        for size, kept in zip(sizes, grid, strict=True):
            matrix = np.kron(matrix, averaging(size, kept)).astype(np.float32)
        title = "x".join(map(str, sizes)) + "." + "x".join(map(str, grid))
        if last:
            return self.constant(f"averaging.{title}", matrix.T)
        return self.constant(f"averaging.left.{title}", matrix)

    def _sequence(self, source: Source, tensor: str, output: str) -> str:
        """Mean of the tokens that count, then the first token: (samples, 2 x width)."""
        tokens, width = source.tap.shape
        if source.steps == "swap":
            tensor = self.node("Transpose", [tensor], f"{output}.swapped", perm=[1, 0, 2])
        elif source.steps == "fold":
            parts = [self._samples(), self.constant("rest", np.array([-1], np.int64))]
            parts.append(self.constant(f"width.{width}", np.array([width], np.int64)))
            shape = self.node("Concat", parts, f"{output}.shape", axis=0)
            tensor = self.node("Reshape", [tensor, shape], f"{output}.folded")
        zero = self.constant("zero", np.array(0, np.int64))
        first = self.node("Gather", [tensor, zero], f"{output}.first", axis=1)
        if source.mask is None and tokens is None:
            mean = self.mean(tensor, [1], f"{output}.mean")
        else:  # a product is faster than a mean over an axis in the middle
            fixed = source.mask is None
            row = self._matrix([tokens or 1], [1], last=False) if fixed else self._weights(source)
            weighted = self.node("MatMul", [row, tensor], f"{output}.sum")
            mean = self.node("Flatten", [weighted], f"{output}.mean", axis=1)
        return self.node("Concat", [mean, first], output, axis=1)

    def _samples(self) -> str:
        """The number of samples, (1,)."""
        if "samples" not in self._made:
            shape = self.node("Shape", [self.graph.inputs[0].name], "samples.shape")
            zero = self.constant("zeros", np.zeros(1, np.int64))
            self._made["samples"] = self.node("Gather", [shape, zero], "samples", axis=0)
        return self._made["samples"]

    def _weights(self, source: Source) -> str:
        """What each token counts, (samples, 1, tokens): rows add up to one, or are zero."""
        if "weights" not in self._made:
            counted = self.as_float(str(source.mask), "mask")
            shape = self.constant("shape.row", np.array([0, 1, -1], np.int64))
            row = self.node("Reshape", [counted, shape], "mask.row")
            turned = self.constant("shape.column", np.array([0, -1, 1], np.int64))
            column = self.node("Reshape", [counted, turned], "mask.column")
            total = self.node("MatMul", [row, column], "mask.total")  # of ones: their number
            one = self.constant("one", np.ones(1, np.float32))
            total = self.node("Max", [total, one], "mask.at_least_one")
            self._made["weights"] = self.node("Div", [row, total], "mask.weights")
        return self._made["weights"]


def raise_ir_version(model: Any) -> None:
    """Make initializers constants: before version 4 each was an input as well."""
    if model.ir_version >= 4:
        return
    initializers = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in initializers]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = 4
