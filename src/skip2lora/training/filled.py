"""Fill a cache that lasts, whole or a part of the samples in each of many processes."""

from __future__ import annotations

import hashlib
import numbers
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapters.cached import rows_kept_in
from skip2lora.adapters.store import CacheFolder
from skip2lora.arrays import SamplesLike
from skip2lora.backbones.base import Backbone, check_backbone
from skip2lora.backbones.standins import runs
from skip2lora.backbones.taps import SAMPLES_AT_ONCE
from skip2lora.data.lazy import digests_of, parts_of
from skip2lora.data.media import Media
from skip2lora.errors import ParameterError
from skip2lora.tasks.columns import Columns
from skip2lora.training.loop import checked
from skip2lora.training.running import Progress

_MOST = 1_000_000  # shards


@dataclass(frozen=True)
class Filled:
    """What a cache holds of ``n_samples``, after ``n_forwards`` passed the model in this call.

    ``digest`` is the SHA-256 of all their rows in the order of the samples, None while some are
    missing, which are of other shards.
    """

    n_samples: int
    n_forwards: int
    digest: str | None


def fill(
    model: Backbone,
    X: SamplesLike,
    cache: CacheFolder,
    *,
    shard: tuple[int, int] = (0, 1),
    images: Media | None = None,
    columns: Columns | None = None,
    digest: bool = True,
    progress: Progress | None = None,
) -> Filled:
    """Compute the rows of samples that ``cache`` lacks, for :func:`skip2lora.adapt` to find there.

    ``shard`` is (number, of how many): only that part of ``X`` passes the model, as others do in
    other processes or on other machines that share the folder. Numbers count from 0, or from 1, as
    the last is then 0 too. ``images`` and ``columns`` are as of ``adapt``. ``digest=False``
    leaves out the digest, for which all samples and rows are read once all are there. ``progress``
    is called with how many samples of the shard are done, and how many it has. A run that was
    stopped goes on where it was.

    Raises:
        DataError: ``X`` does not fit the model.
        FileError: the folder cannot be read or written.
        ModelError: the cache is of another model, or the like.
        ParameterError: ``model`` is none, or ``shard`` out of range.
    """
    columns = (columns or Columns()).over(check_backbone(model).columns).of(X)
    samples = _Samples(model, columns.take(X))
    start, end = part_of_shard(len(samples), shard)
    of_all = (start, end) == (0, len(samples))  # whose digest takes no look at other shards
    whole, sha256 = hashlib.sha256(), None
    with rows_kept_in(cache, runs(model), images) as (_, filling):
        for at, part in samples.parts(start, end):
            rows = filling.rows(part)
            if digest and of_all:
                whole.update(rows.data)
            if progress is not None:
                progress(at - start, end - start)
    if digest and of_all:
        sha256 = whole.hexdigest()
    elif digest:
        room = filling.format.empty(min(len(samples), SAMPLES_AT_ONCE))
        sha256 = _digest(cache, samples, shard[1], room)
    return Filled(len(samples), filling.n_computed, sha256)


def part_of_shard(n_samples: int, shard: tuple[int, int]) -> tuple[int, int]:
    """The first sample of a shard, and the one behind its last.

    Raises:
        ParameterError: there is no such shard.
    """
    given: Any = shard
    is_pair = isinstance(given, tuple | list) and len(given) == 2
    if not is_pair or not all(isinstance(each, numbers.Integral) for each in given):
        raise ParameterError(
            f"shard is {given!r}, expected two whole numbers, (number, of how many), such as "
            "(1, 4): correct it"
        )
    number, n_shards = map(int, given)
    if not (1 <= n_shards <= _MOST and 0 <= number <= n_shards):
        raise ParameterError(
            f"shard is {number}/{n_shards}, expected one of at least one and at most {_MOST:,}, "
            "from 0 or from 1 on, such as 1/4: correct it"
        )
    number %= n_shards
    return n_samples * number // n_shards, n_samples * (number + 1) // n_shards


class _Samples:
    """Samples as ``model`` takes them, a few at a time."""

    def __init__(self, model: Backbone, x: Any) -> None:
        self._x = checked(model, x)

    def __len__(self) -> int:
        return len(self._x)

    def parts(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, Any]]:
        """Those from ``start`` to ``end``, each with the number of the sample behind it."""
        own = self._x[start:end]
        for where in parts_of(own, SAMPLES_AT_ONCE):
            part = own[where]
            yield start + where.start + len(part), part


def _digest(
    cache: CacheFolder, samples: _Samples, n_shards: int, room: NDArray[np.float32]
) -> str | None:
    """SHA-256 of all rows, a ``room`` of them at a time, None where some are missing."""
    cache.refresh()
    for number in reversed(range(n_shards)):  # whether each is done, the first to tell comes first
        start, end = part_of_shard(len(samples), (number, n_shards))
        for _, last in samples.parts(max(start, end - 1), end):
            if len(cache.rows(digests_of(last, cache.known)).missing):
                return None
    digest = hashlib.sha256()
    for _, part in samples.parts():
        places = cache.rows(digests_of(part, cache.known))
        if len(places.missing):
            return None
        places.read(room[: len(part)])
        digest.update(room[: len(part)].data)
    return digest.hexdigest()
