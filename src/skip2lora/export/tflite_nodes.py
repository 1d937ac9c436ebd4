"""Operators of LiteRT on float rows, as adapters need them: one method an operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from skip2lora.backbones.litert.file import Tensor
from skip2lora.backbones.taps import averaging
from skip2lora.errors import ModelError
from skip2lora.export.tflite_front import Front, Options

PREFIX = "skip2lora_adapter."
#: Tensors that one CONCATENATION takes: more are left to slower kernels by some runtimes.
_SIDE_BY_SIDE = 4
#: The version of DEQUANTIZE that reads each type, and of QUANTIZE that makes it.
_REAL_OF = {"uint8": 1, "int8": 2, "int16": 3, "float16": 3}
_WHOLE_OF = {"uint8": 1, "int8": 1, "int16": 2}


@dataclass(frozen=True)
class Node:
    """A float tensor of the new file: its number, and its shape for one sample.

    ``batched`` says that an axis of samples is before these.
    """

    index: int
    shape: tuple[int, ...]
    batched: bool = True

    @property
    def width(self) -> int:
        """Numbers of a sample."""
        return int(np.prod(self.shape, dtype=np.int64))


def _options(kind: str, **values: Any) -> Options:
    def make(builder: flatbuffers.Builder) -> tuple[int, int]:
        options = getattr(schema, f"{kind}T")()
        for name, value in values.items():
            setattr(options, name, value)
        return getattr(schema.BuiltinOptions, kind), options.Pack(builder)

    return make


class Nodes:
    """Adds operators to ``front``, to run behind operator ``behind`` of the file, -1 for first."""

    def __init__(self, front: Front, behind: int = -1) -> None:
        self.front, self.behind = front, behind
        self._constants: dict[bytes, int] = {}

    def constant(self, values: NDArray[Any], title: str) -> int:
        """A tensor of these values; equal whole numbers are one."""
        key = f"{values.dtype} {values.shape} ".encode() + values.tobytes()
        if key not in self._constants:
            self._constants[key] = self.front.tensor(
                f"{PREFIX}{title}", values.shape, str(values.dtype), data=values
            )
        return self._constants[key]

    def add(
        self, kind: str, inputs: Sequence[int], shape: Sequence[int], title: str, *,
        options: Options | None = None, version: int = 1, into: int | None = None,
        dtype: str = "float32",
    ) -> Node:  # fmt: skip
        """An operator that makes a new tensor, or the tensor ``into`` of the file."""
        index = into
        if index is None:
            index = self.front.tensor(f"{PREFIX}{title}", (1, *shape), dtype)
        self.front.operator(
            kind, inputs, [index], behind=self.behind, options=options, version=version
        )
        return Node(index, tuple(shape))

    def real(self, tensor: Tensor, title: str, shape: Sequence[int] | None = None) -> Node:
        """The values of a tensor of the file as floats.

        ``shape`` is what it has of a sample where the file does not say: of floats alone, as the
        batch may be in any axis of it.
        """
        if tensor.shape is None:
            if shape is None or tensor.dtype != "float32":
                raise ModelError(
                    f"tensor {tensor.name} has sizes that change, expected fixed ones: leave its "
                    "layer out with taps="
                )
            return Node(tensor.index, tuple(shape), batched=False)
        node = Node(tensor.index, tensor.sample_shape, tensor.shape[:1] == (1,))
        if tensor.dtype == "float32":
            return node
        if tensor.dtype in _REAL_OF and (tensor.scale or tensor.dtype == "float16"):
            version = _REAL_OF[tensor.dtype]
            options = _options("DequantizeOptions")
            real = self.add(
                "DEQUANTIZE", [tensor.index], node.shape, title, options=options, version=version
            )
        else:
            real = self.cast(node, title)
        return replace(real, batched=node.batched)

    def whole(self, node: Node, dtype: str, into: int) -> None:
        """Integers of ``node`` in the tensor ``into`` of the file, by its scale."""
        self.add(
            "QUANTIZE", [node.index], node.shape, "", into=into, version=_WHOLE_OF[dtype],
            options=_options("QuantizeOptions"),
        )  # fmt: skip

    def reshaped(
        self, node: Node, shape: Sequence[int], title: str, *, into: int | None = None,
        open_batch: bool = True,
    ) -> Node:  # fmt: skip
        """The same values in another shape a sample."""
        if tuple(shape) == node.shape and node.batched and into is None:
            return node
        sizes = [-1, *shape] if open_batch else list(shape)
        to = self.constant(np.array(sizes, np.int32), f"shape.{'x'.join(map(str, sizes))}")
        options = _options("ReshapeOptions", newShape=np.array(sizes, np.int32))
        return self.add("RESHAPE", [node.index, to], shape, title, options=options, into=into)

    def product(
        self, node: Node, weight: NDArray[np.float32], title: str,
        bias: NDArray[np.float32] | None = None, *, relu: bool = False, into: int | None = None,
    ) -> Node:  # fmt: skip
        """A row times ``weight``, (width, outputs), and the bias, behind a ReLU if asked for."""
        turned = self.constant(np.ascontiguousarray(weight.T, np.float32), f"{title}.weight")
        given = [self.reshaped(node, [node.width], f"{title}.row").index, turned]
        given.append(-1 if bias is None else self.constant(bias, f"{title}.bias"))
        activation = schema.ActivationFunctionType.RELU if relu else 0
        options = _options("FullyConnectedOptions", fusedActivationFunction=activation)
        return self.add(
            "FULLY_CONNECTED", given, [weight.shape[1]], title, options=options, into=into
        )

    def joined(self, nodes: Sequence[Node], title: str) -> Node:
        """Rows side by side."""
        level, depth = list(nodes), 0
        while len(level) > 1:
            parts = [level[at : at + _SIDE_BY_SIDE] for at in range(0, len(level), _SIDE_BY_SIDE)]
            level = [
                part[0] if len(part) == 1 else self._side_by_side(part, f"{title}.{depth}.{at}")
                for at, part in enumerate(parts)
            ]
            depth += 1
        return level[0]

    def _side_by_side(self, nodes: Sequence[Node], title: str) -> Node:
        width = sum(node.width for node in nodes)
        options = _options("ConcatenationOptions", axis=1)
        return self.add(
            "CONCATENATION", [node.index for node in nodes], [width], title, options=options
        )

    def of_two(self, kind: str, one: Node, other: Node | float, title: str) -> Node:
        """ADD, SUB, MUL, DIV, MINIMUM or MAXIMUM of numbers, or with one number."""
        second = (
            other.index
            if isinstance(other, Node)
            else self.constant(np.array([other], np.float32), f"{title}.number")
        )
        kinds = {"MINIMUM": "MaximumMinimumOptions", "MAXIMUM": "MaximumMinimumOptions"}
        options = _options(kinds.get(kind, f"{kind.capitalize()}Options"))
        return self.add(kind, [one.index, second], one.shape, title, options=options)

    def total(self, one: Node, other: Node, title: str, *, into: int | None = None) -> Node:
        """The sum of two, in a tensor of the file where it is given."""
        return self.add(
            "ADD", [one.index, other.index], one.shape, title, options=_options("AddOptions"),
            into=into,
        )  # fmt: skip

    def of_one(self, kind: str, node: Node, title: str, *, into: int | None = None) -> Node:
        """LOG, RELU, LOGISTIC and the like of each number, or SOFTMAX over them."""
        options = _options("SoftmaxOptions", beta=1.0) if kind == "SOFTMAX" else None
        return self.add(kind, [node.index], node.shape, title, options=options, into=into)

    def mean(self, node: Node, axes: Sequence[int], title: str) -> Node:
        """The mean over axes of a sample, counted from 0; they are left out."""
        over = self.constant(np.array([axis + 1 for axis in axes], np.int32), f"{title}.axes")
        rest = [size for axis, size in enumerate(node.shape) if axis not in axes]
        options = _options("ReducerOptions", keepDims=False)
        return self.add("MEAN", [node.index, over], rest, title, options=options)

    def sum(self, node: Node, title: str) -> Node:
        """The sum of a row, as a row of one number."""
        over = self.constant(np.array([1], np.int32), f"{title}.axis")
        options = _options("ReducerOptions", keepDims=True)
        return self.add("SUM", [node.index, over], [1], title, options=options)

    def multiplied(self, one: Node, other: Node, title: str) -> Node:
        """The matrix product of the last two axes of both, (rows, depth) and (depth, columns)."""
        shape = [*one.shape[:-1], other.shape[-1]]
        options = _options("BatchMatMulOptions")
        return self.add("BATCH_MATMUL", [one.index, other.index], shape, title, options=options)

    def truth(
        self, kind: str, one: int, other: int, shape: Sequence[int], title: str
    ) -> Node:  # fmt: skip
        """A comparison of two tensors, number by number."""
        options = _options(f"{kind.title().replace('_', '')}Options")
        return self.add(kind, [one, other], shape, title, options=options, dtype="bool")

    def cast(self, node: Node, title: str) -> Node:
        """Numbers or truths as floats."""
        options = _options("CastOptions")
        return self.add("CAST", [node.index], node.shape, title, options=options)

    def first(self, node: Node, title: str) -> Node:
        """The first of the tokens of a sequence, (tokens, width)."""
        begin, end, step = (
            self.constant(np.array(values, np.int32), f"{title}.{name}")
            for name, values in (("begin", (0, 0, 0)), ("end", (0, 1, 0)), ("step", (1, 1, 1)))
        )
        options = _options("StridedSliceOptions", beginMask=5, endMask=5, shrinkAxisMask=2)
        return self.add(
            "STRIDED_SLICE", [node.index, begin, end, step], node.shape[1:], title, options=options
        )

    def padded(self, node: Node, axis: int, more: int, title: str) -> Node:
        """Zeros behind the numbers along an axis of a sample."""
        amounts = np.zeros((len(node.shape) + 1, 2), np.int32)
        amounts[axis + 1, 1] = more
        shape = [size + more * (at == axis) for at, size in enumerate(node.shape)]
        given = [node.index, self.constant(amounts, f"{title}.amounts")]
        return self.add("PAD", given, shape, title, options=_options("PadOptions"))

    def averaged(self, node: Node, grid: tuple[int, int], title: str) -> Node:
        """A map (height, width, channels) averaged over a grid of places, as adaptive pooling."""
        height, width, channels = node.shape
        if (height, width) == grid:
            return node
        if height % grid[0] == 0 and width % grid[1] == 0:
            steps = {"H": height // grid[0], "W": width // grid[1]}
            options = _options(
                "Pool2DOptions", padding=schema.Padding.VALID,
                filterHeight=steps["H"], filterWidth=steps["W"],
                strideH=steps["H"], strideW=steps["W"],
            )  # fmt: skip
            shape = [*grid, channels]
            return self.add("AVERAGE_POOL_2D", [node.index], shape, title, options=options)
        rows = self.reshaped(node, [height, width * channels], f"{title}.rows")
        rows = self._from_left(averaging(height, grid[0]), rows, f"{title}.height")
        map_ = self.reshaped(rows, [grid[0], width, channels], f"{title}.map")
        return self._from_left(averaging(width, grid[1]), map_, title)

    def _from_left(self, matrix: NDArray[np.float32], node: Node, title: str) -> Node:
        """``matrix`` times the last two axes."""
        shape = (1,) * (len(node.shape) - 2) + matrix.shape
        left = self.constant(matrix.reshape(1, *shape), f"{title}.averaging")
        one = Node(left, (*node.shape[:-2], *matrix.shape))
        return self.multiplied(one, node, title)
