"""Which output of a model is adapted: described, ranked and chosen alike for every runtime."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Hashable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from skip2lora.backbones.ends import End
from skip2lora.errors import ParameterError

#: What may stand at the end of an output, that which tells most of classes first: an activation of
#: classes or of several labels, a layer with weights alone, anything else, numbers that are no
#: logits, and what says of classes without giving logits.
ENDINGS = ("softmax", "sigmoid", "logits", "unknown", "numbers", "probabilities", "labels")
#: The tasks that activations are for.
ACTIVATIONS = {"softmax": "classification", "sigmoid": "multi-label"}
#: Those of outputs that cannot be kept, as nothing can be added before what made them.
CLOSED = ("probabilities", "labels")
NO_LOGITS = "whole numbers, labels or texts, from which no logits follow"
#: What exporters and people call an output with classes, without numbers and signs behind it.
_USUAL = frozenset({
    "logits", "logit", "scores", "score", "probabilities", "probability", "probs", "prob",
    "classes", "class", "labels", "label", "outputs", "output", "predictions", "prediction",
    "output_probability", "output_label", "class_logits", "class_probabilities",
})  # fmt: skip
_BEHIND = re.compile(r"[\W_\d]+$")
_MOST_OUTPUTS = 1 << 20


@dataclass(frozen=True)
class OutputSpec:
    """One output: ``shape`` is that of one sample, before its last activation.

    A size that is open, or one that does not go with the samples, is None. ``ending`` is one of
    ``ENDINGS``; ``reason`` says why an output has no logits. ``bare`` is a label of the largest
    logit, which tells nothing of probabilities.
    """

    name: str
    shape: tuple[int | None, ...]
    ending: str = "unknown"
    reason: str = ""
    bare: bool = field(default=False, repr=False, compare=False)

    def __str__(self) -> str:
        sizes = "x".join("?" if size is None else str(size) for size in self.shape)
        ending = self.reason or self.ending
        return f"{self.name} {sizes or 'of one number for all samples'} ({ending})"

    @property
    def closed(self) -> bool:
        """Whether it says of classes what no logits follow from."""
        return self.ending in CLOSED

    def refuted(self, end: End) -> OutputSpec:
        """That of an output that on samples was not what follows from its logits, as ``end`` is."""
        return replace(self, ending="probabilities", reason=end.refuted().reason)

    @property
    def width(self) -> int:
        """Numbers in the row that a sample has, 0 where that is no row of them."""
        sizes = [size for size in self.shape if size is not None]
        if not sizes or len(sizes) < len(self.shape) or self.closed:
            return 0
        width = math.prod(sizes)
        return width if max(sizes) == width < _MOST_OUTPUTS else 0

    def to_json(self) -> dict[str, Any]:
        """Name, shape and ending, as JSON holds them, and the reason where there is one."""
        fields = asdict(self) | {"shape": list(self.shape)}
        del fields["bare"]
        return fields if self.reason else {k: v for k, v in fields.items() if k != "reason"}


def spec_of(name: str, shape: tuple[int | None, ...], end: End, *, labels: bool) -> OutputSpec:
    """What an output is; ``shape`` is that of its logits, ``labels`` says it has no reals."""
    if end.reason:
        return OutputSpec(name, shape, end.ending, end.reason)
    if labels:
        return OutputSpec(name, shape, "labels", NO_LOGITS)
    if not end.pair:
        return OutputSpec(name, shape, end.ending, bare=end.bare)
    width = OutputSpec(name, shape).width  # 1 - p beside p
    return OutputSpec(name, (2,), "softmax") if width == 1 else OutputSpec(name, shape, "sigmoid")


@dataclass(frozen=True)
class Candidate:
    """An output that may be taken; outputs with the same ``source`` of logits are one.

    ``feeds`` says that another output is computed from it, as from an embedding.
    """

    spec: OutputSpec
    source: Hashable
    feeds: bool = False

    @property
    def rank(self) -> tuple[bool, float, bool, bool]:
        """The lower, the more it tells of classes; a label tells less than probabilities."""
        ending, name = float(ENDINGS.index(self.spec.ending)), self.spec.name
        ending = ENDINGS.index("logits") - 0.5 if self.spec.bare else ending
        unusual = _BEHIND.sub("", name.lower()) not in _USUAL
        return self.feeds and not self.spec.bare, ending, self.spec.width == 1, unusual


def candidates_of(
    specs: Sequence[OutputSpec],
    sources: Sequence[Hashable],
    ancestors: Sequence[Collection[Hashable]],
) -> list[Candidate]:
    """Outputs of a graph; ``ancestors[k]`` are all tensors that output k is computed from."""
    behind = list(zip(sources, ancestors, strict=True))
    return [
        Candidate(spec, source, any(source != other and source in of for other, of in behind))
        for spec, source in zip(specs, sources, strict=True)
    ]


def task_of(spec: OutputSpec | None) -> str:
    """The task that the output taken tells, if any: a name of :data:`skip2lora.tasks.task.TASKS`.

    One number without a sigmoid is a number.
    """
    if spec is None:
        return "classification"
    number = spec.width == 1 or spec.ending == "numbers"
    return ACTIVATIONS.get(spec.ending, "regression" if number else "classification")


def choose(candidates: Sequence[Candidate], asked: str | int | None, path: object) -> int | None:
    """The place of the output to take: that asked for by name or number, or the classifying one.

    None where no output has a row of numbers a sample, or where the one that says of classes has no
    logits and another is but an embedding or a label.

    Raises:
        ParameterError: there is no such output, it is no row of numbers a sample, or none is asked
            for and two different ones tell equally much of classes.
    """
    specs = [each.spec for each in candidates]
    if asked is not None:
        return named(specs, asked, path)
    rows = [number for number, spec in enumerate(specs) if spec.width]
    if not rows:
        return None
    best = min(candidates[number].rank for number in rows)
    first, *others = (number for number in rows if candidates[number].rank == best)
    unsure = specs[first].bare or best[1] >= ENDINGS.index("unknown")
    if unsure and any(spec.closed for spec in specs):
        return None
    if any(candidates[number].source != candidates[first].source for number in others):
        listed = ", ".join(map(str, specs))
        raise ParameterError(
            f"{path} has the outputs {listed}, of which several may be that with the classes, "
            "expected one to be told: choose it with output="
        )
    return first


def named(specs: Sequence[OutputSpec], asked: str | int, path: object) -> int:
    """The place of the output of that name or number.

    Raises:
        ParameterError: there is none, or it is no row of numbers a sample.
    """
    at = next((number for number, spec in enumerate(specs) if spec.name == asked), None)
    if at is None and type(asked) is int and 0 <= asked < len(specs):
        at = asked
    if at is None:
        if len(specs) < 2:
            own = (
                f"{specs[0].name!r}, as it has one output" if specs else "none, as it has no logits"
            )
            raise ParameterError(
                f"output is {asked!r} for {path}, expected {own}: leave output out"
            )
        names = ", ".join(spec.name for spec in specs)
        raise ParameterError(
            f"output is {asked!r} for {path}, expected a name or number from 0 of {names}: choose "
            "one of them"
        )
    if specs[at].closed:
        raise ParameterError(
            f"output is {asked!r} for {path}, which is {specs[at].reason}, expected one with "
            "logits: choose another, or learn outputs of your own with keep_outputs=False"
        )
    if not specs[at].width:
        raise ParameterError(
            f"output is {asked!r} for {path}, which is {specs[at]}, expected a row of numbers a "
            "sample: choose another"
        )
    return at
