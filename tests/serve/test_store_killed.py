"""A killed service loses no label that was acknowledged, and has a whole version in use."""

from __future__ import annotations

from pathlib import Path

from serve.killed import kills


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    left = kills(tmp_path / "store", 20)
    assert left[-1].acknowledged > 20
