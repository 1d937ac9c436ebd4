"""ONNX files: read, checked for damage, written whole, and told apart by their content.

A flipped bit often leaves a message that still parses: :func:`fault_of` looks into it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from skip2lora.backbones.onnx.external import (
    check_external,
    external_tensors,
    names_files,
    place_of,
)
from skip2lora.backbones.streams import STREAM_KEY
from skip2lora.errors import MissingExtraError, ModelError, first_line
from skip2lora.limits import check_file

#: What one protobuf message can hold.
MOST_BYTES = (1 << 31) - 1
_ROOM_BYTES = 1 << 24  # for the graph around the weights
_CHUNK_BYTES = 1 << 24
_LARGE_BYTES = 1 << 12  # of a weight; what says of shapes is smaller
_MOST_NODES = 100_000  # or tensors; what is known has some ten thousand
_OLDEST_OPSET = 7  # the first that broadcasts as all later ones do, which taps rely on


def need_onnx(what: str) -> Any:
    """The package ``onnx``, which rewrites graphs.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import onnx
        import onnx.external_data_helper
        import onnx.inliner
    except ImportError as error:
        raise MissingExtraError(
            f"{what} needs the package onnx, which is not installed: "
            "pip install 'skip2lora[onnx]', or run `skip2lora prepare` where it is and use the "
            "file that it writes"
        ) from error
    return onnx


def check_size(path: Path) -> None:
    """Refuse what protobuf cannot hold.

    Raises:
        FileError: there is no such file, or it is over the limit of memory.
        ModelError: it is empty or too large.
    """
    size = check_file(path, "an ONNX model")
    if size > MOST_BYTES:
        raise ModelError(
            f"{path} has {size / 1e9:.2f} GB, expected at most 2 GB in one ONNX file: save it "
            "with external data (onnx.save(..., save_as_external_data=True))"
        )
    if size == 0:
        raise ModelError(f"{path} is empty, expected an ONNX model: copy or download it again")


def read_model(path: Path) -> Any:
    """The ModelProto at ``path``, or of the chain that it is; external data stays where it is.

    Raises:
        FileError: the file, or the file of its external data, is missing.
        ModelError: too large, truncated, or not an ONNX model.
    """
    check_size(path)
    onnx = need_onnx(f"reading {path.name}")
    if path.suffix == ".toml":
        from skip2lora.backbones.onnx.chain import chained, read_chain

        return chained(*read_chain(path), path, read_model)
    model = onnx.ModelProto()
    try:
        content = path.read_bytes()
        has_others = names_files(content)
        model.ParseFromString(content)
        del content
    except (ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        raise damaged(path) from error
    except Exception as error:
        if type(error).__name__ != "DecodeError":  # protobuf's own, of a package we do not name
            raise
        raise damaged(path) from error
    if not model.graph.node or not model.graph.output:
        raise damaged(path)
    _check_count(path, model)
    fault = fault_of(onnx, model)
    if fault is not None:
        raise damaged(path, fault)
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version < _OLDEST_OPSET:
            raise ModelError(
                f"{path} has opset {opset.version}, expected {_OLDEST_OPSET} or later, whose "
                "operators taps are written in, though onnxruntime may run it: convert it with "
                "onnx.version_converter"
            )
    check_external(path, model, _tensors(model) if has_others else external_tensors(model))
    return _inlined(onnx, model, path)


def _inlined(onnx: Any, model: Any, path: Path) -> Any:
    """The model with its own functions as nodes, so that the layers in them are found."""
    if not model.functions:
        return model
    n_nodes, n_bytes = _expanded(model, path)
    if n_nodes > _MOST_NODES or n_bytes > MOST_BYTES:
        raise ModelError(
            f"{path} has functions that make {n_nodes:,} nodes and {n_bytes / 1e6:,.0f} MB when "
            f"written out, expected at most {_MOST_NODES:,} and 2 GB: export it without them"
        )
    try:
        return onnx.inliner.inline_local_functions(model)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"{path} has functions that cannot be written out ({first_line(error)}), expected "
            "such as can or none: export it without them"
        ) from error


def _check_count(path: Path, model: Any) -> None:
    count = max(len(model.graph.node), len(model.graph.initializer), len(model.functions))
    if count > _MOST_NODES:
        raise ModelError(
            f"{path} has {count:,} nodes, tensors or functions, expected at most {_MOST_NODES:,}: "
            "export it with fewer, or use onnxsim"
        )


def _expanded(model: Any, path: Path) -> tuple[int, int]:
    """Nodes and bytes of a model whose functions are written out, without doing so.

    Raises:
        ModelError: functions that call each other in a circle.
    """
    functions = {(each.domain, each.name, each.overload): each for each in model.functions}
    calls = {key: Counter(_calls(each, functions)) for key, each in functions.items()}
    sizes: dict[Any, tuple[int, int]] = {}
    left, waiting = [*functions], set()
    while left:
        key = left[-1]
        inner = [each for each in calls[key] if each not in sizes]
        if key in sizes or not inner:
            sizes.setdefault(key, _size_with(functions[key], calls[key], sizes))
            left.pop()
        elif key in waiting:
            raise ModelError(
                f"{path} has functions that call each other in a circle, expected such as end: "
                "export it without them"
            )
        else:
            waiting.add(key)
            left += inner
    return _size_with(model.graph, Counter(_calls(model.graph, functions)), sizes)


def _calls(body: Any, functions: Container[Any]) -> Iterator[Any]:
    """The functions that a body calls, in its branches and loops too."""
    for message in _messages(body):
        if message.DESCRIPTOR.name == "NodeProto":
            key = (message.domain, message.op_type, message.overload)
            if key in functions:
                yield key


def _size_with(
    body: Any, calls: Mapping[Any, int], sizes: Mapping[Any, tuple[int, int]]
) -> tuple[int, int]:
    """Nodes and bytes of a body and of what it calls."""
    n_nodes, n_bytes = len(body.node), int(body.ByteSize())
    for key, count in calls.items():
        n_nodes, n_bytes = n_nodes + count * sizes[key][0], n_bytes + count * sizes[key][1]
    return n_nodes, n_bytes


def damaged(path: Path, fault: str | None = None) -> ModelError:
    """The error for a file that is no whole model."""
    reason = "" if fault is None else f" ({fault})"
    return ModelError(
        f"{path} is truncated or no ONNX model{reason}, expected a whole one: copy or export it "
        "again"
    )


def fingerprint(model: Any, folder: Path) -> str:
    """SHA-256 of what the model computes: nodes, weights, inputs, outputs, opsets.

    Names of files, dates, the producer, documentation and where weights are kept do not count.
    Node names do: layers are chosen by them; and what was said of states, which changes rows.
    """
    onnx = need_onnx("a fingerprint")
    state = hashlib.sha256()
    for opset in sorted((opset.domain, opset.version) for opset in model.opset_import):
        state.update(repr(opset).encode())
    for value in (*model.graph.input, *model.graph.output):
        state.update(_bare(value, onnx.ValueInfoProto))
    for node in model.graph.node:
        state.update(_bare(node, onnx.NodeProto))
    for function in model.functions:
        state.update(_bare(function, onnx.FunctionProto))
    for tensor in sorted(model.graph.initializer, key=lambda tensor: str(tensor.name)):
        state.update(f"\0{tensor.name}\0{tensor.data_type}\0{list(tensor.dims)}\0".encode())
        for chunk in _values(onnx, tensor, folder):
            state.update(chunk)
    for entry in model.metadata_props:
        if entry.key == STREAM_KEY:
            state.update(entry.value.encode())
    return f"sha256:{state.hexdigest()}"


def _bare(message: Any, kind: Any) -> bytes:
    copy = kind()
    copy.CopyFrom(message)
    copy.ClearField("doc_string")
    if kind.__name__ == "NodeProto":
        copy.ClearField("metadata_props")
    data: bytes = copy.SerializeToString(deterministic=True)
    return len(data).to_bytes(8, "little") + data


def _values(onnx: Any, tensor: Any, folder: Path) -> Iterator[bytes]:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        file, offset, length = place_of(folder, tensor)
        with file.open("rb") as stream:
            stream.seek(offset)
            left = file.stat().st_size - offset if length is None else length
            while left > 0:
                chunk = stream.read(min(_CHUNK_BYTES, left))
                left -= len(chunk)
                yield chunk
                if not chunk:
                    return
    elif tensor.raw_data:
        yield tensor.raw_data
    elif tensor.data_type == onnx.TensorProto.STRING:
        yield b"\0".join(tensor.string_data)
    else:
        yield onnx.numpy_helper.to_array(tensor).tobytes()


def embed(model: Any, folder: Path) -> None:
    """Take the external data of ``model`` into it.

    Raises:
        ModelError: it would be too large for one file.
    """
    onnx = need_onnx("external data")
    tensors = list(external_tensors(model))
    size = model.ByteSize() + sum(_size(folder, tensor) for tensor in tensors)
    if size > MOST_BYTES - _ROOM_BYTES:
        raise ModelError(
            f"the model has {size / 1e9:.2f} GB with its external data, expected at most 2 GB "
            "in one self-contained ONNX file: use a smaller model, or serve it with the adapter "
            "folder"
        )
    for tensor in tensors:
        onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _size(folder: Path, tensor: Any) -> int:
    file, offset, length = place_of(folder, tensor)
    return file.stat().st_size - offset if length is None else length


def model_writer(model: Any) -> Callable[[Path], object]:
    """What writes ``model`` to a path, the same bytes each time."""
    return lambda path: path.write_bytes(model.SerializeToString(deterministic=True))


def without_weights(model: Any) -> tuple[Any, dict[str, NDArray[Any]]]:
    """A copy of a model that says of its large weights where they were, and those weights.

    A session takes them as they are (:func:`~skip2lora.backbones.onnx.session.open_session`),
    which is faster than to write a message of all and to read it again.
    """
    onnx = need_onnx("opening a model")
    copy, weights = onnx.ModelProto(ir_version=model.ir_version), {}
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    copy.metadata_props.extend(model.metadata_props)
    graph = model.graph
    copy.graph.MergeFrom(
        onnx.GraphProto(
            name=graph.name, node=graph.node, input=graph.input, output=graph.output,
            value_info=graph.value_info, sparse_initializer=graph.sparse_initializer,
        )
    )  # fmt: skip
    for tensor in model.graph.initializer:
        if not _is_handed_over(onnx, tensor):
            copy.graph.initializer.append(tensor)
            continue
        weights[tensor.name] = onnx.numpy_helper.to_array(tensor)
        external = onnx.TensorProto.EXTERNAL
        place = copy.graph.initializer.add(
            name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, data_location=external
        )
        place.external_data.add(key="location", value="memory")
    return copy, weights


def _is_handed_over(onnx: Any, tensor: Any) -> bool:
    """Whether it is large, in the message, and of numbers that NumPy has."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.ByteSize() < _LARGE_BYTES:
        return False
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return kind.isbuiltin == 1 and kind.kind in "fiu" and tensor.HasField("raw_data")


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


def _tensors(model: Any) -> Iterator[Any]:
    return (each for each in _messages(model) if each.DESCRIPTOR.name == "TensorProto")


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
