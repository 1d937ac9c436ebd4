"""A view of an ONNX graph: what is constant, who makes and who reads a tensor, which shape it has.

Sizes are numbers where they are fixed, names where they change together, and None where nothing is
known. The axis of the samples is named :data:`BATCH`, or is the number the model was fixed to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from skip2lora.backbones.onnx.file import need_onnx
from skip2lora.errors import ModelError, first_line


class Folded(NamedTuple):
    """An axis of samples times ``inner``, as where tokens of all samples lie one after another."""

    inner: int | str | None


Plain = int | str | None
Size = Plain | Folded
BATCH = "skip2lora.batch"
# Their result depends on no value of their input.
_SHAPE_ONLY = ("Shape", "Size")
_LARGE_BYTES = 1 << 16


class Graph:
    """A ModelProto with its look-up tables. ``model`` is changed by who rewrites it."""

    def __init__(self, model: Any) -> None:
        self.model = model
        graph = model.graph
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        #: Inputs that the user gives; old files list initializers among the inputs.
        self.inputs = [value for value in graph.input if value.name not in self.initializers]
        self.producer = {name: node for node in graph.node for name in node.output if name}
        self.readers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.constants = self._constants()
        self.opset = opset_of(model)
        #: Types of elements, as TensorProto numbers them, where :func:`infer` found them.
        self.types: dict[str, int] = {}

    def _constants(self) -> set[str]:
        """Names that no input reaches: initializers, constants, and what is computed of them."""
        names = set(self.initializers)
        for node in self.model.graph.node:  # the standard keeps nodes in topological order
            read = [name for name in node.input if name]
            if node.op_type == "Constant" or (read and all(name in names for name in read)):
                names.update(node.output)
        return names

    def array(self, name: str) -> Any:
        """The value of an initializer or of a Constant node, None for anything else."""
        onnx = need_onnx("reading a constant")
        if name in self.initializers:
            tensor = self.initializers[name]
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                return None
            return onnx.numpy_helper.to_array(tensor)
        node = self.producer.get(name)
        if node is None or node.op_type != "Constant":
            return None
        for attribute in node.attribute:
            if attribute.name == "value":
                return onnx.numpy_helper.to_array(attribute.t)
        return None

    def type_of(self, name: str) -> int | None:
        """The type of its elements, as TensorProto numbers it, None where it is not known."""
        if name in self.initializers:
            return int(self.initializers[name].data_type)
        return self.types.get(name)

    def add_initializer(self, tensor: Any) -> None:
        """A further constant."""
        self.model.graph.initializer.append(tensor)
        self.initializers[tensor.name] = tensor
        self.constants.add(tensor.name)

    def title(self, node: Any) -> str:
        """How a node is named to a person: its name, or that of its first output."""
        return str(node.name or node.output[0])

    def ancestors(self, name: str) -> set[str]:
        """All tensors whose values ``name`` depends on."""
        seen: set[str] = set()
        left = deque([name])
        while left:
            tensor = left.popleft()
            if tensor in seen:
                continue
            seen.add(tensor)
            node = self.producer.get(tensor)
            if node is not None and node.op_type not in _SHAPE_ONLY:
                left.extend(node.input)
        return seen


def opset_of(model: Any) -> int:
    """The version of the standard operators."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)


def sizes_of(value: Any) -> tuple[Size, ...] | None:
    """The shape that a ValueInfoProto tells, None where it tells none."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        return None
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None)
        for dim in kind.shape.dim
    )


def infer(graph: Graph) -> dict[str, tuple[Size, ...]]:
    """Shapes by ONNX's shape inference, with the axis of the samples named :data:`BATCH`."""
    onnx = need_onnx("shape inference")
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > _LARGE_BYTES:  # inference reads the values of small ones only
            tensor.ClearField("raw_data")
    given = {value.name for value in graph.inputs}
    for value in model.graph.input:
        if value.name in given and sizes_of(value):
            for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                if dim.HasField("dim_value") and dim.dim_value > 0:
                    continue
                if axis == 0:
                    dim.dim_param = BATCH
                elif not dim.dim_param:
                    dim.dim_param = f"{value.name}.{axis}"
    # What a file says of its own inner shapes may name the samples otherwise.
    del model.graph.value_info[:]
    for value in model.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        reason = first_line(error)
        raise ModelError(
            f"the shapes of the model do not fit together ({reason}), expected such as do: "
            "export it again"
        ) from error
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    graph.types.update({value.name: value.type.tensor_type.elem_type for value in values})
    shapes = {value.name: sizes_of(value) for value in values}
    return {name: shape for name, shape in shapes.items() if shape is not None}


def input_sizes(shapes: dict[str, tuple[Size, ...]], names: Iterable[str]) -> list[str]:
    """The names of sizes other than the samples' that the inputs have, in order."""
    sizes = (size for name in names for size in shapes.get(name, ()))
    named = dict.fromkeys(size for size in sizes if isinstance(size, str))
    return [size for size in named if size != BATCH]


def matched(
    one: tuple[int, ...], other: tuple[int, ...], sizes: tuple[dict[str, int], dict[str, int]]
) -> tuple[Plain, ...]:
    """The shape of a tensor that was ``one`` and ``other`` with inputs of two ``sizes``.

    A size that follows one of the inputs' takes its name; another that changed is None.
    """
    first, second = sizes

    def name_of(a: int, b: int) -> Plain:
        for name in first:
            if first[name] != second[name] and (a, b) == (first[name], second[name]):
                return name
        return a if a == b else None

    return tuple(name_of(a, b) for a, b in zip(one, other, strict=True))
