"""A view of an ONNX graph: what is constant, who makes and who reads a tensor, which shape it has.

Which layers hold weights and what they read; graphs whose outputs depend on more than one sample
(loops, state carried along, chance) are refused.

Sizes are numbers where they are fixed, names where they change together, and None where nothing is
known. The axis of the samples is named :data:`BATCH`, or is the number the model was fixed to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from skip2lora.backbones.inputs import InputSpec
from skip2lora.errors import ModelError, first_line

Size = int | str | None
BATCH = "skip2lora.batch"
# Their result depends on no value of their input.
_SHAPE_ONLY = ("Shape", "Size")
_LARGE_BYTES = 1 << 16


class Graph:
    """A ModelProto with its look-up tables. ``model`` is changed by who rewrites it."""

    def __init__(self, model: Any) -> None:
        import onnx  # of which the model is

        self.onnx = onnx
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
        #: What the layers with weights read, where a part of them was cut off; else they are asked.
        self.reads: list[Read] | None = None
        self.opset = opset_of(model)
        #: An input and its axis that holds the samples.
        self.samples = (self.inputs[0].name if self.inputs else "", 0)
        #: States that a call takes from the one before and gives to the next, and their axes.
        self.states: dict[str, int] = {}
        #: Types of elements, as TensorProto numbers them, of constants and of what infer() found.
        self.types = {name: int(each.data_type) for name, each in self.initializers.items()}

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
        onnx = self.onnx
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

    def add_initializer(self, tensor: Any) -> None:
        """A further constant."""
        self.model.graph.initializer.append(tensor)
        self.initializers[tensor.name] = tensor
        self.types[tensor.name] = int(tensor.data_type)
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


def input_specs(graph: Graph, axes: Mapping[str, int]) -> tuple[InputSpec, ...]:
    """What a sample consists of, as far as the file says it; ``axes`` hold the samples."""
    specs = []
    for value in graph.inputs:
        shape = list(sizes_of(value) or (None,))
        del shape[axes.get(value.name, 0)]
        sizes = tuple(size if isinstance(size, int) and size > 0 else None for size in shape)
        kind = value.type.tensor_type.elem_type or graph.onnx.TensorProto.FLOAT
        name = str(graph.onnx.helper.tensor_dtype_to_np_dtype(kind))
        specs.append(InputSpec(value.name, sizes, name))
    return tuple(specs)


def infer(graph: Graph, axes: Mapping[str, int] | None = None) -> dict[str, tuple[Size, ...]]:
    """Shapes by ONNX's shape inference, with the axis of the samples named :data:`BATCH`.

    ``axes`` says which axis of each input that is, by default the first of all.
    """
    onnx = graph.onnx
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
                if axis == (axes or {}).get(value.name, 0):
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
    graph.types = {value.name: value.type.tensor_type.elem_type for value in values} | graph.types
    shapes = {value.name: sizes_of(value) for value in values}
    return {name: shape for name, shape in shapes.items() if shape is not None}


def input_sizes(shapes: dict[str, tuple[Size, ...]], names: Iterable[str]) -> list[str]:
    """The names of sizes other than the samples' that the inputs have, in order."""
    sizes = (size for name in names for size in shapes.get(name, ()))
    named = dict.fromkeys(size for size in sizes if isinstance(size, str))
    return [size for size in named if size != BATCH]


def matched(
    one: tuple[int, ...], other: tuple[int, ...], sizes: tuple[dict[str, int], dict[str, int]]
) -> tuple[Size, ...]:
    """The shape of a tensor that was ``one`` and ``other`` with inputs of two ``sizes``.

    A size that follows one of the inputs' takes its name; another that changed is None.
    """
    first, second = sizes

    def name_of(a: int, b: int) -> Size:
        for name in first:
            if first[name] != second[name] and (a, b) == (first[name], second[name]):
                return name
        return a if a == b else None

    return tuple(name_of(a, b) for a, b in zip(one, other, strict=True))


_LOOPS = {
    "Loop": "a loop", "Scan": "a loop", "If": "a branch", "SequenceMap": "a loop",
}  # fmt: skip
_RANDOM = (
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli",
    "Multinomial",
)  # fmt: skip
# What hands a state on as it is; anything else computes it, of the sample itself.
_PASSED = (
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Transpose", "Slice", "Split",
    "Gather", "Concat", "QuantizeLinear", "DequantizeLinear",
)  # fmt: skip


class Fault(NamedTuple):
    """A node by which equal samples need not give the same: what it is, and the refusal.

    ``random`` are those by chance; the others are loops, branches, and states carried along.
    """

    node: Any
    what: str
    error: ModelError
    random: bool = False


def faults_of(graph: Graph, path: object) -> Iterator[Fault]:
    """The nodes with loops, branches, chance, or a state that a caller carries along."""
    for node in graph.model.graph.node:
        title = f"node {graph.title(node)} ({node.op_type})"
        if node.op_type in _LOOPS and node.domain in ("", "ai.onnx"):
            what = f"{title} is {_LOOPS[node.op_type]}"
            error = ModelError(
                f"{path}: {what}, expected a graph that runs straight through, or layers with "
                "weights before it, as those inside may run any number of times: export the model "
                "without control flow, or simplify it with onnxsim"
            )
            yield Fault(node, what, error)
        if node.op_type in _RANDOM or _drops(graph, node):
            what = f"{title} is random"
            error = ModelError(
                f"{path}: {what}, expected a graph that gives the same for the same sample, as "
                "samples are cached: export the model for inference"
            )
            yield Fault(node, what, error, random=True)
        if node.op_type in RECURRENT:
            carried = next((it for it in carried_by(graph, node) if it not in graph.states), None)
            if carried is not None:
                what = f"{title} takes its state from input {carried}"
                error = ModelError(
                    f"{path}: {what}, expected a model without state between samples, or layers "
                    "with weights before it, as a cached sample must always give the same: export "
                    "it with a state of zeros"
                )
                yield Fault(node, what, error)


def _drops(graph: Graph, node: Any) -> bool:
    """Whether a Dropout is in its training mode, which its third input says."""
    if node.op_type != "Dropout" or len(node.input) < 3 or not node.input[2]:
        return False
    flag = graph.array(node.input[2])
    return flag is not None and bool(flag.all())


def carried_by(graph: Graph, node: Any) -> Iterator[str]:
    """Inputs of the graph that are the state a recurrent layer begins with."""
    inputs = {value.name for value in graph.inputs}
    left, seen = [str(name) for name in node.input[5:7] if name], set()
    while left:
        tensor = left.pop()
        if tensor in inputs:
            yield tensor
        maker = graph.producer.get(tensor)
        if tensor in seen or maker is None or maker.op_type not in _PASSED:
            continue
        seen.add(tensor)
        left += [str(name) for name in maker.input if name]


class Operands(NamedTuple):
    """Places of a layer's data, weights, and the scale and zero point of quantised data."""

    data: int
    weight: int
    scale: int | None = None
    zero: int | None = None


_PLAIN = Operands(0, 1)
#: Operators with weights. Those on integers carry the scale of their data beside it.
OPERATORS: dict[str, Operands] = {
    "Gemm": _PLAIN,
    "MatMul": _PLAIN,
    "Conv": _PLAIN,
    "ConvTranspose": _PLAIN,
    "FusedMatMul": _PLAIN,
    "FusedGemm": _PLAIN,
    "GemmFastGelu": _PLAIN,
    "FusedConv": _PLAIN,
    "MatMulNBits": _PLAIN,
    "Attention": _PLAIN,
    "DynamicQuantizeMatMul": _PLAIN,
    "ConvInteger": _PLAIN,
    "MatMulInteger": _PLAIN,
    "MatMulIntegerToFloat": Operands(0, 1, 2, 4),
    "QLinearConv": Operands(0, 3, 1, 2),
    "QLinearMatMul": Operands(0, 3, 1, 2),
    "QGemm": Operands(0, 3, 1, 2),
    "QAttention": Operands(0, 1, 3, 6),
    "LSTM": _PLAIN,
    "GRU": _PLAIN,
    "RNN": _PLAIN,
    "DynamicQuantizeLSTM": _PLAIN,
    "Einsum": _PLAIN,
}
#: Those whose data is a map with its channels first.
CONVOLUTIONS = ("Conv", "ConvTranspose", "FusedConv", "ConvInteger", "QLinearConv")
RECURRENT = ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM")
_BOTH_SIDES = ("MatMul", "FusedMatMul")  # the constant may be the first operand


@dataclass(frozen=True)
class Read:
    """What one layer reads: ``tensor``, and the names of its scale and zero point, if any.

    ``quantised`` are the integers that ``tensor`` is made of, where that is a DequantizeLinear's.
    ``places_first`` is set where the layer multiplies from the left, over the last axis but one;
    ``tokens_first`` where it takes (tokens, samples, width), as recurrent layers do.
    """

    layer: str
    operator: str
    tensor: str
    scale: str | None = None
    zero: str | None = None
    places_first: bool = False
    quantised: str | None = None
    tokens_first: bool = False


def weight_layers(graph: Graph) -> list[Read]:
    """The data inputs of all layers with weights, in order; each tensor once.

    A layer is called by its node's name, or by its first output where that is empty or not unique.
    """
    if graph.reads is not None:
        return list(graph.reads)
    nodes = [node for node in graph.model.graph.node if node.op_type in OPERATORS]
    names = [str(node.name) for node in nodes]
    reads: dict[str, Read] = {}
    for node, name in zip(nodes, names, strict=True):
        read = _read(graph, node, name if name and names.count(name) == 1 else str(node.output[0]))
        if read is not None:
            reads.setdefault(read.quantised or read.tensor, read)
    return list(reads.values())


def _read(graph: Graph, node: Any, layer: str) -> Read | None:
    places = OPERATORS[node.op_type]
    if node.op_type == "Attention" and node.domain != "com.microsoft":
        return None  # the standard's Attention has no weights
    if len(node.input) <= places.weight:
        return None
    data, weight = node.input[places.data], node.input[places.weight]
    first = False
    if node.op_type == "Einsum":
        if len(node.input) != 2:
            return None
        if data in graph.constants:
            data, weight = weight, data
    if weight not in graph.constants:
        if node.op_type not in _BOTH_SIDES or data not in graph.constants:
            return None
        data, first = weight, True
    if data in graph.constants:
        return None
    scale = _optional(node, places.scale)
    zero = _optional(node, places.zero)
    maker = graph.producer.get(data)
    if maker is not None and maker.op_type == "DynamicQuantizeLinear":
        data, scale, zero = maker.input[0], None, None
    while node.op_type in CONVOLUTIONS and (maker := graph.producer.get(data)) is not None:
        if maker.op_type != "Pad":
            break
        data = maker.input[0]  # padding belongs to the convolution, and its zeros say nothing
    maker = graph.producer.get(data)
    if maker is not None and maker.op_type == "DequantizeLinear":
        integers, scale, zero = str(maker.input[0]), str(maker.input[1]), _optional(maker, 2)
        return Read(layer, str(node.op_type), str(data), scale, zero, first, integers)
    tokens = node.op_type in RECURRENT and not _attribute(node, "layout")
    return Read(layer, str(node.op_type), str(data), scale, zero, first, tokens_first=tokens)


def _attribute(node: Any, name: str) -> int:
    return next((int(each.i) for each in node.attribute if each.name == name), 0)


def _optional(node: Any, place: int | None) -> str | None:
    return str(node.input[place]) if place is not None and len(node.input) > place else None
