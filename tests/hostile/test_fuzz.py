"""Damaged files of every format are read, or refused by one line; `make fuzz` tries more."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hostile import fuzz, mutations
from hostile.formats import FORMATS, Format

THERE = [name for name, of in FORMATS.items() if of.is_there]
NUMBER = 24  # of files of each format


def test_damaged_files() -> None:
    report = fuzz.fuzz(THERE, seed=0, count=NUMBER, seconds=600)
    assert not report.failures, "\n\n".join(report.failures.values())
    assert sum(report.outcomes.values()) == NUMBER * len(THERE)
    for name in THERE:
        assert report.outcomes[name, "read"], name


def test_a_seed_gives_the_same_files() -> None:
    seeds = FORMATS["npz"].seeds()
    files = [fuzz._files("npz", seeds, "", number) for number in (1, 1, 2)]
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize("way", mutations.WAYS, ids=lambda way: way.__name__)
def test_every_way_changes_files(way: Callable[..., bytes]) -> None:
    content = b'{"a": 1, "b": [2, 3], "c": "some words to be changed"}' * 3
    random = np.random.default_rng(0)
    changed = {way(content, content[::-1], random) for _ in range(20)}
    assert len(changed - {content}) > 5
    assert way(b"", b"", random) is not None


def _raise(_: Path) -> None:
    raise IndexError("beyond the end")


def _warn(_: Path) -> None:
    warnings.warn("overflow", RuntimeWarning, stacklevel=1)


@pytest.mark.parametrize(("reader", "kind"), [(_raise, IndexError), (_warn, RuntimeWarning)])
def test_anything_else_is_a_failure(
    reader: Callable[[Path], None], kind: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(kind):
        fuzz._try(Format(lambda *_: None, reader), tmp_path, False)


@pytest.mark.parametrize("code", ["os.kill(os.getpid(), 11)", "os._exit(0)"])
def test_a_runtime_that_ends_the_process_is_a_failure(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its case is named, and the cases after it are tried."""
    script = tmp_path / "worker"
    script.write_text(
        f"#!{sys.executable}\n"
        "import os, sys\n"
        "first = int(sys.argv[-3])\n"
        "for at in range(first, first + int(sys.argv[-2])):\n"
        '    print(\'{"case": "npz:%d", "at": %d}\' % (at, at), flush=True)\n'
        f"    if at == 2: {code}\n"
        '    print(\'{"outcome": "read"}\', flush=True)\n'
    )
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", os.fspath(script))
    report = fuzz.fuzz(["npz"], seed=0, count=5, seconds=600)
    assert report.outcomes == {("npz", "read"): 4, ("npz", "failed"): 1}
    (failure,) = report.failures.values()
    assert failure.startswith("npz:2: ")
    assert failure.endswith("python -m hostile.fuzz --case npz:2")
