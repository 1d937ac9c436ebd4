"""Outputs of an exported graph that say what is predicted: they go by the thresholds, or go."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.backbones.onnx.ends import Head
from skip2lora.backbones.onnx.file import need_onnx
from skip2lora.backbones.onnx.rows import Builder, add_logits
from skip2lora.errors import ModelError, warn
from skip2lora.export.labels import decides
from skip2lora.export.onnx_base import Base
from skip2lora.export.onnx_head import drop_outputs
from skip2lora.tasks.thresholds import NO_PLACE, NONE_OF_THESE

_WHERE_OPSET = 9  # the first with Where


def deciding_outputs(base: Base) -> list[Head]:
    """The ends of outputs that follow from the logits and say what is predicted, as a label does.

    There are none where the adapters' sum is an output of its own.
    """
    head, graph = base.anatomy.head, base.graph
    if head is None or base.bare:
        return []
    shown = {value.name for value in graph.model.graph.output}
    return [
        end for end, spec in zip(base.anatomy.heads, base.anatomy.outputs, strict=True)
        if end.output in shown and head.logits in graph.ancestors(end.output)
        and (decides(end.end) or spec.ending == "labels")
    ]  # fmt: skip


def go_by_thresholds(builder: Builder, base: Base, least: NDArray[np.float64]) -> None:
    """Let outputs that say what is predicted go by the ``least`` probabilities, (n_outputs,).

    A label below is -1, or "none of these" where it is a text; of several labels each is compared
    with its own. The logits of the graph have the adapters' sum by now. Outputs of other types, or
    of other values than places of the logits, are left out, which is warned of.

    Raises:
        ModelError: there is no other output.
    """
    dropped = {
        end.output for number, end in enumerate(deciding_outputs(base))
        if not _goes(builder, base, end, least, f"decided.{number}")
    }  # fmt: skip
    if not dropped:
        return
    names, path = ", ".join(sorted(dropped)), base.backbone.path
    if len(dropped) == len(base.graph.model.graph.output):
        raise ModelError(
            f"{path}: output {names} cannot go by the thresholds of the adapter, expected another "
            "output, of probabilities: adapt without precision="
        )
    drop_outputs(base.graph, dropped)
    warn(f"{path}: output {names} is left out, as it cannot go by the thresholds of the adapter")


def _goes(
    builder: Builder, base: Base, end: Head, least: NDArray[np.float64], title: str
) -> bool:  # fmt: skip
    """Whether the output goes by them now."""
    graph, own = base.graph, base.anatomy.head
    several = base.given.learned.numeric_targets
    [value] = [of for of in graph.model.graph.output if of.name == end.output]
    kind = value.type.tensor_type.elem_type
    if own is None or end.end.says is None or end.logits != own.logits:
        return False
    places = end.end.says(np.eye(max(2, len(least)))).ndim == 1
    none = None if several else _none(kind)
    if graph.opset < _WHERE_OPSET or places == several or (none is None and not several):
        return False
    onnx = need_onnx("export")
    logits = add_logits(builder, own.logits, f"{title}.logits", base.anatomy.columns)
    activation, axes = ("Sigmoid", {}) if several else ("Softmax", {"axis": 1})
    shares = builder.node(activation, [logits], f"{title}.shares", renamed=None, **axes)
    limits = builder.constant("least", least.astype(np.float32))
    before = _renamed(builder, end.output, f"{title}.before")
    if not several:
        best = builder.node("ArgMax", [shares], f"{title}.best", axis=1, keepdims=1)
        limits = builder.node("Gather", [limits, best], f"{title}.least")
        shares = _largest(builder, shares, f"{title}.share")
    low = builder.node("Less", [shares, limits], f"{title}.low")
    shape = builder.node("Shape", [before], f"{title}.shape")
    low = builder.node("Reshape", [low, shape], f"{title}.shaped")
    if none is not None:
        without = builder.constant("none", none)
        builder.node("Where", [low, without, before], f"{title}.label", renamed=end.output)
    else:
        high = builder.node("Not", [low], f"{title}.high")
        to = kind or onnx.TensorProto.BOOL
        builder.node("Cast", [high], f"{title}.label", renamed=end.output, to=to)
    return True


def _none(kind: int) -> NDArray[Any] | None:
    """What stands for no class, None in a type that onnxruntime chooses between with no Where."""
    types = need_onnx("export").TensorProto
    if kind == types.STRING:
        return np.array(NONE_OF_THESE, object)
    numbers = {
        types.INT32: np.int32, types.INT64: np.int64, types.FLOAT: np.float32,
        types.DOUBLE: np.float64,
    }  # fmt: skip
    return np.array(NO_PLACE, numbers[kind]) if kind in numbers else None


def _largest(builder: Builder, shares: str, title: str) -> str:
    """The largest of each row, (samples, 1); opset 18 made the axes an input."""
    if builder.graph.opset < 18:
        return builder.node("ReduceMax", [shares], title, axes=[1], keepdims=1)
    axes = builder.constant("axes.1", np.array([1], np.int64))
    return builder.node("ReduceMax", [shares, axes], title, keepdims=1)


def _renamed(builder: Builder, tensor: str, title: str) -> str:
    """Let what makes ``tensor`` make another, for those that read it as well."""
    name = builder.prefix + title
    for node in builder.graph.model.graph.node:  # those of the graph were copied as it was sorted
        for names in (node.input, node.output):
            for place, read in enumerate(names):
                if read == tensor:
                    names[place] = name
    return name
