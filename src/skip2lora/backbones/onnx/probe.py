"""A graph is run on a few samples of noise: which shapes its tensors have, where they hold samples.

So it is known which axis of the inputs holds the samples, how many the graph takes at a time, and
what differs between a sample alone and the same one in a batch (:mod:`skip2lora.backbones.alone`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.backbones.alone import (
    Batch,
    Layout,
    Verdict,
    batches_of,
    note_of,
    told,
    unseen,
    untapped,
    unvaried,
    verdicts_of,
)
from skip2lora.backbones.inputs import InputSpec, drawn
from skip2lora.backbones.onnx.file import without_weights
from skip2lora.backbones.onnx.graph import (
    BATCH,
    Graph,
    Size,
    infer,
    input_sizes,
    matched,
    sizes_of,
)
from skip2lora.backbones.onnx.session import (
    RUNTIME_ERRORS,
    open_session,
    reason_of,
    run_options,
    specs_of,
)
from skip2lora.backbones.onnx.sizes import batch_of

_MORE = 2  # samples of a second run with other sizes, where the model leaves any open
_N_TOKENS = (9, 2, 0)  # a vocabulary may be smaller; at last ones alone
_PLACES = (224, 256)  # height and width of images, where the model leaves them open
_LENGTHS = ((12, 20), (576, 960))  # of what else they leave open: longer ones for sound
_SURE = 3  # of axes with which an output has an axis of samples, the same alone
_REALS = {1, 10, 11, 16}  # float, half, double and bfloat16, as TensorProto numbers types
_MOST_BAKED = 256  # samples that a graph may be made for, though it says that any number will do
#: Sizes that do not fit together, or a type that NumPy does not know.
REFUSED: tuple[type[Exception], ...] = (*RUNTIME_ERRORS, KeyError, TypeError)

Axes = Mapping[str, int]
Run = tuple[Batch, Mapping[str, NDArray[Any]]]


@dataclass(frozen=True)
class Seen:
    """One tensor: ``verdict`` says where its samples are, ``shape`` what one sample has.

    The axis with the samples has the size that one of them takes there, mostly 1. Sizes that
    follow an open one of the inputs have its name, others that change are None.
    """

    verdict: Verdict
    shape: tuple[Size, ...] = ()

    def matched(self, run: Run, name: str, sizes: tuple[dict[str, int], dict[str, int]]) -> Seen:
        """The same, with the names of sizes that another run with other sizes tells."""
        one = tuple(size for size in self.shape if isinstance(size, int))
        other = _of_sample(run, name, self.verdict)
        if len(other) != len(one):
            return Seen(replace(self.verdict, layout=None))
        return replace(self, shape=matched(one, other, sizes))

    def where_inferred(self, shape: tuple[Size, ...] | None) -> Seen:
        """The same, of which only sizes that inference gives too are taken for fixed."""
        if self.verdict.layout is None:
            return self
        given = shape if shape is not None and len(shape) == len(self.shape) else ()
        sure = [
            at == self.verdict.layout.axis or self.shape[at : at + 1] == given[at : at + 1]
            for at in range(len(self.shape))
        ]
        sizes = zip(self.shape, sure, strict=True)
        return replace(self, shape=tuple(size if fixed else None for size, fixed in sizes))

    @property
    def by_sample(self) -> tuple[Size, ...] | None:
        """The shape of one sample of a tensor that has them along its first axis, else None."""
        layout = self.verdict.layout
        return self.shape[1:] if layout is not None and layout[:3] == (0, 1, 1) else None


@dataclass(frozen=True)
class Look:
    """What running a graph has shown of some tensors.

    ``axes`` are those of the inputs that hold the samples, ``batch`` how many samples the graph
    takes at a time, None for any number; ``baked`` says that only its inside knows that.
    ``unknown`` is why the graph could not be run, None where it could. ``shapes`` are those that
    can be inferred, ``n_tokens`` how whole numbers were drawn, ``sizes`` what open sizes were,
    ``values`` those of the outputs and their logits for some samples.
    """

    axes: Axes
    shapes: dict[str, tuple[Size, ...]]
    batch: int | None
    baked: bool = False
    unknown: str | None = None
    n_tokens: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    seen: Mapping[str, Seen] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    def likely(self, ends: Sequence[str], *, dynamic: bool) -> int:
        """How likely the axes are right by what is seen at ends.

        Tokens that are taken for samples hold too, up to where the true ones are mixed: a row a
        sample at an end says more than a fold, even of a graph that mixes them.
        """
        if self.unknown is not None:
            return -1
        return max((self._likely(self.of(end), dynamic) for end in ends), default=0)

    @staticmethod
    def _likely(seen: Seen, dynamic: bool) -> int:
        layout = seen.verdict.layout
        if seen.verdict.holds(dynamic=dynamic):
            return _SURE if layout is not None and layout.parts == 1 else 1
        return 2 if seen.by_sample is not None else 0

    def n_holding(self, *, dynamic: bool) -> int:
        """How many tensors have the samples as they are alone."""
        return sum(each.verdict.holds(dynamic=dynamic) for each in self.seen.values())

    def told(self, tensors: Sequence[str], *, dynamic: bool) -> tuple[set[str], set[str]]:
        """:func:`~skip2lora.backbones.alone.told` of these tensors."""
        return told({name: self.of(name).verdict for name in tensors}, dynamic=dynamic)

    def note(self, logits: str | None, unsure: Sequence[str]) -> str | None:
        """How a sample alone and in a batch differ, or what is not known of it; None where equal.

        ``unsure`` are layers whose samples could not be told apart.
        """
        if self.unknown is not None:
            return unseen(self.unknown)
        said = None if logits is None else note_of(self.of(logits).verdict)
        if logits is not None and self.is_steady(logits):
            said = unvaried()
        if unsure:
            said = "; ".join(filter(None, (said, untapped(unsure))))
        return said

    def is_steady(self, end: str) -> bool:
        """Whether all samples of noise have the same values there, so that they tell nothing.

        Not of several inputs, as one may be a mask that hides all of the others.
        """
        values = self.values.get(end)
        if values is None or len(values) < 2 or len(self.axes) > 1:
            return False
        return bool(np.all(values == values[:1]))

    def of(self, tensor: str) -> Seen:
        """Of a tensor that may not have been there."""
        return self.seen.get(tensor, Seen(Verdict(None)))


class Probe:
    """A session over some tensors of a graph, whose inputs hold the samples along ``axes``."""

    def __init__(self, graph: Graph, path: Path, tensors: Sequence[str]) -> None:
        self.names = [value.name for value in graph.inputs]
        self.wanted = [name for name in dict.fromkeys(tensors) if name not in self.names]
        model, weights = without_weights(graph.model)
        if self.wanted:  # a graph has to have one
            del model.graph.output[:]
        for name in self.wanted:
            model.graph.output.add(name=name)
        self.session = open_session(
            model.SerializeToString(), folder=path.parent, path=path, optimised=False,
            weights=weights,
        )  # fmt: skip
        self.types = {spec.name: spec.dtype for spec in specs_of(self.session, {})}
        self.n_tokens, self.options = _N_TOKENS[0], run_options()

    def run(
        self, batch: Batch, sizes: Mapping[str, int], shapes: Mapping[str, Any], axes: Axes
    ) -> dict[str, NDArray[Any]]:
        """The tensors for samples of noise by their numbers, the inputs among them.

        Raises:
            One of ``REFUSED``: the graph does not take them.
        """
        specs = []
        for name in self.names:
            lengths = [_length(size, sizes) for size in shapes[name]]
            del lengths[axes[name]]
            specs.append(InputSpec(name, tuple(lengths), self.types[name]))
        samples = drawn(specs, max(batch) + 1, n_tokens=self.n_tokens)
        feed = {
            name: np.ascontiguousarray(
                np.moveaxis(array[list(batch)].astype(self.types[name]), 0, axes[name])
            )
            for name, array in samples.items()
        }
        values = self.session.run(self.wanted, feed, self.options) if self.wanted else []
        # A sequence, of arrays or maps, has no axis of samples.
        arrays = (np.zeros(0) if isinstance(each, list) else each for each in values)
        return {**feed, **dict(zip(self.wanted, arrays, strict=True))}


def look(
    graph: Graph,
    path: Path,
    tensors: Sequence[str],
    ends: Sequence[str],
    outputs: Sequence[str] = (),
    *,
    dynamic: bool = False,
) -> Look:
    """See ``tensors``, and values of ``ends``, the logits of each output, and of ``outputs``.

    Samples are where an output has the numbers of each whatever the others are: along the first
    axis of the inputs if that holds, else along the second. ``dynamic`` is as in
    :meth:`~skip2lora.backbones.alone.Verdict.holds`.

    Raises:
        ModelError: the runtime does not take the graph at all.
    """
    probe = Probe(graph, path, [*tensors, *ends, *outputs])
    looks = []
    for axes in _axes_of(graph):
        looks.append(_look(graph, probe, {**axes, **graph.states}, (*ends, *outputs)))
        if looks[-1].likely(ends, dynamic=dynamic) == _SURE:
            return looks[-1]
    return max(
        looks,
        key=lambda each: (each.likely(ends, dynamic=dynamic), each.n_holding(dynamic=dynamic)),
    )


def _look(graph: Graph, probe: Probe, axes: Axes, shown: Sequence[str]) -> Look:
    """What is seen if the inputs have their samples along these axes."""
    shapes = infer(graph, axes)
    declared = batch_of(graph, axes)
    reason = ""
    for lengths, size, probe.n_tokens in _attempts(graph, shapes, declared):
        batches = batches_of(size)
        one, other = numbers_for(shapes, probe.names, batches[0], lengths)
        try:
            runs = [
                (batch, probe.run(batch, with_batch(one, batch), shapes, axes)) for batch in batches
            ]
        except REFUSED as error:
            reason = reason or reason_of(error)
            continue
        rest = tuple(range(size or _MORE))
        more = None
        if one.keys() > {BATCH}:
            try:
                more = probe.run(rest, with_batch(other, rest), shapes, axes)
            except REFUSED:  # what is open is known by inference alone
                more = None
        verdicts = verdicts_of(runs, runs[0][1])
        seen = {
            name: Seen(each, _of_sample(runs[0], name, each)) for name, each in verdicts.items()
        }
        if more is not None:
            sizes = one, with_batch(other, rest)
            seen = {name: each.matched((rest, more), name, sizes) for name, each in seen.items()}
        elif one.keys() > {BATCH}:
            seen = {name: each.where_inferred(shapes.get(name)) for name, each in seen.items()}
        values = {name: runs[0][1][name] for name in shown}
        baked = declared is None and size is not None
        return Look(axes, shapes, size, baked, None, probe.n_tokens, one, seen, values)
    return _unseen(graph, axes, reason)


def _attempts(
    graph: Graph, shapes: dict[str, tuple[Size, ...]], declared: int | None
) -> Iterator[tuple[tuple[int, int], int | None, int]]:
    """Lengths left open, samples at a time, and how many tokens there are.

    Each first as it is declared or small, then as it may be.
    """
    sizes = [declared] if declared else [None, 1, *sorted(_baked(graph) - {1})]
    tokens = _N_TOKENS if _reads_tokens(graph) else _N_TOKENS[:1]
    for lengths in _LENGTHS:
        yield from ((lengths, size, n_tokens) for size in sizes for n_tokens in tokens)
        if not input_sizes(shapes, [value.name for value in graph.inputs]):
            break


def _reads_tokens(graph: Graph) -> bool:
    """Whether an input has whole numbers, of which not all may be valid."""
    types = {value.type.tensor_type.elem_type for value in graph.inputs}
    return not types <= _REALS


def _baked(graph: Graph) -> set[int]:
    """First sizes of the shapes that tensors are brought to."""
    shapes = [
        graph.array(node.input[1])
        for node in graph.model.graph.node
        if node.op_type == "Reshape" and len(node.input) > 1
    ]
    sizes = {int(shape[0]) for shape in shapes if shape is not None and shape.size}
    return {size for size in sizes if 0 < size <= _MOST_BAKED}


def _of_sample(run: Run, name: str, verdict: Verdict) -> tuple[int, ...]:
    """The shape of a tensor, but of one sample along the axis that holds them."""
    if verdict.layout is None:
        return ()
    (batch, values), axis = run, verdict.layout.axis
    shape = values[name].shape
    return (*shape[:axis], shape[axis] // len(batch), *shape[axis + 1 :])


def _unseen(graph: Graph, axes: Axes, reason: str) -> Look:
    """Where the samples are by the shapes that can be inferred; folds are not known then."""
    batch = batch_of(graph, axes)
    shapes, size = infer(graph, axes), BATCH if batch is None else batch
    seen = {}
    for name, shape in shapes.items():
        at = next((axis for axis in (0, 1) if shape[axis : axis + 1] == (size,)), None)
        if at is not None:
            plain = tuple(None if isinstance(each, tuple) else each for each in shape)
            seen[name] = Seen(Verdict(Layout(at)), (*plain[:at], 1, *plain[at + 1 :]))
    return Look(axes, shapes, batch, False, reason, seen=seen)


# --- axes and sizes of the inputs -----------------------------------------------------------


def _axes_of(graph: Graph) -> list[dict[str, int]]:
    """Which axes of the inputs may hold the samples, the likely ones first."""
    shapes = {value.name: sizes_of(value) or () for value in graph.inputs}
    words = {
        size
        for shape in shapes.values()
        for size in shape
        if isinstance(size, str) and ("batch" in size.lower() or "sample" in size.lower())
    }
    open_first = {shape[0] for shape in shapes.values() if shape and isinstance(shape[0], str)}
    some_open = any(shape and not isinstance(shape[0], int) for shape in shapes.values())

    def second(shape: tuple[Any, ...]) -> bool:
        """Whether the first axis is not that of the samples by its name or size."""
        if len(shape) < 2 or shape[0] in words:
            return False
        if shape[1] in words:
            return True
        fixed = isinstance(shape[0], int) and shape[0] > 0
        return fixed and (shape[1] in open_first or (some_open and not isinstance(shape[1], int)))

    choices = [
        {name: int(second(shape)) for name, shape in shapes.items()},
        dict.fromkeys(shapes, 0),
        {name: int(len(shape) == 3) for name, shape in shapes.items()},
    ]
    return [axes for at, axes in enumerate(choices) if axes not in choices[:at]]


def _length(size: Any, sizes: Mapping[str, int]) -> int:
    """The number for a size: its own, that of its name, or 1."""
    return sizes[size] if isinstance(size, str) else size if isinstance(size, int) else 1


def with_batch(sizes: Mapping[str, int], batch: Batch) -> dict[str, int]:
    """The numbers for open sizes, and how many samples there are."""
    return {**sizes, BATCH: len(batch)}


def numbers_for(
    shapes: dict[str, tuple[Size, ...]],
    names: Sequence[str],
    batch: Batch,
    lengths: tuple[int, int],
) -> tuple[dict[str, int], dict[str, int]]:
    """Two numbers for each size that is open, different ones for different names."""
    images = {size for name in names if len(shapes[name]) >= 4 for size in shapes[name]}
    sizes: tuple[dict[str, int], dict[str, int]] = ({}, {})
    for at in (0, 1):
        for number, name in enumerate(input_sizes(shapes, names)):
            # So that one is not taken for another.
            sizes[at][name] = (
                _PLACES[at] + 32 * number * (1 + at)
                if name in images
                else lengths[at] + number * (1 + 2 * at)
            )
    return with_batch(sizes[0], batch), sizes[1]
