"""Samples in the database: what they are made of, and which of them give room to others."""

from __future__ import annotations

import hashlib
import io
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import Inputs
from skip2lora.serve.limits import Limits

#: Of ``asked``: never asked for, asked for, and passed over.
NOT_ASKED, ASKED, SKIPPED = range(3)
#: Samples without a label beyond the limit, before some are removed.
SLACK = 32


@dataclass(frozen=True, eq=False)
class Sample:
    """A sample that was predicted, to be kept.

    ``row`` is its packed row, (width,) float32; ``x``, (1, ...), what it is made of, None where the
    row holds it.
    """

    id: int
    time: float
    source: str
    x: Any
    row: NDArray[np.float32]
    answer: str
    probability: float
    margin: float
    version: int

    @property
    def n_bytes(self) -> int:
        """Of the row and of what the sample is made of."""
        return self.row.nbytes + size_of(self.x)


def size_of(x: Any) -> int:
    """Bytes of a sample."""
    if isinstance(x, Inputs):
        return sum(array.nbytes for array in x.arrays.values())
    return 0 if x is None else int(x.nbytes)


def digest_of(row: NDArray[np.float32]) -> bytes:
    """Of a row: the same for the same sample."""
    return hashlib.blake2b(row.tobytes(), digest_size=16).digest()


def encoded(x: Any) -> bytes | None:
    """One sample as bytes, whatever its numbers are."""
    if x is None:
        return None
    file = io.BytesIO()
    if isinstance(x, Inputs):
        np.savez(file, allow_pickle=False, **x.arrays)
    else:
        np.save(file, x, allow_pickle=False)
    return file.getvalue()


def decoded(content: bytes | None) -> Any:
    """What :func:`encoded` was given."""
    if content is None:
        return None
    opened = np.load(io.BytesIO(content), allow_pickle=False)
    return opened if isinstance(opened, np.ndarray) else Inputs(dict(opened))


def insert(db: sqlite3.Connection, samples: Sequence[Sample], sample_bytes: int) -> None:
    """Write them; what they are made of only up to ``sample_bytes``."""
    db.executemany(
        "INSERT OR REPLACE INTO samples (id, time, source, x, row, digest, answer, probability,"
        " margin, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (
                of.id, of.time, of.source,
                encoded(of.x) if size_of(of.x) <= sample_bytes else None,
                of.row.tobytes(), digest_of(of.row), of.answer, of.probability, of.margin,
                of.version,
            )
            for of in samples
        ),
    )  # fmt: skip


def prune(db: sqlite3.Connection, limits: Limits) -> None:
    """Remove samples beyond the limits.

    Of those without a label the newest half stays, and of the others those with the least margin;
    what was asked for stays until it is answered. Labels of removed samples stay.
    """
    size = db.execute(
        "SELECT LENGTH(row) + IFNULL(LENGTH(x), 0) FROM samples ORDER BY id DESC LIMIT 1"
    ).fetchone()
    if size is None:
        return
    most = max(2, min(limits.unlabelled, limits.unlabelled_bytes // size[0]))
    count = db.execute("SELECT COUNT(*) FROM samples WHERE labelled = 0").fetchone()[0]
    if count > most + min(SLACK, most):
        db.execute(
            "DELETE FROM samples WHERE id IN (SELECT id FROM samples WHERE labelled = 0 AND"
            " asked != ? AND id <= (SELECT id FROM samples WHERE labelled = 0 ORDER BY id DESC"
            " LIMIT 1 OFFSET ?) ORDER BY margin DESC, id LIMIT ?)",
            (ASKED, most // 2, count - most),
        )
    count = db.execute("SELECT COUNT(*) FROM samples WHERE labelled = 1").fetchone()[0]
    if count > limits.labelled:
        db.execute(
            "DELETE FROM samples WHERE id IN (SELECT id FROM samples WHERE labelled = 1"
            " ORDER BY id LIMIT ?)",
            (count - limits.labelled,),
        )
    db.execute(
        "DELETE FROM events WHERE id <= (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?)",
        (limits.events,),
    )
