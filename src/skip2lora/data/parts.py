"""Data in parts for training, validation and test: folders, or arrays of one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from skip2lora.errors import DataError
from skip2lora.tasks.columns import Wanted

_WORDS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip
_Part = TypeVar("_Part")


def part_called(word: str) -> str | None:
    """The part that a folder or an array of that name is of: train, val or test; None of others."""
    return _WORDS.get(word.lower())


def choose_part(parts: Mapping[str, _Part], wanted: Wanted) -> tuple[_Part, str]:
    """The part asked for, or what is usual for the purpose, and a note that says so.

    Raises:
        DataError: there is none such, or none is asked for.
    """
    name = wanted.split or wanted.usual_split
    listed = ", ".join(parts)
    if name is None or name not in parts:
        raise DataError(
            f"it has parts {listed}, expected {name or 'one'}: say which with "
            f"split={next(iter(parts))}"
        )
    return parts[name], f"of its parts {listed}, {name} is read"


def check_no_part(wanted: Wanted, names: Iterable[str] = ()) -> None:
    """Raise DataError if a part is asked for of data that have none, but ``names``."""
    if wanted.split is not None:
        listed = ", ".join(names) or "none of the kind"
        raise DataError(
            f"split= is {wanted.split}, it has no parts called train, val or test, but "
            f"{listed}, expected such: leave split= out"
        )
