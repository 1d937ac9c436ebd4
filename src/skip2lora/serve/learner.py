"""Learns, judges, adopts and goes back: which version is in use, and why."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from skip2lora.adapted import AdaptedModel
from skip2lora.data.media import Media
from skip2lora.errors import DataError, FileError, ParameterError
from skip2lora.serve import allocator
from skip2lora.serve.answering import Frozen, Version
from skip2lora.serve.apart import StudyApart
from skip2lora.serve.classes import Classes
from skip2lora.serve.events import Events
from skip2lora.serve.gate import Verdict
from skip2lora.serve.limits import Limits
from skip2lora.serve.numbers import Numbers
from skip2lora.serve.nursery import EndedError
from skip2lora.serve.records import (
    ADOPTED,
    REFUSED,
    REJECTED,
    ROLLED_BACK,
    WAITING,
    Record,
    Records,
)  # fmt: skip
from skip2lora.serve.store import Settled, Store, json_text
from skip2lora.serve.study import Now, Studied, Study
from skip2lora.serve.versions import VersionFolders
from skip2lora.serve.vocabulary import Vocabulary, remember, remembered

_GIVEN = "given at the start"  # why an adapter that was learned elsewhere is in use

T = TypeVar("T")
_TRIES = 2


@dataclass(frozen=True, eq=False)
class Rules:
    """How a service learns: ``labels`` are what it learns of, and how that is judged.

    With ``approve`` a person adopts what is proved better. ``apart`` studies labels in a process of
    its own.
    """

    labels: Classes | Numbers
    approve: bool
    limits: Limits
    apart: StudyApart | None = None


class Learner:
    """Which version of ``frozen`` is in use, and how another comes into use."""

    def __init__(
        self, frozen: Frozen, store: Store, events: Events, rules: Rules,
        on_use: Callable[[], None],
    ) -> None:  # fmt: skip
        """Take the version that was in use into use again; ``on_use`` is called for another.

        Raises:
            FileError, ModelError: it cannot be read.
        """
        self._frozen, self._store, self._events, self._rules = frozen, store, events, rules
        self._on_use = on_use
        self.folders, self.records = VersionFolders(store.folder), Records(store)
        self._learning = threading.RLock()
        self.labels: Any = rules.labels
        self._recall()
        self.in_use = self._loaded(self.folders.current)
        self._study = Study(frozen, rules.labels, store.reader, self._version)
        self._apart, self._closed = rules.apart, False
        self.reason = ""
        self.last_ms: float | None = None
        self.images: Media | None = None  # how files become samples, which versions keep
        self._busy = False
        self.suspects: tuple[dict[str, Any], ...] = tuple(
            json.loads(store.meta("suspects") or "[]")
        )
        self._settle_records()

    def weighed(self) -> tuple[int, int]:
        """Bytes of the process that waits to learn, and of one that has; 0 where there is none."""
        return (0, 0) if self._apart is None else self._apart.weighed(self._now())

    def _version(self, number: int) -> Version:
        return self.in_use if number == self.in_use.number else self._loaded(number)

    def close(self) -> None:
        """End what is studied in a process of its own."""
        self._closed = True
        if self._apart is not None:
            self._apart.close()

    def _loaded(self, number: int) -> Version:
        return Version(number, self._frozen, self.folders.load(number, self._frozen.model))

    def _recall(self) -> None:
        """The classes of an adapter that was given, which older programs did not write down."""
        known = remembered(self._store)
        if known is not None:
            self._frozen.vocabulary = known
            return
        given = [record for record in self.records.all() if record.verdict.reason == _GIVEN]
        if given and given[0].number in self.folders.numbers():
            adapted = self._loaded(given[0].number).adapted
            self._know(Vocabulary.of_adapter(adapted) if adapted else self._frozen.vocabulary)

    def _know(self, known: Vocabulary) -> None:
        remember(self._store, self._frozen.model, known)
        self._frozen.vocabulary = known

    def _settle_records(self) -> None:
        """After a kill: folders and records of versions, and the pointer, say the same."""
        there = {record.number for record in self.records.all()}
        self.folders.keep(there)
        current = self.in_use.number
        if current and self.records.of(current).state != ADOPTED:
            self.records.adopted(current, 0)

    def given(self, path: str | os.PathLike[str]) -> None:
        """Take an adapter that was learned elsewhere into use, unless the store has versions.

        What it calls the classes, each version does from then on.

        Raises:
            FileError, ModelError, ParameterError: it cannot be read, or does not fit.
        """
        if len(self.records.all()) > 1:
            return
        adapted = AdaptedModel.load(self._frozen.model, path)
        Version(1, self._frozen, adapted)
        self._know(Vocabulary.of_adapter(adapted))
        self.folders.save(1, adapted.files())
        judged = Verdict(0, 0, 0, 1.0, True, _GIVEN, 1)
        self.records.write(Record(1, time.time(), WAITING, judged, 0))
        self.adopt(1, source="start")

    # --- learning -----------------------------------------------------------------------------

    def settled(self) -> Settled:
        """All samples with a label that nothing contradicts."""
        return self._store.settled(self._frozen.width)

    @property
    def running(self) -> bool:
        """Whether it learns now."""
        return self._busy

    def learn(self) -> Verdict:
        """A candidate of all labels, judged; adopted where it is proved better.

        Raises:
            FileError: the disk refuses.
        """
        with self._learning:
            self.check()
            began = time.perf_counter()
            self._busy = True
            try:
                studied = self._studied(lambda study: study.candidate(self._now(), self.images))
            finally:
                self._busy = False
            if not studied.files:
                return self._said(studied.judged)
            if self._apart is None:
                allocator.give_back()
            self.last_ms = 1e3 * (time.perf_counter() - began)
            return self._kept(studied, self.last_ms)

    def _studied(self, call: Callable[[Study | StudyApart], T]) -> T:
        """What comes of the labels, by a process of its own as far as there is one.

        Once more where that ended in its middle, which may have been by chance.
        """
        tries = _TRIES
        while self._apart is not None and self._apart.there:
            try:
                return call(self._apart)
            except EndedError as error:
                tries -= 1
                if self._closed or not tries:
                    raise
                self._events.say("refused", version=None, reason=str(error))
        return call(self._study)

    def _kept(self, studied: Studied, took_ms: float) -> Verdict:
        """Write a candidate and what is known of it; adopt it where it may be."""
        number = 1 + self.records.newest
        judged = replace(studied.judged, version=number)
        self.suspects = studied.suspects
        answers = json_text(studied.held_out)
        self._store.set_meta(
            **{"suspects": json_text(self.suspects), f"held_out_{number}": answers}
        )
        self.folders.save(number, studied.files)
        state = WAITING if judged.adopt else REFUSED
        self.records.write(Record(number, time.time(), state, judged, studied.n_labels))
        self._events.say(
            "learned", version=number, n_labels=studied.n_labels, n_left_out=studied.n_out,
            n_suspects=len(self.suspects), milliseconds=round(took_ms, 1),
        )  # fmt: skip
        self.reason = judged.reason
        if judged.adopt and not self._rules.approve:
            self.adopt(number, source="gate", reason=judged.reason)
        self._prune()
        return judged if judged.adopt else self._said(judged)

    def _said(self, judged: Verdict) -> Verdict:
        self.reason = judged.reason
        self._events.say("refused", version=judged.version, reason=judged.reason)
        return judged

    def _now(self) -> Now:
        """What is in use, and before it, or the model alone where that is gone."""
        record = self.records.of(self.in_use.number)
        there = {0, *self.folders.numbers()}
        return Now(record.number, record.before if record.before in there else 0, record.until)

    # --- which is in use ----------------------------------------------------------------------

    def adopt(self, number: int, *, source: str, reason: str = "") -> None:
        """Use a version from now on.

        Raises:
            DataError: there is no such version.
            FileError: the disk refuses; the one before stays in use.
            ModelError: its folder is damaged.
        """
        with self._learning:
            self.records.of(number)
            self._use(number, "adopted", source=source, reason=reason)

    def _use(self, number: int, kind: str, **detail: Any) -> None:
        """Load it, point to it, answer by it."""
        try:
            version = self._loaded(number)
        except FileError as error:
            raise DataError(
                f"version {number} is not kept any more, expected one of "
                f"{[0, *self.folders.numbers()]}: choose one"
            ) from error
        before = self.in_use.number
        self.records.adopted(number, before)
        self.folders.point(number)
        self.in_use = version
        self._events.say(kind, version=number, before=before, **detail)
        self._on_use()

    def reject(self, number: int, *, source: str) -> None:
        """Turn a version down; where it is in use, the one before is used again.

        Raises:
            DataError: there is no such version.
            FileError: the disk refuses.
            ParameterError: it is the model alone.
        """
        if number == 0:
            raise ParameterError(
                "version 0 is the model alone, expected one that was learned: choose another"
            )
        with self._learning:
            record = self.records.of(number)
            if number == self.in_use.number:
                self._go_back(record, REJECTED, source=source, reason="turned down")
            else:
                self.records.write(replace(record, state=REJECTED))
            self._events.say("rejected", version=number, source=source)

    def _go_back(self, record: Record, state: str, **detail: Any) -> None:
        """To what was in use before ``record``, or to the model alone where that is gone."""
        there = {0, *self.folders.numbers()}
        back = record.before if record.before in there else 0
        self._use(back, "rolled back", **detail)
        self.records.write(replace(self.records.of(record.number), state=state))

    def check(self) -> bool:
        """Go back where labels that came since the version in use contradict it; whether so.

        By the test of the gate, reversed: the version before against this one, on labels that
        neither has learned.
        """
        with self._learning:
            current = self.in_use
            record = self.records.of(current.number)
            if current.number == 0 or record.before == current.number:
                return False
            if self._store.newest_label <= record.until:
                return False
            reason = self._studied(lambda study: study.contradiction(self._now()))
            if reason is None:
                return False
            self._go_back(record, ROLLED_BACK, source="gate", reason=reason)
            return True

    def _prune(self) -> None:
        """The newest versions stay, the one in use and the one before it."""
        record = self.records.of(self.in_use.number)
        limits = self._rules.limits
        newest = self.folders.numbers()[-limits.versions :]
        stay = {*newest, record.number, record.before}
        self.folders.keep(stay)
        self.records.prune(max(limits.records, limits.versions))
        rows = self._store.read("SELECT key FROM meta WHERE key LIKE 'held_out_%'")
        for (key,) in rows:
            if int(key.removeprefix("held_out_")) not in stay:
                self._store.later("DELETE FROM meta WHERE key = ?", (key,))
