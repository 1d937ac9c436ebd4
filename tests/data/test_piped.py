"""Standard input: of which kind its first bytes are."""

from __future__ import annotations

import gzip
import io
import sys

import numpy as np
import pytest
from PIL import Image

from skip2lora.data.piped import NAME, named_as, standard_input, suffix_of
from skip2lora.data.samples import Table
from skip2lora.tasks.task import Answers


@pytest.mark.parametrize("suffix", ["npz", "png", "jpg", "bmp", "gif", "tif", "webp", "csv", "gz"])
def test_kinds(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    if suffix == "npz":
        np.savez(stream, X=np.ones(2))
    elif suffix in ("csv", "gz"):
        text = b"f,label\n1,0\n"
        stream.write(gzip.compress(text) if suffix == "gz" else text)
    else:
        kind = {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix)
        Image.new("RGB", (2, 2)).save(stream, kind)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stream.getvalue())))
    with standard_input() as path:
        assert path.suffix == (".csv" if suffix == "gz" else f".{suffix}")
        assert path.read_bytes() == stream.getvalue()
    assert not path.exists()


def test_what_was_read_is_called_as_the_user_sees_it() -> None:
    answers = Answers(None, place=lambda row: f"{NAME}.csv at {row}")
    table = Table(
        np.ones((2, 1)),
        answers,
        notes=(f"{NAME}: {NAME}.csv is short",),
        files=(f"{NAME}.csv",) * 2,
    )
    named = named_as(NAME, f"{NAME}.csv", table)
    assert named.files == ("standard input",) * 2
    assert named.answers.place(1) == "standard input at 1"
    assert named.notes == ("standard input: standard input is short",)
    assert named_as(NAME, "x.csv", Table(np.ones((2, 1)), answers)).files is None  # a plain table


@pytest.mark.parametrize(
    ("head", "suffix"),
    [
        (b"\0\0\0\x18ftypheic", ".heic"),
        (b"\0\0\0\x18ftypmif1", ".heic"),
        (b"\0\0\0\x18ftypavif", ".avif"),
        (b"\0\0\0\x20ftypisom", ".mp4"),
        (b"\0\0\0\x14ftypqt  ", ".mov"),
        (b"\0\0\0\x1cftypM4A ", ".m4a"),
        (b"RIFF\0\0\0\0AVI ", ".avi"),
        (b"\x1aE\xdf\xa3" + bytes(8), ".mkv"),
    ],
)
def test_videos_are_no_images(head: bytes, suffix: str) -> None:
    assert suffix_of(head) == suffix
