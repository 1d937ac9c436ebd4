"""Reads and writes named float32 tensors with a description, as ``.safetensors``.

The description is one JSON object under the metadata key ``skip2lora``: a single key, because the
format keeps several in no fixed order, and equal content must give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.errors import FileError, ModelError, first_line
from skip2lora.files import unreadable

Tensors = dict[str, NDArray[np.float32]]
_KEY = "skip2lora"
_DIGEST = "sha256"  # of the tensors and the rest of the description


def canonical(description: Mapping[str, Any]) -> str:
    """The one spelling of a description as JSON."""
    return json.dumps(description, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(tensors: Mapping[str, NDArray[np.float32]], description: Mapping[str, Any]) -> str:
    """SHA-256 of names, shapes, values and description, as ``sha256:<hex>``."""
    state = hashlib.sha256(canonical(description).encode())
    for name in sorted(tensors):
        array = tensors[name]
        state.update(f"\0{name}\0{array.shape}\0".encode())
        state.update(np.ascontiguousarray(array, "<f4").tobytes())
    return f"sha256:{state.hexdigest()}"


def to_bytes(tensors: Mapping[str, NDArray[np.float32]], description: Mapping[str, Any]) -> bytes:
    """A ``.safetensors`` file, with the digest of its content."""
    from safetensors.numpy import save

    return save(
        {name: np.ascontiguousarray(array) for name, array in tensors.items()},
        metadata={_KEY: canonical({**description, _DIGEST: digest(tensors, description)})},
    )


def read_tensors(path: str | os.PathLike[str], *, kind: str) -> tuple[Tensors, dict[str, Any]]:
    """Read a file that :func:`to_bytes` gave, with ``description["kind"] == kind``.

    Raises:
        FileError: missing or unreadable file.
        ModelError: truncated, written by another program, or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(path)
    if not file.is_file():
        raise FileError(
            f"{file} is not a file, expected a {kind} written by skip2lora: check the path"
        )
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{file} is not a readable .safetensors file ({first_line(error)}), "
            f"expected a {kind} written by skip2lora: copy it again"
        ) from error
    except OSError as error:
        raise unreadable(file, error) from error
    description = _description(file, metadata.get(_KEY), kind)
    for name, array in tensors.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise ModelError(
                f"{file}: tensor {name} is {array.dtype} or holds NaN, expected finite float32: "
                "make the file again"
            )
    if description.pop(_DIGEST, None) != digest(tensors, description):
        raise ModelError(
            f"{file} was changed, expected it as written, its content does not match its digest: "
            "copy it again"
        )
    return tensors, description


def _description(file: Path, text: str | None, kind: str) -> dict[str, Any]:
    try:
        description = json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        description = None
    if not isinstance(description, dict):
        raise ModelError(
            f"{file} was not written by skip2lora, expected a {kind} of it: check the path"
        )
    if description.get("kind") != kind:
        raise ModelError(
            f"{file} is a {description.get('kind')}, expected a {kind}: check the path"
        )
    if description.get("version") != 1:
        raise ModelError(
            f"{file} has format version {description.get('version')}, this program reads version "
            "1: update skip2lora"
        )
    return description


def take(
    file: str | os.PathLike[str], tensors: Tensors, name: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """The tensor of that name, taken out of ``tensors``, with its shape checked.

    Raises:
        ModelError: it is missing or has another shape.
    """
    if name not in tensors:
        raise ModelError(f"{file}: tensor {name} is missing, expected shape {shape}: copy it again")
    array = tensors.pop(name)
    if array.shape != shape:
        raise ModelError(
            f"{file}: tensor {name} has shape {array.shape}, expected {shape}: was it made for "
            "another model?"
        )
    return array
