"""Nodes of an ONNX graph as operations that follow each other, with what each does to the axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skip2lora.backbones.onnx.graph import Graph
from skip2lora.errors import ModelError
from skip2lora.export.c_axes import SAMPLES, Axes
from skip2lora.export.c_chain import Operation, no_counterpart
from skip2lora.export.c_layers import (
    AVERAGE_POOL,
    FUNCTIONS,
    MAX_POOL,
    Array,
    Window,
    activation,
    convolution,
    transposition,
)

#: What comes of a node: the axes of its output, and its operations.
Result = tuple[Axes, list[Operation]]


@dataclass(frozen=True, eq=False)
class Node:
    """A node on the way from the input to the logits.

    ``places`` are those of the inputs it continues, ``output`` the output that is read of it.
    ``following`` are the sizes of its output, as far as shape inference tells them.
    """

    graph: Graph
    proto: Any
    places: tuple[int, ...]
    output: int
    following: tuple[Any, ...] | None
    path: object

    @property
    def place(self) -> int:
        """That of the first input it continues."""
        return self.places[0]

    @property
    def reads(self) -> tuple[str, ...]:
        """The tensors that it continues."""
        return tuple(str(self.proto.input[place]) for place in self.places)

    @property
    def tensor(self) -> str:
        """What is read of it."""
        return str(self.proto.output[self.output])

    @property
    def title(self) -> str:
        """How it is named to a person."""
        return f"node {self.graph.title(self.proto)} ({self.proto.op_type})"

    @property
    def layer(self) -> str:
        """What its tap is called."""
        return str(self.proto.name or self.proto.output[0])

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Its attributes by their names."""
        value = self.graph.onnx.helper.get_attribute_value
        return {each.name: value(each) for each in self.proto.attribute}

    def refused(self, why: str = "") -> ModelError:
        """The error for what C does not have."""
        return no_counterpart(self.path, self.title, why)

    def constant(self, place: int) -> Any:
        """The constant that is its input at ``place``, None where it has none.

        Raises:
            ModelError: the input is none of the file's constants.
        """
        if len(self.proto.input) <= place or not self.proto.input[place]:
            return None
        name = str(self.proto.input[place])
        while (node := self.graph.producer.get(name)) and node.op_type == "Identity":
            name = str(node.input[0])  # as of PyTorch where constants are alike
        array = self.graph.array(name)
        if array is None:
            raise self.refused()
        return array

    def floats(self, place: int) -> Array:
        """The same, which must be there, as float32."""
        array = self.constant(place)
        if array is None or array.dtype not in (np.float32, np.float64):
            raise self.refused()
        return np.asarray(array, np.float32)

    def vector(self, place: int, width: int) -> Array:
        """A constant number for each of ``width`` outputs."""
        array = self.floats(place)
        if array.size not in (1, width):
            raise self.refused()
        return np.broadcast_to(array.reshape(-1), (width,)).copy()

    def numbers(self, name: str, place: int) -> list[int] | None:
        """Whole numbers that an attribute or, later in ONNX, an input holds."""
        if name in self.attributes:
            value = self.attributes[name]
            return [int(each) for each in (value if isinstance(value, Sequence) else [value])]
        array = self.constant(place) if place else None
        return None if array is None else [int(each) for each in np.reshape(array, -1)]


def ordered(node: Node, axes: Axes, memory: Sequence[str]) -> Result:
    """``axes`` with memory in that order, and the transposition that it takes, if any.

    Raises:
        ModelError: it takes more than one.
    """
    turn = axes.turned(memory)
    if turn is None:
        raise node.refused("as its axes lie")
    moved = replace(axes, memory=tuple(memory))
    if turn == (1, 1):
        return moved, []
    return moved, [Operation(node.title, "layer", whole=transposition(node.title, *turn))]


def _same(node: Node, axes: Axes) -> Result:
    return axes, []


def _reshaped(node: Node, axes: Axes) -> Result:
    """Flatten and Reshape; where only axes of size 1 come or go, nothing moves."""
    shape = node.following
    if node.proto.op_type == "Flatten" and node.attributes.get("axis", 1) != 1:
        raise node.refused()
    if axes.onnx[0] != SAMPLES:
        raise node.refused("as its axes lie")
    sizes = [axes.width]
    if node.proto.op_type == "Reshape" and shape is not None:
        sizes = [size for size in shape[1:] if isinstance(size, int)]
    if math.prod(sizes) != axes.width:
        raise node.refused("as its axes lie")
    long, others = axes.without_ones(), [size for size in sizes if size != 1]
    tensor = str(node.proto.output[0])
    if [axes.sizes[name] for name in long.inner] == others:
        ones = [1 + place for place, size in enumerate(sizes) if size == 1]
        return long.with_ones(tensor, ones), []
    _, turns = ordered(node, axes, axes.inner)
    return Axes.of(tensor, sizes), turns


def _squeezed(node: Node, axes: Axes) -> Result:
    places = node.numbers("axes", 1) or []  # without any a sample alone would lose its first axis
    rest = axes.without([place % len(axes.onnx) for place in places]) if places else None
    if rest is None:
        raise node.refused("of these axes")
    return rest, []


def _unsqueezed(node: Node, axes: Axes) -> Result:
    places = node.numbers("axes", 1) or []
    count = len(axes.onnx) + len(places)
    return axes.with_ones(str(node.proto.output[0]), [place % count for place in places]), []


def _transposed(node: Node, axes: Axes) -> Result:
    order = node.numbers("perm", 0) or list(range(len(axes.onnx)))[::-1]
    return axes.permuted(order), []


def _dense(node: Node, axes: Axes) -> Result:
    values = node.attributes
    weight = node.floats(1) if node.place == 0 else None
    if weight is None or weight.ndim != 2 or values.get("transA"):
        raise node.refused()
    weight = weight.T if values.get("transB") else weight
    if axes.onnx[0] != SAMPLES or axes.width != len(weight) or axes.shape[-1] != len(weight):
        raise node.refused("of several places")
    weight = weight * np.float32(values.get("alpha", 1.0))
    bias = np.zeros(weight.shape[1], np.float32)
    if len(node.proto.input) > 2 and node.proto.input[2]:
        bias = node.vector(2, len(bias)) * np.float32(values.get("beta", 1.0))
    shape = (*axes.shape[:-1], weight.shape[1])
    arrays = (np.ascontiguousarray(weight), bias)
    product = Operation(node.title, "dense", node.layer, arrays)
    return Axes.of(str(node.proto.output[0]), shape), [product]


def _norm(node: Node, axes: Axes) -> Result:
    width = len(node.floats(1))
    arrays = tuple(node.vector(place, width) for place in (1, 2, 3, 4))
    eps = float(node.attributes.get("epsilon", 1e-5))
    if axes.onnx[0] != SAMPLES or axes.shape[0] != width:
        raise node.refused("as its axes lie")
    channel = axes.inner[0]
    if len(axes.inner) == 1:
        return axes, [Operation(node.title, "norm", arrays=arrays, eps=eps)]
    rest = tuple(name for name in axes.memory if name != channel)
    moved, turns = ordered(node, axes, (*rest, channel))
    shape = (axes.size(rest), width)
    norm = Operation(node.title, "norm", arrays=arrays, eps=eps, map_shape=shape)
    return moved, [*turns, norm]


def _relu(node: Node, axes: Axes) -> Result:
    return axes, [Operation(node.title, "relu")]


#: Constants of activations where a node says none.
_USUAL = {"LeakyRelu": (0.01, 0.0), "HardSigmoid": (0.2, 0.5), "HardSwish": (1 / 6, 0.5)}


def _activated(node: Node, axes: Axes) -> Result:
    operator, values = str(node.proto.op_type), node.attributes
    a, b = _USUAL.get(operator, (0.0, 0.0))
    a, b = float(values.get("alpha", a)), float(values.get("beta", b))
    if operator == "Clip":
        largest = float(np.finfo(np.float32).max)
        least, most = node.constant(1), node.constant(2)
        a = float(values.get("min", -largest) if least is None else least)
        b = float(values.get("max", largest) if most is None else most)
        a, b = max(a, -largest), min(b, largest)
    layer = activation(node.title, axes.width, operator, a, b)
    return axes, [Operation(node.title, "layer", whole=layer)]


# ---- windows ---------------------------------------------------------------------------------


def _pair(values: Sequence[int] | None, rank: int, usual: int) -> tuple[int, int]:
    """Of the last two axes; one axis is the width."""
    given = list(values or [usual] * rank)
    return (usual, given[0]) if rank == 1 else (given[0], given[1])


def _map(node: Node, axes: Axes) -> tuple[Axes, list[Operation], tuple[int, int], int]:
    """A map with its channels last, its size and how many axes that are.

    Raises:
        ModelError: it is none of one or two axes.
    """
    rank = len(axes.inner) - 1
    if axes.onnx[0] != SAMPLES or rank not in (1, 2):
        raise node.refused(f"over {rank} axes" if rank > 0 else "as its axes lie")
    channel, *places = axes.inner
    moved, turns = ordered(node, axes, (*places, channel))
    return moved, turns, _pair(axes.shape[1:], rank, 1), rank


def _padding(
    node: Node, size: Sequence[int], extent: Sequence[int], strides: Sequence[int], rank: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(top, left) and (bottom, right)."""
    values = node.attributes
    auto = values.get("auto_pad", b"NOTSET").decode()
    if auto in ("NOTSET", "VALID"):
        pads = list(values.get("pads", ())) if auto == "NOTSET" else []
        return _pair(pads[:rank], rank, 0), _pair(pads[rank:], rank, 0)
    starts, ends = [], []
    for one, whole, step in zip(size, extent, strides, strict=True):
        needed = max(0, (-(-one // step) - 1) * step + whole - one)
        small, large = needed // 2, needed - needed // 2
        starts.append(small if auto == "SAME_UPPER" else large)
        ends.append(large if auto == "SAME_UPPER" else small)
    return (starts[0], starts[1]), (ends[0], ends[1])


def _window(
    node: Node, channels: int, size: tuple[int, int], out: int, kernel: Sequence[int]
) -> Window:
    rank, values = len(kernel), node.attributes
    shape = _pair(kernel, rank, 1)
    strides = _pair(values.get("strides"), rank, 1)
    dilations = _pair(values.get("dilations"), rank, 1)
    extent = [(many - 1) * apart + 1 for many, apart in zip(shape, dilations, strict=True)]
    start, end = _padding(node, size, extent, strides, rank)
    room = [sum(each) for each in zip(size, start, end, strict=True)]
    places = [
        (whole - own) // step + 1
        for whole, own, step in zip(room, extent, strides, strict=True)
    ]  # fmt: skip
    rests = [
        (whole - own) % step for whole, own, step in zip(room, extent, strides, strict=True)
    ]  # fmt: skip
    if min([*start, *end]) < 0 or min(places) < 1 or (values.get("ceil_mode") and any(rests)):
        raise node.refused("with this padding")
    return Window(channels, size, out, (places[0], places[1]), shape, strides, start, dilations)


def _moved(node: Node, axes: Axes, window: Window, rank: int) -> Axes:
    """The axes of what a window gives: as they were, with its sizes."""
    sizes = (window.out_channels, *window.out_size[2 - rank :])
    after = Axes.of(str(node.proto.output[0]), sizes)
    channel, *places = after.inner
    return replace(after, memory=(*places, channel))


def _convolved(node: Node, axes: Axes) -> Result:
    weight, groups = node.floats(1), int(node.attributes.get("group", 1))
    _, turns, size, rank = _map(node, axes)
    kernel = weight.shape[2:]
    channels = axes.shape[0]
    if len(kernel) != rank or weight.shape[1] * groups != channels:
        raise node.refused("as its axes lie")
    bias = np.zeros(len(weight), np.float32)
    if len(node.proto.input) > 2 and node.proto.input[2]:
        bias = node.vector(2, len(bias))
    window = _window(node, channels, size, len(weight), kernel)
    weight = weight.reshape(*weight.shape[:2], *window.kernel)
    whole = convolution(node.layer, window, weight, bias, groups)
    layer = Operation(node.title, "layer", node.layer, whole=whole)
    return _moved(node, axes, window, rank), [*turns, layer]


def _pool(node: Node, window: Window, kind: int, option: int = 0) -> Operation:
    return Operation(node.title, "layer", whole=window.layer(node.title, kind, option))


def _pooled(node: Node, axes: Axes) -> Result:
    operator, values = str(node.proto.op_type), node.attributes
    _, turns, size, rank = _map(node, axes)
    kernel = list(values["kernel_shape"])
    if node.output != 0 or len(kernel) != rank or values.get("storage_order"):
        raise node.refused()
    window = _window(node, axes.shape[0], size, axes.shape[0], kernel)
    kind = MAX_POOL if operator == "MaxPool" else AVERAGE_POOL
    option = int(bool(values.get("count_include_pad"))) if kind == AVERAGE_POOL else 0
    return _moved(node, axes, window, rank), [*turns, _pool(node, window, kind, option)]


def _reduced(node: Node, axes: Axes) -> Result:
    """Means and largest over some axes: pooling over all of them."""
    operator, rank = str(node.proto.op_type), len(axes.onnx)
    is_global = operator.startswith("Global")
    places = list(range(2, rank)) if is_global else node.numbers("axes", 1)
    keeps = is_global or bool(node.attributes.get("keepdims", 1))
    gone = [axes.onnx[place % rank] for place in places or ()]
    if not gone or SAMPLES in gone:
        raise node.refused("over these axes")
    over = tuple(name for name in axes.memory if name in gone)
    rest = tuple(name for name in axes.memory if name not in gone)
    moved, turns = ordered(node, axes, (*over, *rest))
    width, count = axes.size(rest), axes.size(over)
    window = Window(width, (count, 1), width, (1, 1), (count, 1), (count, 1))
    kind = MAX_POOL if "Max" in operator else AVERAGE_POOL
    sizes = {**moved.sizes, **dict.fromkeys(gone, 1)}
    after = replace(moved, sizes=sizes)
    if not keeps:
        after = after.without([axes.onnx.index(name) for name in gone]) or after
    return after, [*turns, _pool(node, window, kind)]


Handler = Callable[[Node, Axes], Result]
#: What C has for each operator.
HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("Identity", "Dropout", "Cast"), _same),
    **dict.fromkeys(("Flatten", "Reshape"), _reshaped),
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "Transpose": _transposed,
    **dict.fromkeys(("Gemm", "MatMul"), _dense),
    "BatchNormalization": _norm,
    "Relu": _relu,
    **dict.fromkeys(FUNCTIONS, _activated),
    "Conv": _convolved,
    **dict.fromkeys(("MaxPool", "AveragePool"), _pooled),
    **dict.fromkeys(
        ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax"), _reduced
    ),
}  # fmt: skip
