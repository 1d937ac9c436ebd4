"""Versions on the disk: whole, one in use, leftovers swept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from serve.place import field, model
from skip2lora.errors import FileError
from skip2lora.serve.versions import POINTER, VersionFolders


@pytest.fixture(scope="module")
def adapted() -> s2.AdaptedModel:
    x, names = field()
    return s2.adapt(model(), x, names)


def test_a_version_is_used_after_the_pointer_says_so(
    tmp_path: Path, adapted: s2.AdaptedModel
) -> None:
    folders = VersionFolders(tmp_path)
    assert folders.current == 0
    assert folders.numbers() == ()
    assert folders.load(0, model()) is None
    folders.save(7, adapted.files())
    assert folders.numbers() == (7,)
    assert folders.current == 0
    folders.point(7)
    again = VersionFolders(tmp_path)
    assert again.current == 7
    x, _ = field(3)
    loaded = again.load(7, model())
    assert loaded is not None
    assert np.array_equal(loaded.logits(x), adapted.logits(x))


@pytest.mark.parametrize("text", ["8", "seven", "", "-1", "\xff"])
def test_a_pointer_to_nothing_is_refused(
    tmp_path: Path, adapted: s2.AdaptedModel, text: str
) -> None:
    folders = VersionFolders(tmp_path)
    folders.save(7, adapted.files())
    (tmp_path / "current").write_text(text, encoding="latin-1")
    with pytest.raises(s2.ModelError, match="names the version"):
        _ = folders.current


def test_others_go(tmp_path: Path, adapted: s2.AdaptedModel) -> None:
    folders = VersionFolders(tmp_path)
    for number in (1, 2, 3):
        folders.save(number, adapted.files())
    folders.keep({1, 3, 9})
    assert folders.numbers() == (1, 3)


def test_what_killed_runs_left_is_swept(tmp_path: Path, adapted: s2.AdaptedModel) -> None:
    VersionFolders(tmp_path).save(1, adapted.files())
    left = tmp_path / "versions" / ".skip2lora-0123456789ab-01234567-abcdefgh"
    left.mkdir()
    (left / "000002").mkdir()
    folders = VersionFolders(tmp_path)
    assert not left.exists()
    assert folders.numbers() == (1,)


def test_a_pointer_that_cannot_be_read(tmp_path: Path) -> None:
    versions = VersionFolders(tmp_path)
    (tmp_path / POINTER).mkdir()
    with pytest.raises(FileError, match="current"):
        _ = versions.current
