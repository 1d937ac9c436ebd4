"""Backbones whose samples are rows: those that were computed before, or random ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.backbones.base import Backbone, Taps
from skip2lora.backbones.inputs import InputSpec
from skip2lora.backbones.outputs import OutputSpec
from skip2lora.backbones.recipe import ANY_MODEL, Recipe
from skip2lora.backbones.taps import Tap
from skip2lora.errors import ModelError


def not_finite_rows() -> ModelError:
    """What is said of a model whose rows are not numbers."""
    return ModelError(
        "the model gave NaN or infinity for finite samples, expected finite taps and logits: check "
        "the model"
    )


@dataclass(frozen=True, eq=False)
class KnownRows(Backbone):
    """Samples are rows that were computed before, (samples, row_stride), laid out as ``layout``."""

    tap_widths: tuple[int, ...]
    n_outputs: int
    layout: _core.RowLayout
    fingerprint: str = "rows"

    def check(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """``X`` itself."""
        return X

    def forward(self, x: NDArray[np.float32]) -> Taps:
        """Views of the rows."""
        places = zip(self.layout.tap_offsets, self.tap_widths, strict=True)
        at = self.layout.logits_offset
        taps = tuple(x[:, start : start + width] for start, width in places)
        return Taps(taps, x[:, at : at + self.n_outputs])

    def write(
        self, x: NDArray[np.float32], layout: _core.RowLayout, first_tap: int,
        rows: NDArray[np.float32], column: int,
    ) -> None:  # fmt: skip
        """Copy rows from tap ``first_tap`` on, as ``layout``, into ``rows`` from ``column`` on.

        Raises:
            ModelError: a number is not finite.
        """
        start, stop = self.layout.tap_offsets[first_tap], self.layout.logits_offset
        stop += self.n_outputs
        part = x[:, start:stop]
        if not np.isfinite(part).all():
            raise not_finite_rows()
        rows[:, column : column + stop - start] = part
        rows[:, column + stop - start : column + layout.logits_offset + layout.n_outputs] = 0


@dataclass(frozen=True, eq=False, repr=False)
class RowsOf(KnownRows):
    """Rows in the place of ``model``, whose they are: it can be adapted, and no sample passes it.

    ``standins.over`` puts ``model`` back where that is done.
    """

    model: Backbone = field(kw_only=True)

    @classmethod
    def of(cls, model: Backbone, layout: _core.RowLayout) -> RowsOf:
        """What takes rows of ``model`` with all taps copied, laid out as ``layout``."""
        widths, n_outputs = model.tap_widths, model.n_outputs
        return cls(widths, n_outputs, layout, model.fingerprint, model=model)

    @property
    def base(self) -> Backbone:
        """That of ``model``."""
        return self.model.base

    @property
    def taps(self) -> tuple[Tap, ...]:
        """Those of ``model``."""
        return self.model.taps

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """Those of ``model``."""
        return self.model.inputs

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """Those of ``model``."""
        return self.model.outputs

    @property
    def output(self) -> str | None:
        """That of ``model``."""
        return self.model.output

    @property
    def task(self) -> str:
        """That of ``model``."""
        return self.model.task

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Those of ``model``."""
        return self.model.class_names

    @property
    def recipe(self) -> Recipe:
        """That of any model: none that needs samples."""
        return ANY_MODEL


@dataclass(frozen=True, eq=False)
class RandomRows(Backbone):
    """Random taps and logits whatever the samples, for the time of a step."""

    tap_widths: tuple[int, ...]
    n_outputs: int
    fingerprint: str = "random"

    def forward(self, x: NDArray[np.float32]) -> Taps:
        """As many rows as ``x`` has, the same ones at each call."""
        random = np.random.Generator(np.random.PCG64(0))
        sizes = [*self.tap_widths, self.n_outputs]
        taps = [random.random((len(x), width), dtype=np.float32) for width in sizes]
        return Taps(tuple(taps[:-1]), taps[-1])
