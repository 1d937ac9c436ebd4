"""A folder with small files of every kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from desk import NAMES, Answer, blobs


@pytest.fixture
def desk(type_in: Callable[..., Answer], tmp_path: Path) -> Path:
    """The folder, holding lab.npz, field.npz, a trained model and an adapter for it."""
    for name, seed, shift in (("lab", 0, 0.0), ("field", 1, 3.0), ("test", 2, 3.0)):
        x, y = blobs(seed, shift=shift)
        np.savez(tmp_path / f"{name}.npz", X=x, y=y, class_names=np.array(NAMES))
    made = type_in(
        "pretrain", "lab.npz", "--hidden", "16,16", "--epochs", 30, "-o", "model.safetensors"
    )
    assert made.code == 0, made.err
    made = type_in("adapt", "model.safetensors", "field.npz", "--epochs", 60, "-o", "adapter")
    assert made.code == 0, made.err
    return tmp_path
