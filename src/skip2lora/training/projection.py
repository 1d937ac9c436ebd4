"""Which few columns of each tap are kept, found from a first part of the samples.

A is frozen then: rows hold tap . A alone, and what is trained on them ends as ordinary adapters.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapters.projected import (
    Begun,
    FirstRows,
    Numbered,
    Projected,
    Projection,
    Projections,
    folded,
)
from skip2lora.adapters.rows import RowFormat, SkipCache
from skip2lora.backbones.base import Backbone, Taps
from skip2lora.backbones.known_rows import KnownRows
from skip2lora.data.lazy import LazySamples
from skip2lora.errors import DataError
from skip2lora.tasks.task import Task
from skip2lora.training.exact_job import folds_of
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import Timing, Trained, stratified_split
from skip2lora.training.mlp_rule import STEPS
from skip2lora.training.options import Options
from skip2lora.training.skip_job import Scaling, places_of
from skip2lora.training.watch import EpochReport, Watch

if TYPE_CHECKING:
    from skip2lora.training.rehearsal import OldSamples

#: Samples that A is found from, at most, and bytes of their whole rows.
FIRST, FIRST_BYTES = 300, 1 << 26
# Of the largest: a component that says less is rounding.
_LEAST = 1e-10


@dataclass(frozen=True, eq=False)
class Start:
    """A was found: a model of projected taps, and samples for it, some of which it knows.

    ``old`` are those of the old domain. Whole rows took ``fill_seconds``, A the others.
    """

    model: Begun
    part: CheckedSamples
    old: OldSamples | None
    projections: Projections
    fill_seconds: float
    seconds: float

    @classmethod
    def of(
        cls,
        model: Backbone,
        part: CheckedSamples,
        joined: CheckedSamples,
        old: OldSamples | None,
        options: Options,
        task: Task,
        *,
        suspects: bool = False,
    ) -> Start:
        """Find A as ``options`` say.

        ``joined`` has the answers of ``part`` and of ``old``, those that it marks so.
        ``suspects``: labels are to be contradicted by samples held out.

        Raises:
            DataError: all answers are the same, with "pls"; or a sample cannot be read.
            ModelError: the model gave other shapes than it announced, NaN or infinity.
        """
        began, n_new = time.perf_counter(), len(part.y)
        of_old_domain = np.zeros(len(joined.y), np.bool_) if joined.old is None else joined.old
        own_places = np.where(of_old_domain, of_old_domain.cumsum(), (~of_old_domain).cumsum()) - 1
        rank, rows = options.projection or 0, RowFormat.of(model, copy_input=True)
        first, spent = _first_of(joined, options, task, suspects)
        first = _spread(first, max(rank, min(FIRST, FIRST_BYTES // rows.row_bytes)))
        first = first[np.argsort(of_old_domain[first], kind="stable")]  # new ones before old ones
        of_new, of_old = (own_places[first[of_old_domain[first] == old]] for old in (False, True))
        cache, n_own = SkipCache.of(rows, len(first)), len(of_new)
        cache.fill(model, part.x[of_new])
        if old is not None:
            cache.fill(old.model, old.x[of_old], n_own)
        filled = time.perf_counter()
        weight = None if joined.weight is None else joined.weight[first]
        of_first = FirstPart(cache, joined.y[first], weight)
        projections = of_first.projections(rank, options.projection_from, task, options.seed)
        known = KnownRows(rows.tap_widths, model.n_outputs, rows.layout)
        taps = Projected(known, projections).forward(cache.floats)
        beside, counter = part.validation, [n_own]
        parts = (part.x,) if beside is None else (part.x, beside.x)
        running, samples = _begun(model, projections, parts, of_new, _some(taps, 0, n_own), counter)
        if beside is not None:
            beside = replace(beside, x=samples[n_new:])
        of_part = None if spent is None else spent[~of_old_domain]
        part = replace(part, x=samples[:n_new], validation=beside, spent=of_part)
        if old is not None:
            own = old.model is model
            counter[0] += len(of_old) if own else 0
            old_model, x = _begun(
                old.model, projections, (old.x,), of_old, _some(taps, n_own, len(first)),
                counter if own else [0],
            )  # fmt: skip
            old = replace(
                old, model=old_model, x=x, spent=None if spent is None else spent[of_old_domain]
            )
        seconds = time.perf_counter() - filled
        return cls(running, part, old, projections, filled - began, seconds)

    def watched(self, watch: Watch) -> Watch:
        """Who follows is shown adapters of the taps as they are."""
        callback = watch.callback
        if callback is None:
            return watch

        def follow(report: EpochReport) -> None:
            callback(replace(report, result=lambda: folded(report.result(), self.projections)))

        return replace(watch, callback=follow)

    def after(self, done: Trained) -> Trained:
        """What was trained, and what it took in all."""
        fill, seconds = 1e3 * self.fill_seconds, 1e3 * self.seconds
        timing = Timing(
            done.timing.cache_fill_ms + fill, done.timing.training_ms + seconds,
            done.timing.total_ms + fill + seconds,
        )  # fmt: skip
        history = replace(done.history, n_forwards=self.model.n_computed[0])
        return replace(done, timing=timing, history=history, projections=self.projections)


def _begun(
    model: Backbone,
    projections: Projections,
    parts: tuple[Any, ...],
    numbers: NDArray[np.intp],
    first: Taps,
    counter: list[int],
) -> tuple[Begun, LazySamples]:
    samples = Numbered(parts)
    rows = FirstRows(numbers, samples.shape[0], first)
    running = Begun(Projected(model, projections), samples, rows, counter)
    return running, LazySamples.of(samples)


def _some(taps: Taps, start: int, stop: int) -> Taps:
    return Taps(tuple(tap[start:stop] for tap in taps.taps), taps.base_logits[start:stop])


def _first_of(
    joined: CheckedSamples, options: Options, task: Task, suspects: bool
) -> tuple[NDArray[np.intp], NDArray[np.bool_] | None]:
    """Samples that A is found from, and which may not be held out any more; None: no such.

    They are the first ones of each class, or whole groups: of what is held out later, no neighbours
    are among them.
    """
    numbers = np.arange(len(joined.y))
    training, held = stratified_split(replace(joined, x=numbers), options)
    by_folds = options.solver == "exact" or options.recipe == STEPS or suspects
    apart = options.projection_from == "pls" and by_folds and held is None
    n_folds = max(-(-len(training.x) // FIRST), 2 if apart else 1)
    if n_folds == 1:
        return training.x, None
    first = training.x[folds_of(task, training, None, n_folds).of <= 0]
    if not apart:
        return first, None
    spent = np.zeros(len(numbers), np.bool_)
    spent[first] = True
    return first, spent


def _spread(numbers: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """At most so many of them, at even distances."""
    if len(numbers) <= most:
        return numbers
    return numbers[np.arange(most) * len(numbers) // most]


@dataclass(frozen=True, eq=False)
class FirstPart:
    """Whole rows of the samples that A is found from, and their answers.

    ``weight``, (n,), says how much each counts beside the others; None: all the same.
    """

    cache: SkipCache
    y: NDArray[Any]
    weight: NDArray[np.float32] | None

    def projections(self, rank: int, kind: str, task: Task, seed: int = 0) -> Projections:
        """One a tap that is wider than ``rank``: its columns have a deviation of 1, or say nothing.

        A is found in columns that are scaled by their statistics. ``kind`` "pca" takes what varies
        most, "pls" (partial least squares) what varies most with the answers, and "random" what
        chance says.

        Raises:
            DataError: all answers are the same, with "pls".
        """
        rows, layout = self.cache.floats, self.cache.format
        scaling = Scaling.of(layout, [rows], None, self.weight)
        share = np.ones(len(rows)) if self.weight is None else self.weight.astype(np.float64)
        root = np.sqrt(share / share.sum())[:, None]
        answers = _answers(self.y, task, self.cache.base_logits) if kind == "pls" else None
        several: list[Projection | None] = []
        for number, (at, width) in enumerate(places_of(layout)):
            place = slice(at, at + width)
            mean, scale = scaling.mean[place], scaling.scale[place].astype(np.float64)
            if width <= rank:
                several.append(None)
                continue
            if kind == "random":
                random = np.random.Generator(np.random.PCG64([seed, number]))
                matrix = random.normal(size=(width, rank)) / np.sqrt(width)
            else:
                x = root * (rows[:, place].astype(np.float64) - mean) * scale
                gram = x @ x.T
                of = _pca(gram, rank) if answers is None else _pls(gram, root * answers, rank)
                matrix = x.T @ of
            columns = np.zeros((width, rank), np.float32)  # of few samples not all say something
            columns[:, : matrix.shape[1]] = scale[:, None] * matrix
            several.append(Projection(mean.copy(), columns))
        return tuple(several)


def _answers(y: NDArray[Any], task: Task, base: NDArray[np.float32]) -> NDArray[np.float64]:
    """What is to be explained, (n, columns), about its mean: classes, labels, or missing numbers.

    Raises:
        DataError: all answers are the same.
    """
    if task.name == "regression":
        values = y.astype(np.float64) - base[:, : y.shape[1]]
        spread = values.std(axis=0)
        values /= np.where(spread > 0, spread, 1)
    elif task.numeric_targets:
        values = y.astype(np.float64)
    else:
        values = (y[:, None] == np.unique(y)).astype(np.float64)
    values -= values.mean(axis=0)
    if not (np.abs(values) > 1e-6).any():
        raise DataError(
            f"projection is found from pls, but the {len(y)} samples it is found from have one "
            "answer alone, expected others too: add some, or pass projection_from='pca'"
        )
    return values


def _pca(gram: NDArray[np.float64], rank: int) -> NDArray[np.float64]:
    """Coefficients, (n, columns), of the samples in the main components of theirs."""
    values, vectors = np.linalg.eigh(gram)
    chosen = np.arange(len(values))[::-1][:rank]
    chosen = chosen[values[chosen] > _LEAST * max(values[-1], 0)]
    return np.asarray(vectors[:, chosen] / values[chosen])


def _pls(gram: NDArray[np.float64], y: NDArray[np.float64], rank: int) -> NDArray[np.float64]:
    """The same in the components of partial least squares (NIPALS), found from ``gram`` alone.

    With the weights w = X^T u of each component, scores t = X w become what X lacks afterwards;
    the columns U (T^T G U)^-1 give orthonormal scores T of X itself.
    """
    left, weights, scores = gram.copy(), [], []
    whole, lacking = np.trace(gram), y.copy()
    for _ in range(min(rank, len(gram))):
        values, vectors = np.linalg.eigh(lacking.T @ left @ lacking)
        u = lacking @ vectors[:, -1]
        score = left @ u
        size = np.linalg.norm(score)
        if values[-1] <= 0 or size * size <= _LEAST * whole * values[-1]:
            break
        score /= size
        weights.append(u)
        scores.append(score)
        # What the score explains is taken out of X on both sides, and out of y.
        along = left @ score
        left -= np.outer(score, along) + np.outer(along, score)
        left += np.outer(score, score) * (score @ along)
        lacking -= np.outer(score, score @ lacking)
    if not weights:
        return np.zeros((len(gram), 0))
    u, t = np.stack(weights, axis=1), np.stack(scores, axis=1)
    return np.asarray(u @ np.linalg.inv(t.T @ gram @ u))
