"""The store of a service: samples with their rows, labels, versions and the audit log, in a folder.

No sample passes the frozen model twice, as rows are kept. Labels are all kept, undone ones and such
that contradict each other, too. What orders things are numbers, never times, as clocks jump.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.errors import DataError
from skip2lora.serve.database import FILE, Reader, lock, prepare, refusals
from skip2lora.serve.limits import Limits
from skip2lora.serve.samples import ASKED, NOT_ASKED, Sample, insert, prune
from skip2lora.serve.writer import Work, Writer

#: Numbers of samples that are reserved on the disk ahead, so that none is given out twice.
RESERVED = 100_000
_LOST_EVENTS = 100  # that were said and not written when the process was killed, at most
#: Samples, after which those beyond the limits are removed.
PRUNED_EVERY = 64


@dataclass(frozen=True, eq=False)
class Stored:
    """Packed rows of samples, (samples, width) float32, their ``ids``, (samples,), and digests."""

    ids: NDArray[np.int64]
    rows: NDArray[np.float32]
    digests: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Settled(Stored):
    """Samples with labels that agree: ``answers``.

    ``last`` is the number of the newest label of each, ``times`` how often it was given,
    (samples,).
    """

    answers: tuple[str, ...]
    last: NDArray[np.int64]
    times: NDArray[np.int64]

    def some(self, stay: NDArray[np.bool_]) -> Settled:
        """Some of them, (samples,)."""
        at = np.flatnonzero(stay).tolist()
        return Settled(
            self.ids[stay], self.rows[stay], tuple(self.digests[place] for place in at),
            tuple(self.answers[place] for place in at), self.last[stay], self.times[stay],
        )  # fmt: skip


class Store:
    """Reads and writes the store in ``folder``; ``about`` is what its rows depend on.

    ``on_change`` is as of :class:`~skip2lora.serve.writer.Writer`.

    Raises:
        FileError: another process uses it, or the system refused.
        ModelError: it is damaged, of a newer program, or of another model.
    """

    def __init__(
        self, folder: Path, about: Mapping[str, Any], limits: Limits,
        on_change: Callable[[str | None], None],
    ) -> None:  # fmt: skip
        self.folder, self.file, self.limits = folder, (folder / FILE).absolute(), limits
        self._lock_file, self._on_change = lock(folder), on_change
        self._open = False  # so that a disk which is full from the start is refused alone
        try:
            prepare(folder.absolute(), about)
            with refusals(self.file):
                self.reader = Reader(self.file)
                self._writer = Writer(self.file, self._changed)
        except BaseException:
            os.close(self._lock_file)
            raise
        self._numbering = threading.Lock()
        self._n_pending = self._pending_bytes = self._since_pruned = self.n_dropped = 0
        self.next_event = 1 + int(self.one("SELECT MAX(id) FROM events") or 0)
        self.next_event += 0 if self.meta("clean") in ("1", None) else _LOST_EVENTS
        self._next = self._reserved = int(self.meta("next_sample") or "1")
        try:
            self.set_meta(clean="0", next_sample=str(self._reserve()))
        except BaseException:
            self.close()
            raise
        self._open = True

    def _changed(self, reason: str | None) -> None:
        if self._open:
            self._on_change(reason)

    def close(self) -> None:
        """Write what waits, and let another process use the store."""
        if not self.paused:
            self.set_meta(clean="1", next_sample=str(self._next))
        self._writer.close()
        self.reader.close()
        os.close(self._lock_file)

    # --- numbers ------------------------------------------------------------------------------

    def _reserve(self) -> int:
        self._reserved = self._next + RESERVED
        return self._reserved

    def next_ids(self, count: int) -> range:
        """Numbers of ``count`` samples, never given out before."""
        with self._numbering:
            first = self._next
            self._next += count
            ahead = self._reserved - self._next < RESERVED // 2
            text = str(self._reserve()) if ahead else ""
        if ahead:
            self.later("UPDATE meta SET value = ? WHERE key = 'next_sample'", (text,))
        return range(first, first + count)

    @property
    def n_numbered(self) -> int:
        """Below it are the numbers that were given out."""
        return self._next

    # --- what is there ------------------------------------------------------------------------

    @property
    def paused(self) -> str | None:
        """Why nothing can be written now; None where it can."""
        return self._writer.paused

    def read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query, of what is committed.

        Raises:
            FileError, ModelError: as :func:`~skip2lora.serve.database.refusals`.
        """
        return self.reader.read(query, *values)

    def one(self, query: str, *values: Any) -> Any:
        """The first value of a query, None where it gives none."""
        return self.reader.one(query, *values)

    def meta(self, key: str) -> Any:
        """What is kept under a name: text or bytes; None where nothing is."""
        return self.reader.meta(key)

    def set_meta(self, **values: str | bytes) -> None:
        """Keep them under these names, on the disk before this returns.

        Raises:
            FileError: the disk refuses.
        """
        pairs = list(values.items())
        self.do(lambda db: db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", pairs))

    def do(self, work: Work) -> Any:
        """As :meth:`Writer.do`."""
        return self._writer.do(work)

    def later(self, statement: str, values: tuple[Any, ...]) -> None:
        """Run it soon, without waiting for it."""
        self.soon(lambda db: db.execute(statement, values))

    def soon(self, work: Work) -> None:
        """Let it be done soon, in one transaction, without waiting for it."""
        self._writer.add(work)

    def flush(self) -> None:
        """Wait until what was predicted so far can be read, unless the disk refuses."""
        if self.paused is None:
            self.do(lambda _: None)

    # --- samples ------------------------------------------------------------------------------

    def add(self, samples: Sequence[Sample]) -> int:
        """Keep them soon; those that find no room among the ones that wait are dropped.

        Returns how many are dropped.
        """
        taken: list[Sample] = []
        size, limits = 0, self.limits
        with self._numbering:
            for sample in samples:
                size_then = size + sample.n_bytes
                if (
                    self._n_pending + len(taken) < limits.pending
                    and self._pending_bytes + size_then <= limits.pending_bytes
                ):
                    taken.append(sample)
                    size = size_then
            self._n_pending += len(taken)
            self._pending_bytes += size
            self.n_dropped += len(samples) - len(taken)

        def done() -> None:
            with self._numbering:
                self._n_pending -= len(taken)
                self._pending_bytes -= size

        if taken:
            self._writer.add(lambda db: self._insert(db, taken), done)
        return len(samples) - len(taken)

    def _insert(self, db: sqlite3.Connection, samples: Sequence[Sample]) -> None:
        insert(db, samples, self.limits.sample_bytes)
        self._since_pruned += len(samples)
        if self._since_pruned >= PRUNED_EVERY:
            self._since_pruned = 0
            prune(db, self.limits)

    def settled(self, width: int) -> Settled:
        """As :func:`settled`."""
        return settled(self.reader, width)

    def n_of_answers(self) -> dict[str, int]:
        """How many samples have each settled label."""
        return dict(
            self.read("SELECT answer, COUNT(*) FROM given WHERE answers = 1 GROUP BY answer")
        )

    def unconfirmed(self) -> dict[int, str]:
        """The settled label of each sample that was given it once."""
        rows = self.read("SELECT sample, answer FROM given WHERE answers = 1 AND times < 2")
        return dict(rows)

    def candidates(self, width: int, since: int, most: int) -> Stored:
        """The newest samples from number ``since`` on without a label that were never asked for."""
        rows = self.read(
            "SELECT id, row, digest FROM samples WHERE labelled = 0 AND asked = ? AND id >= ?"
            " ORDER BY id DESC LIMIT ?", NOT_ASKED, since, most,
        )[::-1]  # fmt: skip
        ids, packed, digests = zip(*rows, strict=True) if rows else [()] * 3
        return Stored(np.array(ids, np.int64), _rows(packed, width), tuple(digests))

    def asked_digests(self) -> set[bytes]:
        """Of all samples that have a label, were asked for or passed over."""
        rows = self.read("SELECT digest FROM samples WHERE labelled = 1 OR asked > 0")
        return {row[0] for row in rows}

    @property
    def n_labelled(self) -> int:
        """Samples with a label."""
        return int(self.one("SELECT COUNT(*) FROM samples WHERE labelled = 1"))

    @property
    def newest_label(self) -> int:
        """The number of the label that was given last, 0 where there is none."""
        return int(self.one("SELECT MAX(id) FROM labels") or 0)

    def n_labelled_after(self, label: int) -> int:
        """Samples that were given a label since the one of that number."""
        query = "SELECT COUNT(DISTINCT sample) FROM labels WHERE undone IS NULL AND id > ?"
        return int(self.one(query, label))

    def open_questions(self) -> list[int]:
        """Numbers of samples that were asked for and have no label."""
        rows = self.read(
            "SELECT id FROM samples WHERE asked = ? AND labelled = 0 ORDER BY id", ASKED
        )
        return [row[0] for row in rows]

    def mark(self, ids: Sequence[int], asked: int) -> None:
        """Set ``asked`` of these samples.

        Raises:
            FileError: the disk refuses.
        """
        pairs = [(asked, id) for id in ids]
        self.do(lambda db: db.executemany("UPDATE samples SET asked = ? WHERE id = ?", pairs))

    # --- labels -------------------------------------------------------------------------------

    def add_label(self, sample: int, answer: str, source: str, *, settle: bool) -> int:
        """Keep a label, on the disk before this returns; its number. ``settle`` undoes the others.

        Raises:
            DataError: the sample is not there any more, or never was.
            FileError: the disk refuses.
        """
        now = time.time()

        def work(db: sqlite3.Connection) -> int:
            self._check_there(db, sample)
            if settle:
                db.execute(
                    "UPDATE labels SET undone = ? WHERE sample = ? AND undone IS NULL"
                    " AND answer != ?", (now, sample, answer),
                )  # fmt: skip
            cursor = db.execute(
                "INSERT INTO labels (sample, answer, source, time) VALUES (?, ?, ?, ?)",
                (sample, answer, source, now),
            )
            db.execute("UPDATE samples SET labelled = 1 WHERE id = ?", (sample,))
            return int(cursor.lastrowid or 0)

        return int(self.do(work))

    def undo_label(self, sample: int) -> str:
        """Undo the newest label of a sample; what it was.

        Raises:
            DataError: it has none.
            FileError: the disk refuses.
        """

        def work(db: sqlite3.Connection) -> str:
            row = db.execute(
                "SELECT id, answer FROM labels WHERE sample = ? AND undone IS NULL"
                " ORDER BY id DESC LIMIT 1", (sample,),
            ).fetchone()  # fmt: skip
            if row is None:
                raise DataError(
                    f"sample {sample} has no label, expected one to undo: give one first"
                )
            db.execute("UPDATE labels SET undone = ? WHERE id = ?", (time.time(), row[0]))
            db.execute(
                "UPDATE samples SET labelled = EXISTS (SELECT 1 FROM labels WHERE sample = ?1"
                " AND undone IS NULL) WHERE id = ?1", (sample,),
            )  # fmt: skip
            return str(row[1])

        return str(self.do(work))

    def _check_there(self, db: sqlite3.Connection, sample: int) -> None:
        if db.execute("SELECT 1 FROM samples WHERE id = ?", (sample,)).fetchone() is None:
            raise gone(sample, self.n_numbered)


def settled(reader: Reader, width: int) -> Settled:
    """All samples whose label is settled, by their numbers; rows have ``width`` floats."""
    rows = reader.read(
        "SELECT s.id, s.row, s.digest, l.answer, l.last, l.times FROM samples s"
        " JOIN given l ON l.sample = s.id WHERE l.answers = 1 ORDER BY s.id"
    )
    ids, packed, digests, answers, last, times = zip(*rows, strict=True) if rows else [()] * 6
    return Settled(
        np.array(ids, np.int64), _rows(packed, width), tuple(digests), tuple(answers),
        np.array(last, np.int64), np.array(times, np.int64),
    )  # fmt: skip


def gone(sample: int, n_numbered: int) -> DataError:
    """The error for a sample that is not there."""
    if not 0 < sample < n_numbered:
        return DataError(
            f"there is no sample {sample}, expected a number that predict gave: check it"
        )
    return DataError(
        f"sample {sample} is not kept any more, or was one of too many at a time, expected one "
        "that is there: choose another, or raise the limits"
    )


def _rows(packed: Sequence[bytes], width: int) -> NDArray[np.float32]:
    return np.frombuffer(b"".join(packed), np.float32).reshape(len(packed), width)


def json_text(value: Any) -> str:
    """As the database keeps it."""
    return json.dumps(value, ensure_ascii=False)
