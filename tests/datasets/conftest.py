"""The original folder of the HAR data, made up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from har_files import write_original


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_original(tmp_path_factory.mktemp("har"))


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    """The original, for a test to damage."""
    return Path(shutil.copytree(original, tmp_path / original.name))
