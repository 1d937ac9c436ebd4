"""How many rows the Skip-Cache keeps: of some samples, where storage is strict (section 4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from skip2lora import _core
from skip2lora.adapters.rows import RowFormat, SkipCache
from skip2lora.errors import ParameterError
from skip2lora.methods import Method

#: Options that limit the cache, and say what makes room in it.
BOUNDS = ("cache_samples", "cache_size", "cache_policy")


class Bounds(Protocol):
    """The options of training that say how many rows are kept."""

    @property
    def cache(self) -> bool:
        """Whether any are."""

    @property
    def cache_samples(self) -> int | None:
        """Rows at most."""

    @property
    def cache_size(self) -> int | None:
        """Bytes at most."""

    @property
    def cache_policy(self) -> str:
        """Which are, of too many."""


@dataclass(frozen=True)
class CacheUse:
    """How a Skip-Cache of ``capacity`` rows was used in training on ``n_samples`` samples.

    ``hits`` rows were there when a batch needed them, each a forward pass saved; ``misses`` were
    computed, or if ``on_disk`` read from a :class:`~skip2lora.CacheFolder`. What statistics of
    scaled taps, or samples held out, took before is in neither.
    """

    policy: str
    capacity: int
    n_samples: int
    hits: int = 0
    misses: int = 0
    on_disk: bool = False

    @property
    def forwards_saved(self) -> int:
        """Rows that no forward pass computed."""
        return self.hits + self.misses * self.on_disk

    @classmethod
    def of(cls, cache: SkipCache, n_samples: int, *, on_disk: bool) -> CacheUse:
        """Of a cache that was not used yet; ``on_disk`` are the rows that it lacks."""
        return cls(cache.policy, len(cache.rows), n_samples, on_disk=on_disk)

    def after(self, epoch: _core.Epoch) -> CacheUse:
        """With the look-ups of another epoch."""
        hits = self.hits + epoch.n_seen - epoch.n_forward
        return replace(self, hits=hits, misses=self.misses + epoch.n_forward)


def check_cache(method: Method, asked: Mapping[str, Any]) -> bool:
    """Whether to keep what the frozen layers computed; where nothing is asked, as the method does.

    Raises:
        ParameterError: the method changes what would be kept; or limits of a cache that is off, of
            none, or two of them.
    """
    cache = asked.get("cache")
    limits = {name: asked[name] for name in BOUNDS if asked.get(name) is not None}
    if cache is not None and not cache and limits:
        name = next(iter(limits))
        raise ParameterError(
            f"{name} is {limits[name]} with cache off, expected one of them: leave one out"
        )
    if (cache or limits) and not method.freezes_below:
        changed = "adapters" if not method.tunes_network else "weights or biases"
        raise ParameterError(
            f"cache is on, but {method.name} updates {changed} of inner layers with every batch, "
            "which makes cached results obsolete (section 4.2), expected a method that does not: "
            "leave cache out"
        )
    if "cache_samples" in limits and "cache_size" in limits:
        raise ParameterError(
            f"cache_samples is {limits['cache_samples']} beside cache_size "
            f"{limits['cache_size']}, expected one of them: leave one out"
        )
    dtype, policy = asked.get("cache_dtype") or "float32", limits.get("cache_policy") or "pin"
    if policy != "pin" and dtype != "float32":
        raise ParameterError(
            f"cache_policy is {policy} with cache_dtype {dtype}, whose rows are all kept before "
            "training, expected pin or float32: leave one of them out"
        )
    if [*limits] == ["cache_policy"]:
        raise ParameterError(
            f"cache_policy is {limits['cache_policy']} for a cache of all rows, expected a limit "
            "too: set cache_samples or cache_size, or leave it out"
        )
    return method.cache or bool(limits) if cache is None else bool(cache)


def check_unbounded(options: Bounds, fix: str) -> None:
    """Refuse a limit of the cache beside suspects or old samples; ``fix`` says how to leave these.

    Raises:
        ParameterError: there is one.
    """
    for name, limit in (("samples", options.cache_samples), ("size", options.cache_size)):
        if limit is not None:
            raise ParameterError(
                f"cache_{name} is {limit} beside old samples or suspects, which need the rows of "
                f"all, expected no limit: {fix}, or leave cache_{name} out"
            )


def capacity_of(options: Bounds, rows: RowFormat, n_samples: int, n_held: int = 0) -> int:
    """Rows of how many of ``n_samples`` are kept, beside those of ``n_held`` held out.

    Raises:
        ParameterError: ``cache_size`` is too small for those held out, or for one row.
    """
    if not options.cache or options.cache_samples is not None:
        return min(n_samples, options.cache_samples or 0) if options.cache else 0
    if options.cache_size is None:
        return n_samples
    left = options.cache_size - n_held * (rows.row_bytes + 1)
    if left >= n_samples * (rows.row_bytes + 1) + rows.table_bytes:
        return n_samples
    beside, each = SkipCache.costs(rows, n_samples, options.cache_policy)
    capacity = (left - beside) // each
    if options.cache_size and capacity < 1:
        of_held = f" beside {n_held} rows held out" if n_held else ""
        raise ParameterError(
            f"cache_size is {options.cache_size} bytes, expected "
            f"{options.cache_size - left + beside + each} or more for one row{of_held}: choose "
            "more, or cache_samples=0 to keep none"
        )
    return max(0, capacity)
