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
    b"GIF8": ".gif", b"II*\0": ".tif", b"MM\0*": ".tif",
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
        yield whole.rename(Path(folder) / f"{NAME}{_suffix(head)}")


def _suffix(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        return ".avif" if head[8:12] == b"avif" else ".heic"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for start, suffix in _KINDS.items() if head.startswith(start)), ".csv")
