"""The classes that a service knows whatever labels come, and what these are called.

They are those of what is served: an adapter that is given at the start may name the outputs of a
model that has no names, add classes, or leave the model's own out.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass
from typing import Any

from skip2lora.adapted import AdaptedModel
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.standins import for_task
from skip2lora.serve.database import Reader
from skip2lora.serve.store import Store, json_text
from skip2lora.tasks.task import CLASSIFICATION, Outputs, task_for

_KEY = "vocabulary"  # of ``meta``


@dataclass(frozen=True)
class Vocabulary:
    """``titles`` of classes, their names or numbers, the first ``n_own`` of the model's outputs.

    ``n_own`` is 0 where these are left out. ``names`` are those titles that name outputs of the
    model, None where they but count them.
    """

    titles: tuple[str, ...]
    n_own: int
    names: tuple[str, ...] | None

    @classmethod
    def of_model(cls, model: Backbone) -> Vocabulary:
        """That of ``model`` alone; without titles where it has no classes."""
        if task_for(model, None) is not CLASSIFICATION:
            return cls((), 0, None)
        outputs = Outputs.of(for_task(model, CLASSIFICATION.name), CLASSIFICATION)
        titles = outputs.titles
        return cls(titles, len(titles), None if outputs.is_plain else titles)

    @classmethod
    def of_adapter(cls, adapted: AdaptedModel) -> Vocabulary:
        """That of an adapter which was learned elsewhere."""
        if adapted.task != CLASSIFICATION.name:
            return cls((), 0, None)
        n_own, own = adapted.backbone.n_outputs, Vocabulary.of_model(adapted.base)
        names = adapted.output_names or adapted.backbone.class_names
        if names is None and n_own == own.n_own:
            names = own.names
        known = names or tuple(map(str, range(n_own)))
        return cls((*known, *map(str, adapted.new_labels)), n_own, names)

    @property
    def own(self) -> tuple[str, ...]:
        """Titles of the outputs of the model."""
        return self.titles[: self.n_own]

    def to_text(self) -> str:
        """As a store keeps it."""
        return json_text(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Vocabulary:
        """What :meth:`to_text` gave."""
        read: dict[str, Any] = json.loads(text)
        names = read["names"]
        return cls(tuple(read["titles"]), read["n_own"], None if names is None else tuple(names))


def remembered(store: Store | Reader) -> Vocabulary | None:
    """What a store kept of an adapter that was given; None where none was."""
    text = store.meta(_KEY)
    return None if text is None else Vocabulary.from_text(text)


def remember(store: Store, model: Backbone, known: Vocabulary) -> None:
    """Keep it; labels that were numbers of outputs of ``model`` are names from now on.

    Raises:
        FileError: the disk refuses.
    """
    before = Vocabulary.of_model(model).own
    pairs = zip(known.own, before, strict=True) if known.n_own == len(before) else ()
    renamed = [(name, number) for name, number in pairs if number not in known.titles]

    def work(db: sqlite3.Connection) -> None:
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_KEY, known.to_text()))
        db.executemany("UPDATE labels SET answer = ? WHERE answer = ?", renamed)

    store.do(work)
