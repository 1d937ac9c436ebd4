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
from numpy.typing import NDArray

from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.adapters.rows import RowFormat, SkipCache
from skip2lora.backbones.base import Backbone
from skip2lora.errors import ParameterError
from skip2lora.tasks.task import Goal
from skip2lora.tasks.weights import combined
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import Trained, train_on_rows
from skip2lora.training.options import Options
from skip2lora.training.rehearsal import OldSamples, old_weights, weights_beside

#: Weights to train with, of answers and of samples' own weights, (n,) each; None: all the same.
Weigh = Callable[[NDArray[Any], NDArray[np.float32] | None], NDArray[np.float32] | None]


def own_weights(
    answers: NDArray[Any], own: NDArray[np.float32] | None
) -> NDArray[np.float32] | None:
    """The samples' own weights alone."""
    return combined(answers, own, None, {})


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
    last training.
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
            return cls(backbone, SkipCache.of(rows, 0), np.empty(0), np.empty(0))
        cache, count = SkipCache.of(rows, len(old)), len(old)
        cache.fill(old.model, old.x)
        return cls(
            backbone, cache, old.y, np.full(count, -1.0), weight=old.weight.astype(np.float32),
            n_old=count, keep_weight=keep_weight, n_computed=count if old.model is backbone else 0,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.answers)


def learn(
    stream: Stream,
    samples: Any,
    answers: NDArray[Any],
    *,
    options: Options,
    goal: Goal,
    weight: NDArray[np.float32] | None = None,
    weigh: Weigh = own_weights,
    capacity: int | None = None,
) -> tuple[Stream, Trained]:
    """Run checked ``samples`` through the frozen layers and train on all rows, kept and new.

    ``options``, of Skip2-LoRA, are for all of them. The adapters go on from those of ``stream``,
    which stays as it is; statistics of scaled taps are those of all rows, and the change leaves the
    outputs as they were. The optimiser, or the exact solver, starts anew. Of more than ``capacity``
    samples a reservoir of so many is kept. ``weight``, (n,), are the new samples' own weights, and
    ``weigh`` gives those to train with from all answers and own weights of new samples.

    Raises:
        ModelError: the backbone gave other shapes than it announced, NaN or infinity.
        ParameterError: the rank is not that of the adapters so far.
        DivergedError: the loss became infinite or NaN.
    """
    start = stream.adapters if options.solver == "steps" else None  # that needs none
    if start is not None and start.rank != options.rank:
        raise ParameterError(
            f"rank is {options.rank}, the adapters so far have rank {start.rank}, "
            "expected the same: keep it, or begin anew"
        )
    began = time.perf_counter()
    more = _extended(stream, samples, answers, options.seed, weight)
    filled = time.perf_counter()
    done = train_on_rows(
        more.cache,
        _weighted(more, weigh), options, goal=goal, start=start,
    )  # fmt: skip
    onward = None if done.derived else cast(SkipAdapters, done.adapters)  # steps have no such taps
    next_stream = replace(_reservoir(more, capacity), adapters=onward)
    return next_stream, replace(
        done.after_fill(began, filled, more.n_computed),
        cache_bytes=next_stream.cache.payload_bytes,
        cache_overhead_bytes=next_stream.cache.overhead_bytes,
    )


def _extended(
    stream: Stream,
    samples: Any,
    answers: NDArray[Any],
    seed: int,
    weight: NDArray[np.float32] | None,
) -> Stream:
    """With new samples, which run through the frozen layers here and only here."""
    n_kept = len(stream)
    cache = SkipCache.of(stream.cache.format, n_kept + len(samples))
    cache.rows[:n_kept] = stream.cache.rows
    cache.filled[:n_kept] = 1
    cache.fill(stream.backbone, samples, n_kept)
    keys = np.random.Generator(np.random.PCG64(seed)).random(len(samples))
    if weight is not None or stream.weight is not None:
        both = ((stream.weight, n_kept), (weight, len(samples)))
        weight = np.concatenate(
            [np.ones(count, np.float32) if of is None else of for of, count in both]
        )
    return replace(
        stream,
        cache=cache,
        answers=np.concatenate([stream.answers, answers]) if n_kept else answers,
        keys=np.concatenate([stream.keys, keys]),
        weight=weight,
        n_computed=stream.n_computed + len(samples),
    )


def _weighted(stream: Stream, weigh: Weigh) -> CheckedSamples:
    """All rows, with the weights to train with."""
    n_old, n_new = stream.n_old, len(stream) - stream.n_old
    own = None if stream.weight is None else stream.weight[n_old:]
    weight = weigh(stream.answers[n_old:], own)
    rows, answers = stream.cache.rows, stream.answers
    if stream.weight is None or not n_old:
        return CheckedSamples(rows, answers, weight)
    of_old = old_weights(stream.weight[:n_old], stream.keep_weight, n_new)
    weight = np.roll(weights_beside(of_old, weight, n_new), n_old)  # the old ones come first
    return CheckedSamples(rows, answers, weight, np.arange(len(answers)) < n_old)


def _reservoir(stream: Stream, capacity: int | None) -> Stream:
    """With ``capacity`` new samples at most: reservoir sampling by random keys."""
    if capacity is None or len(stream) <= capacity + stream.n_old:
        return replace(stream, n_computed=0)
    capacity += stream.n_old
    stay = np.sort(np.argsort(stream.keys, kind="stable")[:capacity])
    cache = SkipCache.of(stream.cache.format, capacity)
    cache.rows[:] = stream.cache.rows[stay]
    cache.filled[:] = 1
    weight = None if stream.weight is None else stream.weight[stay]
    answers, keys = stream.answers[stay], stream.keys[stay]
    return replace(stream, cache=cache, answers=answers, keys=keys, weight=weight, n_computed=0)
