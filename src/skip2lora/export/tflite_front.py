"""A .tflite file with more in it: a new front part is written before the file, which stays.

Offsets of a flatbuffer point forward. So tables that change or are new (the model, its graph,
their vectors, tensors, operators and buffers) stand in front and point into the old file, which
stays behind them byte for byte: weights keep their alignment, and nothing the schema does not know
is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from skip2lora.errors import ModelError
from skip2lora.export.tflite_tables import (
    GRAPH,
    MODEL,
    OPERATOR,
    SIGNATURE,
    TENSOR,
    copied,
    offsets,
)
from skip2lora.export.tflite_zip import moved

_ALIGNED = 64  # bytes that the old file is moved by, of which this is a divisor
_DATA_ALIGNED = 16  # bytes, of the data of a buffer
_MOST_BYTES = 1 << 31

_TYPES = {name.lower(): code for name, code in vars(schema.TensorType).items() if name.isupper()}
#: Makes the options of an operator: their type, and where they are.
Options = Callable[[flatbuffers.Builder], tuple[int, int]]


@dataclass(frozen=True, eq=False)
class _NewTensor:
    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: int
    scale: float
    zero_point: int


@dataclass(frozen=True, eq=False)
class _NewOperator:
    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Options | None


@dataclass(frozen=True, eq=False)
class _Changed:
    """Of an operator or a tensor of the file: vectors of whole numbers in place of its own."""

    fields: Mapping[int, Sequence[int]]


class Front:
    """What is changed and added; :meth:`content` gives the bytes of the new file.

    Tensors and operators of the file keep their numbers; new ones follow them. New operators run
    behind an operator of the file, -1 for before all, in the order they were added.
    """

    def __init__(self, old: bytes, path: Any) -> None:
        self.old, self.path = old, path
        self._model = schema.Model.GetRootAs(self.old)
        self._graph = self._model.Subgraphs(0)
        self.outputs: list[int] = [int(index) for index in self._graph.OutputsAsNumpy()]
        self._tensors: list[_NewTensor] = []
        self._changed_tensors: dict[int, _Changed] = {}
        self._buffers: list[bytes] = []
        self._codes: list[tuple[int, int]] = []
        self._behind: dict[int, list[_NewOperator]] = {}
        self._changed: dict[int, _Changed] = {}
        self._dropped: set[int] = set()
        self._names: dict[int, str] = {}
        self._scales: dict[int, tuple[float, int]] = {}
        self._metadata: dict[str, int] = {}
        _refuse_outside(self._model, self.path)

    @property
    def n_operators(self) -> int:
        """Of the file."""
        return int(self._graph.OperatorsLength())

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "float32",
        *,
        data: NDArray[Any] | None = None,
        scale: float = 0.0,
        zero_point: int = 0,
    ) -> int:
        """A new tensor, with the values of a constant; its number."""
        buffer = 0  # that of the format for tensors without values
        if data is not None:
            buffer = self._buffer(np.ascontiguousarray(data).tobytes())
        tensor = _NewTensor(name, tuple(shape), dtype, buffer, scale, zero_point)
        self._tensors.append(tensor)
        return int(self._graph.TensorsLength()) + len(self._tensors) - 1

    def operator(
        self,
        kind: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        behind: int,
        version: int = 1,
        options: Options | None = None,
    ) -> None:
        """A new operator, run behind operator ``behind`` of the file."""
        code = self._code(getattr(schema.BuiltinOperator, kind), version)
        new = _NewOperator(code, tuple(inputs), tuple(outputs), options)
        self._behind.setdefault(behind, []).append(new)

    def options_of(self, number: int) -> Options:
        """The options of an operator of the file, for another one."""
        operator = self._graph.Operators(number)
        kind, where = operator.BuiltinOptionsType(), operator.BuiltinOptions()
        return lambda _: (kind, 0 if where is None else -where.Pos)

    def rewire(
        self, number: int, *, inputs: Sequence[int] | None = None,
        outputs: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        """Let an operator of the file read or make other tensors."""
        given = {1: inputs, 2: outputs}
        earlier = self._changed.get(number, _Changed({})).fields
        fields = {slot: vector for slot, vector in given.items() if vector is not None}
        self._changed[number] = _Changed({**earlier, **fields})

    def reshape(self, index: int, shape: Sequence[int]) -> None:
        """Let a tensor of the file have another shape."""
        fields: dict[int, Sequence[int]] = {0: tuple(shape)}
        signature = self._graph.Tensors(index).ShapeSignatureAsNumpy()
        if np.size(signature) == len(shape):
            sizes = zip(signature, shape, strict=True)
            fields[7] = [-1 if was == -1 else now for was, now in sizes]
        self._changed_tensors[index] = _Changed(fields)

    def drop(self, number: int) -> None:
        """Leave an operator of the file out."""
        self._dropped.add(number)

    def name_output(self, index: int, name: str) -> None:
        """What a new tensor is called, and what signatures call it as an output."""
        at = index - int(self._graph.TensorsLength())
        self._tensors[at] = replace(self._tensors[at], name=name)
        self._names[index] = name

    def rescale(self, index: int, scale: float, zero_point: int) -> None:
        """Let the integers of a tensor of the file stand for other numbers."""
        self._scales[index] = (scale, zero_point)
        self._changed_tensors.setdefault(index, _Changed({}))

    def metadata(self, name: str, content: bytes) -> None:
        """An entry of the file's metadata, in the place of one of that name."""
        self._metadata[name] = self._buffer(content)

    def _buffer(self, content: bytes) -> int:
        self._buffers.append(content)
        return int(self._model.BuffersLength()) + len(self._buffers) - 1

    def _code(self, number: int, version: int) -> int:
        for at in range(self._model.OperatorCodesLength()):
            code = self._model.OperatorCodes(at)
            # Files written before the schema had more than 127 operators use the deprecated field.
            of_file = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            if (of_file, code.Version()) == (number, version):
                return at
        if (number, version) not in self._codes:
            self._codes.append((number, version))
        return int(self._model.OperatorCodesLength()) + self._codes.index((number, version))

    # --- the bytes --------------------------------------------------------------------------

    def content(self) -> bytes:
        """The new file.

        Raises:
            ModelError: it has over 2 GB, or tables of a later schema.
        """
        builder = flatbuffers.Builder(1 << 16)
        changed = {
            1: self._vector(builder, self._model, "OperatorCodes", self._new_codes(builder)),
            4: self._vector(builder, self._model, "Buffers", self._new_buffers(builder)),
            6: self._vector(
                builder, self._model, "Metadata", self._new_metadata(builder), self._replaced()
            ),
            7: self._signatures(builder),
        }
        graph = self._written_graph(builder)
        others = range(1, self._model.SubgraphsLength())
        changed[2] = offsets(
            builder, [graph, *(-int(self._model.Subgraphs(at)._tab.Pos) for at in others)]
        )
        root = copied(builder, self._model, MODEL, changed, self.path)
        builder.minalign = _ALIGNED
        builder.Finish(root, b"TFL3")
        front = bytes(builder.Output())
        if len(front) + len(self.old) >= _MOST_BYTES:
            raise ModelError(f"{self.path} would have over 2 GB, expected less: split the model")
        return front + moved(self.old, len(front))

    def _written_graph(self, builder: flatbuffers.Builder) -> int:
        operators = self._operators(builder)
        tensors = [
            self._copied_tensor(builder, at) for at in range(self._graph.TensorsLength())
        ] + [_written_tensor(builder, tensor) for tensor in self._tensors]
        changed = {
            0: offsets(builder, tensors),
            2: builder.CreateNumpyVector(np.array(self.outputs, np.int32)),
            3: offsets(builder, operators),
        }
        return copied(builder, self._graph, GRAPH, changed, self.path)

    def _copied_tensor(self, builder: flatbuffers.Builder, at: int) -> int:
        tensor, change = self._graph.Tensors(at), self._changed_tensors.get(at)
        if change is None:
            return -int(tensor._tab.Pos)
        changed = _vectors(builder, change)
        if at in self._scales:
            changed[4] = _quantization(*self._scales[at]).Pack(builder)
        return copied(builder, tensor, TENSOR, changed, self.path)

    def _operators(self, builder: flatbuffers.Builder) -> list[int]:
        written = [_written_operator(builder, each) for each in self._behind.get(-1, ())]
        for number in range(self.n_operators):
            operator, change = self._graph.Operators(number), self._changed.get(number)
            if number not in self._dropped and change is None:
                written.append(-int(operator._tab.Pos))
            elif number not in self._dropped and change is not None:
                fields = _vectors(builder, change)
                written.append(copied(builder, operator, OPERATOR, fields, self.path))
            written += [_written_operator(builder, each) for each in self._behind.get(number, ())]
        return written

    def _new_codes(self, builder: flatbuffers.Builder) -> list[int]:
        written = []
        for number, version in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.version = number, version
            code.deprecatedBuiltinCode = min(number, 127)
            written.append(code.Pack(builder))
        return written

    def _new_buffers(self, builder: flatbuffers.Builder) -> list[int]:
        written = []
        for content in self._buffers:
            builder.StartVector(1, len(content), _DATA_ALIGNED)
            builder.head = builder.Head() - len(content)
            builder.Bytes[builder.Head() : builder.Head() + len(content)] = content
            data = builder.EndVector()
            schema.BufferStart(builder)
            schema.BufferAddData(builder, data)
            written.append(schema.BufferEnd(builder))
        return written

    def _new_metadata(self, builder: flatbuffers.Builder) -> list[int]:
        written = []
        for name, buffer in self._metadata.items():
            entry = schema.MetadataT()
            entry.name, entry.buffer = name, buffer
            written.append(entry.Pack(builder))
        return written

    def _replaced(self) -> set[int]:
        """Entries of the metadata that new ones replace."""
        names = [
            (self._model.Metadata(at).Name() or b"").decode(errors="replace")
            for at in range(self._model.MetadataLength())
        ]
        return {at for at, name in enumerate(names) if name in self._metadata}

    def _vector(
        self, builder: flatbuffers.Builder, of: Any, name: str, more: Sequence[int],
        without: Sequence[int] | set[int] = (),
    ) -> int:  # fmt: skip
        """The vector of tables of that name of a table, with ``more`` behind them."""
        count = getattr(of, f"{name}Length")()
        tables = [-int(getattr(of, name)(at)._tab.Pos) for at in range(count) if at not in without]
        return offsets(builder, [*tables, *more])

    def _signatures(self, builder: flatbuffers.Builder) -> int:
        """Signatures with the outputs that the graph has now."""
        written = []
        for at in range(self._model.SignatureDefsLength()):
            signature = self._model.SignatureDefs(at)
            if signature.SubgraphIndex() != 0:
                written.append(-int(signature._tab.Pos))
                continue
            maps = [
                -int(each._tab.Pos)
                for each in map(signature.Outputs, range(signature.OutputsLength()))
                if each.TensorIndex() in self.outputs
            ]
            for index, name in self._names.items():
                entry = schema.TensorMapT()
                entry.name, entry.tensorIndex = name, index
                maps.append(entry.Pack(builder))
            changed = {1: offsets(builder, maps)}
            written.append(copied(builder, signature, SIGNATURE, changed, self.path))
        return offsets(builder, written)


def _vectors(builder: flatbuffers.Builder, change: _Changed) -> dict[int, int]:
    return {
        slot: builder.CreateNumpyVector(np.array(vector, np.int32))
        for slot, vector in change.fields.items()
    }


def _written_tensor(builder: flatbuffers.Builder, tensor: _NewTensor) -> int:
    packed = schema.TensorT()
    packed.name, packed.shape = tensor.name, np.array(tensor.shape, np.int32)
    packed.type, packed.buffer, packed.hasRank = _TYPES[tensor.dtype], tensor.buffer, True
    if tensor.scale:
        packed.quantization = _quantization(tensor.scale, tensor.zero_point)
    return int(packed.Pack(builder))


def _quantization(scale: float, zero_point: int) -> schema.QuantizationParametersT:
    quantization = schema.QuantizationParametersT()
    quantization.scale = np.array([scale], np.float32)
    quantization.zeroPoint = np.array([zero_point], np.int64)
    return quantization


def _written_operator(builder: flatbuffers.Builder, operator: _NewOperator) -> int:
    kind, options = (0, 0) if operator.options is None else operator.options(builder)
    inputs, outputs = (
        builder.CreateNumpyVector(np.array(tensors, np.int32))
        for tensors in (operator.inputs, operator.outputs)
    )
    schema.OperatorStart(builder)
    schema.OperatorAddOpcodeIndex(builder, operator.code)
    schema.OperatorAddInputs(builder, inputs)
    schema.OperatorAddOutputs(builder, outputs)
    if options:
        schema.OperatorAddBuiltinOptionsType(builder, kind)
        builder.PrependUOffsetTRelativeSlot(4, options, 0)
    return int(schema.OperatorEnd(builder))


def _refuse_outside(model: Any, path: Any) -> None:
    """Raise ModelError for data that the file keeps behind the flatbuffer, or elsewhere."""
    buffers = (model.Buffers(at) for at in range(model.BuffersLength()))
    outside = any(buffer.Offset() > 1 for buffer in buffers) or model.ExternalBuffersLength()
    graph = model.Subgraphs(0)
    operators = (graph.Operators(at) for at in range(graph.OperatorsLength()))
    if outside or any(operator.LargeCustomOptionsOffset() for operator in operators):
        raise ModelError(
            f"{path} keeps weights outside of its tables, expected them inside: convert the model "
            "to a file of less than 2 GB"
        )
