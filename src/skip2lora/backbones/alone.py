"""Whether a sample has the same numbers alone and among others, and where a tensor holds samples.

A model runs a few times on few samples that differ (:func:`batches_of`): among others, among
others still and in another order, alone. What holds by the numbers that came out is known of any
tensor of any runtime, whatever the operators that made it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import listing
from skip2lora.errors import ModelError

#: Of what samples differ by: what others may change of one that keeps its place in a batch of the
#: same size, for which a runtime computes the same numbers in the same order.
_SWAYED = 1e-4
#: What another place, or another number of samples, may change besides: rounding, of any type.
_MOVED = 0.02
#: What samples that are quantised with one scale for all of a batch may change.
_DYNAMIC = 0.2
#: From when on a change is worth a word.
_NOTED = 1e-3
#: Of a tensor's largest number: what rounding alone makes of it.
_ROUNDED = 1e-6
#: Places along an axis that are looked at first, where an order is not likely.
_FEW = 4
#: Times the change of the best order that another one may have.
_AS_WELL = 10
_NOT_KNOWN = (
    "so it is not known whether a sample has the same numbers alone and in a batch: compare "
    "predictions of one sample and of several"
)

#: Numbers of samples, in the order in which a batch holds them.
Batch = tuple[int, ...]


N_SAMPLES = 4  # of which the batches of a model of any number are


def batches_of(size: int | None) -> tuple[Batch, ...]:
    """Which samples each run has, for a model of any number of samples or of ``size`` at a time.

    The second sample keeps its place while all others change; one moves to another place. Of any
    number, or two, none is beside all that are compared: were its numbers the largest, and all
    divided by these, nothing would change. A model of one sample runs the first one twice.
    """
    if size is None:
        return (0, 1, 2), (2, 1, 3), (0,)
    if size == 1:
        return (0,), (1,), (0,)
    first = tuple(range(size))
    if size == 2:
        return first, (2, 1), (3, 0)
    return first, (size, 1, *range(size + 1, 2 * size - 2), 0)


class Layout(NamedTuple):
    """Axis ``axis`` holds ``outer`` x samples x ``inner`` places, in that order."""

    axis: int
    outer: int = 1
    inner: int = 1

    @property
    def parts(self) -> int:
        """Places of one sample along the axis."""
        return self.outer * self.inner

    def by_sample(self, values: NDArray[Any], n_samples: int) -> NDArray[Any]:
        """``values`` with the samples first; where they lie in a row, in rows of any length."""
        shape = values.shape
        parts = shape[self.axis] // n_samples
        outer = self.outer if self.inner > 1 or self.outer == 1 else parts
        split = (outer, n_samples, parts // outer)
        whole = values.reshape(*shape[: self.axis], *split, *shape[self.axis + 1 :])
        return np.moveaxis(whole, self.axis + 1, 0)


@dataclass(frozen=True)
class Verdict:
    """What a tensor shows: where its samples are, and by how much their numbers changed.

    ``layout`` is None where no axis holds one sample's numbers as they were in another batch.
    ``swayed`` is what other samples changed of one that kept its place, ``moved`` what its place or
    the number of samples changed, ``spread`` what the samples differ by, and ``largest`` the
    largest number; 0 where it was not needed. ``rival`` is another place where the samples may be.
    """

    layout: Layout | None
    swayed: float = 0.0
    moved: float = 0.0
    spread: float = 0.0
    largest: float = 0.0
    rival: Verdict | None = None

    @property
    def apart(self) -> float:
        """The largest change."""
        return max(self.swayed, self.moved)

    def holds(self, *, dynamic: bool = False) -> bool:
        """Whether a sample alone has the numbers that it has in a batch, but for rounding.

        Only where it is known which numbers are its own. ``dynamic`` is for models that round all
        samples of a batch with one scale.
        """
        return self.fits(dynamic=dynamic) and not self.ambiguous(dynamic=dynamic)

    def ambiguous(self, *, dynamic: bool = False) -> bool:
        """Whether the numbers do not tell which are those of a sample."""
        rival = self.rival
        if rival is None or not rival.fits(dynamic=dynamic):
            return False
        rounded = _ROUNDED * max(self.largest, rival.largest)
        return rival.apart <= _AS_WELL * max(self.apart, rounded)

    def fits(self, *, dynamic: bool = False) -> bool:
        """As :meth:`holds`, if the samples are where ``layout`` says."""
        if self.layout is None or math.isinf(self.apart):
            return False
        rounded = _ROUNDED * self.largest
        if dynamic:
            return self.apart <= max(_DYNAMIC * self.spread, rounded)
        swayed = self.swayed <= max(_SWAYED * self.spread, rounded)
        return swayed and self.moved <= max(_MOVED * self.spread, rounded)


def mixed(path: object, what: str, verdict: Verdict, *, random: bool = False) -> ModelError:
    """The error for a part of a model whose numbers depend on more than the sample."""
    if random:
        return ModelError(
            f"{path}: {what} is random or keeps something from call to call, expected the same "
            "numbers for the same sample, as samples are cached: export the model for inference"
        )
    if verdict.ambiguous():
        return ModelError(
            f"{path}: {what} has the same numbers in several orders of its samples, of noise, "
            "expected an axis of samples that they tell from the others: export the model for any "
            "number of samples"
        )
    share = "have no axis of their own in it"
    if verdict.layout is not None:
        share = f"change by {verdict.apart:.2g} of {verdict.largest:.3g} with the others"
    return ModelError(
        f"{path}: {what} mixes the samples of a batch, whose numbers {share}, expected those of a "
        "sample alone, as samples are cached: export the model for inference (model.eval()) and "
        "without what is computed over all samples"
    )


def note_of(verdict: Verdict) -> str | None:
    """What is said of logits that are rounded differently alone and in a batch; None for little."""
    if verdict.apart <= max(_NOTED * verdict.spread, _ROUNDED * verdict.largest):
        return None
    others = verdict.swayed > _SWAYED * verdict.spread
    why = ", with one scale for all samples of a batch" if others else ""
    return (
        f"a sample alone has logits up to {verdict.apart:.2g} apart, of {verdict.largest:.3g}, "
        f"from the same one in a batch, as they are rounded differently there{why}"
    )


def note_of_one_by_one(verdict: Verdict) -> str | None:
    """What is said of logits that are others in a batch, where samples run one by one."""
    if verdict.holds():
        return note_of(verdict)
    return (
        f"samples run one by one, as in a batch of several their logits change by "
        f"{verdict.apart:.2g} of {verdict.largest:.3g} with the others: so should they where the "
        "model is used"
    )


def unseen(reason: str) -> str:
    """What is said of a model that no samples of noise could be passed through."""
    return f"takes no samples of noise ({reason}), {_NOT_KNOWN}"


def unvaried() -> str:
    """What is said of a model whose answers are the same for all samples of noise."""
    return f"gives the same logits for all samples of noise, {_NOT_KNOWN}"


def told(verdicts: Mapping[str, Verdict], *, dynamic: bool = False) -> tuple[set[str], set[str]]:
    """Which tensors have the samples as they are alone, and of which it is not known where."""
    fitting = {name for name, verdict in verdicts.items() if verdict.fits(dynamic=dynamic)}
    unsure = {name for name in fitting if verdicts[name].ambiguous(dynamic=dynamic)}
    return fitting - unsure, unsure


def untapped(layers: Sequence[str]) -> str | None:
    """What is said of layers whose samples could not be told apart; None for no layers."""
    if not layers:
        return None
    return (
        f"what {listing(layers)} reads is not tapped, as its numbers are the same "
        "in several orders of the samples, of noise"
    )


def verdicts_of(
    runs: Sequence[tuple[Batch, Mapping[str, NDArray[Any]]]], names: Iterable[str]
) -> dict[str, Verdict]:
    """:func:`verdict_of` the tensors of these names."""
    return {name: verdict_of([(batch, values[name]) for batch, values in runs]) for name in names}


def verdict_of(runs: Sequence[tuple[Batch, NDArray[Any]]]) -> Verdict:
    """What the values of one tensor show, of each run with the samples it had."""
    arrays = [(batch, _numbers(np.asarray(values))) for batch, values in runs]
    shapes, counts = [values.shape for _, values in arrays], [len(batch) for batch, _ in arrays]
    verdicts: list[Verdict] = []
    for layout in _candidates(shapes, counts):
        if verdicts and verdicts[0].holds():
            if max(counts) == 1:
                break  # all is of the one sample, in any order
            if not _may_fit(arrays, layout):
                continue
        verdicts.append(_seen_by(arrays, layout))
        verdicts.sort(key=lambda each: (not each.holds(), each.apart))
    if not verdicts:
        return Verdict(None)
    best, *others = verdicts
    folded = best.layout is not None and best.layout.parts > 1 and max(counts) > 1
    if folded and best.spread <= _ROUNDED * best.largest:
        return replace(best, rival=best)  # equal samples do not tell where each of them is
    return replace(best, rival=others[0]) if others else best


def _seen_by(runs: Sequence[tuple[Batch, NDArray[Any]]], layout: Layout) -> Verdict:
    """What the values show if the samples are there."""
    swayed, moved, spread = _compared(runs, layout)
    largest = 0.0
    if swayed or moved or layout.parts > 1:
        largest = max(_largest(values) for _, values in runs)
    return Verdict(layout, swayed, moved, min(spread, 2 * largest), largest)


def _may_fit(runs: Sequence[tuple[Batch, NDArray[Any]]], layout: Layout) -> bool:
    """Whether a few of the numbers do not speak against it."""
    few = [slice(_FEW)] * runs[0][1].ndim
    few[layout.axis] = slice(None)
    some = [(batch, values[tuple(few)]) for batch, values in runs]
    swayed, moved, _ = _compared(some, layout)
    largest = max(_largest(values) for _, values in runs) if swayed or moved else 0.0
    return swayed <= 2 * _SWAYED * largest and moved <= 2 * _MOVED * largest


def _candidates(shapes: Sequence[tuple[int, ...]], counts: Sequence[int]) -> Iterator[Layout]:
    """Where samples might be by the sizes alone, an axis of their own first."""
    if len({len(shape) for shape in shapes}) != 1:
        return
    folds = []
    for axis in range(len(shapes[0])):
        rest = {shape[:axis] + shape[axis + 1 :] for shape in shapes}
        parts = {
            shape[axis] // count if shape[axis] % count == 0 else 0
            for shape, count in zip(shapes, counts, strict=True)
        }
        if len(rest) != 1 or len(parts) != 1 or 0 in parts:
            continue
        (size,) = parts
        if size == 1:
            yield Layout(axis)
        else:
            folds.append((axis, size))
    for axis, size in folds:
        divisors = [n for n in range(1, size + 1) if size % n == 0]
        for outer in sorted(divisors, key=lambda n: (n not in (1, size), n)):
            yield Layout(axis, outer, size // outer)


def _numbers(values: NDArray[Any]) -> NDArray[Any]:
    return values if values.dtype.kind in "fiub" else np.zeros(values.shape)  # texts


def _largest(values: NDArray[Any]) -> float:
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return float(np.abs(finite.astype(np.float64)).max()) if finite.size else 0.0


def _apart(one: NDArray[Any], other: NDArray[Any]) -> float:
    """The largest difference; what is no number is equal to itself alone."""
    if np.array_equal(one, other) or not one.size:
        return 0.0
    first, second = one.astype(np.float64), other.astype(np.float64)
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(first - second))
    return float(np.where(np.isnan(apart), math.inf, apart).max())


def depends_on_samples(runs: Sequence[tuple[Batch, NDArray[Any]]]) -> bool:
    """Whether a tensor differs, by more than rounding, between runs of as many other samples."""
    for at, (batch, values) in enumerate(runs):
        for other, others in runs[:at]:
            if len(batch) != len(other) or batch == other:
                continue
            one, two = _numbers(values), _numbers(others)
            if one.shape != two.shape or _apart(one, two) > _ROUNDED * _largest(one):
                return True
    return False


def _compared(
    runs: Sequence[tuple[Batch, NDArray[Any]]], layout: Layout
) -> tuple[float, float, float]:
    """By how much samples were swayed and moved, and by how much they differ from each other."""
    seen: dict[int, list[tuple[int, int, NDArray[Any]]]] = {}
    for batch, values in runs:
        rows = layout.by_sample(values, len(batch))
        for place, sample in enumerate(batch):
            seen.setdefault(sample, []).append((place, len(batch), rows[place]))
    swayed = moved = 0.0
    for (place, count, row), *others in seen.values():
        for other_place, other_count, other in others:
            apart = _apart(row, other)
            if (place, count) == (other_place, other_count):
                swayed = max(swayed, apart)
            else:
                moved = max(moved, apart)
    spread = 0.0
    if swayed or moved or layout.parts > 1:
        first, *rest = (rows[0][2] for rows in seen.values())
        spread = max((_apart(first, other) for other in rest), default=0.0)
    return swayed, moved, spread
