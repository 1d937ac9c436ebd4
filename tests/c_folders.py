"""Exported folders of C: built with what a reader has, run on rows."""

from __future__ import annotations

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


def make(folder: Path, *words: str) -> Path:
    """The example of a folder."""
    need("gcc", "make")
    ran("make", "-s", "-j2", "-C", folder, *(words or (QUICK,)))
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
