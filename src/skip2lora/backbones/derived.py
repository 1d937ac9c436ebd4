"""Derived taps: more taps of a model, computed from what a row of it holds.

A row of them is the derived columns, then the row as it was: whoever has rows of the model, and no
samples, can derive the taps from those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import SamplesLike, choice, listing
from skip2lora.backbones.base import Backbone, Size, Taps
from skip2lora.backbones.outputs import OutputSpec
from skip2lora.backbones.standins import SameOutputs, StandIn
from skip2lora.backbones.taps import Selection, Shapes, Tap
from skip2lora.data.lazy import LazySamples, parts_of, read
from skip2lora.errors import DataError, ParameterError

LOGITS, LOG, LOG_CENTRED = "logits", "log", "log-centred"
#: Kinds that are powers of the sample, and their exponents.
POWERS = {"square": 2, "cube": 3, "fourth-power": 4}
KINDS = (LOGITS, LOG, LOG_CENTRED, *POWERS)
# What is added before the logarithm, of the largest number of a sample, in the mean over samples.
_SHARE = 0.01
_SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class DerivedTap:
    """One derived tap: the base logits themselves, a logarithm or a power of the sample.

    ``log`` is log(max(sample, 0) + shift), ``log-centred`` the same less its mean over the sample.
    ``square``, ``cube`` and ``fourth-power`` are those of sample / scale, where what is beyond -1
    or 1 counts as that. So no sample the model takes gives NaN or infinity, here or in an exported
    graph, which cannot refuse one.
    """

    kind: str
    shift: float = 0.0
    scale: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        if self.kind in POWERS:
            return {"kind": self.kind, "scale": self.scale}
        return {"kind": self.kind} | ({"shift": self.shift} if self.kind != LOGITS else {})

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> DerivedTap:
        """What :meth:`to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it gave something else.
        """
        kind = entry["kind"]
        if kind not in KINDS:
            raise ValueError(f"derived tap {kind!r}")
        if kind == LOGITS:
            return cls(kind)
        name = "scale" if kind in POWERS else "shift"
        value = float(entry[name])
        if not _SMALLEST <= value <= np.finfo(np.float32).max:
            raise ValueError(f"{name} {value}")
        return cls(kind, **{name: value})

    def width(self, backbone: Backbone) -> int:
        """Floats of the tap."""
        return backbone.n_outputs if self.kind == LOGITS else backbone.tap_widths[0]


@dataclass(frozen=True, eq=False)
class Derived(SameOutputs):
    """``backbone`` with the taps ``derived`` before its own; :meth:`of` checks and makes it.

    It has the fingerprint of ``backbone``: an adapter's folder names the derived taps, as it names
    the layers that are tapped.
    """

    derived: tuple[DerivedTap, ...]

    def __repr__(self) -> str:
        return f"Derived({self.backbone!r}, {', '.join(tap.kind for tap in self.derived)})"

    @classmethod
    def of(
        cls, backbone: Backbone, kinds: Iterable[str], samples: SamplesLike | None = None
    ) -> Derived:
        """``backbone`` with derived taps of these kinds.

        They are "logits", "log", "log-centred", "square", "cube" and "fourth-power".
        All but logits need ``samples``, logarithms such without negative numbers: a hundredth of
        the largest number of a sample, in the mean over them, is added, so that the unit of the
        samples is of no account and no 0 stands far out. Powers are those of the sample divided by
        the largest number of a sample without its sign, in the mean over them.

        Raises:
            ParameterError: no such kind; logits of a model without; logarithms or powers of a model
                whose first tap is not the sample.
            DataError: samples the model cannot take, or a logarithm of a negative number.
        """
        names = tuple(choice("derived taps", kind, KINDS) for kind in kinds)
        if LOGITS in names and not backbone.n_outputs:
            raise ParameterError(
                f"derived taps have logits, but {backbone!r} has none, expected a model with "
                "outputs: leave logits out"
            )
        of_sample = [name for name in names if name != LOGITS]
        if not of_sample:
            return cls(backbone, tuple(map(DerivedTap, names)))
        if not taps_samples(backbone):
            raise ParameterError(
                f"derived taps have {of_sample[0]} of the sample, but the first tap of "
                f"{backbone!r} is none, expected such as of an MLP: leave {listing(of_sample)} out"
            )
        if samples is None:
            raise ParameterError(
                f"derived taps have {of_sample[0]} of the sample without samples, expected some "
                "that tell how large their numbers are: pass samples"
            )
        known = samples if isinstance(samples, LazySamples) else backbone.check(samples)
        shift = _shift_of(known) if {LOG, LOG_CENTRED} & set(names) else 0.0
        tap_of = {LOGITS: DerivedTap(LOGITS)}
        tap_of |= {kind: DerivedTap(kind, shift=shift) for kind in (LOG, LOG_CENTRED)}
        tap_of |= {kind: DerivedTap(kind, scale=_scale_of(known)) for kind in POWERS}
        return cls(backbone, tuple(tap_of[name] for name in names))

    # --- what is derived --------------------------------------------------------------------

    @property
    def tap_widths(self) -> tuple[int, ...]:
        """Of the derived taps, then of those of ``backbone``."""
        widths = (tap.width(self.backbone) for tap in self.derived)
        return (*widths, *self.backbone.tap_widths)

    @property
    def taps(self) -> tuple[Tap, ...]:
        """The derived ones, then those of ``backbone``."""
        more = [Tap(d.kind, d.kind, "vector", (d.width(self.backbone),)) for d in self.derived]
        return (*more, *self.backbone.taps)

    @property
    def first_tap_is_input(self) -> bool:
        """No: a derived tap comes first."""
        return not self.derived and self.backbone.first_tap_is_input

    def forward(self, x: Any) -> Taps:
        """Taps and base logits of checked samples."""
        taps = self.backbone.forward(x)
        widths = self.tap_widths[: len(self.derived)]
        more = [np.empty((len(x), width), np.float32) for width in widths]
        self.derive(taps, more)
        return Taps((*more, *taps.taps), taps.base_logits)

    def derive(self, taps: Taps, out: Sequence[NDArray[np.float32]]) -> None:
        """Write the derived taps, (samples, width) each, of samples whose others these are."""
        logs: dict[float, NDArray[np.float32]] = {}
        for tap, values in zip(self.derived, out, strict=True):
            if tap.kind == LOGITS:
                values[:] = taps.base_logits
                continue
            if tap.kind in POWERS:
                most = np.float32(tap.scale)
                unit = np.clip(taps.taps[0], -most, most) / most
                values[:] = unit
                for _ in range(1, POWERS[tap.kind]):
                    np.multiply(values, unit, out=values)
                continue
            log = logs.get(tap.shift)
            if log is None:
                np.maximum(taps.taps[0], np.float32(0), out=values)
                np.add(values, np.float32(tap.shift), out=values)
                log = np.log(values, out=values)
            if tap.kind == LOG_CENTRED:
                np.subtract(log, log.mean(axis=1, keepdims=True), out=values)
            else:
                logs[tap.shift] = log

    # --- what is as it was ------------------------------------------------------------------

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """Those of ``backbone``."""
        return self.backbone.outputs

    @property
    def output(self) -> str | None:
        """That of ``backbone``."""
        return self.backbone.output

    @property
    def task(self) -> str:
        """That of ``backbone``."""
        return self.backbone.task

    @property
    def path(self) -> Any:
        """That of ``backbone``."""
        return self.backbone.path

    @property
    def sample_shapes(self) -> Shapes | None:
        """Those of ``backbone``."""
        return self.backbone.sample_shapes

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of ``backbone``."""
        return self.backbone.notes

    def logits(self, x: SamplesLike) -> NDArray[np.float32]:
        """Those of ``backbone``."""
        return self.backbone.logits(x)

    def named(self, class_names: Any) -> Derived:
        """A copy whose outputs have these names; itself for None."""
        return self if class_names is None else self._over(self.backbone.named(class_names))

    def with_output(self, output: str | int) -> Derived:
        """The same taps of another output of ``backbone``."""
        return self._over(self.backbone.with_output(output))

    def with_taps(
        self, selection: Selection, *, grid: int | None = None, size: Size | None = None
    ) -> Derived:
        """The same derived taps before others of ``backbone``."""
        return self._over(self.backbone.with_taps(selection, grid=grid, size=size))

    def _over(self, backbone: Backbone) -> Derived:
        return Derived(backbone, self.derived)


def derived_taps(backbone: Backbone) -> tuple[DerivedTap, ...]:
    """Those of ``backbone``, or of what it stands in for."""
    if isinstance(backbone, Derived):
        return backbone.derived
    return derived_taps(backbone.backbone) if isinstance(backbone, StandIn) else ()


def with_derived(model: Backbone, taps: tuple[DerivedTap, ...]) -> Backbone:
    """``model`` with more derived taps before its own, under what stands in for it."""
    if isinstance(model, Derived):
        return Derived(model.backbone, (*taps, *model.derived))
    if isinstance(model, StandIn):
        return replace(model, backbone=with_derived(model.backbone, taps))
    return Derived(model, taps)


def taps_samples(backbone: Backbone) -> bool:
    """Whether the first tap of a row is the sample, copied or not."""
    if backbone.first_tap_is_input:
        return True
    first, inputs = backbone.taps[0], backbone.inputs
    return (
        first.kind == "vector"
        and [of.name for of in inputs] == [first.tensor]
        and inputs[0].shape == first.shape
        and inputs[0].dtype == "float32"
    )


def _each(
    samples: Any, of: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """A number of each sample, (samples,)."""
    parts = parts_of(samples, len(samples))
    return np.concatenate([of(read(samples[part])) for part in parts])


def _scale_of(samples: Any) -> float:
    """The largest number of a sample without its sign, in the mean over checked samples."""
    parts = _each(samples, lambda x: np.maximum(x.max(axis=1), -x.min(axis=1)))
    scale = np.float32(parts.mean(dtype=np.float64))
    return float(scale) if scale >= _SMALLEST else 1.0


def _shift_of(samples: Any) -> float:
    """What is added to checked samples before the logarithm."""
    smallest = _each(samples, lambda x: x.min(axis=1))
    if smallest.min() < 0:
        sample = int(np.argmax(smallest < 0))
        values = read(samples[sample : sample + 1])[0]
        column = int(np.argmax(values < 0))
        raise DataError(
            f"sample {sample} has {values[column]:g} in column {column}, expected no "
            "negative number for its logarithm: leave log and log-centred out"
        )
    largest = _each(samples, lambda x: x.max(axis=1))
    shift = np.float32(_SHARE * largest.mean(dtype=np.float64))
    return float(shift) if shift >= _SMALLEST else 1.0
