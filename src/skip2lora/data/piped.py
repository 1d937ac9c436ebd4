"""Data from standard input, whose kind its first bytes tell."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: What standard input is called in messages.
NAME = "standard input"
_KINDS = {
    b"PK": ".npz", b"PAR1": ".parquet", b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"BM": ".bmp",
    b"GIF8": ".gif", b"II*\0": ".tif", b"MM\0*": ".tif", b"fLaC": ".flac", b"OggS": ".ogg",
    b"ID3": ".mp3", b"\xff\xfb": ".mp3", b"\xff\xf3": ".mp3",
}  # fmt: skip
_RIFF = {b"WEBP": ".webp", b"WAVE": ".wav"}


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


def suffix_of(head: bytes) -> str:
    """What files that begin with these 12 bytes are called; ``.csv`` where they say nothing."""
    if head[4:8] == b"ftyp":
        return ".avif" if head[8:12] == b"avif" else ".heic"
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    return next((suffix for start, suffix in _KINDS.items() if head.startswith(start)), ".csv")
