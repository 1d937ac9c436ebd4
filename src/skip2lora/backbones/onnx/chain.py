"""Several ONNX models one after the other as one: a spectrogram, an embedding, a head.

A chain is a small ``.toml``::

    samples = 12640                  # that the first one takes, where it leaves that open

    [[model]]
    path = "melspectrogram.onnx"

    [[model]]
    path = "embedding_model.onnx"
    scale = 0.1                      # what it takes is scale x what the one before gives + offset
    offset = 2.0

What one model gives is put into the shape that the next takes. Where it gives more, ``hop`` says
how far windows of it are apart, which pass the next model one by one and come out side by side.

One model alone, with a state between calls, may be told of it (docs/streaming.md)::

    samples = 576                    # that a call takes, where it leaves that open

    [[model]]
    path = "vad.onnx"

    [stream]
    states = { h = "hn", c = "cn" }  # where names do not tell
    calls = "mean"                   # or "last"
    hop = 512                        # what is new of a call, where it takes some again
    constants = { sr = 16000 }       # inputs that are numbers
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skip2lora.backbones.onnx.file import embed, model_writer, need_onnx, read_model
from skip2lora.backbones.onnx.metadata import samples_of, say, say_of_ends
from skip2lora.backbones.onnx.states import checked_stream, say_states
from skip2lora.backbones.onnx.tapped import CHAIN_KEY, entries_of, said_in, strip
from skip2lora.backbones.onnx.windows import Windows, windows_of
from skip2lora.backbones.said import Said
from skip2lora.errors import ModelError, ParameterError, first_line, warn
from skip2lora.files import unreadable, write_file

_MOST_TEXT = 1 << 20  # bytes of a chain
_MOST_SAMPLES = 1 << 31
_IR_VERSION = 8
_SMALLEST, _LARGEST = (
    float(size) for size in (np.finfo(np.float32).tiny, np.finfo(np.float32).max)
)


@dataclass(frozen=True)
class Part:
    """One model of a chain: ``file``, and what becomes of its input before it."""

    file: Path
    scale: float = 1.0
    offset: float = 0.0
    hop: int | None = None


def chain(
    models: Sequence[str | os.PathLike[str] | Mapping[str, Any]],
    out: str | os.PathLike[str],
    *,
    samples: int | None = None,
    stream: Mapping[str, Any] | None = None,
) -> None:
    """Write ``models``, which run one after the other, as one self-contained ONNX file.

    Each is a path, or what a ``[[model]]`` of a ``.toml`` says: path, scale, offset, hop.
    ``samples`` is how many numbers of a sample the first one takes, where it leaves that open.
    ``stream`` is what ``[stream]`` says of one model with states: states, calls, hop, constants.
    What no window takes, behind the last one, is warned of, as it is when the file is loaded.

    Raises:
        ParameterError: an entry that a ``.toml`` cannot have.
        FileError: a file cannot be read, or ``out`` not be written.
        ModelError: they do not fit together.
    """
    given = [each if isinstance(each, Mapping) else {"path": os.fspath(each)} for each in models]
    try:
        if not given or not (samples is None or _is_count(samples)):
            raise ValueError(f"samples {samples}" if given else "no models")
        parts = [_part(Path(), entry) for entry in given]
        stream = checked_stream(stream, len(parts))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ParameterError(
            f"models cannot be chained ({first_line(error)}), expected paths or path, scale, "
            "offset and hop of each, and a number of samples: correct them"
        ) from error
    from skip2lora.backbones.onnx.session import open_session

    model = chained(parts, samples, stream, Path(out), read_model)
    open_session(model.SerializeToString(), path=Path(out))  # what does not run is not written
    write_file(out, model_writer(model))
    for entry in model.metadata_props:
        if entry.key == CHAIN_KEY:
            warn(f"{out}: {entry.value}")


def read_chain(path: Path) -> tuple[list[Part], int | None, dict[str, Any] | None]:
    """The models that a ``.toml`` names, beside it, how many samples the first takes, its states.

    Raises:
        FileError: it cannot be read.
        ModelError: it is no chain.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_TEXT + 1)
        if len(content) > _MOST_TEXT:
            raise ValueError(f"over {_MOST_TEXT} bytes")
        said = tomllib.loads(content.decode())
        parts = [_part(path.parent, entry) for entry in said.pop("model")]
        samples, stream = said.pop("samples", None), said.pop("stream", None)
        stream = checked_stream(stream, len(parts))
        if said or not parts or not (samples is None or _is_count(samples)):
            raise ValueError(f"{', '.join(said) or f'samples {samples}'}")
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            f"{path} is no chain of models ({first_line(error)}), expected [[model]] with a path "
            "each, samples, and [stream] of one alone: correct it"
        ) from error
    return parts, samples, stream


def _part(folder: Path, entry: Mapping[str, Any]) -> Part:
    unknown = set(entry) - {"path", "scale", "offset", "hop"}
    unknown |= {"path"} if Path(str(entry["path"])).suffix == ".toml" else set()  # or without end
    scale, offset = float(entry.get("scale", 1.0)), float(entry.get("offset", 0.0))
    hop = entry.get("hop")
    wrong = not abs(offset) <= _LARGEST or not _SMALLEST <= abs(scale) <= _LARGEST  # nor is NaN
    if unknown or wrong or not (hop is None or _is_count(hop)):
        raise ValueError(f"model {dict(entry)}")
    return Part(folder / str(entry["path"]), scale, offset, hop)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST_SAMPLES


def chained(
    parts: Sequence[Part],
    samples: int | None,
    stream: Mapping[str, Any] | None,
    path: Path,
    read: Any,
) -> Any:
    """The models as one ModelProto; ``read`` reads each file, ``path`` stands in messages.

    Raises:
        FileError: one of them cannot be read.
        ModelError: one has several inputs or outputs, or does not fit the one before.
    """
    onnx = need_onnx(f"chaining the models of {path.name}")
    if parts[0] != Part(parts[0].file):
        raise ModelError(
            f"{path}: its first model has nothing before it, expected scale, offset and hop "
            "of later ones alone: leave them out there"
        )
    whole: Any = None
    entries: list[dict[str, str]] = []
    for number, part in enumerate(parts):
        model = read(part.file)
        embed(model, part.file.parent)
        if stream is not None:
            data = say_states(onnx, model, stream, part.file)
            _fix_samples(model, samples, part.file, Said(), data)
            return model
        _check_alone(model, part.file)
        strip(model)
        entries.append(entries_of(model))
        said = said_in(entries[-1], part.file)
        model = _prefixed(onnx, model, f"{number}.")
        if whole is None:
            _fix_samples(model, samples, part.file, said)
            whole = model
            continue
        whole, left_out = _joined(onnx, whole, model, part, path)
        for what in filter(None, (left_out, entries[-1].get(CHAIN_KEY))):
            say(whole, what)
    say_of_ends(whole, entries[0], entries[-1], f"{len(parts) - 1}.", path)
    whole.ir_version = max(whole.ir_version, _IR_VERSION)
    return whole


def _check_alone(model: Any, file: Path) -> None:
    initialised = {tensor.name for tensor in model.graph.initializer}
    n_inputs = sum(value.name not in initialised for value in model.graph.input)
    if n_inputs != 1:
        raise ModelError(
            f"{file} has {n_inputs} inputs, expected one in a chain: use a model of one input"
        )


def _prefixed(onnx: Any, model: Any, prefix: str) -> Any:
    """The model whose tensors have names of their own."""
    return onnx.compose.add_prefix(model, prefix)


def _fix_samples(
    model: Any, samples: int | None, file: Path, said: Said, given: Any = None
) -> None:
    """Let the first model take so many samples, of its input ``given``, or as many as are said."""
    dims = list((given or _input(model)).type.tensor_type.shape.dim)[1:]
    open_ones = [dim for dim in dims if not dim.dim_value]
    known = [dim.dim_value for dim in dims]
    of_file = samples_of(said, [size for size in known if size])
    samples = of_file if samples is None and len(open_ones) == 1 else samples
    if samples is None:
        if open_ones:
            raise ModelError(
                f"{file} leaves open how many samples it takes, expected samples = NUMBER in the "
                "chain: add it"
            )
        return
    if len(open_ones) != 1:
        if not open_ones and math.prod(known) == samples:
            return
        raise ModelError(
            f"{file} takes {known} of a sample, expected one axis that is open for samples = "
            f"{samples}: leave samples out"
        )
    if of_file not in (None, samples):
        raise ModelError(
            f"{file} says that it learned from {of_file:,} of a sample, the chain has samples = "
            f"{samples}, expected the same: leave samples out"
        )
    open_ones[0].dim_value = samples


def _input(model: Any) -> Any:
    initialised = {tensor.name for tensor in model.graph.initializer}
    return next(value for value in model.graph.input if value.name not in initialised)


def _joined(onnx: Any, whole: Any, model: Any, part: Part, path: Path) -> tuple[Any, str]:
    """``model`` behind ``whole``, whose first output it reads; what no window of that takes."""
    output, given = whole.graph.output[0].name, _input(model)
    shape = [dim.dim_value for dim in given.type.tensor_type.shape.dim][1:]
    if 0 in shape:
        raise ModelError(
            f"{part.file} leaves {shape} of its input open, expected fixed sizes in a chain: fix "
            "them when exporting it"
        )
    before = _shape_of(whole, path)
    version = _same_opset(onnx, whole, model, part.file)
    nodes, constants, windows = _between(onnx, output, given.name, before, shape, part, path)
    del whole.graph.output[:]
    inputs = [value for value in model.graph.input if value.name != given.name]
    whole.graph.node.extend([*nodes, *model.graph.node])
    whole.graph.initializer.extend([*constants, *model.graph.initializer])
    whole.graph.sparse_initializer.extend(model.graph.sparse_initializer)
    whole.graph.input.extend(inputs)
    whole.graph.output.extend(model.graph.output)
    domains = {each.domain for each in whole.opset_import}
    whole.opset_import.extend(e for e in model.opset_import if e.domain not in domains)
    for opset in whole.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = version
    if windows is None:
        return whole, ""
    if windows.count > 1:
        _beside(onnx, whole, windows.count)
    return whole, windows.left_out(part.file.name)


def _same_opset(onnx: Any, whole: Any, model: Any, file: Path) -> int:
    """The opset of both; the one that is older is converted.

    Raises:
        ModelError: it cannot be.
    """
    versions = [
        next((e.version for e in each.opset_import if e.domain in ("", "ai.onnx")), 1)
        for each in (whole, model)
    ]
    version = max(versions)
    for each, own in zip((whole, model), versions, strict=True):
        if own != version:
            try:
                each.CopyFrom(onnx.version_converter.convert_version(each, version))
            except (RuntimeError, ValueError) as error:
                raise ModelError(
                    f"{file} and the models before it have opsets {versions}, expected the same, "
                    f"and they cannot be converted ({first_line(error)}): export them alike"
                ) from error
    return version


def _shape_of(whole: Any, path: Path) -> list[int]:
    """What the models so far give of one sample, without the axis of samples.

    Raises:
        ModelError: they do not run.
    """
    from skip2lora.backbones.onnx.session import open_session

    session = open_session(whole.SerializeToString(), path=path)
    value = _input(whole)
    sizes = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
    kind = session.get_inputs()[0].type
    zeros = np.zeros(sizes, np.float32 if "float" in kind else np.int64)
    try:
        (first, *_) = session.run(None, {value.name: zeros})
    except Exception as error:  # of onnxruntime, whose own it are
        if type(error).__module__.partition(".")[0] != "onnxruntime":
            raise
        raise ModelError(
            f"{path}: its models do not run one after the other ({first_line(error)}), expected "
            "such as do: correct samples or their order"
        ) from error
    return list(first.shape)[1:]


def _between(
    onnx: Any, output: str, given: str, before: Sequence[int], shape: Sequence[int], part: Part,
    path: Path,
) -> tuple[list[Any], list[Any], Windows | None]:  # fmt: skip
    """Nodes and constants from ``output`` to ``given``, and the windows of it, if it is cut."""
    nodes: list[Any] = []
    constants: list[Any] = []

    def node(kind: str, source: str, values: Any, dtype: Any, **attributes: Any) -> str:
        number = len(nodes)
        names = [source]
        if values is not None:
            name = f"{given}.{kind.lower()}.{number}.by"
            constants.append(onnx.numpy_helper.from_array(np.asarray(values, dtype), name))
            names.append(name)
        result = f"{given}.{kind.lower()}.{number}"
        nodes.append(onnx.helper.make_node(kind, names, [result], **attributes))
        return result

    tensor, windows = output, None
    if part.scale != 1.0:
        tensor = node("Mul", tensor, part.scale, np.float32)
    if part.offset != 0.0:
        tensor = node("Add", tensor, part.offset, np.float32)
    axes = [[size for size in each if size != 1] for each in (before, shape)]
    # Axes that would only be taken for others are refused; one alone holds all, in their order.
    if math.prod(before) != math.prod(shape) or (axes[0] != axes[1] and min(map(len, axes)) > 1):
        windows = windows_of(before, shape, part.hop, f"{path}: {part.file.name}")
        axis = windows.axis
        starts = np.arange(windows.count)[:, None] * windows.hop + np.arange(windows.width)
        tensor = node("Gather", tensor, starts, np.int64, axis=axis + 1)
        # (samples, before the axis, windows, width, behind it): windows stand behind samples.
        order = [0, axis + 1, *range(1, axis + 1), *range(axis + 2, len(before) + 2)]
        nodes.append(onnx.helper.make_node("Transpose", [tensor], [f"{given}.turned"], perm=order))
        tensor = f"{given}.turned"
    to = f"{given}.shape"
    constants.append(onnx.numpy_helper.from_array(np.array([-1, *shape], np.int64), to))
    nodes.append(onnx.helper.make_node("Reshape", [tensor, to], [given]))
    return nodes, constants, windows


def _beside(onnx: Any, whole: Any, n_windows: int) -> None:
    """Let what windows of one sample give stand side by side: (samples, windows x ...)."""
    value = whole.graph.output[0]
    old = value.name
    sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:]
    shape = [-1, n_windows, *(size for size in sizes if size != 1)]
    to = onnx.numpy_helper.from_array(np.array(shape, np.int64), f"{old}.windows.shape")
    whole.graph.initializer.append(to)
    whole.graph.node.append(onnx.helper.make_node("Reshape", [old, to.name], [f"{old}.windows"]))
    kind = value.type.tensor_type.elem_type
    del whole.graph.output[:]
    whole.graph.output.append(
        onnx.helper.make_tensor_value_info(f"{old}.windows", kind, [None, *shape[1:]])
    )
