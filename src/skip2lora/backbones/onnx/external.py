"""Values of an ONNX model that lie in other files: found in every tensor, held to its folder.

A runtime reads whatever file a tensor names, and makes weights of it. So the place is checked here,
whatever the runtime checks: it is a regular file in the folder of the model, links followed. Where
the standard puts weights, among the initializers, other files may hold them; nowhere else.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from skip2lora.errors import FileError, ModelError, brief, first_line
from skip2lora.limits import check_bytes, shortened

_EXTERNAL = 1  # TensorProto.EXTERNAL
_NUMBER = re.compile(r"[0-9]{1,18}")
# By this name onnxruntime finds values in its own memory, at the address that the offset says.
_MEMORY = "_ORT_MEM_ADDR_"
# What stands before the key of an entry of external_data, as protobuf writes it, in any spelling of
# its numbers, which have at most ten bytes each.
_KEY, _BEFORE, _MOST_BEFORE = b"location", re.compile(rb"(\n|\x8a\x80*\0)(\x08|\x88\x80*\0)\Z"), 20


def external_tensors(model: Any) -> Iterator[Any]:
    """The initializers whose values lie in another file."""
    return (tensor for tensor in model.graph.initializer if tensor.data_location == _EXTERNAL)


def check_external(path: Path, model: Any, tensors: Iterable[Any]) -> None:
    """Check where values lie, of all ``tensors`` that are anywhere in ``model``.

    Raises:
        FileError: a file is missing, or they are over the limit of memory.
        ModelError: one lies outside the folder or in a tensor that is no initializer of the graph,
            its place is no number, or its file is shorter.
    """
    places = [tensor for tensor in tensors if tensor.data_location == _EXTERNAL]
    of_graph = list(external_tensors(model))
    n_bytes = sum(_check(path, tensor) for tensor in of_graph)
    if len(places) > len(of_graph):
        names = {tensor.name for tensor in of_graph}
        elsewhere = [tensor for tensor in places if tensor.name not in names] or places
        raise ModelError(
            f"{path}: tensor {elsewhere[0].name or '(without a name)'} keeps its values in another "
            "file, expected that of initializers alone, as they are what a model is told apart by: "
            "save it in one file"
        )
    check_bytes(path, n_bytes)


def place_of(folder: Path, tensor: Any) -> tuple[Path, int, int | None]:
    """File, first byte and number of bytes of an external tensor.

    Raises:
        ValueError: they are said twice, or are no numbers.
    """
    entries: dict[str, str] = {}
    for entry in tensor.external_data:
        if entry.key in entries:
            raise ValueError(f"its {entry.key} is said twice")
        entries[entry.key] = entry.value
    numbers = {key: entries[key] for key in ("offset", "length") if key in entries}
    for key, value in numbers.items():
        if not _NUMBER.fullmatch(value):
            raise ValueError(f"its {key} is {brief(value)!r}, no number of bytes")
    length = numbers.get("length")
    file = folder / entries.get("location", "")
    return file, int(numbers.get("offset", 0)), None if length is None else int(length)


def _check(path: Path, tensor: Any) -> int:
    """Check one, and give its bytes."""
    try:
        file, offset, length = place_of(path.parent, tensor)
        is_inside = path.parent.resolve() in file.resolve().parents and _MEMORY not in file.parts
        is_file = is_inside and file.is_file()
        size = file.stat().st_size if is_file else 0
    except (OSError, RuntimeError, ValueError) as error:  # too long, links in a circle, NUL
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise ModelError(
            f"{path}: tensor {tensor.name} lies at no place that can be read ({reason}), expected "
            "a file beside the model: save the model again"
        ) from error
    if not is_inside:
        raise ModelError(
            f"{path}: tensor {tensor.name} lies outside its folder, at {shortened(file)}, expected "
            "beside the model: move it there and save the model again"
        )
    if not is_file:
        raise FileError(
            f"{path} keeps its weights in {file.name}, which is not beside it as expected: copy "
            "both files"
        )
    if size < offset + (length or 0):
        raise ModelError(f"{file} is truncated, {path.name} expects more of it: copy it again")
    return size - offset if length is None else length


def names_files(content: bytes | mmap.mmap) -> bool:
    """Whether a tensor in a file says that its values are in another, as far as bytes tell."""
    at = content.find(_KEY)
    while at >= 0:  # the expression alone takes a second for 100 MB
        if _BEFORE.search(content[max(0, at - _MOST_BEFORE) : at]):
            return True
        at = content.find(_KEY, at + 1)
    return False


def check_sealed(path: Path) -> None:
    """Refuse a file that names others, where there is no package ``onnx`` to look into it.

    Raises:
        ModelError: it does.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if names_files(data):
            raise ModelError(
                f"{path} keeps values in other files, which cannot be checked without the package "
                "onnx, expected all in one as `skip2lora prepare` writes it: prepare it again, or "
                "pip install 'skip2lora[onnx]'"
            )
