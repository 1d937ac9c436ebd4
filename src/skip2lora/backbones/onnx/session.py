"""Sessions of ONNX Runtime, which is imported here alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.backbones.inputs import InputSpec
from skip2lora.errors import MissingExtraError, ModelError, first_line
from skip2lora.files import write_file

try:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as _state
except ImportError as error:
    raise MissingExtraError(
        "onnxruntime is not installed, a model as .onnx needs it: pip install 'skip2lora[onnx]'"
    ) from error

#: What onnxruntime raises, whose classes have no base of their own; the last where its reason
#: quotes a broken name.
RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    *(
        kind
        for kind in vars(_state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
    UnicodeDecodeError,
)
_QUIET = 3  # errors alone: an optimised graph warns of what is none of the user's business
_TYPES = {"float": "float32", "double": "float64"}
_EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"


def open_session(model: bytes | Path, *, folder: Path | None = None, threads: int = 1) -> Any:
    """A session on the CPU; ``folder`` holds the external data of a ``model`` given as bytes.

    Raises:
        ModelError: onnxruntime cannot run it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    if folder is not None:
        options.add_session_config_entry(_EXTERNAL_FOLDER, os.fspath(folder.absolute()))
    source = os.fspath(model) if isinstance(model, Path) else model
    try:
        return onnxruntime.InferenceSession(source, options, ["CPUExecutionProvider"])
    except RUNTIME_ERRORS as error:
        named = f"{model}: " if isinstance(model, Path) else ""
        raise ModelError(
            f"{named}onnxruntime {onnxruntime.__version__} cannot run the model: "
            f"{reason_of(error)}, expected a whole file of a known opset: is it?"
        ) from error


def run_options() -> Any:
    """Options that leave out what no wanted output depends on."""
    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True
    options.log_severity_level = _QUIET + 1  # what fails is raised, with its reason
    return options


def export_adapter(tensors: Mapping[str, NDArray[np.float32]], out: str | os.PathLike[str]) -> None:
    """Write tensors in the AdapterFormat of onnxruntime, whole or not at all.

    Raises:
        FileError: the system refused.
    """
    adapter = onnxruntime.AdapterFormat()
    adapter.set_adapter_version(1)
    adapter.set_model_version(1)
    values = {
        name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
        for name, array in tensors.items()
    }
    adapter.set_parameters(values)
    write_file(out, lambda temporary: adapter.export_adapter(os.fspath(temporary)))


def reason_of(error: Exception) -> str:
    """The reason of an error of onnxruntime, without its code and the place in its sources."""
    return first_line(error).rpartition("[ONNXRuntimeError] : ")[2]


def specs_of(session: Any) -> tuple[InputSpec, ...]:
    """The inputs of a session, without the axis of the samples.

    Raises:
        ModelError: an input without such an axis, or of a type that is no number.
    """
    specs = []
    for value in session.get_inputs():
        if not value.type.startswith("tensor(") or "string" in value.type:
            raise ModelError(
                f"input {value.name} is {value.type}, expected numbers: export the model without "
                "the part that reads them"
            )
        if not value.shape:
            raise ModelError(
                f"input {value.name} is one number for all samples, expected an axis of samples: "
                "fix it to a constant when exporting the model"
            )
        shape = tuple(
            size if isinstance(size, int) and size > 0 else None for size in value.shape[1:]
        )
        specs.append(InputSpec(value.name, shape, dtype_of(value)))
    return tuple(specs)


def fixed_batch(session: Any) -> int | None:
    """The number of samples that the model was fixed to, None where any will do."""
    sizes = {value.shape[0] for value in session.get_inputs()}
    fixed = [size for size in sizes if isinstance(size, int) and size > 0]
    return max(fixed, default=None)


def dtype_of(value: Any) -> str:
    """The NumPy name of a value's type."""
    name = value.type.removeprefix("tensor(").removesuffix(")")
    return str(np.dtype(_TYPES.get(name, name)))
