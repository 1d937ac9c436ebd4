"""Tables of segments: which part of a recording is what.

Read are labels of Audacity (start, end and label, with tabs between), selection tables of Raven,
and what BirdNET writes (``Start (s)``, ``End (s)``, ``Common name``).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from skip2lora.arrays import listing
from skip2lora.errors import DataError, brief
from skip2lora.files import unreadable

_START = ("begin time (s)", "start (s)", "start", "begin")
_END = ("end time (s)", "end (s)", "end", "stop")
_FILE = ("begin path", "begin file", "file", "filepath", "filename")
_LABEL = (
    "annotation", "label", "class", "species", "common name", "common_name", "scientific name",
)  # fmt: skip
_SELECTION, _WAVEFORM = "view", "waveform"
_AFTER = 0.5  # seconds beyond the end of a recording, which is as much as tables are rounded


@dataclass(frozen=True)
class Segment:
    """A part of a recording, in seconds; ``recording`` is its place in a list of them."""

    recording: int
    start: float
    end: float
    label: str | None


def read_segments(table: Path, names: Sequence[str], seconds: Sequence[float]) -> list[Segment]:
    """The segments of recordings that are called ``names`` and last ``seconds``.

    Raises:
        DataError: no such table, times that run backwards or lie beyond a recording, a recording
            that is not there.
        FileError: it cannot be read.
    """
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{table}: its text is not UTF-8 ({error}), expected UTF-8: export it again"
        ) from error
    except OSError as error:
        raise unreadable(table, error) from error
    segments = []
    for line, (file, start, end, label) in _rows(table, text):
        where = f"{table}, line {line}"
        times = [_number(each, where) for each in (start, end)]
        if not 0 <= times[0] <= times[1]:
            raise DataError(
                f"{where} is from {times[0]:g} to {times[1]:g} s, expected a start and an end "
                "after it: correct the table"
            )
        recording = _recording(file, names, where)
        if times[0] >= seconds[recording] or times[1] > seconds[recording] + _AFTER:
            raise DataError(
                f"{where} is from {times[0]:g} to {times[1]:g} s, {names[recording]} has "
                f"{seconds[recording]:.2f} s, expected a part of it: check which recording the "
                "table is of"
            )
        segments.append(Segment(recording, times[0], min(times[1], seconds[recording]), label))
    if not segments:
        raise DataError(f"{table} has no segments, expected a start, an end and a label each: "
                        "check the file")  # fmt: skip
    return segments


def _rows(table: Path, text: str) -> list[tuple[int, tuple[str, str, str, str]]]:
    """The number of each line, and its file ("" where not told), start, end and label."""
    lines = text.splitlines()
    first = lines[0] if lines else ""
    delimiter = "\t" if "\t" in first else ";" if ";" in first and "," not in first else ","
    cells = list(csv.reader(lines, delimiter=delimiter))
    head = [cell.strip().lower() for cell in cells[0]] if cells else []
    start, end = _column(head, _START), _column(head, _END)
    if start is None and end is None:
        return [
            (number, ("", row[0], row[1], row[2].strip()))
            for number, row in enumerate(cells, 1)
            # Audacity puts frequencies into lines of their own, which start with a backslash.
            if row and not row[0].startswith("\\") and _is_label(table, number, row)
        ]
    label, file, view = _column(head, _LABEL), _column(head, _FILE), _column(head, (_SELECTION,))
    if start is None or end is None or label is None:
        raise DataError(
            f"{table} has the columns {listing(cells[0])}, expected times and labels, such as "
            f"{_START[0]}, {_END[0]} and {_LABEL[0]}: rename them"
        )
    rows = []
    for number, row in enumerate(cells[1:], 2):
        if not row:
            continue
        if len(row) <= max(start, end, label):
            raise DataError(
                f"{table}, line {number} has {len(row)} cells, expected {len(head)} as its head: "
                "correct the table"
            )
        # Raven writes a selection twice, once a view of the sound.
        if view is None or not row[view].strip().lower().startswith(_WAVEFORM):
            name = "" if file is None or len(row) <= file else row[file].strip()
            rows.append((number, (name, row[start], row[end], row[label].strip())))
    return rows


def _is_label(table: Path, number: int, row: Sequence[str]) -> bool:
    if len(row) >= 3:
        return True
    raise DataError(
        f"{table}, line {number} has {len(row)} cells, expected start, end and label with tabs "
        "between, as Audacity writes them, or a head that names its columns: export it again"
    )


def _column(head: Sequence[str], names: Sequence[str]) -> int | None:
    return next((head.index(name) for name in names if name in head), None)


def _number(text: str, where: str) -> float:
    try:
        return float(text.strip().replace(",", "."))
    except ValueError:
        raise DataError(
            f'{where} has "{brief(text)}" as a time, expected seconds: correct the table'
        ) from None


def _recording(file: str, names: Sequence[str], where: str) -> int:
    """The place of the recording that a table calls ``file``, by its name without folders."""
    if not file and len(names) == 1:
        return 0
    called = PureWindowsPath(file).name if "\\" in file else PurePosixPath(file).name
    places = [at for at, name in enumerate(names) if name == file]
    places = places or [at for at, name in enumerate(names) if PurePosixPath(name).name == called]
    if len(places) == 1:
        return places[0]
    got = f'names "{file}"' if file else "names no recording"
    raise DataError(
        f"{where} {got}, there are {listing(list(names))}, expected one of them: correct the table"
    )
