"""Requests and answers of the Open Inference Protocol (version 2), in JSON and in binary.

What other servers of models speak too, so that their clients work with this one. Source: the
protocol's "Required API" and its "Binary tensor data extension": a body is a JSON object, and
behind it, where the header ``Inference-Header-Content-Length`` says how long the JSON is, the
tensors one after the other, little-endian.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.arrays import listing
from skip2lora.errors import DataError, MissingExtraError, first_line

#: What a tensor of the protocol is in NumPy; BYTES are texts.
DATATYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1",
    "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
_BYTES, _FLOATS = "BYTES", "FP32"
_KNOWN = frozenset((*DATATYPES, _BYTES))
_NAMES = {np.dtype(code): name for name, code in DATATYPES.items()}
_NAMES |= {dtype.newbyteorder(): name for dtype, name in _NAMES.items()}
#: Kinds of NumPy that values of JSON may be read as, for each kind of tensor.
_KINDS = {"b": "b", "f": "iuf"}
_MOST_TENSORS, _MOST_AXES = 64, 16
EXTENSIONS = ("binary_tensor_data",)
#: What an output is: numbers, or texts along one axis.
Tensor = NDArray[Any] | tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Asked:
    """A request: its input tensors by name, and how the answer is to be written.

    ``outputs`` are the names asked for, each with whether it is to be binary; None for all, which
    are then as ``binary`` says.
    """

    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, bool] | None = None
    binary: bool = False
    id: str | None = None


def read(body: bytes, json_bytes: int | None = None) -> Asked:
    """The request in ``body``, of which the first ``json_bytes`` are JSON (None: all).

    Raises:
        DataError: it is no request of the protocol.
    """
    if json_bytes is not None and not 0 < json_bytes <= len(body):
        raise DataError(
            f"Inference-Header-Content-Length is {json_bytes} of a body of {len(body)} bytes, "
            "expected the length of the JSON in it: correct the header"
        )
    asked, tail = parse(body if json_bytes is None else body[:json_bytes]), memoryview(b"")
    if json_bytes is not None:
        tail = memoryview(body)[json_bytes:]
    tensors = _objects(asked, "inputs")
    if not tensors:
        raise DataError("the request has no inputs, expected one tensor or more: add them")
    inputs: dict[str, NDArray[Any]] = {}
    for tensor in tensors:
        name = _name(tensor, "inputs")
        if name in inputs:
            raise DataError(f"input {name} is there twice, expected it once: remove one")
        inputs[name], tail = _tensor(name, tensor, tail)
    if tail:
        raise DataError(
            f"{len(tail)} bytes stand behind the tensors, expected none: correct binary_data_size"
        )
    outputs = {
        _name(of, "outputs"): _binary(of, "binary_data") for of in _objects(asked, "outputs")
    }
    request_id = asked.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise DataError(f"id is {request_id!r}, expected a text: correct it")
    return Asked(inputs, outputs or None, _binary(asked, "binary_data_output"), request_id)


def answer(asked: Asked, outputs: Mapping[str, Tensor], **about: str) -> tuple[bytes, int | None]:
    """The body of an answer and how many bytes of it are JSON, None for all.

    ``outputs`` are tensors by name; ``about`` are the model's name and version.

    Raises:
        DataError: an output was asked for that is not among them.
    """
    chosen = asked.outputs or dict.fromkeys(outputs, asked.binary)
    tensors: list[dict[str, Any]] = []
    head: dict[str, Any] = {**about, "outputs": tensors}
    if asked.id is not None:
        head["id"] = asked.id
    tail = []
    for name, binary in chosen.items():
        if name not in outputs:
            raise DataError(
                f"output {name!r} was asked for, expected one of {listing(list(outputs))}: "
                "correct its name"
            )
        values = outputs[name]
        shape = (len(values),) if isinstance(values, tuple) else values.shape
        tensor: dict[str, Any] = {"name": name, "datatype": datatype(values), "shape": shape}
        if binary:
            tail.append(_packed(values))
            tensor["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            tensor["data"] = values if isinstance(values, tuple) else values.ravel()
        tensors.append(tensor)
    text: bytes = orjson().dumps(head, option=orjson().OPT_SERIALIZE_NUMPY)
    return (b"".join([text, *tail]), len(text)) if tail else (text, None)


def in_binary(inputs: Mapping[str, Tensor]) -> tuple[bytes, bytes]:
    """A request with these tensors: its JSON, and what stands behind it."""
    tails = {name: _packed(of) for name, of in inputs.items()}
    head = {"inputs": [
        {
            "name": name, "datatype": datatype(of), "shape": np.shape(of),
            "parameters": {"binary_data_size": len(tails[name])},
        }
        for name, of in inputs.items()
    ]}  # fmt: skip
    return orjson().dumps(head), b"".join(tails.values())


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``; without NaN and infinities, which JSON has not.

    Raises:
        DataError: it is none.
        MissingExtraError: orjson is not installed.
    """
    try:
        value = orjson().loads(body)
    except ValueError as error:
        text = first_line(error).partition(":")[0]
        raise DataError(
            f"the body is no JSON ({text}), expected a JSON object: correct it"
        ) from error
    if not isinstance(value, dict):
        raise DataError(
            f"the body is a JSON {type(value).__name__}, expected a JSON object: correct it"
        )
    return value


@cache
def orjson() -> Any:
    """The package, which reads a sample of 256 numbers six times as fast as Python's own."""
    try:
        import orjson
    except ImportError as error:
        raise MissingExtraError(
            "the service needs orjson, which is not installed: install skip2lora[serve]"
        ) from error
    return orjson


def datatype(values: Tensor) -> str:
    """What the protocol calls the type of a tensor."""
    return _BYTES if isinstance(values, tuple) else _NAMES[values.dtype]


def _objects(of: Mapping[str, Any], key: str) -> Sequence[dict[str, Any]]:
    """The list of objects at ``key``, empty where there is none."""
    if key not in of:
        return ()
    value = of[key]
    if not isinstance(value, list) or not set(map(type, value)) <= {dict}:
        raise DataError(f"{key} is no list of objects, expected one an entry: correct it")
    if len(value) > _MOST_TENSORS:
        raise DataError(f"{key} are {len(value)}, expected {_MOST_TENSORS} or fewer: remove some")
    return value


def _name(tensor: Mapping[str, Any], key: str) -> str:
    name = tensor.get("name")
    if not isinstance(name, str) or not name:
        raise DataError(f"one of the {key} has the name {name!r}, expected a text: add it")
    return name


def _parameters(of: Mapping[str, Any]) -> dict[str, Any]:
    parameters = of.get("parameters", {})
    if not isinstance(parameters, dict):
        raise DataError(f"parameters are {parameters!r}, expected an object: correct them")
    return parameters


def _binary(of: Mapping[str, Any], key: str) -> bool:
    """Whether an output is to be binary."""
    if "parameters" not in of:
        return False
    parameters = _parameters(of)
    if parameters.get("classification"):
        raise DataError(
            "classification was asked for, expected tensors alone: take the output answer"
        )
    value = parameters.get(key, False)
    if not isinstance(value, bool):
        raise DataError(f"{key} is {value!r}, expected true or false: correct it")
    return value


def _tensor(
    name: str, tensor: Mapping[str, Any], tail: memoryview
) -> tuple[NDArray[Any], memoryview]:
    """An input and what is left of the binary tensors."""
    kind, shape = tensor.get("datatype"), tensor.get("shape")
    if not isinstance(kind, str) or kind not in _KNOWN:
        known = listing([*DATATYPES, _BYTES])
        raise DataError(f"input {name} has datatype {kind!r}, expected one of {known}: correct it")
    if not _is_shape(shape):
        raise DataError(f"input {name} has shape {shape!r}, expected whole numbers: correct it")
    size = _parameters(tensor).get("binary_data_size")
    count = math.prod(shape)
    if size is None:
        if "data" not in tensor:
            raise DataError(f"input {name} has no data, expected {count} numbers: add them")
        return _from_json(name, kind, tensor["data"], shape), tail
    if "data" in tensor:
        raise DataError(f"input {name} has data in JSON and in binary, expected one: remove one")
    if type(size) is not int or not 0 <= size <= len(tail):
        raise DataError(
            f"input {name} has binary_data_size {size!r} of {len(tail)} bytes left, expected what "
            "it takes: correct it"
        )
    return _from_binary(name, kind, tail[:size], shape), tail[size:]


def _is_shape(shape: object) -> TypeGuard[list[int]]:
    if not isinstance(shape, list) or len(shape) > _MOST_AXES:
        return False
    for n in shape:  # noqa: SIM110, all() takes longer, for each request
        if type(n) is not int or n < 0:
            return False
    return True


def _from_json(name: str, kind: str, data: object, shape: list[int]) -> NDArray[Any]:
    """Values that were JSON, one list or lists of lists."""
    try:
        if not isinstance(data, list):
            raise TypeError("no list")
        if kind == _FLOATS:
            flat = np.empty(len(data), np.float32)
            if _core.floats(data, flat):
                return flat.reshape(shape)
        dtype = np.dtype(DATATYPES.get(kind, object))
        values = _checked(data, dtype)
        if values.ndim > 1 and list(values.shape) != shape:
            raise ValueError("another shape, such as the transposed one")
        values = values.reshape(shape)
    except (TypeError, ValueError, OverflowError) as error:  # several lengths, or too few
        raise DataError(
            f"input {name} has other data than {kind} of shape {shape}, expected as many such "
            "values as the shape says: correct it"
        ) from error
    with np.errstate(over="ignore"):  # infinite: what is asked of the model refuses it
        return values.astype(dtype)


def _checked(data: list[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Lists of any depth as an array; ValueError where a value is of another kind."""
    # Whole numbers and texts stay what they are: NumPy makes floats of large ones.
    values = np.array(data, dtype=None if dtype.kind in "fb" else object)
    if dtype.kind in "fb":
        # Flags among numbers would be 0 and 1.
        right = values.dtype.kind in _KINDS[dtype.kind] and not _mixed(data, dtype)
    elif dtype.kind == "O":
        right = all(type(each) is str for each in values.flat)
    else:
        limits = np.iinfo(dtype.name)
        right = all(type(n) is int and limits.min <= n <= limits.max for n in values.flat)
    if values.size and not right:
        raise ValueError("other values")
    return values


def numbers(data: list[Any]) -> NDArray[np.float32]:
    """Lists of numbers as one array, whose shape they tell.

    Raises:
        DataError: they have several lengths, or hold other values.
    """
    try:
        shape = list(np.shape(data))
        return _from_json("rows", "FP32", data, shape)
    except (ValueError, DataError) as error:
        raise DataError(
            "the rows are no lists of numbers of one length, expected one a sample: correct them"
        ) from error


def _mixed(data: list[Any], dtype: np.dtype[Any]) -> bool:
    """Whether true or false stands where numbers are expected."""
    kinds = set(map(type, data))
    return dtype.kind != "b" and (
        bool in kinds or (list in kinds and any(_mixed(each, dtype) for each in data))
    )


def _from_binary(name: str, kind: str, raw: memoryview, shape: list[int]) -> NDArray[Any]:
    """Values that were bytes."""
    if kind == _BYTES:
        return _texts(name, raw, shape)
    dtype = np.dtype(DATATYPES[kind])
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise DataError(
            f"input {name} has {len(raw)} bytes, expected {math.prod(shape) * dtype.itemsize} for "
            f"{kind} of shape {shape}: correct binary_data_size"
        )
    values = np.frombuffer(raw, dtype)
    if dtype.kind == "b" and np.frombuffer(raw, np.uint8).max(initial=0) > 1:
        raise DataError(f"input {name} has bytes above 1, expected BOOL: correct them")
    return values.reshape(shape)


def _texts(name: str, raw: memoryview, shape: list[int]) -> NDArray[Any]:
    """Texts, each behind its length in four bytes."""
    texts, at = [], 0
    try:
        while at < len(raw):
            (length,) = struct.unpack_from("<I", raw, at)
            text = bytes(raw[at + 4 : at + 4 + length])
            if len(text) != length:
                raise ValueError("beyond the end")
            texts.append(text.decode())
            at += 4 + length
        values = np.empty(len(texts), dtype=object)
        values[:] = texts
        return values.reshape(shape)
    except (ValueError, struct.error) as error:
        raise DataError(
            f"input {name} has other bytes than texts of shape {shape}, expected each behind its "
            "length in four bytes: correct them"
        ) from error


def _packed(values: Tensor) -> bytes:
    """The bytes of a tensor."""
    if not isinstance(values, tuple):
        return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    texts = [each.encode() for each in values]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)
