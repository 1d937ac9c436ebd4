"""An adapted model as one ONNX file: base, taps, pooling and adapters inside.

The adapters' sum is added to the base logits, before the last activation; inputs and outputs are
those of the base. Where the base has no logits, or they are left out or taken for another task (a
stand-in), the sum is an output of its own behind those of the base, without what these say of
classes. The hidden values of all taps stand side by side, so
that one product with all ``lora_b`` ends it (Eq. 17).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapters.adapters import Result, SkipAdapters
from skip2lora.arrays import SamplesLike
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.onnx.anatomy import Source
from skip2lora.backbones.onnx.file import model_writer
from skip2lora.backbones.onnx.graph import Graph
from skip2lora.backbones.onnx.rows import (
    Builder,
    Pooled,
    add_logits,
    add_pooled,
    add_tap,
    last_first,
)
from skip2lora.backbones.onnx.session import adapter_writer
from skip2lora.backbones.onnx.tapped import SAID_PREFIX
from skip2lora.backbones.said import OF_OUTPUTS
from skip2lora.errors import ModelError, ParameterError
from skip2lora.export.check import check_export
from skip2lora.export.onnx_base import Base, read_base
from skip2lora.export.onnx_derived import add_derived
from skip2lora.export.onnx_head import (
    columns_of,
    fold_last,
    pad,
    plug_logits,
)
from skip2lora.export.onnx_labels import deciding_outputs, go_by_thresholds
from skip2lora.files import check_output, write_file, write_together
from skip2lora.tasks.thresholds import Thresholds

#: What the output of adapters is called where the base has no logits, or they are left out; the
#: second where the base has a tensor of the first name.
NEW_OUTPUTS = ("logits", "adapted_logits")
ADAPTER_SUFFIX = ".onnx_adapter"
_PREFIX = "skip2lora_adapter."  # not that of taps: what is exported is a model like any other


@dataclass(frozen=True, eq=False)
class _Parts:
    """Adapters as a graph holds them: ``a[k]`` (rank, width), ``b`` (taps x rank, n_outputs).

    For one sample the runtime multiplies from the left, with its vectors along the width, several
    times faster than by a matrix of few columns.
    """

    a: tuple[NDArray[np.float32], ...]
    b: NDArray[np.float32]
    bias: NDArray[np.float32]

    @classmethod
    def of(cls, adapters: SkipAdapters) -> _Parts:
        lora_b = np.concatenate(adapters.lora_b, axis=0)
        bias = adapters.bias
        if bias is None:
            bias = np.zeros(adapters.n_outputs, np.float32)
        return cls(tuple(np.ascontiguousarray(a.T) for a in adapters.lora_a), lora_b, bias)

    def named(self) -> dict[str, NDArray[np.float32]]:
        """Every tensor by its name in the graph, without the prefix."""
        tensors = {f"lora_a.{number}": array for number, array in enumerate(self.a)}
        return {**tensors, "lora_b": self.b, "bias": self.bias}


def export_onnx(
    backbone: Backbone,
    adapters: Result,
    out: str | os.PathLike[str],
    *,
    description: Mapping[str, str] | None = None,
    samples: SamplesLike | None = None,
    thresholds: Thresholds | None = None,
) -> None:
    """Write base and adapters as one self-contained file for the stock onnxruntime.

    The adapter of the last layer is folded into that layer's weights where it reads a vector and
    they are plain numbers used once. Outputs of new classes follow those of the base.
    ``description`` joins fingerprint, rank and layers in the metadata: ``said.entries()`` of an
    adapted model, so that the file is loaded again with its names. Before it is written, the
    logits are compared with those of the adapted model on a few of ``samples``, or random ones.

    ``thresholds`` are written into the metadata, ``skip2lora.thresholds``, as the adapter's folder
    has them. Outputs that say what is predicted, not how likely it is, go by them: a label is -1,
    or the text "none of these", where its class is less probable. Where they cannot, they are left
    out, with a warning.

    Raises:
        ModelError: the base changed, the adapters do not fit it, new classes do not fit through
            the end of its graph, logits differ, no output is left, or the file would pass 2 GB.
        DataError: samples the model cannot take.
        FileError: the system refused.
    """
    base = read_base(backbone, adapters)
    adapters = base.adapters
    parts, sources, head = _Parts.of(adapters), base.sources, base.anatomy.head
    last = sources[-1]
    same = head is not None and len(parts.bias) == base.anatomy.n_outputs
    if head is not None and same and base.folds and isinstance(last, Source):
        own = parts.b[-adapters.rank :]
        change = parts.a[-1].T.astype(np.float64) @ own.astype(np.float64)
        columns = columns_of(base.anatomy)
        change = change if columns is None else change @ columns
        if fold_last(base.graph, head, last, change):
            sources = sources[:-1]
            parts = _Parts(parts.a[:-1], parts.b[: -adapters.rank], parts.bias)
    builder = Builder(base.graph, _free_prefix(base.graph))
    factors = []
    for number, source in last_first(sources):
        if isinstance(source, Source):
            pooled = add_pooled(builder, source, f"tap.{number}")
        else:
            tensor = add_derived(builder, source, base.own, f"tap.{number}")
            pooled = Pooled(tensor, (parts.a[number].shape[1],))
        name = builder.constant(f"lora_a.{number}", rearranged(parts.a[number], pooled))
        factors.append((number, name, pooled.tensor))
    logits = _join(builder, base, factors, parts)
    if thresholds is not None:
        go_by_thresholds(builder, base, thresholds.least(backbone.learned))
        description = {**(description or {}), "thresholds": json.dumps(thresholds.to_json())}
    _write(base, logits, out, description, samples)


def rearranged(lora_a: NDArray[np.float32], pooled: Pooled) -> NDArray[np.float32]:
    """``lora_a`` (rank, width) of a tap's rows, for what ``pooled`` gives instead."""
    matrix = lora_a
    if pooled.channels_last:
        *places, channels = pooled.shape
        matrix = np.moveaxis(matrix.reshape(-1, channels, *places), 1, -1)
    if pooled.factor is not None:
        matrix = matrix.reshape(-1, *pooled.shape) * pooled.factor
    return np.ascontiguousarray(matrix.reshape(lora_a.shape), np.float32)


def export_onnx_adapter(
    backbone: Backbone,
    adapters: Result,
    out: str | os.PathLike[str],
    *,
    description: Mapping[str, str] | None = None,
    samples: SamplesLike | None = None,
    thresholds: Thresholds | None = None,
) -> Path:
    """Write the base with adapters as optional inputs, and an ``.onnx_adapter`` file beside it.

    Without an adapter the session computes the base; with one (``onnxruntime.LoraAdapter`` and
    ``RunOptions.add_active_adapter``) the adapted model. Adapters of any rank for the same taps and
    number of outputs, written by :func:`write_onnx_adapter`, can be swapped over one session.
    Both files have the same ``model_version``, 28 bits of the base's fingerprint. ``thresholds``
    are those of one adapter, so none are written.

    Returns the path of the adapter file. Raises as :func:`export_onnx`, ParameterError for an
    ``out`` that is called as the adapter file is, and ModelError for an output that says what is
    predicted beside ``thresholds``.
    """
    beside = _beside(out)
    base = read_base(backbone, adapters)
    if _free_prefix(base.graph) != _PREFIX:
        raise ModelError(
            f"{base.backbone.path} has adapters inside, of an earlier export, expected a model "
            "without any to swap them over: export one file with export_onnx"
        )
    if thresholds is not None and (deciding := deciding_outputs(base)):
        raise ModelError(
            f"{base.backbone.path}: output {deciding[0].output} says what is predicted, expected "
            "probabilities alone, as it cannot go by the thresholds of each adapter: export one "
            "file for each adapter with export_onnx"
        )
    adapters = base.adapters
    parts = _Parts.of(adapters)
    builder = Builder(base.graph, _PREFIX)
    onnx = base.graph.onnx
    n_outputs = len(parts.bias)
    shapes: dict[str, list[int | str]] = {
        f"lora_a.{number}": ["rank", array.shape[1]] for number, array in enumerate(parts.a)
    }
    shapes |= {"lora_b": ["hidden", n_outputs], "bias": [n_outputs]}
    for name, array in parts.named().items():
        full = builder.constant(name, array)
        base.model.graph.input.append(
            onnx.helper.make_tensor_value_info(full, onnx.TensorProto.FLOAT, shapes[name])
        )
    factors = []
    for number, source in last_first(base.sources):
        title = f"tap.{number}"
        if isinstance(source, Source):
            tensor = add_tap(builder, source, title)
        else:
            tensor = add_derived(builder, source, base.own, title)
        factors.append((number, f"{_PREFIX}lora_a.{number}", tensor))
    logits = _join(builder, base, factors, parts)
    # Of two files of two runs, as a killed one may leave them, both say another version.
    base.model.model_version = int(base.fingerprint[-7:], 16)
    _write(
        base, logits, out, description, samples, without=[_PREFIX + name for name in shapes],
        beside={beside: _adapter_writer(adapters, base.model.model_version)},
    )  # fmt: skip
    return beside


def _beside(out: str | os.PathLike[str]) -> Path:
    """Where the adapters of a model go; both places are checked before anything is written."""
    target = check_output(out, force=True)
    beside = target.with_suffix(ADAPTER_SUFFIX)
    if beside == target:
        raise ParameterError(
            f"{target} is what the file of adapters would be called, expected another suffix: "
            "call the model .onnx"
        )
    return check_output(beside, force=True)


def write_onnx_adapter(adapters: SkipAdapters, out: str | os.PathLike[str]) -> None:
    """Write adapters alone in onnxruntime's AdapterFormat, for a model exported with inputs.

    Their ``model_version`` is 1, as they are not told of a base.

    Raises:
        FileError: the system refused.
    """
    write_file(out, _adapter_writer(adapters, 1))


def _adapter_writer(adapters: SkipAdapters, model_version: int) -> Callable[[Path], object]:
    named = _Parts.of(adapters).named()
    tensors = {_PREFIX + name: array for name, array in named.items()}
    return adapter_writer(tensors, model_version=model_version)


def _join(
    builder: Builder, base: Base, factors: Sequence[tuple[int, str, str]], parts: _Parts
) -> str:
    """Append the nodes from each number, ``lora_a`` and tap that it multiplies to the logits.

    The name of their tensor.
    """
    columns = {}
    for number, name, tensor in factors:
        width = parts.a[number].shape[1]
        column = builder.reshape(tensor, [0, width, 1], f"tap.{number}.column")
        columns[number] = builder.node("MatMul", [name, column], f"hidden.{number}")
    hidden = [columns[number] for number in sorted(columns)]
    bias = builder.constant("bias", parts.bias)
    added: str | None = bias
    if hidden:
        joined = hidden[0]
        if len(hidden) > 1:
            joined = builder.node("Concat", hidden, "hidden", axis=1)
        joined = builder.node("Flatten", [joined], "hidden.row", axis=1)
        added = builder.node("Gemm", [joined, builder.constant("lora_b", parts.b), bias], "added")
    elif not parts.bias.any():
        added = None
    head, onnx = base.anatomy.head, builder.graph.onnx
    if head is not None and not base.bare:
        plug_logits(builder, base.anatomy, added, len(parts.bias))
        return head.logits
    name = _free_name(builder.graph)
    if head is None:
        builder.node("Identity", [str(added or bias)], "output", renamed=name)
    else:
        own = add_logits(builder, head.logits, "own", base.anatomy.columns)
        extra = len(parts.bias) - base.anatomy.n_outputs
        if extra:  # new classes, of which the base says nothing
            own = pad(builder, own, [0, 0, 0, extra])
        builder.node("Add", [own, added or bias], "output", renamed=name)
    kind = onnx.TensorProto.FLOAT
    builder.graph.model.graph.output.append(
        onnx.helper.make_tensor_value_info(name, kind, [None, len(parts.bias)])
    )
    return name


def _free_prefix(graph: Graph) -> str:
    """For names of what is added, that no tensor has: an exported file can be a base as well."""
    taken = [*graph.producer, *graph.initializers]
    prefixes = (_PREFIX if at == 1 else f"{_PREFIX[:-1]}{at}." for at in count(1))
    return next(of for of in prefixes if not any(name.startswith(of) for name in taken))


def _free_name(graph: Graph) -> str:
    """The first of ``NEW_OUTPUTS`` that no tensor of the base has."""
    values = (value.name for value in graph.model.graph.input)
    taken = {*values, *graph.producer, *graph.constants, *graph.initializers}
    name = next((name for name in NEW_OUTPUTS if name not in taken), None)
    if name is None:
        raise ModelError(
            f"the model has tensors called {' and '.join(NEW_OUTPUTS)}, expected one of the names "
            "free for the output of the adapters: rename one"
        )
    return name


def _output(base: Base, logits: str) -> str | None:
    """The name of the output that has the adapted ``logits``, or follows from them."""
    if base.bare or base.anatomy.head is None:
        return logits
    shown = [value.name for value in base.model.graph.output]
    ends = [end.output for end in base.anatomy.heads if end.logits == logits]
    return next((name for name in (base.backbone.output, *ends) if name in shown), None)


def _describe(base: Base, logits: str, description: Mapping[str, str] | None) -> None:
    model = base.model
    layers = [of.tap.layer if isinstance(of, Source) else of.kind for of in base.sources]
    facts = {
        "base_fingerprint": base.fingerprint,
        "rank": str(base.adapters.rank),
        "taps": json.dumps(layers),
        "version": version("skip2lora"),
        **(description or {}),
    }
    if (output := _output(base, logits)) is not None:
        facts["output"] = output
    # What an earlier export said of its outputs does not hold for these.
    taken = {SAID_PREFIX + name for name in (*facts, *OF_OUTPUTS)}
    others = [entry for entry in model.metadata_props if entry.key not in taken]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    for name, text in facts.items():
        model.metadata_props.add(key=SAID_PREFIX + name, value=text)


def _write(
    base: Base,
    logits: str,
    out: str | os.PathLike[str],
    description: Mapping[str, str] | None,
    samples: SamplesLike | None,
    *,
    without: Sequence[str] = (),
    beside: Mapping[Path, Callable[[Path], object]] | None = None,
) -> None:
    """Write the model if it gives what was adapted; constants ``without`` which it is as 0.

    Files ``beside`` it are written with it.
    """
    model = base.model
    columns = None if base.bare or base.anatomy.head is None else columns_of(base.anatomy)
    check_export(model, logits, base.backbone, base.given, base.adapters, samples, columns=columns)
    for tensor in model.graph.initializer:
        if tensor.name in without:
            tensor.raw_data = bytes(len(tensor.raw_data))
    _describe(base, logits, description)
    write_together({**(beside or {}), Path(out): model_writer(model)})
