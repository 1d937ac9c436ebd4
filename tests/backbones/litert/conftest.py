"""``load(content)``: the backbone of a file with that content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def load(tmp_path: Path) -> Any:
    import tflite_models

    return tflite_models.loader(tmp_path)
