"""An OpenVINO network is run on a few samples of noise: where its tensors hold the samples."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skip2lora.backbones.alone import (
    Batch,
    Verdict,
    batches_of,
    depends_on_samples,
    mixed,
    verdict_of,
)
from skip2lora.backbones.inputs import InputSpec, drawn
from skip2lora.backbones.openvino.graph import Graph
from skip2lora.backbones.openvino.inputs import batch_of, filled, fixed, sizes_of
from skip2lora.backbones.openvino.runtime import compiled, openvino, outputs_of, reason_of
from skip2lora.errors import ModelError

_SIZES = (0, 2)  # which of the sizes that are tried for open ones
_N_TOKENS = 2  # whole numbers below it are valid in any vocabulary: the runtime checks none
_MOST_BAKED = 256  # samples that a network may be made for, though it says that any number will do
Runs = list[tuple[Batch, list[NDArray[Any]]]]


@dataclass(frozen=True, eq=False)
class Look:
    """What each of some tensors shows, and its values for the first samples.

    Both are None where the model takes no noise, for ``reason``. ``batch`` is the number of samples
    that it takes at a time, None for any.
    """

    verdicts: list[Verdict] | None
    values: list[NDArray[Any]] | None
    batch: int | None
    reason: str = ""


def look(graph: Graph, inputs: Sequence[InputSpec], sources: Sequence[Any], path: Path) -> Look:
    """What each of ``sources``, outputs of operators, shows.

    Raises:
        ModelError: the runtime cannot run the model.
    """
    runs, reason, batch = _runs(graph, inputs, sources, path)
    if not runs:
        return Look(None, None, batch, reason)
    verdicts = [
        verdict_of([(samples, values[at]) for samples, values in runs])
        for at in range(len(sources))
    ]
    return Look(verdicts, runs[0][1], batch)


def look_at(graph: Graph, inputs: Sequence[InputSpec], path: Path) -> Look:
    """What shows in what each layer with weights reads, and in the logits of each end.

    Values are of the ends alone: the logits of all, then the outputs of those that make something
    of them.

    Raises:
        ModelError: the runtime cannot run the model.
    """
    reads, ends = graph.reads(), graph.ends()
    said = [end.source for end in ends if end.end.says is not None]
    sources = [read.source for read in reads] + [end.logits for end in ends]
    seen = look(graph, inputs, [*sources, *said], path)
    return replace(seen, values=None if seen.values is None else seen.values[len(reads) :])


def refuse_late(graph: Graph, inputs: Sequence[InputSpec], end: Any, path: Path) -> None:
    """Raise ModelError where ``end`` keeps samples along the second axis of the inputs."""
    late = [spec.name for spec in inputs if len(spec.shape) == 2]
    axes = [int(spec.name in late) for spec in inputs]
    turned = _runs(graph, inputs, [end], path, axes).runs if late else []
    if turned and verdict_of([(batch, values[0]) for batch, values in turned]).holds():
        raise ModelError(
            f"{path}: input {late[0]} has its samples along the second axis, as (time, samples, "
            "features), expected them along the first: convert the model with batch_first=True, or "
            "with a transposition in front"
        )


def mixing(
    graph: Graph, inputs: Sequence[InputSpec], end: Any, verdict: Verdict, path: Path
) -> ModelError:
    """The error that names the operator which first makes numbers depend on other samples."""
    if verdict.fits():
        return mixed(path, "its output", verdict)
    behind = {name for name, _ in graph.ancestors(end)} - graph.constants
    nodes = [node for node in graph.nodes if node.get_name() in behind and _is_tensor(node)]
    runs = _runs(graph, inputs, [node.output(0) for node in nodes], path).runs
    for place, node in enumerate(nodes if runs else ()):
        own = [(batch, values[place]) for batch, values in runs]
        of_node = verdict_of(own)
        if not of_node.fits() and depends_on_samples(own):
            title = f"operator {node.get_friendly_name()} ({node.get_type_name()})"
            return mixed(path, title, of_node)
    return mixed(path, "its output", verdict)


def _is_tensor(node: Any) -> bool:
    return node.get_type_name() not in ("Parameter", "Result") and node.get_output_size() > 0


class _Runs(NamedTuple):
    runs: Runs
    reason: str
    batch: int | None


def _runs(
    graph: Graph,
    inputs: Sequence[InputSpec],
    sources: Sequence[Any],
    path: Path,
    axes: Sequence[int] | None = None,
) -> _Runs:
    """The tensors in each batch, samples along ``axes`` of the inputs; or none, and why."""
    axes = axes or [0] * len(inputs)
    parameters = graph.model.get_parameters()
    given = {node.get_name(): number for number, node in enumerate(parameters)}
    numbers = [given.get(each.get_node().get_name()) for each in sources]
    wanted = [each for each, at in zip(sources, numbers, strict=True) if at is None]
    shapes = [list(sizes_of(port)) for port in graph.model.inputs]
    sizes = [shape.pop(axis) for shape, axis in zip(shapes, axes, strict=True)]
    declared = batch_of(graph.model) if not any(axes) else max(filter(None, sizes), default=None)
    if not wanted:
        return _Runs([], "", declared)
    network = outputs_of(wanted, parameters)
    request = compiled(network, 1, integers=graph.integers, path=path).create_infer_request()
    reason, batches = "", [declared] if declared else [None, 1, *sorted(_baked(graph) - {1})]
    lengths = _SIZES if any(None in shape for shape in shapes) else _SIZES[:1]
    for at, size in itertools.product(lengths, batches):
        specs = [
            replace(spec, shape=tuple(filled((1, *shape), 1, at)[1:]))
            for spec, shape in zip(inputs, shapes, strict=True)
        ]
        try:
            runs = [
                (batch, _run(graph, request, specs, batch, axes, numbers))
                for batch in batches_of(size)
            ]
            return _Runs(runs, "", size)
        except RuntimeError as error:
            reason = reason or reason_of(error)
    return _Runs([], reason, declared)


def _baked(graph: Graph) -> set[int]:
    """First sizes of the shapes that tensors are brought to."""
    patterns = [
        node.input_value(1).get_node() for node in graph.nodes if node.get_type_name() == "Reshape"
    ]
    shapes = [node.data.ravel() for node in patterns if node.get_type_name() == "Constant"]
    return {int(shape[0]) for shape in shapes if shape.size and 0 < shape[0] <= _MOST_BAKED}


def _run(
    graph: Graph,
    request: Any,
    specs: Sequence[InputSpec],
    batch: Batch,
    axes: Sequence[int],
    numbers: Sequence[int | None],
) -> list[NDArray[Any]]:
    """The outputs for some samples; by its number, an input instead. RuntimeError if refused."""
    samples = drawn(specs, max(batch) + 1, n_tokens=_N_TOKENS)
    feed = [
        np.ascontiguousarray(
            np.moveaxis(samples[spec.name][list(batch)].astype(spec.dtype), 0, axis)
        )
        for spec, axis in zip(specs, axes, strict=True)
    ]
    with fixed(graph.model, [array.shape for array in feed]):
        pass  # the runtime itself would read beyond a tensor of another size
    for number, array in enumerate(feed):
        request.set_input_tensor(number, openvino.Tensor(array))
    request.start_async()
    request.wait()
    views = (request.get_output_tensor(at).data.copy() for at in range(numbers.count(None)))
    return [next(views) if at is None else feed[at] for at in numbers]
