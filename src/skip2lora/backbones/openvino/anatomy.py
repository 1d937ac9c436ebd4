"""Taps of an OpenVINO network: of which kind they are, and which output has the logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skip2lora.backbones.alone import Layout, Verdict, unseen, untapped, unvaried
from skip2lora.backbones.inputs import InputSpec
from skip2lora.backbones.masks import Mask
from skip2lora.backbones.openvino.ends import key_of
from skip2lora.backbones.openvino.graph import Output, Read
from skip2lora.backbones.openvino.inputs import Sizes, fix_batch, shapes_of
from skip2lora.backbones.openvino.opened import Opened
from skip2lora.backbones.openvino.probe import Look, mixing, refuse_late
from skip2lora.backbones.outputs import OutputSpec, candidates_of, choose, spec_of
from skip2lora.backbones.taps import Tap, tap_of
from skip2lora.errors import ModelError

_REALS = ("f32", "f16", "f64", "bf16")
_NUMBERS = (*_REALS, "i8", "u8", "i16", "u16", "i32", "i64")


@dataclass(frozen=True, eq=False)
class Source:
    """A tap and the output of an operator that it is read from.

    ``layout`` says where a sequence has the samples, None where first and alone;
    ``mask`` is the input that says which tokens count.
    """

    tap: Tap
    source: Any
    layout: Layout | None = None
    mask: Mask | None = None


@dataclass(frozen=True, eq=False)
class Anatomy:
    """All taps there could be, in order, all outputs, and the end that has the logits, or None.

    ``note`` says what is not known of a sample alone and the same one in a batch.
    """

    sources: tuple[Source, ...]
    outputs: tuple[OutputSpec, ...]
    end: Output | None
    n_outputs: int
    note: str | None = None

    def without_logits(self) -> Anatomy:
        """The same where the output that is taken does not follow from its logits on samples."""
        end = self.end
        outputs = tuple(
            of.refuted(end.end) if end is not None and of.name == end.name else of
            for of in self.outputs
        )
        return replace(self, outputs=outputs, end=None, n_outputs=0)


@dataclass(frozen=True)
class _Seen:
    """The shapes of one tensor for inputs of two sizes, and the two numbers of samples."""

    one: Sizes | None
    other: Sizes | None
    samples: tuple[int, int]
    verdict: Verdict

    @property
    def sizes(self) -> Sizes:
        """One size an axis, None where it changes; () where the number of axes is not known."""
        if not self.one or not self.other or len(self.one) != len(self.other):
            return ()
        return tuple(a if a == b else None for a, b in zip(self.one, self.other, strict=True))

    def along(self, axis: int) -> tuple[int | None, int | None]:
        """The two sizes of an axis, None for one that is not known."""
        return (self.one or ())[axis], (self.other or ())[axis]

    def by_sample(self, axis: int) -> bool:
        """Whether there is one place a sample along ``axis``."""
        return bool(self.sizes) and self.along(axis) in (self.samples, (None, None))

    @property
    def layout(self) -> Layout | None:
        """Where the samples are, as far as no other sample changes their numbers."""
        return self.verdict.layout if self.verdict.holds() else None

    def tokens(self, layout: Layout) -> int | None:
        """Rows of numbers that a sample has, None where they may change."""
        one, other = self.along(layout.axis)
        sizes = [*self.sizes[: layout.axis], *self.sizes[layout.axis + 1 : -1]]
        if one is None or other is None:
            return None
        counts = one // self.samples[0], other // self.samples[1]
        if counts[0] != counts[1] or None in sizes:
            return None
        return math.prod(size for size in (counts[0], *sizes) if size is not None)


def anatomy(
    opened: Opened, *, grid: int, output: str | int | None, mask: Mask | None = None
) -> Anatomy:
    """Find the layers and the logits of a network; ``mask`` says which tokens count.

    Raises:
        ModelError: there is no layer with weights whose input has a known width.
        ParameterError: there is no such ``output``, it has no row of numbers a sample, or several
            may be that with the classes.
    """
    graph, inputs, path = opened.graph, opened.inputs, opened.path
    reads, ends = graph.reads(), graph.ends()
    if not reads:
        raise ModelError(
            f"{path} has no layer with weights (MatMul, Convolution, ...), expected at least one: "
            "is this the whole network?"
        )
    sources = [read.source for read in reads] + [end.logits for end in ends]
    looked = opened.look
    if looked.batch is not None:
        fix_batch(graph.model, looked.batch)
    one, other, samples = shapes_of(graph.model, sources)
    verdicts, reason = looked.verdicts, looked.reason
    known = verdicts is not None
    if verdicts is None:  # no noise fits: by the shapes alone, folds are not known
        verdicts = [_by_shape(a, b, samples) for a, b in zip(one, other, strict=True)]
    seen = [_Seen(a, b, samples, each) for a, b, each in zip(one, other, verdicts, strict=False)]
    if ends and not any(each.layout for each in seen[len(reads) :]):
        refuse_late(graph, inputs, ends[0].logits, path)
    pairs = list(zip(reads, seen, strict=False))
    outputs = tuple(map(_spec, ends, seen[len(reads) :]))
    behind = [graph.ancestors(end.logits) for end in ends]
    keys = [key_of(end.logits) for end in ends]
    number = choose(candidates_of(outputs, keys, behind), output, path)
    if known and number is not None and seen[len(reads) + number].layout is None:
        verdict = seen[len(reads) + number].verdict
        raise mixing(graph, inputs, ends[number].logits, verdict, path)
    if number is None:
        first = [Read(end.name, end.name, end.logits) for end in ends[:1] if not outputs[0].closed]
        pairs += zip(first, seen[len(reads) :], strict=False)
    else:  # what only leads to other outputs, or is made of this one, says nothing of it
        before = behind[number] - {keys[number]}
        pairs = [pair for pair in pairs if key_of(pair[0].source) in before]
    note = unseen(reason) if reason else _steady(looked, number, inputs)
    counted = _counted(inputs, mask)
    tapped = [_source(read, shapes, counted, grid) for read, shapes in pairs]
    layers = tuple(source for source in tapped if source is not None)
    if ends and not layers and known and not all(each.layout for each in seen):
        raise mixing(graph, inputs, ends[0].logits, seen[len(reads)].verdict, path)
    if not layers:
        raise ModelError(
            f"{path}: no input of a layer with weights has a known width, expected at least one: "
            "convert the model with fixed shapes (only the samples and tokens may vary)"
        )
    unsure = [read.layer for read, each in pairs if each.verdict.ambiguous()]
    note = untapped(unsure) if unsure else note
    if number is None:
        return Anatomy(layers, outputs, None, 0, note)
    parts = Anatomy(layers, outputs, ends[number], outputs[number].width, note)
    return parts if _follows(ends, number, looked) else parts.without_logits()


def _steady(looked: Look, number: int | None, inputs: Sequence[InputSpec]) -> str | None:
    """What is said of logits ``number`` that are the same for all samples of noise.

    Not of several inputs, as one may be a mask that hides all of the others.
    """
    if looked.values is None or number is None or len(inputs) > 1:
        return None
    values = looked.values[number]
    return unvaried() if len(values) > 1 and np.all(values == values[:1]) else None


def _counted(inputs: Sequence[InputSpec], mask: Mask | None) -> tuple[Mask, int | None] | None:
    """The mask, and how many tokens it is for."""
    if mask is None:
        return None
    sizes = {spec.name: spec.shape for spec in inputs}
    return mask, sizes[mask.of][0] if mask.meaning == "lengths" else sizes[mask.name][-1]


def _follows(ends: Sequence[Output], number: int, looked: Look) -> bool:
    """Whether an output was what follows from its logits, where both were seen."""
    end, says = ends[number].end, [each.end.says is not None for each in ends]
    if looked.values is None:
        return True
    logits = said = looked.values[number]
    if says[number]:
        said = looked.values[len(ends) + sum(says[:number])]
    return end.agrees(logits.reshape(len(logits), -1), said)


def _spec(output: Output, seen: _Seen) -> OutputSpec:
    """What an output is; its sizes are open where it has not one row a sample."""
    inner: Sizes = (seen.sizes[1:] or (1,)) if seen.sizes else (None,)
    if not seen.sizes or not seen.by_sample(0):
        inner = tuple(None for _ in inner)
    kind = output.logits.get_element_type().get_type_name()
    return spec_of(output.name, inner, output.end, labels=kind not in _REALS)


def _by_shape(one: Sizes | None, other: Sizes | None, samples: tuple[int, int]) -> Verdict:
    """Where one place a sample is along the first axis, or the second."""
    axes = range(min(len(one or ()), len(other or ()), 2))
    held = (
        axis for axis in axes if ((one or ())[axis], (other or ())[axis]) in (samples, (None, None))
    )
    axis = next(held, None)
    return Verdict(None if axis is None else Layout(axis))


def _source(
    read: Read, seen: _Seen, counted: tuple[Mask, int | None] | None, grid: int
) -> Source | None:
    """The tap of what a layer reads, None where its width or the place of samples is not known."""
    shape, layout = seen.sizes, seen.layout
    if len(shape) < 2 or read.source.get_element_type().get_type_name() not in _NUMBERS:
        return None
    if layout is None:
        return None
    inner, first = shape[1:], layout == Layout(0)
    channels_first = read.convolves or (read.places_first and len(shape) == 3)
    if first and len(shape) > 2 and (channels_first or len(shape) > 3):
        if inner[0 if channels_first else -1] is None:
            return None
        tap = tap_of(read.layer, read.tensor, inner, channels_first=channels_first, grid=grid)
        return Source(tap, read.source)
    if inner[-1] is None or read.convolves or layout.axis == len(shape) - 1:
        return None
    if first and len(shape) == 2:
        return Source(tap_of(read.layer, read.tensor, inner), read.source)
    if layout.outer > 1 and layout.inner > 1 and seen.tokens(layout) is None:
        return None  # in which order is known of one number of tokens alone
    tap = tap_of(read.layer, read.tensor, (seen.tokens(layout), inner[-1]))
    is_counted = counted is not None and counted[1] == tap.shape[0]
    return Source(
        tap, read.source, None if first else layout,
        counted[0] if counted is not None and is_counted else None,
    )  # fmt: skip
