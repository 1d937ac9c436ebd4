"""What a store holds, as plain dictionaries for JSON."""

from __future__ import annotations

from typing import Any

from skip2lora.errors import ParameterError
from skip2lora.serve.samples import ASKED, decoded
from skip2lora.serve.store import Store, gone

_COLUMNS = (
    "id", "time", "source", "answer", "probability", "margin", "version", "asked", "label",
    "contradicting",
)  # fmt: skip
_SELECT = """
    SELECT s.id, s.time, s.source, s.answer, s.probability, s.margin, s.version, s.asked,
           CASE WHEN l.answers = 1 THEN l.answer END, IFNULL(l.answers, 0) > 1
    FROM samples s LEFT JOIN given l ON l.sample = s.id
"""
_LISTED = f"""{_SELECT}
    WHERE CASE ?1 WHEN 'unlabelled' THEN s.labelled = 0 WHEN 'labelled' THEN s.labelled = 1
              WHEN 'asked' THEN s.labelled = 0 AND s.asked = {ASKED}
              WHEN 'contradicting' THEN l.answers > 1 ELSE 1 END
        AND (?2 IS NULL OR EXISTS (SELECT 1 FROM labels WHERE sample = s.id AND undone IS NULL
                                   AND answer = ?2))
        AND (?3 IS NULL OR s.id < ?3)
    ORDER BY s.id DESC LIMIT ?4
"""  # noqa: S608, a number
STATES = ("unlabelled", "labelled", "asked", "contradicting")


def samples(
    store: Store, state: str | None, label: str | None, limit: int, before: int | None
) -> list[dict[str, Any]]:
    """Samples that are kept, the newest first; ``label`` is one that was given and not undone.

    Raises:
        ParameterError: there is no such state.
    """
    if state is not None and state not in STATES:
        raise ParameterError(f"state is {state!r}, expected one of {', '.join(STATES)}: choose one")
    return [_sample(row) for row in store.read(_LISTED, state, label, before, limit)]


def sample(store: Store, number: int) -> tuple[dict[str, Any], bytes, Any]:
    """One sample with its labels, its packed row, and what it is made of where that is kept.

    Raises:
        DataError: it is not there.
    """
    rows = store.read(_SELECT + "WHERE s.id = ?", number)
    parts = store.read("SELECT row, x FROM samples WHERE id = ?", number)
    if not rows or not parts:
        raise gone(number, store.n_numbered)
    of = _sample(rows[0]) | {"labels": labels(store, None, number)}
    return of, parts[0][0], decoded(parts[0][1])


def of_number(entry: dict[str, Any]) -> dict[str, Any]:
    """A sample of a model of numbers: these as numbers, and no probability, which there is not."""
    label = entry["label"]
    entry |= {"answer": float(entry["answer"]), "label": None if label is None else float(label)}
    entry |= {"probability": None, "margin": None}
    if "labels" in entry:
        entry["labels"] = [each | {"answer": float(each["answer"])} for each in entry["labels"]]
    return entry


def labels(
    store: Store, limit: int | None, number: int | None = None, *, numbers: bool = False
) -> list[dict[str, Any]]:
    """Labels, the newest first, undone ones among them; of one sample, if it is given."""
    rows = store.read(
        "SELECT id, sample, answer, source, time, undone FROM labels"
        " WHERE ?1 IS NULL OR sample = ?1 ORDER BY id DESC LIMIT ?2",
        number, -1 if limit is None else limit,
    )  # fmt: skip
    names = ("id", "sample", "answer", "source", "time", "undone")
    entries = [dict(zip(names, row, strict=True)) for row in rows]
    return [each | {"answer": float(each["answer"])} for each in entries] if numbers else entries


def _sample(row: tuple[Any, ...]) -> dict[str, Any]:
    of = dict(zip(_COLUMNS, row, strict=True))
    return of | {"asked": of["asked"] == ASKED, "contradicting": bool(of["contradicting"])}
