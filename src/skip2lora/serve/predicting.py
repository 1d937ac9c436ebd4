"""Predicting a stream: a row, an answer, a look at whether things changed; the rest comes later."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import Inputs, SamplesLike
from skip2lora.backbones.taps import SAMPLES_AT_ONCE
from skip2lora.errors import DataError
from skip2lora.serve.answering import Frozen, Served, Version
from skip2lora.serve.events import Events
from skip2lora.serve.samples import Sample, size_of
from skip2lora.serve.store import Store
from skip2lora.serve.watching import CHANGED, WATCHING, Watching

_LATE = 1_000  # calls whose time is remembered


class Predicting:
    """Answers by the version that ``in_use`` gives; samples and news go to the store, in time."""

    def __init__(
        self, frozen: Frozen, store: Store, events: Events, watching: Watching,
        in_use: Callable[[], Version],
    ) -> None:  # fmt: skip
        self._frozen, self._store, self._events, self._in_use = frozen, store, events, in_use
        self.watching, self.limits, self.n_predicted = watching, store.limits, 0
        self._counting = threading.Lock()
        self._answers: Counter[str] = Counter()
        self._ms: deque[float] = deque(maxlen=_LATE)
        self._room, self._filled = float(self.limits.pending), time.monotonic()
        self.since = int(store.meta("since") or 0)
        self._restore()

    def predict(self, X: SamplesLike, source: str) -> Served:
        """As :meth:`Service.predict`."""
        began = time.perf_counter()
        model, version = self._frozen.model, self._in_use()
        x = model.check(model.columns.take(X))
        parts = [
            self._predicted(version, x[at : at + SAMPLES_AT_ONCE], source)
            for at in range(0, max(1, len(x)), SAMPLES_AT_ONCE)
        ]
        served = _joined(parts)
        with self._counting:
            if served.numbers is None:  # of which there is no end
                self._answers.update(served.names)
            self._ms.append(1e3 * (time.perf_counter() - began))
        return served

    def counts(self) -> dict[str, Any]:
        """How many samples got each answer, and how long late calls took, in milliseconds."""
        with self._counting:
            answers, ms = dict(self._answers), list(self._ms)
        middle, most = np.quantile(ms, (0.5, 0.99)).tolist() if ms else (None, None)
        return {"by_answer": answers, "latency_ms": {"median": middle, "p99": most}}

    def _predicted(self, version: Version, x: Any, source: str) -> Served:
        rows = self._frozen.rows(x)
        answers = version.answers(rows)
        names = answers.names
        ids = self._store.next_ids(len(names))
        self._watch(self._frozen.last_tap(rows), ids.start)
        room = self._taken(len(names))
        if room:
            which = [at * (len(names) - 1) // max(1, room - 1) for at in range(room)]
            some = [(ids[at], names[at], self._own(x, at)) for at in which]
            self._keep_samples(some, rows[which], answers.sureness(which), source, version.number)
        return Served(
            tuple(ids), names, answers.probabilities, version.number, version.titles,
            answers.numbers,
        )  # fmt: skip

    def _keep_samples(
        self, some: list[tuple[int, str, Any]], rows: NDArray[np.float32],
        shares: NDArray[np.floating[Any]], source: str, version: int,
    ) -> None:  # fmt: skip
        """Keep samples: number, answer and a copy of each, rows, probabilities and margins."""
        now = time.time()
        numbers = shares.tolist()
        self._store.add([
            Sample(number, now, source, x, row, name, share, margin, version)
            for (number, name, x), row, (share, margin) in zip(
                some, self._frozen.packed(rows), numbers, strict=True
            )
        ])  # fmt: skip

    def _own(self, x: Any, at: int) -> Any:
        """A copy of one sample, unless its row holds it, or it is too large."""
        if self._frozen.model.first_tap_is_input:
            return None
        one = x[at : at + 1]
        if size_of(one) > self.limits.sample_bytes:
            return None
        if isinstance(one, Inputs):
            return Inputs({name: array.copy() for name, array in one.arrays.items()})
        return one.copy()

    def _taken(self, count: int) -> int:
        """Of ``count`` samples so many may be kept: a bucket that fills by so many a second."""
        with self._counting:
            now, limits = time.monotonic(), self.limits
            more = (now - self._filled) * limits.per_second
            self._room, self._filled = min(limits.pending, self._room + more), now
            taken = min(count, int(self._room))
            self._room -= taken
            self.n_predicted += count
            self._store.n_dropped += count - taken
        return taken

    # --- change -------------------------------------------------------------------------------

    def renew(self) -> None:
        """Learn anew what is normal, from the samples that come now."""
        self.watching.renew()
        self.keep()

    def keep(self) -> None:
        """Write what is known of change, to go on from after a stop."""
        self._keep("watching", self.watching.to_bytes())

    def _watch(self, taps: NDArray[np.float32], first: int) -> None:
        phase = self.watching.add(taps, first)
        if phase is None:
            return
        state = self.watching.state
        if phase == WATCHING:
            self._events.say("reference", n_samples=state.n_learned)
        elif phase == CHANGED:
            self.since = state.since or first
            self._keep("since", str(self.since))
            self._events.say("alarm", sample=self.since, statistic=state.statistic)
        self.keep()

    def _keep(self, key: str, value: str | bytes) -> None:
        self._store.later("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _restore(self) -> None:
        """What was normal, and whether it had changed, before the service was stopped."""
        content = self._store.meta("watching")
        if content is None:
            return
        try:
            self.watching.restore(content)
        except DataError as error:
            self._events.say("forgotten", reason=str(error))


def _joined(parts: list[Served]) -> Served:
    first = parts[0]
    if len(parts) == 1:
        return first
    ids = tuple(id for part in parts for id in part.ids)
    names = tuple(name for part in parts for name in part.names)
    shares = np.concatenate([part.probabilities for part in parts])
    numbers = [part.numbers for part in parts if part.numbers is not None]
    joined = np.concatenate(numbers) if numbers else None
    return Served(ids, names, shares, first.version, first.outputs, joined)
