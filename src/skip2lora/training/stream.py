"""Samples that arrive part after part: rows are kept and the adapters go on from where they were.

The frozen layers see every sample once. Rows are kept as they are; training scales a copy of them,
so that the statistics can follow the samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.adapters.projected import Projected, Projections
from skip2lora.adapters.rows import RowFormat, SkipCache
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.known_rows import KnownRows
from skip2lora.backbones.standins import LastTaps, over
from skip2lora.errors import DataError, ParameterError
from skip2lora.tasks.task import Goal, Task
from skip2lora.tasks.weights import combined
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import Trained, train_on_rows
from skip2lora.training.options import Options
from skip2lora.training.projection import Start
from skip2lora.training.rehearsal import OldSamples, old_weights, weights_beside

#: Weights to train with, of answers and of samples' own weights, (n,) each; None: all the same.
Weigh = Callable[[NDArray[Any], NDArray[np.float32] | None], NDArray[np.float32] | None]


def own_weights(
    answers: NDArray[Any], own: NDArray[np.float32] | None
) -> NDArray[np.float32] | None:
    """The samples' own weights alone."""
    return combined(answers, own, None, {})


@dataclass(frozen=True, eq=False)
class Part:
    """Checked samples that come together, and their answers, labels, (n,), or targets.

    ``weight``, (n,), is how much each counts by itself, None that all count the same; ``group``,
    (n,), the number or name of what is held out together, None that it is not known. ``by`` stands
    for the model where rows of these samples are there already, ``begun`` for what computes them
    where it has computed some.
    """

    x: Any
    answers: NDArray[Any]
    weight: NDArray[np.float32] | None = None
    group: NDArray[Any] | None = None
    by: Backbone | None = None
    begun: Backbone | None = None


class Room:
    """Rows with spare ones behind: whoever has all that are used may go on in place.

    Whoever has fewer, as another went on from them, takes a copy. So does a copy of a stream.
    """

    def __init__(self, row_format: RowFormat | None = None, n_rows: int = 0) -> None:
        self.n_used, self.n_rows = 0, n_rows
        self.rows = np.empty((0, 0), np.float32) if row_format is None else row_format.empty(n_rows)

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and other processes: none."""
        return Room, ()


@dataclass(frozen=True, eq=False)
class Stream:
    """What is kept of the samples so far.

    ``cache`` has their rows, all filled, with the first tap copied. ``answers`` are labels, (n,),
    or targets, (n, n_outputs). ``keys``, (n,), are drawn evenly from [0, 1) for reservoir sampling:
    where there is room for fewer samples, those with the smallest keys stay, a fair choice of all
    that were seen.
    ``adapters`` are None before the first training. ``weight``, (n,), is how much each sample
    counts by itself, None that all count the same. The first ``n_old`` samples are of the old
    domain, and stay; each counts as much as ``keep_weight`` new ones, as in
    :func:`~skip2lora.training.rehearsal.old_weights`. ``n_computed`` rows were computed since the
    last training. ``group``, (n - n_old,), is the number or name of what is held out together, None
    where that is not known. ``validation`` are rows, and their answers, for validation alone.
    ``room`` is where more rows may go. Where taps are projected, ``projections`` are those that the
    first samples gave: rows and ``adapters`` are of these; ``spent``, (n,), is as of
    ``CheckedSamples``.
    """

    backbone: Backbone
    cache: SkipCache
    answers: NDArray[Any]
    keys: NDArray[np.float64] = field(repr=False)
    adapters: SkipAdapters | None = None
    weight: NDArray[np.float32] | None = None
    n_old: int = 0
    keep_weight: float | None = None
    n_computed: int = 0
    group: NDArray[Any] | None = None
    validation: CheckedSamples | None = None
    room: Room = field(default_factory=Room, repr=False)
    projections: Projections = ()
    n_first: int = 0
    spent: NDArray[np.bool_] | None = None
    first_tap: int = 0

    @classmethod
    def start(
        cls,
        backbone: Backbone,
        *,
        first_tap: int = 0,
        old: OldSamples | None = None,
        keep_weight: float | None = None,
    ) -> Stream:
        """No samples yet, or the old ones, for adapters from the taps ``first_tap``, ... last."""
        rows = RowFormat.of(backbone, first_tap, copy_input=True)
        if old is None:
            return cls(
                backbone, SkipCache.of(rows, 0), np.empty(0), np.empty(0), first_tap=first_tap
            )
        cache, count = SkipCache.of(rows, len(old)), len(old)
        cache.fill(old.model, old.x)
        return cls(
            backbone, cache, old.y, np.full(count, -1.0), weight=old.weight.astype(np.float32),
            n_old=count, keep_weight=keep_weight, n_computed=count if old.model is backbone else 0,
            first_tap=first_tap,
        )  # fmt: skip

    def judged_by(self, samples: Any, answers: NDArray[Any]) -> Stream:
        """The same, with rows of checked ``samples`` for validation alone."""
        cache = SkipCache.of(self.cache.format, len(samples))
        cache.fill(self.backbone, samples)
        row = np.full(len(samples), -1)
        beside = CheckedSamples(cache.rows, answers, row=row)
        return replace(self, validation=beside, n_computed=self.n_computed + len(samples))

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def tap_widths(self) -> tuple[int, ...]:
        """Of taps that have adapters, as they are."""
        return tuple(self.backbone.tap_widths[self.first_tap :])

    def seen_by(self, part: Part) -> Backbone:
        """What computes rows of ``part`` before they are projected: taps with adapters alone."""
        own = self.backbone if part.by is None else over(self.backbone, part.by)
        return LastTaps(own, self.first_tap) if self.first_tap else own

    @property
    def projection(self) -> int | None:
        """What rows keep of each tap; None: all."""
        return next((of.matrix.shape[1] for of in self.projections if of is not None), None)


def learn(
    stream: Stream,
    part: Part,
    *,
    options: Options,
    goal: Goal,
    weigh: Weigh = own_weights,
    capacity: int | None = None,
) -> tuple[Stream, Trained]:
    """Run checked ``samples`` through the frozen layers and train on all rows, kept and new.

    ``options``, of Skip2-LoRA, are for all of them. The adapters go on from those of ``stream``,
    which stays as it is; statistics of scaled taps are those of all rows, and the change leaves the
    outputs as they were. The optimiser, or the exact solver, starts anew. Of more than ``capacity``
    samples a reservoir of so many is kept. ``weigh`` gives the weights to train with from all
    answers and own weights of new samples.

    Raises:
        DataError: earlier samples have groups and these have none, or the other way round.
        ModelError: the backbone gave other shapes than it announced, NaN or infinity.
        ParameterError: the rank, or the projection, is not that of the adapters so far.
        DivergedError: the loss became infinite or NaN.
    """
    if len(stream) > stream.n_old and stream.projection != options.projection:
        raise ParameterError(
            f"projection is {options.projection}, rows so far are of projection "
            f"{stream.projection}, expected the same: keep it, or begin anew"
        )
    start = stream.adapters if options.solver == "steps" else None  # that needs none
    if start is not None and start.rank != options.rank:
        raise ParameterError(
            f"rank is {options.rank}, the adapters so far have rank {start.rank}, "
            "expected the same: keep it, or begin anew"
        )
    began, more = time.perf_counter(), _announced(stream, part, options.seed)
    if options.projection is not None and not stream.projections:
        samples = _weighted(more, weigh)
        stream, part = _projected(stream, part, samples, options, goal.task)
    more = _filled(stream, more, part)
    filled = time.perf_counter()
    done = train_on_rows(
        more.cache,
        _weighted(more, weigh), options, goal=goal, start=start,
    )  # fmt: skip
    adapters = replace(cast(SkipAdapters, done.adapters), first_tap=stream.first_tap)
    onward = None if done.derived else adapters  # steps have no such taps
    next_stream = replace(_reservoir(more, capacity), adapters=onward)
    projections = next_stream.projections
    return next_stream, replace(
        done.after_fill(began, filled, more.n_computed),
        adapters=adapters,
        cache_bytes=next_stream.cache.payload_bytes,
        cache_overhead_bytes=next_stream.cache.overhead_bytes,
        projections=projections and (None,) * stream.first_tap + projections,
    )


def _announced(stream: Stream, part: Part, seed: int) -> Stream:
    """With what is known of new samples, whose rows are still to come."""
    n_kept, n_more, weight = len(stream), len(part.answers), None
    group = _groups(stream, part)
    keys = np.random.Generator(np.random.PCG64(seed)).random(n_more)
    if part.weight is not None or stream.weight is not None:
        both = ((stream.weight, n_kept), (part.weight, n_more))
        weight = np.concatenate(
            [np.ones(count, np.float32) if of is None else of for of, count in both]
        )
    return replace(
        stream,
        answers=np.concatenate([stream.answers, part.answers]) if n_kept else part.answers,
        keys=np.concatenate([stream.keys, keys]),
        weight=weight,
        n_computed=stream.n_computed + (n_more if part.by is None else 0),
        group=group,
    )


def _filled(stream: Stream, more: Stream, part: Part) -> Stream:
    """With rows of new samples, which run through the frozen layers here and only here."""
    cache, room = _grown(stream, len(part.answers))
    own = stream.backbone if part.by is None else over(stream.backbone, part.by)
    if part.begun is not None:
        own = part.begun
    elif stream.projections:
        own = Projected(stream.seen_by(part), stream.projections)
    if len(part.answers):
        cache.fill(own, part.x, len(stream))
    spent = stream.spent
    if spent is not None and len(spent) < len(more):
        spent = np.concatenate([spent, np.zeros(len(more) - len(spent), np.bool_)])
    return replace(
        more, cache=cache, room=room, validation=stream.validation,
        projections=stream.projections, n_first=stream.n_first, spent=spent,
    )  # fmt: skip


def _projected(
    stream: Stream, part: Part, samples: CheckedSamples, options: Options, task: Task
) -> tuple[Stream, Part]:
    """With rows of projections, which are found now from some of ``samples``: all there are."""
    whole, rows = stream.cache.format, stream.cache.floats
    known = KnownRows(whole.tap_widths, stream.backbone.n_outputs, whole.layout)
    model = stream.seen_by(part)
    old = OldSamples(known, rows, stream.answers, np.ones(len(stream))) if len(stream) else None
    new = CheckedSamples(part.x, part.answers)
    start = Start.of(model, new, samples, old, options, task)
    of_known = Projected(known, start.projections)
    row_format = RowFormat.of(Projected(model, start.projections), copy_input=True)

    def again(rows: NDArray[np.float32]) -> SkipCache:
        cache = SkipCache.of(row_format, len(rows))
        cache.fill(of_known, rows)
        return cache

    beside, of_part, spent = stream.validation, start.part.spent, None
    if beside is not None:
        beside = replace(beside, x=again(beside.x).floats)
    if of_part is not None:
        of_old = of_part[:0] if start.old is None or start.old.spent is None else start.old.spent
        spent = np.concatenate([of_old, of_part])
    few = replace(
        stream, cache=again(rows), room=Room(), validation=beside,
        projections=start.projections, n_first=len(part.answers), spent=spent,
    )  # fmt: skip
    return few, replace(part, x=start.part.x, begun=start.model)


def _grown(stream: Stream, n_more: int) -> tuple[SkipCache, Room]:
    """The rows so far, and room for more behind them: mostly in place."""
    row_format, room, n_kept = stream.cache.format, stream.room, len(stream)
    n_rows = n_kept + n_more
    if room.n_used != n_kept or room.n_rows < n_rows:
        # Twice as many: then a row is copied once in the mean. What is not used takes no memory.
        room = Room(row_format, max(n_rows, 2 * n_kept))
        room.rows[:n_kept] = stream.cache.floats
    room.n_used = n_rows
    filled = np.zeros(n_rows, np.uint8)
    filled[:n_kept] = 1
    return SkipCache(row_format, room.rows[:n_rows], filled), room


def _groups(stream: Stream, part: Part) -> NDArray[Any] | None:
    """Of the new samples so far, and of those of ``part``.

    Raises:
        DataError: those so far have groups and these have none, or the other way round.
    """
    if len(stream) == stream.n_old:
        return part.group
    if stream.group is None and part.group is None:
        return None
    if stream.group is None or part.group is None:
        had, has = ("groups", "none") if part.group is None else ("none", "groups")
        raise DataError(
            f"earlier samples have {had} and these have {has}, expected groups of all samples or "
            "of none: pass groups= in every call, or in none"
        )
    return np.concatenate([stream.group, part.group])


def _weighted(stream: Stream, weigh: Weigh) -> CheckedSamples:
    """All rows, with the weights to train with; those of classes count old samples too."""
    n_old, n_new = stream.n_old, len(stream) - stream.n_old
    own, old, group = stream.weight, None, None
    if own is not None and n_old:
        of_old = old_weights(own[:n_old], stream.keep_weight, n_new)
        own = np.roll(weights_beside(of_old, own[n_old:], n_new), n_old)  # the old ones come first
        old = np.arange(len(stream)) < n_old
    if stream.group is not None:
        numbers = np.unique(stream.group, return_inverse=True)[1].astype(np.int64)
        group = np.concatenate([np.zeros(n_old, np.int64), numbers])
    weight = weigh(stream.answers, own)
    return CheckedSamples(
        stream.cache.rows, stream.answers, weight, old, group, stream.validation,
        spent=stream.spent,
    )  # fmt: skip


def _reservoir(stream: Stream, capacity: int | None) -> Stream:
    """With ``capacity`` new samples at most: reservoir sampling by random keys."""
    if capacity is None or len(stream) <= capacity + stream.n_old:
        return replace(stream, n_computed=0)
    capacity += stream.n_old
    stay = np.sort(np.argsort(stream.keys, kind="stable")[:capacity])
    return replace(_only(stream, stay), n_computed=0)


def without(stream: Stream, which: ArrayLike) -> Stream:
    """Without the new samples of these numbers, from 0 in the order in which they came.

    Raises:
        DataError: no such number, one twice, or all there are.
    """
    count = len(stream) - stream.n_old
    numbers = np.asarray(which)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise DataError(
            f"which has shape {numbers.shape} and type {numbers.dtype}, expected whole numbers of "
            "samples, (n,): pass such"
        )
    numbers = numbers.astype(np.int64)
    outside = numbers[(numbers < 0) | (numbers >= count)]
    if len(outside):
        raise DataError(
            f"which has the number {outside[0]}, expected 0 to {count - 1}, as {count:,} samples "
            "are kept: correct it"
        )
    if len(np.unique(numbers)) < len(numbers) or len(numbers) == count:
        raise DataError(
            f"which has {len(numbers)} numbers of {count:,} samples, expected different ones and "
            "not all: correct it"
        )
    return _only(stream, np.delete(np.arange(len(stream)), stream.n_old + numbers))


def _only(stream: Stream, stay: NDArray[np.intp]) -> Stream:
    """With the rows at ``stay`` alone."""
    cache = SkipCache.of(stream.cache.format, len(stay))
    cache.floats[:] = stream.cache.floats[stay]
    cache.filled[:] = 1
    weight = None if stream.weight is None else stream.weight[stay]
    group = None if stream.group is None else stream.group[stay[stream.n_old :] - stream.n_old]
    answers, keys = stream.answers[stay], stream.keys[stay]
    spent = None if stream.spent is None else stream.spent[stay]
    return replace(
        stream, cache=cache, answers=answers, keys=keys, weight=weight, group=group, spent=spent
    )
