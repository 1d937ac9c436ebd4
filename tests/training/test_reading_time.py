"""Reading is tried in the order of training, on a file that nobody sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skip2lora.training import reading_time
from skip2lora.training.beyond import BLOCK
from skip2lora.training.reading_time import seconds_a_row


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Offset and bytes of each read."""
    reads: list[tuple[int, int]] = []
    read = reading_time.read_at

    def read_at(file: int, n_bytes: int, offset: int) -> bytearray:
        reads.append((offset, n_bytes))
        content = read(file, n_bytes, offset)
        assert len(content) == n_bytes  # it is all there
        return content

    monkeypatch.setattr(reading_time, "read_at", read_at)
    return reads


@pytest.mark.parametrize("row_bytes", [9000, 140_000, 1 << 22])
def test_wide_rows_one_by_one(tmp_path: Path, reads: list[tuple[int, int]], row_bytes: int) -> None:
    seconds = seconds_a_row(tmp_path / "not" / "yet", row_bytes, in_blocks=False)
    assert seconds is not None
    assert seconds > 0
    assert not [*tmp_path.iterdir()]
    offsets = [offset for offset, _ in reads]
    assert offsets != sorted(offsets)
    assert sorted(offsets) == [*range(0, row_bytes * len(reads), row_bytes)]
    assert {n_bytes for _, n_bytes in reads} == {row_bytes}
    assert len(reads) == max(32, (1 << 24) // row_bytes)


def test_narrow_rows_in_blocks(tmp_path: Path, reads: list[tuple[int, int]]) -> None:
    seconds = seconds_a_row(tmp_path, 512, in_blocks=True)
    assert seconds is not None
    assert seconds > 0
    n_bytes = 512 * BLOCK
    assert reads == [(at, n_bytes) for at in range(0, 1 << 24, n_bytes)]
    assert not [*tmp_path.iterdir()]


def test_nothing_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reading_time.tempfile, "TemporaryFile", full)
    assert seconds_a_row(tmp_path, 512, in_blocks=True) is None
