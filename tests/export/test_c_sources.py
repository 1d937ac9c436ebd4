"""The core's sources are installed, and are those that the extension was built from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from skip2lora.errors import FileError
from skip2lora.export.c_sources import FOLDER, with_headers

CORE = Path(__file__).parents[2] / "core"


def test_every_source_is_installed() -> None:
    for folder in ("include", "src"):
        own = {path.name for path in (CORE / folder).iterdir()}
        assert own == {path.name for path in (FOLDER / folder).iterdir()}
        assert own


def test_what_a_source_includes_comes_along() -> None:
    files = with_headers(["adapter.c"])
    assert {"adapter.c", "arena.h", "kernels.h", "profile.h", "skip2.h"} <= set(files)
    assert not [name for name in files if name.endswith(".c") and name != "adapter.c"]
    for content in files.values():
        for header in re.findall(r'#\s*include\s*"(.*)"', content.decode()):
            assert header in files


def test_a_source_that_is_not_there() -> None:
    with pytest.raises(FileError, match=r"has no nothing.c, expected the C sources"):
        with_headers(["nothing.c"])
