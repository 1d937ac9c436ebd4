"""What is known of each version: how it was judged, and since when it is or was in use."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from skip2lora.errors import DataError
from skip2lora.serve.gate import Verdict
from skip2lora.serve.store import Store, json_text

#: Of a version: it may be adopted, was proved no better, was turned down or left by a person or by
#: later labels, or was taken into use.
WAITING, REFUSED, REJECTED, ROLLED_BACK, ADOPTED = (
    "waiting", "refused", "rejected", "rolled back", "adopted",
)  # fmt: skip


@dataclass(frozen=True)
class Record:
    """Version ``number``: learned of ``n_labels``, in the ``state`` that is above.

    ``until`` is the newest label when it came into use, ``before`` the version that it replaced.
    """

    number: int
    created: float
    state: str
    verdict: Verdict
    n_labels: int
    adopted: float | None = None
    until: int = 0
    before: int = 0

    def to_dict(self, in_use: int) -> dict[str, Any]:
        """As JSON has it."""
        judged = asdict(self.verdict)
        return {
            "number": self.number, "created": self.created, "state": self.state,
            "in_use": self.number == in_use, "adopted": self.adopted, "before": self.before,
            "n_labels": self.n_labels,
            **{name: judged[name] for name in ("fixed", "broke", "n", "p", "reason")},
        }  # fmt: skip


_FORGOTTEN = "n_refused_before"  # of ``meta``

#: The model alone.
BASE = Record(0, 0.0, ADOPTED, Verdict(0, 0, 0, 1.0, True, "the model alone", 0), 0)


class Records:
    """The records of a store; those of version 0 are there without being written."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def all(self) -> list[Record]:
        """From version 0 on."""
        written = self._read("ORDER BY number")
        return written if written and written[0].number == 0 else [BASE, *written]

    def _read(self, which: str, *values: Any) -> list[Record]:
        rows = self._store.read(
            "SELECT number, created, state, verdict, n_labels, adopted, until, before"  # noqa: S608
            f" FROM versions {which}", *values,
        )  # fmt: skip
        return [
            Record(number, created, state, Verdict(**json.loads(judged)), *rest)
            for number, created, state, judged, *rest in rows
        ]

    def of(self, number: int) -> Record:
        """That of one version.

        Raises:
            DataError: there is none.
        """
        record = next(iter(self._read("WHERE number = ?", number)), None)
        if record is None and number == 0:
            return BASE
        if record is None:
            numbers = [each.number for each in self.all()]
            raise DataError(
                f"there is no version {number}, expected one of {numbers[-10:]}: choose one"
            )
        return record

    @property
    def newest(self) -> int:
        """The largest number of a version."""
        return int(self._store.one("SELECT MAX(number) FROM versions") or 0)

    def write(self, record: Record) -> Record:
        """Keep it, on the disk before this returns.

        Raises:
            FileError: the disk refuses.
        """
        values = (
            record.number, record.created, record.state, json_text(asdict(record.verdict)),
            record.n_labels, record.adopted, record.until, record.before,
        )  # fmt: skip
        self._store.do(
            lambda db: db.execute(
                "INSERT OR REPLACE INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values
            )
        )
        return record

    def adopted(self, number: int, before: int) -> Record:
        """It is in use from now on, and judged by labels that come from now on.

        Raises:
            DataError, FileError: as :meth:`of` and :meth:`write`.
        """
        until = self._store.newest_label
        record = self.of(number)
        return self.write(
            replace(record, state=ADOPTED, adopted=time.time(), until=until, before=before)
        )

    def prune(self, most: int) -> None:
        """Forget soon, of versions that were never in use, all but the newest ``most``.

        What they were judged to be stays in the audit log, and how many were refused is counted.
        """
        old = (
            "number IN (SELECT number FROM versions WHERE adopted IS NULL ORDER BY number DESC"
            " LIMIT -1 OFFSET ?)"
        )

        def work(db: sqlite3.Connection) -> None:
            query = f"SELECT COUNT(*) FROM versions WHERE state = ? AND {old}"  # noqa: S608
            count = db.execute(query, (REFUSED, most)).fetchone()[0]
            before = db.execute("SELECT value FROM meta WHERE key = ?", (_FORGOTTEN,)).fetchone()
            total = count + int(before[0] if before else 0)
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_FORGOTTEN, str(total)))
            db.execute(f"DELETE FROM versions WHERE {old}", (most,))  # noqa: S608

        self._store.soon(work)

    @property
    def n_refused(self) -> int:
        """Versions that were proved no better, those that are forgotten among them."""
        count = self._store.one("SELECT COUNT(*) FROM versions WHERE state = ?", REFUSED)
        return int(count) + int(self._store.meta(_FORGOTTEN) or 0)
