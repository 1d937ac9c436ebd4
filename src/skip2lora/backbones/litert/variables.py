"""Variables that a .tflite file keeps from call to call, as tensors that go in and out instead.

A file begins a state anew with a new interpreter alone. So it is run as a copy in which what reads
a variable is an input of the graph and what is assigned to it an output: the same numbers, and a
sample may begin anew at any time.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from skip2lora.backbones.streams import CALLS
from skip2lora.errors import ModelError

if TYPE_CHECKING:
    from skip2lora.backbones.litert.file import Operator, Tensor

STATE = frozenset({"CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"})
# Fields of the tables Model and SubGraph, by their place in the format's tables of offsets.
_GRAPHS, _SIGNATURES = 8, 18
_INPUTS, _OPERATORS = 6, 10


@dataclass(frozen=True)
class Variable:
    """One of a graph: the tensor that it is read into, and the one that is assigned to it."""

    name: str
    read: int
    written: int


def variables_of(
    packed: Sequence[Any],
    operators: Sequence[Operator],
    tensors: Sequence[Tensor],
    given: Sequence[int],
) -> tuple[Variable, ...]:
    """The variables of a graph; none where a call may read what it assigned, or reads one twice.

    ``packed`` are its operators as the file has them, ``given`` its inputs.
    """
    handles: dict[int, Any] = {}
    reads: dict[Any, int] = {}
    written: dict[Any, int] = {}
    for operator, each in zip(operators, packed, strict=True):
        if operator.name == "VAR_HANDLE" and each.builtinOptions is not None:
            called = each.builtinOptions.container, each.builtinOptions.sharedName
            handles.update(dict.fromkeys(operator.outputs, called))
        elif operator.name in ("READ_VARIABLE", "ASSIGN_VARIABLE"):
            handle = handles.get(operator.inputs[0] if operator.inputs else -1)
            others = (*operator.inputs[1:], *operator.outputs)
            if handle is None or handle in written or len(others) != 1:
                return ()
            if operator.name == "ASSIGN_VARIABLE":
                written[handle] = others[0]
            elif handle in reads or tensors[others[0]].shape is None:
                return ()
            else:
                reads[handle] = others[0]
    variables, taken = [], {tensors[index].name for index in given}
    for handle, index in reads.items():
        name = (handle[1] or b"state").decode(errors="replace")
        while name in taken:
            name += "'"
        taken.add(name)
        variables.append(Variable(name, index, written.get(handle, index)))
    return tuple(variables)


def calls_of(path: Path) -> tuple[Path, str]:
    """The file of a model, and which of its calls count, where a ``.toml`` says it.

    Raises:
        ModelError: it says something else.
    """
    if path.suffix != ".toml":
        return path, CALLS[0]
    from skip2lora.backbones.onnx.chain import Part, read_chain

    parts, samples, said = read_chain(path)
    if len(parts) > 1:
        names = ", ".join(part.file.name for part in parts)
        raise ModelError(
            f"{path} chains {names}, expected .onnx models alone: give a .tflite as the model "
            "itself, and what the ones before it compute as its samples"
        )
    others = {**(said or {}), "samples": samples}
    calls = others.pop("calls", None)
    if calls is None or any(others.values()) or parts != [Part(parts[0].file)]:
        raise ModelError(
            f"{path} names a .tflite, expected [stream] with calls alone: leave the rest out, as "
            "such a file says which states it has"
        )
    return parts[0].file, str(calls)


def without_variables(
    content: bytes, operators: Sequence[Operator], variables: Sequence[Variable]
) -> bytes:
    """The file without its variables: they are further inputs, and nothing is assigned.

    Everything stays where it is but the places of operators in their vector, which move together,
    and the inputs, which are written anew behind it.
    """
    model = schema.Model.GetRootAs(content)
    graph, changed = model.Subgraphs(0), bytearray(content)
    stays = [number for number, of in enumerate(operators) if of.name not in STATE]
    vector = graph._tab.Vector(graph._tab.Offset(_OPERATORS))
    for place, number in enumerate(stays):  # an offset counts from where it stands
        (offset,) = struct.unpack_from("<I", content, vector + 4 * number)
        struct.pack_into("<I", changed, vector + 4 * place, offset + 4 * (number - place))
    struct.pack_into("<I", changed, vector - 4, len(stays))
    for field, length in ((_GRAPHS, 1), (_SIGNATURES, 0)):
        at = model._tab.Offset(field)
        if at:
            struct.pack_into("<I", changed, model._tab.Vector(at) - 4, length)
    changed += bytes(-len(changed) % 4)
    inputs = np.array([*graph.InputsAsNumpy(), *(of.read for of in variables)], "<i4")
    place = graph._tab.Pos + graph._tab.Offset(_INPUTS)
    struct.pack_into("<I", changed, place, len(changed) - place)
    return bytes(changed + struct.pack("<I", len(inputs)) + inputs.tobytes())
