"""Earlier adapters are listed, and come back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def parts(desk: Path) -> Path:
    """first.npz and second.npz, of field.npz."""
    data = np.load("field.npz")
    for name, which in (("first", slice(40)), ("second", slice(40, None))):
        np.savez(f"{name}.npz", **(dict(data) | {"X": data["X"][which], "y": data["y"][which]}))
    return desk


def read(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_undo_and_restore(parts, type_in):
    assert type_in("adapt", "model.safetensors", "first.npz", "-o", "out", "--keep-rows").code == 0
    first = read("out")
    more = ("adapt", "model.safetensors", "second.npz", "--continue", "out")
    assert type_in(*more).code == 0
    second = read("out")
    assert first != second
    facts = type_in("versions", "out", "--json").json["versions"]
    assert facts == [
        {"version": 1, "n_samples": 40, "ids": [0, 39], "now": False},
        {"version": 2, "n_samples": 60, "ids": [0, 59], "now": True},
    ]
    back = type_in("versions", "out", "--undo")
    assert "*     1  40 samples, ids 0 to 39" in back.out
    assert read("out") == first
    assert "version 1 is the oldest" in type_in("versions", "out", "--undo").err
    assert type_in(*more).code == 0  # from the first, as before
    assert read("out") == second
    assert type_in("versions", "out", "--restore", 1).code == 0
    assert read("out") == first
    assert type_in("versions", "out", "--restore", 3).code == 0
    assert read("out") == second


def test_what_is_no_version_is_refused(parts, type_in):
    assert "has no samples of adapter" in type_in("versions", "adapter").err
    type_in("adapt", "model.safetensors", "first.npz", "-o", "out", "--keep-rows")
    assert "--restore is 7, expected one of 1" in type_in("versions", "out", "--restore", 7).err
    both = type_in("versions", "out", "--undo", "--restore", 1)
    assert (both.code, "expected one of them" in both.err) == (2, True)
