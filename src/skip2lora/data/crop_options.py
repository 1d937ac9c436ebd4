"""How crops are cut from images: around which boxes, and how much of it; told once and kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skip2lora.errors import ParameterError

#: Boxes of a detector that is less sure are left out: what MegaDetector calls typical.
CONFIDENCE = 0.2
_MOST_MARGIN = 10.0


@dataclass(frozen=True, kw_only=True)
class Crops:
    """How crops are cut from images.

    ``segments`` is a file of boxes (:mod:`skip2lora.data.detections`) and ``group`` what it calls
    that of an image which is held out together; neither is kept. ``confidence`` is the least of a
    box, ``category`` names those of which boxes count. A box grows on each side by ``margin`` of
    its width or height, and with ``square`` to the longer of both. What is None is as by default:
    a confidence of 0.2, all categories, a margin of 0, boxes as they are.
    """

    segments: Path | None = None
    group: str | None = None
    confidence: float | None = None
    category: tuple[str, ...] | None = None
    margin: float | None = None
    square: bool | None = None

    @property
    def least(self) -> float:
        """``confidence``, with its default."""
        return CONFIDENCE if self.confidence is None else self.confidence

    @property
    def known(self) -> Crops:
        """What an adapter keeps of it, with the defaults."""
        return Crops(
            confidence=self.least, category=self.category, margin=self.margin or 0.0,
            square=bool(self.square),
        )  # fmt: skip

    def following(self, earlier: Crops) -> Crops:
        """``earlier``, as an adapter keeps it, of other boxes, confidence and categories if told.

        Raises:
            ParameterError: another margin or shape is told.
        """
        for name in ("margin", "square"):
            given, of = vars(self)[name], vars(earlier)[name]
            if given not in (None, of):
                raise ParameterError(
                    f"{name}= is {given}, the model learned with {of}, expected the same: leave "
                    "it out, or learn anew"
                )
        confidence = earlier.confidence if self.confidence is None else self.confidence
        return replace(
            earlier, segments=self.segments, group=self.group, confidence=confidence,
            category=self.category or earlier.category,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """What is kept, as JSON holds it."""
        said = {name: vars(self)[name] for name in ("confidence", "margin", "square")}
        said["category"] = None if self.category is None else list(self.category)
        return {name: value for name, value in said.items() if value is not None}

    def __str__(self) -> str:
        """Such as ``crops of animal from 0.2, margin 0.1, square``."""
        of = "" if self.category is None else f" of {', '.join(self.category)}"
        square = ", square" if self.square else ""
        return f"crops{of} from {self.least:g}, margin {self.margin or 0:g}{square}"

    @classmethod
    def from_json(cls, entries: Any) -> Crops:
        """What :meth:`to_json` gave.

        Raises:
            AttributeError, KeyError, TypeError, ValueError, ParameterError: it gave something else.
        """
        names = entries.get("category")
        return cls(
            category=None if names is None else tuple(map(str, names)),
            confidence=float(entries["confidence"]), margin=float(entries["margin"]),
            square=bool(entries["square"]),
        ).checked()  # fmt: skip

    @classmethod
    def parse(cls, *, category: str | None = None, **words: Any) -> Crops:
        """From text: ``category`` are names with commas between.

        Raises:
            ParameterError: one of them is something else.
        """
        names = None
        if category is not None:
            names = tuple(name.strip() for name in category.split(","))
        return cls(category=names, **words).checked()

    def checked(self) -> Crops:
        """Itself.

        Raises:
            ParameterError: a number out of range, or a name that is none.
        """
        if not 0 <= self.least <= 1:
            raise ParameterError(
                f"confidence= is {self.least:g}, expected a number from 0 to 1: correct it"
            )
        if self.margin is not None and not 0 <= self.margin <= _MOST_MARGIN:
            raise ParameterError(
                f"margin= is {self.margin:g}, expected a share of a box from 0 to "
                f"{_MOST_MARGIN:g}: correct it"
            )
        if self.category is not None and not all(self.category):
            raise ParameterError(
                f"category= is {','.join(self.category)!r}, expected names with commas between: "
                "correct it"
            )
        return self


def following(given: Crops | None, earlier: Crops | None) -> Crops | None:
    """How crops are cut where an adapter was made with ``earlier``, None of whole images.

    Raises:
        ParameterError: there are no boxes, of an adapter that was made of crops.
    """
    if earlier is None:
        return given
    if given is None or given.segments is None:
        raise ParameterError(
            f"the model learned from {earlier}, got whole images, expected the boxes of a "
            "detector: add segments=FILE"
        )
    return given.following(earlier)
