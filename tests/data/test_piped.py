"""Standard input: of which kind its first bytes are."""

from __future__ import annotations

import gzip
import io
import sys

import numpy as np
import pytest
from PIL import Image

from skip2lora.data.piped import standard_input


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
