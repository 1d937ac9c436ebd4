"""What an exported file says of itself: what its outputs mean, and how samples became numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from skip2lora.data.media import KEYS, Media, media_in
from skip2lora.errors import ParameterError
from skip2lora.tasks.columns import Columns
from skip2lora.tasks.task import CLASSIFICATION, TASKS
from skip2lora.tasks.thresholds import Thresholds

#: What reading entries that are damaged raises.
DAMAGED = (AttributeError, KeyError, TypeError, ValueError, RecursionError, ParameterError)
#: The entries that hold for the outputs that were learned: those of another export are not theirs.
OF_OUTPUTS = ("method", "output", "task", "classes", "numbers", "thresholds")


@dataclass(frozen=True)
class Said:
    """What was learned, as the file says it; all is unknown of a file that says nothing.

    ``output`` is the name, or the number, of the output that was adapted; what follows holds for
    it alone: ``task`` as in :data:`skip2lora.tasks.task.TASKS`, and the ``class_names``,
    ``class_numbers`` and ``thresholds`` of its places. ``columns`` and ``images`` say how tables
    and files become samples, whatever the output.
    """

    output: str | int | None = None
    task: str | None = None
    class_names: tuple[str, ...] | None = None
    class_numbers: tuple[int, ...] | None = None
    thresholds: Thresholds | None = None
    columns: Columns = field(default_factory=Columns)
    images: Media | None = None

    def entries(self) -> dict[str, str]:
        """What an adapted model knows before it is exported, as texts in the metadata.

        The exporter adds ``output`` and ``thresholds``.
        """
        known: dict[str, Any] = {}
        if self.columns != Columns():
            known["columns"] = self.columns.to_json()
        if self.class_names is not None:
            known["classes"] = list(self.class_names)
        if self.class_numbers is not None:
            known["numbers"] = list(self.class_numbers)
        if self.images is not None:
            known[self.images.key] = self.images.to_json()
        task = {} if self.task is None else {"task": self.task}
        return task | {name: json.dumps(value) for name, value in known.items()}

    @classmethod
    def from_entries(cls, entries: Mapping[str, Any]) -> Said:
        """What :meth:`entries` and an exporter wrote, among others; a task of another is unknown.

        Raises:
            DAMAGED: it is damaged.
        """
        known = {
            name: json.loads(entries[name]) if isinstance(entries[name], str) else entries[name]
            for name in ("columns", "classes", "numbers", "thresholds", *KEYS) if name in entries
        }  # fmt: skip
        names, numbers, least = (known.get(of) for of in ("classes", "numbers", "thresholds"))
        task, output = entries.get("task"), entries.get("output")
        if not isinstance(output, str | int | None):
            raise TypeError("output")
        return cls(
            output,
            task if task in TASKS else None,
            None if names is None else _distinct(names, str),
            None if numbers is None else _distinct(numbers, int),
            None if least is None else Thresholds.from_json(least),
            Columns.from_json(known.get("columns")),
            media_in(known),
        )

    def at(self, output: str | None) -> Said:
        """What holds where ``output`` is taken: of another one, nothing is known of its places."""
        same = self.output is not None and self.output == output
        return self if same else Said(columns=self.columns, images=self.images)

    def fitting(self, n_outputs: int) -> Said:
        """What holds for so many outputs: one alone is no classes, but a logit of two."""
        least = None if self.thresholds is None else self.thresholds.values
        lists = (self.class_names, self.class_numbers, least)
        fits = all(of is None or len(of) == n_outputs for of in lists)
        fits &= not self.binary(n_outputs)
        return self if fits else Said(columns=self.columns, images=self.images)

    def binary(self, n_outputs: int) -> bool:
        """Whether one output is the logit of two classes."""
        return n_outputs == 1 and self.task == CLASSIFICATION.name

    def named(self, names: tuple[str, ...] | list[str]) -> Said:
        """With the name of the output for its number among ``names``; without, if it has none."""
        if not isinstance(self.output, int):
            return self
        known = 0 <= self.output < len(names)
        return replace(self, output=names[self.output] if known else None)


def _distinct(listed: Any, kind: type) -> tuple[Any, ...]:
    """Names or numbers of classes.

    Raises:
        ValueError: it is something else.
    """
    fine = isinstance(listed, list) and all(type(of) is kind for of in listed)
    if not fine or len(set(listed)) != len(listed):
        raise ValueError("classes")
    return tuple(listed)
