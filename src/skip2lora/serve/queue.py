"""Which samples to ask a label for: some that stand for all, then such that are uncertain.

The first are those nearest to the centres of k-means over standardised taps, the next the same
among the least sure of the version in use. Before these come samples that look like a class which
lacks labels, as nothing is learned without. Neither a sample nor a copy of one is asked for twice.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import whole
from skip2lora.serve import allocator
from skip2lora.serve.answering import Version, margins
from skip2lora.serve.events import Events
from skip2lora.serve.samples import ASKED
from skip2lora.serve.store import Settled, Store, Stored
from skip2lora.training.kmeans import representatives
from skip2lora.training.rehearsal import ENOUGH
from skip2lora.training.skip_job import Scaling

#: Of so many uncertain samples one is asked for.
_AMONG = 4
_AT_ONCE = 256  # labelled samples, which may be many
_TINY = 1e-12


class Asking:
    """The open questions of a store, rows of which have ``width`` floats.

    With ``all_classes`` nothing is learned before each class of the model has three labels, so
    these are asked for.
    """

    def __init__(self, store: Store, events: Events, width: int, *, all_classes: bool) -> None:
        self._store, self._events, self._width = store, events, width
        self._all_classes = all_classes
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
                more = self._more(count - len(asked), version, since, first=first)
                allocator.give_back()  # what candidates took
                if more:
                    store.mark(more, ASKED)
                    self._events.say("asked", samples=more)
                asked += more
        return asked[:count]

    def _more(self, count: int, version: Version, since: int, *, first: bool) -> list[int]:
        """Samples to ask for."""
        limits, more = self._store.limits, list[int]()
        most = max(1, min(limits.candidates, limits.candidates_bytes // (4 * self._width)))
        known = self._store.asked_digests()
        for start in dict.fromkeys((since, 0)):
            stored = self._store.candidates(self._width, start, most)
            if not first and not more:
                alike_ones = self._of_lacking(count // 2, version, stored, known)
                self._take(alike_ones, stored, more, known)
            far = None if first or not version.frozen.numbers else self._store.settled(self._width)
            places = chosen(
                version, stored, count - len(more), known=known, uncertain=not first, labelled=far
            )
            self._take(places, stored, more, known)
        return more

    def _of_lacking(
        self, most: int, version: Version, stored: Stored, known: Set[bytes]
    ) -> NDArray[np.int64]:
        """Places of samples that look like classes without three labels."""
        needed = needed_of(version, self._store.n_of_answers(), most) if self._all_classes else {}
        if not needed:
            return np.empty(0, np.int64)
        return alike(version, stored, self._store.settled(self._width), needed, known=known)

    @staticmethod
    def _take(
        places: NDArray[np.int64], stored: Stored, more: list[int], known: set[bytes]
    ) -> None:
        """Add those to what is asked for."""
        more += stored.ids[places].tolist()
        known |= {stored.digests[place] for place in places.tolist()}


def needed_of(version: Version, counts: Mapping[str, int], most: int) -> dict[str, int]:
    """How many labels classes of the vocabulary lack, by their titles; ``most`` of all in all.

    ``counts`` are of those that have some. Classes that lack few come first.
    """
    titles = set(version.titles)
    known = [title for title in version.frozen.vocabulary.titles if title in titles]
    lacking = {title: ENOUGH - counts.get(title, 0) for title in known}
    needed = dict[str, int]()
    for title, count in sorted(lacking.items(), key=lambda pair: pair[1]):
        count = min(count, most - sum(needed.values()))
        if count > 0:
            needed[title] = count
    return needed


def chosen(
    version: Version,
    stored: Stored,
    count: int,
    *,
    known: Set[bytes] = frozenset(),
    uncertain: bool = False,
    labelled: Settled | None = None,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Places of ``count`` samples of ``stored`` at most, ascending.

    ``known`` are digests of rows that are not to be asked for. ``uncertain`` takes them among the
    four times as many that ``version`` is least sure of: of numbers, which say nothing of it, those
    farthest in standardised taps from all that are ``labelled``.
    """
    places = _different(stored, known)
    if not len(places) or count < 1:
        return np.empty(0, np.int64)
    rows = version.frozen.unpacked(stored.rows[places])
    if uncertain and len(places) > _AMONG * count:
        if labelled is None:
            sure: NDArray[Any] = margins(version.probabilities(rows))
        else:
            scaling = Scaling.of(version.frozen.format, [rows])
            apart = _to_answers(version, scaling, _scaled(version, scaling, rows), labelled)
            sure = -np.minimum.reduce([np.full(len(rows), np.inf), *apart.values()])
        order = np.argsort(sure, kind="stable")
        least = np.sort(order[: _AMONG * count])
        places, rows = places[least], np.ascontiguousarray(rows[least])
    taps = _scaled(version, Scaling.of(version.frozen.format, [rows]), rows)
    random = np.random.Generator(np.random.PCG64(seed))
    return np.asarray(places[representatives(taps @ taps.T, count, random)])


def alike(
    version: Version,
    stored: Stored,
    labelled: Settled,
    needed: Mapping[str, int],
    *,
    known: Set[bytes] = frozenset(),
    seed: int = 0,
) -> NDArray[np.int64]:
    """Places of samples of ``stored`` that look like classes, as many as are ``needed`` of each.

    In standardised taps they are nearer to ``labelled`` samples of the class than to others. Where
    there are none of it, ``version`` gives them its highest probabilities. ``known`` as
    :func:`chosen`.
    """
    different = _different(stored, known)
    if not len(different):
        return np.empty(0, np.int64)
    rows = version.frozen.unpacked(stored.rows[different])
    scaling = Scaling.of(version.frozen.format, [rows])
    taps, shares = _scaled(version, scaling, rows), version.probabilities(rows)
    apart = _to_answers(version, scaling, taps, labelled)
    random, places = np.random.Generator(np.random.PCG64(seed)), list[int]()
    for title, count in needed.items():
        unlike = -shares[:, version.titles.index(title)]
        if title in apart:
            others = [of for answer, of in apart.items() if answer != title]
            unlike = apart[title] / np.minimum.reduce([np.full(len(rows), np.inf), *others])
        unlike[places] = np.inf  # taken already
        nearest = np.argsort(unlike, kind="stable")[: min(_AMONG * count, len(rows) - len(places))]
        nearest.sort()
        places += nearest[representatives(taps[nearest] @ taps[nearest].T, count, random)].tolist()
    return np.asarray(different[np.sort(np.array(places, np.intp))])


def _scaled(version: Version, scaling: Scaling, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Standardised taps of rows, (rows, columns)."""
    scaled = rows.copy()
    scaling.apply(scaled)
    taps = scaled[:, : version.frozen.format.layout.logits_offset]
    return np.asarray(taps.astype(np.float64))


def _to_answers(
    version: Version, scaling: Scaling, taps: NDArray[np.float64], labelled: Settled
) -> dict[str, NDArray[np.float64]]:
    """Squared distances to the nearest labelled sample of each answer, (rows of ``taps``,)."""
    apart: dict[str, NDArray[np.float64]] = {}
    squares = np.square(taps).sum(axis=1)[:, None]
    for start in range(0, len(labelled.rows), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        others = _scaled(version, scaling, version.frozen.unpacked(labelled.rows[some]))
        of_some = squares + np.square(others).sum(axis=1) - 2 * taps @ others.T
        answers = np.array(labelled.answers[some])
        for answer in np.unique(answers).tolist():
            least = of_some[:, answers == answer].min(axis=1, initial=np.inf)
            apart[answer] = np.minimum(apart.get(answer, np.inf), np.maximum(least, _TINY))
    return apart


def _different(stored: Stored, known: Set[bytes]) -> NDArray[np.intp]:
    """Places of the first of each digest that is not ``known``."""
    seen, places = set(known), []
    for place, digest in enumerate(stored.digests):
        if digest not in seen:
            seen.add(digest)
            places.append(place)
    return np.array(places, np.intp)
