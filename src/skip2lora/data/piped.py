"""Data from standard input, whose kind its first bytes tell."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from skip2lora.data.samples import Table

#: What standard input is called in messages.
NAME = "standard input"
_KINDS = {
    b"PK": ".npz", b"PAR1": ".parquet", b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"BM": ".bmp",
    b"GIF8": ".gif", b"II*\0": ".tif", b"MM\0*": ".tif", b"fLaC": ".flac", b"OggS": ".ogg",
    b"ID3": ".mp3", b"\xff\xfb": ".mp3", b"\xff\xf3": ".mp3", b"\x1aE\xdf\xa3": ".mkv",
}  # fmt: skip
_RIFF = {b"WEBP": ".webp", b"WAVE": ".wav", b"AVI ": ".avi"}
#: What comes in boxes of ISO media, by its brand; others are videos.
_BRANDS = {
    b"avif": ".avif", b"avis": ".avif", b"mif1": ".heic", b"msf1": ".heic", b"heic": ".heic",
    b"heix": ".heic", b"hevc": ".heic", b"hevx": ".heic", b"heim": ".heic", b"heis": ".heic",
    b"qt  ": ".mov", b"M4A ": ".m4a",
}  # fmt: skip


@contextmanager
def standard_input() -> Iterator[Path]:
    """Yield a file of what comes on standard input; a table of text may be packed, as in a file."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "data"
        with whole.open("wb") as stream:
            shutil.copyfileobj(sys.stdin.buffer, stream)
        with whole.open("rb") as stream:
            head = stream.read(12)
        yield whole.rename(Path(folder) / f"{NAME}{suffix_of(head)}")


def named_as(name: str, file: str, table: Table) -> Table:
    """What was read of a ``file`` that is not the user's, under the ``name`` of what is."""
    answers, files = table.answers, table.files
    place = answers.place
    answers = replace(answers, place=lambda row: place(row).replace(file, name))
    if files is not None:
        files = tuple(name if each == file else each for each in files)
    notes = tuple(note.replace(file, name) for note in table.notes)
    return replace(table, answers=answers, files=files, notes=notes)


def suffix_of(head: bytes) -> str:
    """What files that begin with these 12 bytes are called; ``.csv`` where they say nothing."""
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], ".mp4")
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    return next((suffix for start, suffix in _KINDS.items() if head.startswith(start)), ".csv")
