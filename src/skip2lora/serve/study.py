"""What all labels say: whether they contradict the version in use, and a candidate, judged.

It reads the store and writes nothing. So it can be done anywhere, beside the predictions or in a
process of its own, and whoever asked for it writes what comes of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from skip2lora.data.media import Media
from skip2lora.serve.answering import Frozen, Version
from skip2lora.serve.classes import Classes
from skip2lora.serve.database import Reader
from skip2lora.serve.gate import Verdict
from skip2lora.serve.numbers import Numbers
from skip2lora.serve.store import settled


@dataclass(frozen=True)
class Now:
    """The version in use and the one ``before`` it; ``until`` is the newest label when it came."""

    current: int
    before: int
    until: int


@dataclass(frozen=True, eq=False)
class Studied:
    """What came of ``n_labels`` labelled samples.

    ``judged`` says what a candidate fixes and breaks, ``files`` are those of its folder, without
    any where labels are waited for. ``n_out`` were left out. ``suspects`` are labels that held-out
    answers contradict; ``held_out`` are such answers by numbers of samples.
    """

    n_labels: int
    judged: Verdict
    files: Mapping[str, bytes]
    suspects: tuple[dict[str, Any], ...] = ()
    held_out: Mapping[int, Any] | None = None
    n_out: int = 0

    def to_bytes(self) -> bytes:
        """All of it, for another process."""
        about = asdict(replace(self, files={}))
        about["files"] = {name: len(content) for name, content in self.files.items()}
        return b"\n".join([json.dumps(about).encode(), b"".join(self.files.values())])

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """What :meth:`to_bytes` gave."""
        head, _, tail = content.partition(b"\n")
        about, files, at = json.loads(head), {}, 0
        for name, size in about["files"].items():
            files[name] = tail[at : at + size]
            at += size
        parts = {
            "judged": Verdict(**about["judged"]), "files": files,
            "suspects": tuple(about["suspects"]),
        }  # fmt: skip
        return cls(**about | parts)


class Study:
    """Studies labels that ``reader`` reads; ``load`` gives a version by its number."""

    def __init__(
        self, frozen: Frozen, labels: Classes | Numbers, reader: Reader,
        load: Callable[[int], Version],
    ) -> None:  # fmt: skip
        self._frozen, self._reader, self._load = frozen, reader, load
        self._labels: Any = labels

    def contradiction(self, now: Now) -> str | None:
        """How labels that neither has learned prove the version before the better; None: not.

        By the test of the gate, reversed.
        """
        labelled = self._labels.labelled(settled(self._reader, self._frozen.width))
        new = labelled.stored.last > now.until
        if not new.any():
            return None
        current, before = self._load(now.current), self._load(now.before)
        said: str | None = self._labels.contradicted(labelled, current, before, new)
        return said

    def candidate(self, now: Now, images: Media | None) -> Studied:
        """A candidate of all labels, beside the version in use.

        ``images`` is how files become samples, which its folder keeps.
        """
        labels = self._labels
        labelled = labels.labelled(settled(self._reader, self._frozen.width))
        n_labels = len(labelled.y)
        waiting = labels.waiting(labelled)
        if waiting is not None:
            return Studied(n_labels, Verdict(0, 0, n_labels, 1.0, False, waiting), {})
        candidate, current = labels.learned(labelled), self._load(now.current)
        text = self._reader.meta(f"held_out_{now.current}") or "{}"
        judged = labels.judged(labelled, candidate, current, now.until, json.loads(text))
        adapted = replace(candidate.adapted, images=images, columns=current.model.columns)
        suspects = tuple(
            {"id" if name == "row" else name: value for name, value in asdict(each).items()}
            for each in candidate.suspects
        )
        return Studied(
            n_labels, judged, adapted.files(), suspects, labels.held_out(labelled, candidate),
            candidate.n_out,
        )  # fmt: skip
