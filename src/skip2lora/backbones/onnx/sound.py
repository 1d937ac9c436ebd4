"""Whether a parsed ONNX file is whole: a flipped bit often leaves a message that still parses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skip2lora.errors import first_line

_STRING, _MESSAGE = 9, 11  # FieldDescriptor.TYPE_STRING and TYPE_MESSAGE


def fault_of(onnx: Any, model: Any) -> str | None:
    """What is wrong with a ModelProto of the package ``onnx``, in a few words; None if nothing.

    Texts that are no UTF-8, and tensors whose values are not as many as their shape says: what
    would raise far from here, in the reading of a name or in the runtime.
    """
    for message in _messages(model):
        name = _broken_text(message)
        if name is not None:
            return f"{name} is no text"
        if message.DESCRIPTOR.name == "TensorProto":
            fault = _tensor_fault(onnx, message)
            if fault is not None:
                return f"tensor {message.name or '(without a name)'} {fault}"
    return None


def _messages(message: Any) -> Iterator[Any]:
    """The message and all in it."""
    yield message
    for field, value in message.ListFields():
        if field.type == _MESSAGE:
            for inner in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(inner)


def _broken_text(message: Any) -> str | None:
    """The field that protobuf gives as bytes, as they are no UTF-8."""
    for field, value in message.ListFields():
        if field.type == _STRING:
            values = [value] if isinstance(value, str | bytes) else value
            if any(isinstance(each, bytes) for each in values):
                return f"{message.DESCRIPTOR.name}.{field.name}"
    return None


def _tensor_fault(onnx: Any, tensor: Any) -> str | None:
    if any(size < 0 for size in tensor.dims):
        return f"has shape {list(tensor.dims)}"
    count = 1
    for size in tensor.dims:
        count *= size
    kinds = onnx.TensorProto.DataType
    if tensor.data_type not in kinds.values() or tensor.data_type == kinds.Value("UNDEFINED"):
        return f"has the unknown type {tensor.data_type}"
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return None
    if tensor.HasField("raw_data"):
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        if kind.isbuiltin != 1:  # packed, or of a width that NumPy does not know
            return None
        wanted, got = count * kind.itemsize, len(tensor.raw_data)
        return None if got == wanted else f"has {got} bytes, expected {wanted}"
    if tensor.data_type == onnx.TensorProto.STRING:
        got = len(tensor.string_data)
        return None if got == count else f"has {got} values, expected {count}"
    try:
        onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        return f"has values that do not fit its shape ({first_line(error)})"
    return None
