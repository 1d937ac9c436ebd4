"""The folder of a cache: who may use it, and what becomes of files that are damaged or foreign."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.adapters.store import DRAFTS, MANIFEST
from skip2lora.errors import DamagedCacheWarning
from skip2lora.replacing import room

STRIDE = 16
ABOUT: dict[str, Any] = {"model": "sha256:1", "tap_widths": [5, 4], "images": None}
Refused = Callable[..., str]


def names_of(numbers: range | list[int]) -> list[bytes]:
    return [hashlib.sha256(str(number).encode()).digest() for number in numbers]


def rows_of(numbers: range | list[int]) -> np.ndarray:
    return np.outer(np.array(numbers, np.float32), np.ones(STRIDE, np.float32))


def folder_at(path: Path) -> s2.CacheFolder:
    folder = s2.CacheFolder(path)
    folder.claim(ABOUT, STRIDE)
    return folder


def read(folder: s2.CacheFolder, numbers: range | list[int]) -> list[float]:
    """The first number of each row, -1 where there is none."""
    places = folder.rows(names_of(numbers))
    out = np.full((len(numbers), STRIDE), -1, np.float32)
    places.read(out)
    assert (out == out[:, :1]).all()
    assert (out[places.missing] == -1).all()
    return out[:, 0].tolist()


def test_rows_are_found_in_any_order(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "new" / "cache")
    for start in range(0, 60, 7):
        part = range(start, start + 7)
        folder.append(names_of(part), rows_of(part))
    order = np.random.default_rng(0).permutation(80).tolist()
    expected = [float(of) if of < 63 else -1.0 for of in order]
    assert read(folder, order) == expected
    assert read(folder_at(tmp_path / "new" / "cache"), order) == expected
    assert read(copy.deepcopy(folder), []) == []
    assert read(folder, [5, 5, 6, 6, 5]) == [5, 5, 6, 6, 5]


def test_rooms_of_killed_runs_are_swept(tmp_path: Path) -> None:
    folder_at(tmp_path)
    left = []
    for name in (MANIFEST, DRAFTS):
        with room(tmp_path / name) as place:
            left.append(place)
    for place in left:
        place.mkdir()
        (place / "half").write_bytes(b"half")
    folder_at(tmp_path)
    assert [place.exists() for place in left] == [False, False]


def test_what_others_write_is_seen(tmp_path: Path) -> None:
    one, other = folder_at(tmp_path), folder_at(tmp_path)
    one.append(names_of(range(5)), rows_of(range(5)))
    assert read(other, range(6)) == [-1] * 6
    other.refresh()
    assert read(other, range(6)) == [0, 1, 2, 3, 4, -1]


def test_a_manifest_that_differs_is_told(tmp_path: Path, refused: Refused) -> None:
    folder = folder_at(tmp_path)
    folder.append(names_of(range(3)), rows_of(range(3)))
    for name, other in (("model", "sha256:2"), ("tap_widths", [5, 5]), ("images", {"size": 3})):
        message = refused(
            s2.ModelError, s2.CacheFolder(tmp_path).claim, {**ABOUT, name: other}, STRIDE
        )
        assert name.replace("_", " ") in message
        assert str(other).replace(" ", "")[:9] in message.replace(" ", "").replace('"', "'")
    refused(s2.ModelError, folder.claim, {**ABOUT, "more": 1}, STRIDE)
    fewer = {name: value for name, value in ABOUT.items() if name != "images"}
    folder.claim(fewer, STRIDE)  # None says as much as nothing
    assert read(folder_at(tmp_path), range(3)) == [0, 1, 2]


def test_manifests_that_are_none(tmp_path: Path, refused: Refused) -> None:
    folder_at(tmp_path)
    file = tmp_path / MANIFEST
    about = json.loads(file.read_text())
    for text in ("", "{", "[]", "[" * 9999, '{"kind": "adapter"}', "\0", '"cache"'):
        file.write_text(text)
        refused(s2.FileError, folder_at, tmp_path)
    file.write_text(json.dumps({**about, "version": 2}))
    assert "version 2, got 1" in refused(s2.ModelError, folder_at, tmp_path)
    file.write_bytes(b"\xff\xfe")
    refused(s2.FileError, folder_at, tmp_path)


def test_folders_of_something_else(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert "notes.txt" in refused(s2.FileError, folder_at, tmp_path)
    refused(s2.FileError, folder_at, tmp_path / "notes.txt")
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    folder_at(tmp_path / "empty")
    (tmp_path / "empty" / "mine.npy").write_bytes(b"stays")
    folder_at(tmp_path / "empty")
    assert (tmp_path / "empty" / "mine.npy").read_bytes() == b"stays"


@pytest.mark.parametrize("at", [200, -1, None])
def test_a_damaged_shard_is_dropped(tmp_path: Path, at: int | None) -> None:
    folder = folder_at(tmp_path)
    folder.append(names_of(range(4)), rows_of(range(4)))
    (damaged,) = tmp_path.glob("*.npy")
    folder.append(names_of(range(4, 8)), rows_of(range(4, 8)))
    content = bytearray(damaged.read_bytes())
    if at is None:
        del content[600:]
    else:
        content[at] ^= 1
    damaged.write_bytes(content)
    with pytest.warns(DamagedCacheWarning, match=damaged.name):
        assert read(folder_at(tmp_path), range(8)) == [-1] * 4 + [4, 5, 6, 7]
    assert not damaged.exists()
    folder.append(names_of(range(4)), rows_of(range(4)))
    assert read(folder_at(tmp_path), range(8)) == [*range(8)]


def test_a_shard_of_another_cache_is_dropped(tmp_path: Path) -> None:
    other = s2.CacheFolder(tmp_path / "other")
    other.claim({**ABOUT, "model": "sha256:2"}, STRIDE)
    other.append(names_of(range(4)), rows_of(range(4)))
    (shard,) = (tmp_path / "other").glob("*.npy")
    folder_at(tmp_path / "own")
    shard.rename(tmp_path / "own" / shard.name)
    with pytest.warns(DamagedCacheWarning, match="seal"):
        assert read(folder_at(tmp_path / "own"), range(4)) == [-1] * 4


def test_a_file_that_gets_shorter_is_an_error(tmp_path: Path, refused: Refused) -> None:
    folder = folder_at(tmp_path)
    folder.append(names_of(range(4)), rows_of(range(4)))
    places = folder.rows(names_of(range(4)))
    (shard,) = tmp_path.glob("*.npy")
    shard.write_bytes(shard.read_bytes()[:200])
    refused(s2.FileError, places.read, np.empty((4, STRIDE), np.float32))
    shard.unlink()
    refused(s2.FileError, places.read, np.empty((4, STRIDE), np.float32))


def test_what_is_forgotten_is_overwritten(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "cache")
    for part in (range(5), range(5, 8), range(8, 9)):
        folder.append(names_of(part), rows_of(part))
    files = {path.name: path for path in folder.path.glob("*.npy")}
    links = tmp_path / "links"
    links.mkdir()
    for name, path in files.items():  # the bytes on disk, whatever becomes of the names
        (links / name).hardlink_to(path)
    folder.forget(names_of([1, 3, 8]))
    for view in (folder, folder_at(tmp_path / "cache")):
        assert read(view, range(9)) == [0, -1, 2, -1, 4, 5, 6, 7, -1]
    left = {path.name for path in folder.path.glob("*.npy")}
    gone = [links / name for name in set(files) - left]
    assert len(gone) == 2
    assert not any(path.read_bytes().strip(b"\0") for path in gone)
    folder.forget(names_of([70]))
    assert {path.name for path in folder.path.glob("*.npy")} == left


def test_damage_is_not_written_anew(tmp_path: Path) -> None:
    folder_at(tmp_path).append(names_of(range(4)), rows_of(range(4)))
    (damaged,) = tmp_path.glob("*.npy")
    content = bytearray(damaged.read_bytes())
    content[200] ^= 1
    damaged.write_bytes(content)
    with pytest.warns(DamagedCacheWarning, match=damaged.name):
        folder_at(tmp_path).forget(names_of([3]))
    assert not [*tmp_path.glob("*.npy")]


def test_files_that_others_removed_are_no_rows(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    for part in (range(4), range(4, 8)):
        folder.append(names_of(part), rows_of(part))
    folder_at(tmp_path).forget(names_of([1]))
    folder.refresh()
    assert read(folder, range(8)) == [0, -1, *range(2, 8)]
    for file in tmp_path.glob("*.npy"):
        file.unlink()
    folder.refresh()
    assert read(folder, range(8)) == [-1] * 8


def test_a_copy_has_the_rows_that_are_asked_for(tmp_path: Path) -> None:
    folder, place = folder_at(tmp_path / "a"), tmp_path / "b"
    folder.append(names_of(range(4)), rows_of(range(4)))
    folder.append(names_of(range(4, 8)), rows_of(range(4, 8)))
    assert read(folder.copied_to(place, names_of([5, 1, 5])), range(8)) == [
        -1, 1, -1, -1, -1, 5, -1, -1
    ]  # fmt: skip
    assert read(folder.copied_to(place, names_of([5, 0])), [0, 1, 5, 2]) == [0, 1, 5, -1]
    assert len(list(place.glob("*.npy"))) == 2  # what it lacked
    assert read(folder_at(place), [0, 1, 5]) == [0, 1, 5]
    with pytest.raises(s2.FileError, match="lacks rows"):
        folder.copied_to(place, names_of([9]))
    other = s2.CacheFolder(tmp_path / "c")
    other.claim({**ABOUT, "model": "another"}, STRIDE)
    assert read(other.copied_to(place), [0, 1, 5]) == [-1, -1, -1]
    assert not list(place.glob("*.npy"))
