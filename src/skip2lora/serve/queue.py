"""Which samples to ask a label for: some that stand for all, then such that are uncertain.

The first are those nearest to the centres of k-means over standardised taps, the next the same
among the least sure of the version in use. Neither a sample nor a copy of one is asked for twice.
"""

from __future__ import annotations

import threading
from collections.abc import Set

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import whole
from skip2lora.serve.answering import Version, margins
from skip2lora.serve.events import Events
from skip2lora.serve.samples import ASKED
from skip2lora.serve.store import Store, Stored
from skip2lora.training.kmeans import representatives
from skip2lora.training.skip_job import Scaling

#: Of so many uncertain samples one is asked for.
_AMONG = 4


class Asking:
    """The open questions of a store, rows of which have ``width`` floats."""

    def __init__(self, store: Store, events: Events, width: int) -> None:
        self._store, self._events, self._width = store, events, width
        self._lock = threading.Lock()

    def ask(self, count: int | None, version: Version, *, since: int) -> list[int]:
        """As :meth:`Service.ask`; samples from number ``since`` on are asked for first."""
        store, limits = self._store, self._store.limits
        first = store.n_labelled < limits.first_batch
        if count is None:
            count = limits.first_batch - store.n_labelled if first else limits.batch
        count = whole("count", count, 1, 1_000)
        with self._lock:
            store.flush()
            asked = store.open_questions()
            if len(asked) < count:
                more = self._more(count - len(asked), version, since, uncertain=not first)
                if more:
                    store.mark(more, ASKED)
                    self._events.say("asked", samples=more)
                asked += more
        return asked[:count]

    def _more(self, count: int, version: Version, since: int, *, uncertain: bool) -> list[int]:
        """Samples to ask for."""
        limits, more = self._store.limits, list[int]()
        most = max(1, min(limits.candidates, limits.candidates_bytes // (4 * self._width)))
        known = self._store.asked_digests()
        for first in dict.fromkeys((since, 0)):
            stored = self._store.candidates(self._width, first, most)
            places = chosen(version, stored, count - len(more), known=known, uncertain=uncertain)
            more += stored.ids[places].tolist()
            known |= {stored.digests[place] for place in places.tolist()}
        return more


def chosen(
    version: Version,
    stored: Stored,
    count: int,
    *,
    known: Set[bytes] = frozenset(),
    uncertain: bool = False,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Places of ``count`` samples of ``stored`` at most, ascending.

    ``known`` are digests of rows that are not to be asked for. ``uncertain`` takes them among the
    four times as many that ``version`` is least sure of.
    """
    places = _different(stored, known)
    if not len(places) or count < 1:
        return np.empty(0, np.int64)
    rows = version.frozen.unpacked(stored.rows[places])
    if uncertain and len(places) > _AMONG * count:
        order = np.argsort(margins(version.probabilities(rows)), kind="stable")
        least = np.sort(order[: _AMONG * count])
        places, rows = places[least], np.ascontiguousarray(rows[least])
    scaled = rows.copy()
    Scaling.of(version.frozen.format, [scaled]).apply(scaled)
    taps = scaled[:, : version.frozen.format.layout.logits_offset].astype(np.float64)
    random = np.random.Generator(np.random.PCG64(seed))
    return np.asarray(places[representatives(taps @ taps.T, count, random)])


def _different(stored: Stored, known: Set[bytes]) -> NDArray[np.intp]:
    """Places of the first of each digest that is not ``known``."""
    seen, places = set(known), []
    for place, digest in enumerate(stored.digests):
        if digest not in seen:
            seen.add(digest)
            places.append(place)
    return np.array(places, np.intp)
