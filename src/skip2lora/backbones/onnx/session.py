"""Sessions of ONNX Runtime, which is imported here alone."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.backbones.inputs import InputSpec
from skip2lora.errors import DataError, FileError, MissingExtraError, ModelError, first_line

try:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as _state
except ImportError as error:
    raise MissingExtraError(
        "onnxruntime is not installed, a model as .onnx needs it: pip install 'skip2lora[onnx]'"
    ) from error

#: What computes rows, whose bits another version may change.
RUNTIME = f"onnxruntime {onnxruntime.__version__}"
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
_QUIET = 4  # what is fatal: what fails is raised, with its reason
_TYPES = {"float": "float32", "double": "float64"}
_MOST_SAMPLES = 64  # in one run
_MOST_FLOATS = 1 << 21  # of the largest tap, in one run
_EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"


def open_session(
    model: bytes | Path,
    *,
    folder: Path | None = None,
    threads: int = 1,
    path: Path | None = None,
    optimised: bool = True,
    weights: Mapping[str, NDArray[Any]] | None = None,
) -> Any:
    """A session on the CPU; ``folder`` holds the external data of a ``model`` given as bytes.

    ``path`` is the file that such a one was read from, for messages. One that is not ``optimised``
    opens faster, for a few runs. ``weights`` are values that the bytes do not have, by name.

    Raises:
        ModelError: onnxruntime cannot run it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if folder is not None:
        options.add_session_config_entry(_EXTERNAL_FOLDER, os.fspath(folder.absolute()))
    source = os.fspath(model) if isinstance(model, Path) else model
    arrays = weights or {}
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(each) for each in arrays.values()]
    try:
        if values:
            options.add_external_initializers(list(arrays), values)
        session = onnxruntime.InferenceSession(source, options, ["CPUExecutionProvider"])
        session.weights = values  # it may read them where they are
        return session
    except RUNTIME_ERRORS as error:
        file = model if isinstance(model, Path) else path
        named = "" if file is None else f"{file}: "
        wanted, instead = _expected(str(error))
        raise ModelError(
            f"{named}onnxruntime {onnxruntime.__version__} cannot run the model: "
            f"{reason_of(error)}, expected {wanted}: use {instead}"
        ) from error


@dataclass(frozen=True, eq=False)
class Session:
    """A model that is opened when it first runs, over any number of samples.

    ``inputs`` are what a sample consists of. ``batch`` is the number of samples that the model was
    fixed to, None where any will do; ``axes`` are the axes of the samples where not the first.
    """

    opener: Callable[[], Any] = field(repr=False)
    inputs: tuple[InputSpec, ...]
    batch: int | None
    axes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, runtime: Any, axes: Mapping[str, int]) -> Session:
        """Of an opened model, with the samples along ``axes`` of its inputs, the first of others.

        Raises:
            ModelError: an input that is none of samples.
        """
        return cls(lambda: runtime, specs_of(runtime, axes), fixed_batch(runtime, axes), axes)

    @cached_property
    def runtime(self) -> Any:
        """The session of onnxruntime.

        Raises:
            ModelError: as :func:`open_session`.
        """
        return self.opener()

    def run(
        self, arrays: Mapping[str, NDArray[Any]], wanted: Sequence[str], largest_tap: int
    ) -> list[NDArray[np.float32]]:
        """The ``wanted`` outputs for all samples; one sample of the largest has so many floats.

        Raises:
            DataError: onnxruntime refuses the values, such as a token beyond the vocabulary.
        """
        widths: list[int] = [math.prod(array.shape[1:]) for array in arrays.values()]
        fitting = max(1, min(_MOST_SAMPLES, _MOST_FLOATS // max(*widths, largest_tap)))
        size, n_samples = self.batch or fitting, len(next(iter(arrays.values())))
        outputs: list[list[NDArray[np.float32]]] = [[] for _ in wanted]
        for at in range(0, n_samples, size):
            feed = {name: array[at : at + size] for name, array in arrays.items()}
            count = min(size, n_samples - at)
            if self.batch and count < size:
                feed = {name: _filled_up(part, size) for name, part in feed.items()}
            placed = {name: _moved(part, self.axes.get(name, 0)) for name, part in feed.items()}
            try:
                rows = self.runtime.run(wanted, placed, run_options())
            except RUNTIME_ERRORS as error:
                raise DataError(
                    f"the model refused the samples ({reason_of(error)}), expected such as it was "
                    "made for: are their values right?"
                ) from error
            for parts, name, array in zip(outputs, wanted, rows, strict=True):
                if name in self.axes:
                    array = np.moveaxis(array, self.axes[name], 0)
                parts.append(array[:count] if len(array) == self.batch else array)
        return [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in outputs]


def _moved(samples: NDArray[Any], axis: int) -> NDArray[Any]:
    """The samples along another axis."""
    return np.ascontiguousarray(np.moveaxis(samples, 0, axis)) if axis else samples


def _filled_up(samples: NDArray[Any], n_samples: int) -> NDArray[Any]:
    """So many samples, the last one repeated."""
    return np.concatenate([samples, np.repeat(samples[-1:], n_samples - len(samples), axis=0)])


def run_options() -> Any:
    """Options that leave out what no wanted output depends on."""
    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True
    options.log_severity_level = _QUIET
    return options


def adapter_writer(
    tensors: Mapping[str, NDArray[np.float32]], *, model_version: int = 1
) -> Callable[[Path], object]:
    """What writes tensors to a path in the AdapterFormat of onnxruntime, for a model of a version.

    ``model_version`` has at most 31 bits. It raises FileError for a path that is no text.
    """

    def write(path: Path) -> None:
        try:
            os.fspath(path).encode()
        except UnicodeEncodeError as error:
            raise FileError(
                f"cannot write {path.name!a}: onnxruntime takes paths of text "
                "alone, expected names in UTF-8: choose others"
            ) from error
        adapter = onnxruntime.AdapterFormat()
        adapter.set_adapter_version(1)
        adapter.set_model_version(model_version)
        values = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
            for name, array in tensors.items()
        }
        adapter.set_parameters(values)
        adapter.export_adapter(os.fspath(path))

    return write


#: Words of a reason of onnxruntime, what was expected, and what to use instead.
_EXPECTED = {
    "is not a registered function/op": ("its own operators", "an export without that one"),
    "No Op registered for": ("operators of the opset that it says", "a new export"),
    "Could not find an implementation": (
        "types that it computes with on the CPU", "an export in float32"
    ),
    "Opset": ("an opset that it knows", "a newer onnxruntime or an older opset"),
    "IR version": ("a version that it knows", "a newer onnxruntime or a lower ir_version"),
    "is not currently registered": ("numbers that it computes with", "an export in float32"),
    "Type Error": ("numbers that the operator takes", "an export in float32"),
}  # fmt: skip


def _expected(reason: str) -> tuple[str, str]:
    known = (expected for words, expected in _EXPECTED.items() if words in reason)
    return next(known, ("a whole file of a known opset", "a new export"))


_SOURCE = re.compile(r"\S*onnxruntime_src/\S+ .*?\) (?=[A-Z]\w+ [\w*])")


def reason_of(error: Exception) -> str:
    """The reason of an error of onnxruntime, without its code and the place in its sources."""
    text = _SOURCE.sub("", str(error).rpartition("[ONNXRuntimeError] : ")[2])
    start = text.partition(" and support for this is limited")[0]
    return first_line(RuntimeError(start)).rstrip(".")


def specs_of(session: Any, axes: Mapping[str, int]) -> tuple[InputSpec, ...]:
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
        sizes = [size if isinstance(size, int) and size > 0 else None for size in value.shape]
        del sizes[axes.get(value.name, 0)]
        specs.append(InputSpec(value.name, tuple(sizes), dtype_of(value)))
    return tuple(specs)


def fixed_batch(session: Any, axes: Mapping[str, int]) -> int | None:
    """The number of samples that the model was fixed to, None where any will do."""
    sizes = {value.shape[axes.get(value.name, 0)] for value in session.get_inputs()}
    fixed = [size for size in sizes if isinstance(size, int) and size > 0]
    return max(fixed, default=None)


def dtype_of(value: Any) -> str:
    """The NumPy name of a value's type."""
    name = value.type.removeprefix("tensor(").removesuffix(")")
    return str(np.dtype(_TYPES.get(name, name)))
