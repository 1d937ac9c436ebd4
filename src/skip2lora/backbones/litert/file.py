"""Reads a .tflite file: its inputs, the layers that hold weights, and where the logits are.

The file is a flatbuffer, and stays as it is: further outputs are appended behind it and one offset
is changed, so weights keep their alignment and nothing the schema does not know is lost.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from skip2lora.backbones.ends import End
from skip2lora.backbones.litert.ends import end_of, values_of
from skip2lora.backbones.litert.sound import fault_of
from skip2lora.backbones.litert.straight import node_fault, shortened, straight_part
from skip2lora.backbones.litert.variables import STATE, Variable, variables_of, without_variables
from skip2lora.errors import ModelError, first_line

_IDENTIFIER = b"TFL3"
_MOST_BYTES = 1 << 31  # offsets of a flatbuffer are 32 bits, and runtimes read them signed
#: What reading a damaged flatbuffer raises.
_DAMAGED = (
    struct.error, ValueError, TypeError, IndexError, KeyError, OverflowError, AttributeError,
)  # fmt: skip
_TYPES = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
_OPERATORS = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)
}
#: The data input of each operator with weights, and where its weights are.
_WEIGHTED = {
    "FULLY_CONNECTED": ((0, 1),),
    "CONV_2D": ((0, 1),),
    "DEPTHWISE_CONV_2D": ((0, 1),),
    "TRANSPOSE_CONV": ((2, 1),),
    "BATCH_MATMUL": ((0, 1), (1, 0)),
}
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
_PADDING = ("PAD", "PADV2", "MIRROR_PAD")
_ACTIVATED = frozenset({"FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "ADD"})


@dataclass(frozen=True)
class Tensor:
    """One tensor: ``shape`` with its batch of 1 where it has one; ``scale`` is 0 without one.

    A quantised value q means ``scale * (q - zero_point)``. ``shape`` is None where an axis other
    than the first is not known before the graph runs.
    """

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...] | None
    scale: float = 0.0
    zero_point: int = 0

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample: without a first axis of 1, which is the batch."""
        shape = self.shape or ()
        return shape[1:] if shape[:1] == (1,) else shape

    @property
    def n_bytes(self) -> int:
        """Memory of its values, 0 where the shape is not known."""
        return math.prod(self.shape or (0,)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Operator:
    """One operator, with the tensors it reads (-1 for one left out) and makes."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    beta: float = 1.0
    activated: bool = False  # by an activation of its own, such as RELU


@dataclass(frozen=True)
class Weighted:
    """A layer with weights: ``operator`` as the format calls it, and its data input."""

    name: str
    operator: str
    input: Tensor


@dataclass(frozen=True)
class Output:
    """One output as the file names it, and the logits it is made from.

    ``end`` says what makes the output of them.
    """

    name: str
    logits: Tensor
    end: End
    tensor: Tensor


@dataclass(frozen=True, eq=False)
class Graph:
    """What a .tflite file says; ``content`` are its bytes, ``path`` is for messages.

    ``cut`` says before which operator the graph was cut, None where it runs straight through.
    ``variables`` are what it keeps from call to call.
    """

    path: str
    content: bytes
    inputs: tuple[Tensor, ...]
    outputs: tuple[Output, ...]
    signature: dict[int, str]
    tensors: tuple[Tensor, ...]
    constants: frozenset[int]
    operators: tuple[Operator, ...]
    cut: str | None = None
    variables: tuple[Variable, ...] = ()

    @property
    def states(self) -> tuple[Tensor, ...]:
        """What variables are read into, which are inputs too."""
        return tuple(replace(self.tensors[of.read], name=of.name) for of in self.variables)

    def ancestors(self, index: int) -> set[int]:
        """All tensors that the tensor of this index is computed from, and itself."""
        needed = {index}
        for operator in reversed(self.operators):
            if needed.intersection(operator.outputs):
                needed.update(operator.inputs)
        return needed

    def layers(self, output: Output | None) -> tuple[Weighted, ...]:
        """Layers with weights on the way to the logits of ``output``, in the order they run.

        All of them for None, of a graph that was cut.
        """
        needed = {index for operator in self.operators for index in operator.outputs}
        if output is not None:
            needed = self.ancestors(output.logits.index)
        layers: list[Weighted] = []
        names: set[str] = set()
        makers = {index: each for each in self.operators for index in each.outputs}
        for operator in self.operators:
            data = self.data_input(operator)
            if data is None or not needed.intersection(operator.outputs):
                continue
            # A name of fused layers lists them all, `a;b;c`: the first is enough.
            name = self.tensors[operator.outputs[0]].name.partition(";")[0] or operator.name
            while name in names:
                name += "_"
            names.add(name)
            while operator.name in _CONVOLUTIONS and data in makers:
                if makers[data].name not in _PADDING:
                    break
                data = makers[data].inputs[0]  # the runtime pads inside of the convolution
            layers.append(Weighted(name, operator.name, self.tensors[data]))
        return tuple(layers)

    def data_input(self, operator: Operator) -> int | None:
        """What an operator reads beside its weights; None for one without weights."""
        for data, weights in _WEIGHTED.get(operator.name, ()):
            at, constant = operator.inputs[data], operator.inputs[weights]
            if constant in self.constants and at not in self.constants:
                return at
        return None

    def without_shape(self) -> tuple[int, ...]:
        """Tensors that layers or outputs read and whose shape is not in the file."""
        ends = self.outputs or (None,)
        used = [layer.input for output in ends for layer in self.layers(output)]
        used += [output.logits for output in self.outputs]
        return tuple(sorted({tensor.index for tensor in used if tensor.shape is None}))

    def with_shapes(self, shapes: Mapping[int, Sequence[int]]) -> Graph:
        """The same graph with these shapes of tensors."""
        tensors = list(self.tensors)
        for index, shape in shapes.items():
            tensors[index] = replace(tensors[index], shape=tuple(map(int, shape)))
        outputs = [
            replace(each, logits=tensors[each.logits.index], tensor=tensors[each.tensor.index])
            for each in self.outputs
        ]
        return replace(self, tensors=tuple(tensors), outputs=tuple(outputs))

    def with_outputs(self, tensors: Sequence[int], *, streaming: bool = False) -> bytes:
        """The file with these tensors as further outputs of its graph.

        Variables are further inputs; with ``streaming`` they stay what they are.
        """
        content, own = self.content, ()
        if self.variables and not streaming:
            content = without_variables(content, self.operators, self.variables)
        root = schema.Model.GetRootAs(content).Subgraphs(0)
        if self.cut is not None:
            content = bytes(shortened(content, len(self.operators)))
        else:
            own = root.OutputsAsNumpy()
        outputs = np.array([*own, *tensors], np.int32)
        field = root._tab.Pos + root._tab.Offset(8)  # where the graph's table points to its outputs
        end = -(-len(content) // 4) * 4
        vector = struct.pack("<I", len(outputs)) + outputs.astype("<i4").tobytes()
        if end + len(vector) >= _MOST_BYTES:
            raise ModelError(f"{self.path} has over 2 GB, expected less: split or quantise it")
        body = memoryview(content)
        padding = bytes(end - len(content))
        offset = struct.pack("<I", end - field)  # from the field on, to the appended vector
        return b"".join([body[:field], offset, body[field + 4 :], padding, vector])


def parse(content: bytes, path: str) -> Graph:
    """Read a .tflite file; ``path`` stands in errors.

    Raises:
        ModelError: damaged, no .tflite file, over 2 GB, or a graph that keeps state, has control
            flow or is random.
    """
    if len(content) >= _MOST_BYTES:
        raise ModelError(f"{path} has over 2 GB, expected less: split or quantise the model")
    if content[4:8] != _IDENTIFIER:
        raise ModelError(
            f"{path} is no .tflite model, expected {_IDENTIFIER.decode()} at byte 4: check the file"
        )
    try:
        # Unpacking reads every field, so a truncated file is found here and not by the runtime.
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        return _graph(content, model, path)
    except ModelError:
        raise
    except _DAMAGED as error:
        raise ModelError(
            f"{path} is damaged or truncated, expected a whole .tflite file: copy it again "
            f"({first_line(error)})"
        ) from error


def _graph(content: bytes, model: Any, path: str) -> Graph:
    main = model.subgraphs[0]
    codes = [_operator_name(code) for code in model.operatorCodes]
    operators = tuple(_operator(codes[each.opcodeIndex], each) for each in main.operators)
    _check_indices(model, operators)
    faults = [
        (number, reason)
        for number, operator in enumerate(operators)
        if (reason := node_fault(operator, main.tensors))
    ]
    if len(model.subgraphs) > 1 and not faults:
        raise ModelError(
            f"{path} has {len(model.subgraphs)} graphs, expected one: convert the model with one "
            "signature"
        )
    given, results = _indices(main.inputs), _indices(main.outputs)
    if not given or not results:
        raise ModelError(f"{path} has no input or no output, expected both: check the model")
    tensors = tuple(
        _tensor(index, each, index in given) for index, each in enumerate(main.tensors)
    )  # fmt: skip
    _check_shapes(main.operators, operators, tensors)
    makers = {index: operator for operator in operators for index in operator.outputs}
    names = {
        each.tensorIndex: _text(each.name)
        for signature in model.signatureDefs or ()
        for each in signature.inputs or ()
    }
    constants = _constants(model, operators)
    values = values_of(main.tensors, model.buffers, tensors)
    graph = Graph(
        path,
        content,
        tuple(tensors[index] for index in given),
        tuple(_output(index, tensors, makers, constants, values) for index in results),
        names,
        tensors,
        constants,
        operators,
    )
    if faults and all(operators[number].name in STATE for number, _ in faults):
        graph = replace(graph, variables=variables_of(main.operators, operators, tensors, given))
    return straight_part(graph, faults, results) if faults and not graph.variables else graph


def _operator_name(code: Any) -> str:
    # Files written before the schema had more than 127 operators use the deprecated field.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number == schema.BuiltinOperator.CUSTOM:
        return _text(code.customCode)
    return str(_OPERATORS.get(number, f"operator {number}"))


def _operator(name: str, operator: Any) -> Operator:
    options = operator.builtinOptions
    beta = float(options.beta) if name == "SOFTMAX" else 1.0
    activated = name in _ACTIVATED and options is not None and options.fusedActivationFunction != 0
    tensors = _indices(operator.inputs), _indices(operator.outputs)
    return Operator(name, *tensors, beta, activated)


def _check_indices(model: Any, operators: Sequence[Operator]) -> None:
    """Raise IndexError for what the runtime might read out of bounds."""
    main = model.subgraphs[0]
    used = [index for each in operators for index in (*each.inputs, *each.outputs)]
    graph = [*_indices(main.inputs), *_indices(main.outputs)]
    if not all(-1 <= index < len(main.tensors) for index in used):
        raise IndexError("an operator has a tensor that does not exist")
    if not all(0 <= index < len(main.tensors) for index in graph):
        raise IndexError("an input or output is a tensor that does not exist")
    if any(0 in _indices(main.tensors[index].shape) for index in _indices(main.inputs)):
        raise IndexError("an input has no values")
    if not all(0 <= tensor.buffer < len(model.buffers) for tensor in main.tensors):
        raise IndexError("a tensor has a buffer that does not exist")
    for each in operators:
        read = max((max(places) for places in _WEIGHTED.get(each.name, ())), default=-1)
        if len(each.inputs) <= read or not (each.outputs or each.name in STATE):
            raise IndexError(f"{each.name} has too few tensors")
    if any(size < 0 for tensor in main.tensors for size in _indices(tensor.shape)):
        raise IndexError("a tensor has a negative size")


def _check_shapes(
    packed: Sequence[Any], operators: Sequence[Operator], tensors: Sequence[Tensor]
) -> None:
    """Raise ValueError for shapes that do not fit together."""
    for number, (each, operator) in enumerate(zip(packed, operators, strict=True)):
        read, written = (
            [tensors[index].shape if index >= 0 else None for index in indices]
            for indices in (operator.inputs, operator.outputs)
        )
        fault = fault_of(operator.name, each.builtinOptions, read, written)
        if fault is not None:
            raise ValueError(f"operator {number}, {operator.name}, {fault}")


def _constants(model: Any, operators: Sequence[Operator]) -> frozenset[int]:
    """Tensors whose values are in the file, also those computed from such ones (DEQUANTIZE)."""
    constants = set()
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        buffer = model.buffers[tensor.buffer]
        if buffer.size or (buffer.data is not None and len(buffer.data)):
            constants.add(index)
    for operator in operators:
        given = [index for index in operator.inputs if index >= 0]
        if given and constants.issuperset(given):
            constants.update(operator.outputs)
    return frozenset(constants)


def _output(
    index: int,
    tensors: Sequence[Tensor],
    makers: Mapping[int, Operator],
    constants: frozenset[int],
    values: Mapping[int, float],
) -> Output:
    layers = {at for at, of in makers.items() if of.name in _WEIGHTED}
    known = {tensor.index: tensor for tensor in tensors}
    end = end_of(index, makers, constants, layers, known, values)
    return Output(tensors[index].name, tensors[end.logits], end, tensors[index])


def _tensor(index: int, tensor: Any, is_input: bool) -> Tensor:
    shape = _indices(tensor.shape)
    # -1 in the signature is an axis that may change; the batch, if it is the first.
    signature = _indices(tensor.shapeSignature)
    changes = -1 in signature[1:] or (signature[:1] == (-1,) and shape[:1] != (1,))
    known = not changes and (shape or is_input)
    scale, zero_point = 0.0, 0
    quantisation = tensor.quantization
    if quantisation is not None and quantisation.scale is not None and len(quantisation.scale) == 1:
        scale = float(quantisation.scale[0])
        points = quantisation.zeroPoint
        zero_point = 0 if points is None or not len(points) else int(points[0])
    return Tensor(
        index,
        _text(tensor.name),
        _TYPES[tensor.type].lower(),
        shape if known else None,
        scale,
        zero_point,
    )


def _indices(values: Any) -> tuple[int, ...]:
    return () if values is None else tuple(int(value) for value in values)


def _text(name: bytes | str | None) -> str:
    return name.decode() if isinstance(name, bytes) else name or ""
