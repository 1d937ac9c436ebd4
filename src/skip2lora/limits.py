"""What reading one file may cost: a regular file, of no more memory than ``SKIP2LORA_MAX_BYTES``.

A few bytes can ask for any amount of memory: a packed member of zeros, a shape in a header, one
value a million times. Every reader says how much it is about to hold, and what is over the limit is
refused before. By default the limit is half of the machine's memory, or of what this process may
have where that is less.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from skip2lora import system
from skip2lora.errors import FileError, ParameterError, brief

VARIABLE = "SKIP2LORA_MAX_BYTES"
# What a container may have, of either kind; the first holds "max" where there is no limit.
_CONTAINER = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def max_bytes() -> int:
    """Bytes of memory that the content of one file may take.

    Raises:
        ParameterError: ``SKIP2LORA_MAX_BYTES`` is no positive whole number.
    """
    text = os.environ.get(VARIABLE)
    if text is None:
        return _memory_bytes() // 2
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) > 0):
        raise ParameterError(
            f"{VARIABLE} is {brief(text)!r}, expected a whole number of bytes such as 2000000000: "
            "correct it, or unset it"
        )
    return int(text)


def _memory_bytes() -> int:
    sizes = [system.memory_bytes()]
    for file in _CONTAINER:
        with suppress(OSError, ValueError):
            sizes.append(int(Path(file).read_text(encoding="ascii")))
    return min(sizes)


def available_bytes(held: int) -> int:
    """Memory that this process may have in all, of which it has ``held`` bytes.

    What the machine has left, or what the process may have, where that is less.
    """
    limit, free = _memory_bytes(), system.free_bytes()
    return limit if free is None else min(limit, held + free)


def check_bytes(path: str | os.PathLike[str], n_bytes: int) -> None:
    """Refuse a file whose content takes more memory than :func:`max_bytes`.

    Raises:
        FileError: it does.
        ParameterError: as :func:`max_bytes`.
    """
    limit = max_bytes()
    if n_bytes > limit:
        raise FileError(
            f"{path} takes {n_bytes / 1e6:,.0f} MB of memory or more, expected at most "
            f"{limit / 1e6:,.0f} MB: read less of it, or set {VARIABLE} to more"
        )


def check_file(path: str | os.PathLike[str], expected: str, *, whole: bool = True) -> int:
    """The size of a file, in bytes, which is to be ``expected``, and read as a ``whole`` or not.

    Raises:
        FileError: it is missing, no regular file (a pipe would be waited for, a device never
            ends), or cannot be looked at; or it is larger than :func:`max_bytes`, of a whole one.
        ParameterError: as :func:`max_bytes`.
    """
    file = Path(path)
    try:
        is_file, is_there, size = file.is_file(), file.exists(), 0
        if is_file:
            size = file.stat().st_size
    except OSError as error:
        raise FileError(
            f"cannot read {shortened(path)}: {error.strerror or error}, expected {expected}: check "
            "the path and its permissions"
        ) from error
    if not is_file:
        got = "is no regular file" if is_there else "does not exist"
        raise FileError(f"{shortened(path)} {got}, expected {expected}: check the path")
    if whole:
        check_bytes(file, size)
    return size


def shortened(path: str | os.PathLike[str]) -> str:
    """A path for a message, cut where it is longer than a line."""
    return brief(os.fspath(path), 300)


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is there.

    Raises:
        FileError: the system does not let us look, or no name is that long.
    """
    try:
        return Path(path).is_dir()
    except OSError as error:
        raise FileError(
            f"cannot look at {shortened(path)}: {error.strerror or error}, expected a path that "
            "can be read: check it and its permissions"
        ) from error
