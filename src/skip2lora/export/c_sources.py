"""The sources of the core, as they lie beside the extension that was built from them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from skip2lora import _core
from skip2lora.errors import FileError

FOLDER = Path(str(_core.__file__)).parent / "csrc"
_INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include[ \t]+"([^"/]+)"', re.MULTILINE)


def with_headers(names: Iterable[str]) -> dict[str, bytes]:
    """Those sources, such as ``rng.c``, and every header that they include, by their names.

    Raises:
        FileError: one is not there.
    """
    files: dict[str, bytes] = {}
    left = list(names)
    while left:
        name = left.pop()
        if name not in files:
            files[name] = _content(name)
            left += (header.decode() for header in _INCLUDE.findall(files[name]))
    return dict(sorted(files.items()))


def _content(name: str) -> bytes:
    for folder in ("src", "include"):
        path = FOLDER / folder / name
        if path.is_file():
            return path.read_bytes()
    raise FileError(
        f"{FOLDER} has no {name}, expected the C sources of this version: install skip2lora again"
    )
