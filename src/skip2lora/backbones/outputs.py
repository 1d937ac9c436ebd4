"""Which output of a model is adapted: described, ranked and chosen alike for every runtime."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from skip2lora.errors import ParameterError

#: What may stand at the end of an output, that which tells most of classes first: an activation of
#: classes or of several labels, a layer with weights alone, anything else.
ENDINGS = ("softmax", "sigmoid", "logits", "unknown")
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
    ``ENDINGS``.
    """

    name: str
    shape: tuple[int | None, ...]
    ending: str = "unknown"

    def __str__(self) -> str:
        sizes = "x".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name} {sizes or 'of one number for all samples'} ({self.ending})"

    @property
    def width(self) -> int:
        """Numbers in the row that a sample has, 0 where that is no row of them."""
        sizes = [size for size in self.shape if size is not None]
        if not sizes or len(sizes) < len(self.shape):
            return 0
        width = math.prod(sizes)
        return width if max(sizes) == width < _MOST_OUTPUTS else 0

    def to_json(self) -> dict[str, Any]:
        """Name, shape and ending, as JSON holds them."""
        return asdict(self) | {"shape": list(self.shape)}


@dataclass(frozen=True)
class Candidate:
    """An output that may be taken; outputs with the same ``source`` of logits are one.

    ``feeds`` says that another output is computed from it, as from an embedding.
    """

    spec: OutputSpec
    source: Hashable
    feeds: bool = False

    @property
    def rank(self) -> tuple[bool, int, bool, bool]:
        """The lower, the more it tells that classes stand there."""
        ending, name = ENDINGS.index(self.spec.ending), self.spec.name
        unusual = _BEHIND.sub("", name.lower()) not in _USUAL
        return self.feeds, ending, self.spec.width == 1, unusual


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


def ending_of(activations: Collection[str], *, sigmoids: Collection[str], layer: bool) -> str:
    """The ending for the kinds of activations, and whether a layer with weights is before them."""
    if activations:
        return "sigmoid" if set(activations) & set(sigmoids) else "softmax"
    return "logits" if layer else "unknown"


def choose(candidates: Sequence[Candidate], asked: str | int | None, path: object) -> int | None:
    """The place of the output to take: that asked for by name or number, or the classifying one.

    None where no output has a row of numbers a sample.

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
    if not specs[at].width:
        raise ParameterError(
            f"output is {asked!r} for {path}, which is {specs[at]}, expected a row of numbers a "
            "sample: choose another"
        )
    return at
