"""Backbones that stand in for another, with other outputs or taps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.backbones.base import Backbone, Taps
from skip2lora.backbones.ends import PAIR
from skip2lora.backbones.inputs import InputSpec
from skip2lora.backbones.outputs import ACTIVATIONS
from skip2lora.backbones.recipe import ANY_MODEL, Recipe
from skip2lora.backbones.said import Said
from skip2lora.backbones.taps import Tap
from skip2lora.data.media import Media
from skip2lora.errors import ParameterError
from skip2lora.tasks.columns import Columns
from skip2lora.tasks.predictor import member


class Places(Protocol):
    """Samples by where their rows lie on a disk: they are indexed like samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, which: slice | NDArray[np.integer]) -> Places: ...

    def announce(self) -> None:
        """Let the system begin to read them."""

    def moments(self) -> NDArray[np.float64] | None:
        """Mean and variance of the columns of the rows, (2, floats), where these are known."""


#: Checked samples to places; it is told how many were found each time some were.
Locate = Callable[[Any, Callable[[int], None]], Places]


@dataclass(frozen=True, eq=False)
class Into:
    """Samples whose taps are read right into ``rows``, (samples, row_stride), of that layout."""

    samples: Any
    rows: NDArray[np.float32]
    layout: _core.RowLayout

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class StandIn(Backbone):
    """``backbone`` with other outputs, or with more taps."""

    backbone: Backbone

    @property
    def base(self) -> Backbone:
        """The model with its own taps and outputs, whatever stands in for it."""
        return self.backbone.base

    @property
    def tap_widths(self) -> tuple[int, ...]:
        """Those of ``backbone``."""
        return self.backbone.tap_widths

    @property
    def taps(self) -> tuple[Tap, ...]:
        """Those of ``backbone``."""
        return self.backbone.taps

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """Those of ``backbone``."""
        return self.backbone.inputs

    @property
    def columns(self) -> Columns:
        """Those of ``backbone``."""
        return self.backbone.columns

    @property
    def images(self) -> Media | None:
        """As of ``backbone``."""
        return self.backbone.images

    @property
    def first_tap_is_input(self) -> bool:
        """As of ``backbone``."""
        return self.backbone.first_tap_is_input

    @property
    def takes_table(self) -> bool:
        """As of ``backbone``."""
        return self.backbone.takes_table

    @property
    def recipe(self) -> Recipe:
        """That of ``backbone``."""
        return self.backbone.recipe

    @property
    def samples_at_once(self) -> int:
        """As of ``backbone``."""
        return self.backbone.samples_at_once

    @property
    def reads(self) -> bool:
        """Whether ``forward`` takes samples that are not read yet, and reads what it needs."""
        return isinstance(self.backbone, StandIn) and self.backbone.reads

    def looked_up(self, x: Any) -> tuple[Any, bool]:
        """Samples that ``forward`` takes, where ``reads``, and whether it computes no row of them.

        Their rows were looked for once, then.
        """
        return self.backbone.looked_up(x) if isinstance(self.backbone, StandIn) else (x, False)

    def reads_into(self, layout: _core.RowLayout) -> bool:
        """Whether ``forward`` takes samples :class:`Into` rows of that layout, if all are there."""
        return isinstance(self.backbone, StandIn) and self.backbone.reads_into(layout)

    @property
    def locate(self) -> Locate | None:
        """What finds rows of samples on a disk, for ``forward`` to read; None: there are none."""
        return self.backbone.locate if isinstance(self.backbone, StandIn) else None

    @property
    def runtime(self) -> str | None:
        """That of ``backbone``."""
        return self.backbone.runtime

    def check(self, X: Any) -> Any:
        """``X`` as ``backbone`` takes it.

        Raises:
            DataError: samples it cannot take.
        """
        return self.backbone.check(X)


@dataclass(frozen=True, eq=False)
class Headless(StandIn):
    """``backbone`` with ``n_outputs`` outputs that are 0: adapters and a bias make all of them.

    Others can be learned so, on its taps alone.
    """

    n_outputs: int

    @property
    def fingerprint(self) -> str:
        """That of ``backbone``, marked: an adapter of the one does not fit the other."""
        return f"{self.backbone.fingerprint}-headless-{self.n_outputs}"

    @property
    def recipe(self) -> Recipe:
        """That for any model: outputs are learned anew, and not corrected."""
        return ANY_MODEL

    def forward(self, x: Any) -> Taps:
        """Taps of checked samples, and base logits of 0, (samples, n_outputs)."""
        taps = self.backbone.forward(x)
        return replace(taps, base_logits=np.zeros((len(x), self.n_outputs), np.float32))


@dataclass(frozen=True, eq=False)
class Binary(StandIn):
    """``backbone`` of one output, a logit, as two classes: the second is what it speaks for."""

    n_outputs = 2

    @property
    def said(self) -> Said:
        """That of ``backbone``, of what it was adapted to."""
        return self.backbone.said

    @member
    def class_names(self) -> tuple[str, ...] | None:
        """Those that the file of ``backbone`` says."""
        return self.said.fitting(2).class_names

    @property
    def fingerprint(self) -> str:
        """That of ``backbone``, marked."""
        return f"{self.backbone.fingerprint}-binary"

    def forward(self, x: Any) -> Taps:
        """Taps of checked samples, and base logits (samples, 2)."""
        taps = self.backbone.forward(x)
        return replace(taps, base_logits=taps.base_logits * PAIR)


@dataclass(frozen=True, eq=False)
class SameOutputs(StandIn):
    """``backbone`` with its outputs: an adapter of the one is one of the other."""

    @property
    def n_outputs(self) -> int:
        """That of ``backbone``."""
        return self.backbone.n_outputs

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Those of ``backbone``."""
        return self.backbone.class_names

    @property
    def fingerprint(self) -> str:
        """That of ``backbone``, as its rows are."""
        return self.backbone.fingerprint


@dataclass(frozen=True, eq=False)
class Bare(SameOutputs):
    """``backbone`` whose logits learn another task than the activation behind them tells."""

    def forward(self, x: Any) -> Taps:
        """Those of ``backbone``."""
        return self.backbone.forward(x)


@dataclass(frozen=True, eq=False)
class LastTaps(SameOutputs):
    """``backbone`` without the taps before ``first_tap``."""

    first_tap: int

    @property
    def tap_widths(self) -> tuple[int, ...]:
        """Those that are left."""
        return tuple(self.backbone.tap_widths[self.first_tap :])

    @property
    def taps(self) -> tuple[Tap, ...]:
        """Those that are left."""
        return self.backbone.taps[self.first_tap :]

    @property
    def first_tap_is_input(self) -> bool:
        """As of ``backbone``, if that tap is left."""
        return self.first_tap == 0 and self.backbone.first_tap_is_input

    def forward(self, x: Any) -> Taps:
        """Those of ``backbone`` that are left, and its logits."""
        taps = self.backbone.forward(x)
        return replace(taps, taps=taps.taps[self.first_tap :])


@dataclass(frozen=True, eq=False)
class Watched(SameOutputs):
    """``backbone``, of which ``seen`` is told how many samples have passed, each time some did."""

    seen: Callable[[int], None]

    @property
    def locate(self) -> Locate | None:
        """That of ``backbone``, of which ``seen`` is told, too."""
        locate = super().locate
        return locate and (lambda x, _: locate(x, self.seen))

    def forward(self, x: Any) -> Taps:
        """Those of ``backbone``."""
        taps = self.backbone.forward(x)
        self.seen(len(x))
        return taps


def for_task(model: Backbone, task: str) -> Backbone:
    """``model`` with outputs that are what ``task`` learns: itself, or a stand-in.

    Raises:
        ParameterError: its outputs are numbers and no logits, and ``task`` is no regression.
    """
    spec = next((spec for spec in model.outputs if spec.name == model.output), None)
    ending = "" if spec is None else spec.ending
    if spec is not None and ending == "numbers" and task != "regression":
        raise ParameterError(
            f"output {spec.name} of the model is {spec.reason}, expected logits for {task}: learn "
            "all anew with keep_outputs=False, or numbers with task='regression'"
        )
    if model.n_outputs == 1 and task == "classification":
        return Binary(model)
    return model if ACTIVATIONS.get(ending, task) == task else Bare(model)


def runs(model: Backbone) -> Backbone:
    """What ``model`` runs, below its stand-ins."""
    return runs(model.backbone) if isinstance(model, StandIn) else model


def over(model: Backbone, base: Backbone) -> Backbone:
    """``base`` in the place of what ``model`` runs, below the same stand-ins."""
    if isinstance(model, StandIn):
        return replace(model, backbone=over(model.backbone, base))
    return base
