"""Small files of samples, and what reading them is refused with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skip2lora.data.reading import read_samples
from skip2lora.errors import DataError, Skip2LoraError

X = np.array([[0.5, 1.0], [2.0, 3.0], [4.0, 5.5]], np.float32)
Y = np.array([0, 2, 1])
NAMES = ("stop", "normal", "damaged")


def write_text(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def write_npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def refusal(path: Path, kind: type[Skip2LoraError] = DataError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        read_samples(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    assert kind is not DataError or "expected" in message, message
    return message
