"""Exported folders of C: built with what a reader has, run on rows."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

#: A build without warnings, quickly.
QUICK = "CFLAGS=-O1 -Werror"


def need(*programs: str) -> None:
    """Skip where one of the programs is not there."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")


def ran(*words: object, given: str = "", cwd: Path | None = None) -> str:
    """What a program that succeeds prints."""
    done = subprocess.run(
        [str(word) for word in words],
        input=given,
        text=True,
        capture_output=True,
        cwd=cwd,
        timeout=120,
    )
    assert done.returncode == 0, f"{words}: {done.stderr[-4000:]}"
    return done.stdout


#: Objects of the core by what they are made of, which no option of an export changes.
_OBJECTS: dict[str, dict[str, bytes]] = {}
_OWN = ("model.c", "model.h", "s2_config.h")  # files of an export


def make(folder: Path, *words: str) -> Path:
    """The example of a folder; what the core is compiled to comes from an earlier one."""
    need("gcc", "make")
    words, build = words or (QUICK,), folder / "build"
    core = sorted(path for path in (folder / "src").iterdir() if path.name not in _OWN)
    digest = hashlib.sha256(repr(words).encode())
    for path in (folder / "Makefile", *core):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    key = digest.hexdigest()
    if not build.exists():
        build.mkdir()
        for name, content in _OBJECTS.get(key, {}).items():
            (build / name).write_bytes(content)
    ran("make", "-s", "-j2", "-C", folder, *words)
    names = [path.with_suffix(".o").name for path in core if path.suffix == ".c"]
    _OBJECTS.setdefault(key, {name: (build / name).read_bytes() for name in names})
    return folder / "example"


def rows_of(x: np.ndarray, labels: np.ndarray) -> str:
    """Lines of features and a label that say every bit of the features."""
    return "".join(
        ",".join([*(f"{float(value):.9g}" for value in row), str(label)]) + "\n"
        for row, label in zip(x, labels, strict=True)
    )


def predicted(text: str) -> tuple[list[str], np.ndarray]:
    """Classes and logits of ``--predict``."""
    words = [line.split(",") for line in text.splitlines()]
    logits = [[np.float32(number) for number in row[1:]] for row in words]
    return [row[0] for row in words], np.array(logits, np.float32)
