"""A base model as .tflite, with the adapters that it is exported with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapters.adapters import Result, SkipAdapters
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.derived import DerivedTap, derived_taps
from skip2lora.backbones.ends import PAIR
from skip2lora.backbones.litert.backbone import LiteRTBackbone
from skip2lora.backbones.litert.file import Graph, Operator, Output, Tensor, parse
from skip2lora.backbones.standins import Bare, Binary, Headless
from skip2lora.backbones.taps import Tap
from skip2lora.errors import ModelError
from skip2lora.export.tflite_mlp import twin

#: Operators behind logits that take any number of classes.
_OF_ANY_WIDTH = frozenset({"SOFTMAX", "LOGISTIC", "QUANTIZE", "DEQUANTIZE", "ARG_MAX"})


@dataclass(frozen=True, eq=False)
class Base:
    """A base model, with the adapters that go with its ``sources``.

    ``given`` is what was adapted, ``backbone`` the file. ``anew`` says that outputs are learned
    anew, so that the file's own stay out of them; ``apart`` that the sum is an output of its own.
    """

    given: Backbone
    backbone: LiteRTBackbone
    adapters: SkipAdapters
    sources: tuple[Tap | DerivedTap, ...]
    tensors: tuple[Tensor | None, ...]
    anew: bool
    apart: bool

    @property
    def graph(self) -> Graph:
        """What the file says."""
        return self.backbone.graph

    @property
    def end(self) -> Output | None:
        """The output whose logits adapters are added to; None where there is none."""
        return None if self.anew else self.backbone.end

    @property
    def fingerprint(self) -> str:
        """That of the model that the adapters were made for."""
        return self.given.base.fingerprint

    @property
    def columns(self) -> NDArray[np.float32] | None:
        """What the numbers of the file's logits are multiplied by, as ``End.columns``."""
        columns = self.own_columns
        if self.end is not None and isinstance(self.given, Binary):
            return (1 if columns is None else columns.item()) * PAIR
        return columns

    @property
    def own_columns(self) -> NDArray[np.float32] | None:
        """The same for the logits of ``backbone``, which derived taps are made of."""
        return None if self.end is None else self.end.end.columns(math.prod(self.shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the file's logits, for one sample."""
        return () if self.end is None else self.end.logits.sample_shape

    def makers(self) -> dict[int, int]:
        """The number of the operator that makes each tensor."""
        operators = enumerate(self.graph.operators)
        return {index: number for number, of in operators for index in of.outputs}

    def number_of(self, operator: Operator) -> int:
        """The place of an operator in the file."""
        return next(at for at, each in enumerate(self.graph.operators) if each is operator)


def read_base(given: Backbone, adapters: Result) -> Base:
    """The file that ``given`` is or stands in for, if ``adapters`` fit it.

    Raises:
        ModelError: it is no .tflite model or ``MLP``, has a state or control flow, or they do not
            fit.
    """
    backbone = twin(given)
    if not isinstance(backbone, LiteRTBackbone) or not isinstance(adapters, SkipAdapters):
        raise ModelError(
            f"got {type(adapters).__name__} for {type(given.base).__name__}, expected adapters "
            "from the taps of a model as .tflite, or of an MLP: adapt such a model with skip2-lora"
        )
    if backbone.graph.cut is not None:
        raise ModelError(
            f"{backbone.path}: {backbone.graph.cut}, expected a model that is whole: adapt what "
            "was left out of it apart"
        )
    # As the file says them: sizes that it leaves open are not those of one sample.
    of_file = parse(backbone.graph.content, str(backbone.path)).tensors
    layers = backbone.graph.layers(backbone.end)
    tensor_of = {layer.name: of_file[layer.input.index] for layer in layers}
    derived = derived_taps(given)
    every: tuple[Tap | DerivedTap, ...] = (*derived, *backbone.taps)
    sources = every[adapters.first_tap :]
    tensors = (*(None for _ in derived), *(tensor_of[tap.layer] for tap in backbone.taps))
    widths = [of.width if isinstance(of, Tap) else of.width(given.base) for of in sources]
    got = [len(array) for array in adapters.lora_a]
    anew = isinstance(given, Headless)
    n_outputs = 0 if anew else given.n_outputs
    if widths != got or adapters.n_outputs < n_outputs:
        raise ModelError(
            f"the model has taps of {widths} with {n_outputs} outputs, expected {got} with "
            f"{adapters.n_outputs} as the adapters: load it with the taps they were made for"
        )
    more = adapters.n_outputs > n_outputs
    apart = anew or isinstance(given, Bare) or (more and not _widens(backbone, given))
    apart |= _feeds_states(backbone)
    tapped = tensors[adapters.first_tap :]
    return Base(given, backbone, adapters, sources, tapped, anew, apart)


def _feeds_states(backbone: LiteRTBackbone) -> bool:
    """Whether what a later call begins with is made of the logits, and so is to stay as it is."""
    logits = None if backbone.end is None else backbone.end.logits.index
    graph = backbone.graph
    return any(logits in graph.ancestors(of.written) for of in graph.variables)


def _widens(backbone: LiteRTBackbone, given: Backbone) -> bool:
    """Whether what follows from the logits takes more classes."""
    if backbone.end is None or isinstance(given, Binary) or backbone.end.end.pair:
        return False
    behind = {backbone.end.logits.index}
    for operator in backbone.graph.operators:
        if behind.intersection(operator.inputs):
            if operator.name not in _OF_ANY_WIDTH:
                return False
            behind.update(operator.outputs)
    return True
