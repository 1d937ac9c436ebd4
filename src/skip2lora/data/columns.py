"""Which columns of a file hold the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skip2lora.arrays import listing
from skip2lora.errors import DataError
from skip2lora.tasks.targets import USUAL_NAMES


@dataclass(frozen=True)
class AnswerColumns:
    """The answers to look for: ``chosen`` by the user, else ``known`` outputs, else a usual name.

    ``required`` says that they must be there.
    """

    chosen: tuple[str, ...] | None = None
    known: tuple[str, ...] | None = None
    required: bool = True


def find_answers(
    columns: Sequence[str], wanted: AnswerColumns, what: str = "columns"
) -> list[int] | None:
    """Places of the columns that hold the answers, in the order asked for; None without any.

    Raises:
        DataError: one that is asked for or required is not there.
    """
    if wanted.chosen is not None:
        missing = [name for name in wanted.chosen if name not in columns]
        if missing:
            raise DataError(
                f'it has {what} {listing(columns)}, expected one called "{missing[0]}": '
                "correct target="
            )
        twice = [name for at, name in enumerate(wanted.chosen) if name in wanted.chosen[:at]]
        if twice:
            raise DataError(
                f'target= names column "{twice[0]}" twice, expected each column once: correct it'
            )
        return [columns.index(name) for name in wanted.chosen]
    if wanted.known and set(wanted.known) <= set(columns):
        return [columns.index(name) for name in wanted.known]
    for name in USUAL_NAMES:
        if name in columns:
            return [columns.index(name)]
    if not wanted.required:
        return None
    outputs = f" (or all of {listing(wanted.known)})" if wanted.known else ""
    raise DataError(
        f'it has {what} {listing(columns)}, expected one called "label", "y" or "target"{outputs} '
        "with the answers: say which hold them with target="
    )
