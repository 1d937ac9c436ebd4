"""Which way to solve is chosen, what it takes, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from skip2lora import _core
from skip2lora.adapters.rows import RowFormat
from skip2lora.errors import DataError
from skip2lora.limits import VARIABLE
from skip2lora.training.exact_memory import ExactMemory, exact_memory


def rows(*widths: int, n_outputs: int = 4) -> RowFormat:
    return RowFormat(widths, n_outputs, 0, False, _core.RowLayout(widths, n_outputs, False))


def test_memory_adds_up() -> None:
    layout = rows(300)
    memory = exact_memory(layout, 1000, 4, 1 << 40)
    assert memory == ExactMemory.of(layout, 1000, 4)
    assert memory.n_bytes == memory.workspace_bytes + 1000 * layout.row_bytes
    assert memory.matrix_bytes >= 4 * 1000 * 1000
    two = ExactMemory.of(layout, 1000, 4, n_designs=2)
    assert two.n_bytes - memory.n_bytes == 4 * 1000 * 1024


def test_what_does_not_fit_says_what_would(refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = rows(300)
    monkeypatch.setenv(VARIABLE, str(exact_memory(layout, 1000, 4, 1 << 40).n_bytes // 2))
    message = refused(DataError, exact_memory, layout, 100000, 4)
    assert message.startswith("100,000 samples of 300 columns take ")
    assert message.endswith("pass fewer, tap fewer layers, or set SKIP2LORA_MAX_BYTES to more")
    fits = int(message.partition("which ")[2].partition(" ")[0].replace(",", ""))
    assert exact_memory(layout, fits, 4)
    assert refused(DataError, exact_memory, layout, fits + 1, 4)
