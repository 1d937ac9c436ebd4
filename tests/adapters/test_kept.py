"""Samples, rows and versions that lie beside an adapter."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skip2lora.adapters.folder import TENSORS_FILE
from skip2lora.adapters.kept import (
    MOST_VERSIONS,
    SAMPLES_FILE,
    KeptSamples,
    folder_beside,
    forget_versions,
    kept_beside,
    version_of,
    versions_in,
    write_version,
)
from skip2lora.backbones.loading import CONFIG_FILE
from skip2lora.data.lazy import digests_of
from skip2lora.errors import DataError, FileError, ModelError, ParameterError
from skip2lora.tasks.task import Encoded, Outputs

X = np.arange(12, dtype=np.float32).reshape(6, 2)


def samples(**other: Any) -> KeptSamples:
    answers = Encoded(np.array([0, 1, 3, 1, 2, 3], np.int32), Outputs(range(2)), ("a", "b"))
    of: dict[str, Any] = {
        "ids": np.array([0, 2, 3, 4, 7, 8]), "next_id": 9, "x": X, "answers": answers,
        "weight": np.linspace(1, 2, 6, dtype=np.float32), "group": np.array(list("uuvvww")),
        "asked": {"epochs": 3, "class_weight": [["a", 2.0]]},
    }  # fmt: skip
    return KeptSamples(**(of | other))


@pytest.mark.parametrize("with_x", [True, False])
def test_samples_are_read_as_they_were_written(with_x: bool, tmp_path: Path) -> None:
    file, own = tmp_path / SAMPLES_FILE, samples()
    file.write_bytes(own.to_bytes(with_x=with_x))
    assert own.to_bytes(with_x=with_x) == file.read_bytes()
    again = KeptSamples.read(file)
    for name in ("ids", "weight", "group"):
        np.testing.assert_array_equal(getattr(again, name), getattr(own, name))
    assert (again.next_id, again.asked) == (9, own.asked)
    assert again.answers.y.tolist() == own.answers.y.tolist()
    assert again.answers.new_labels == ("a", "b")
    assert again.answers.outputs == Outputs(range(2))
    assert digests_of(again.x) == digests_of(X)
    assert isinstance(again.x, np.ndarray) == with_x
    assert again.to_bytes(with_x=with_x) == file.read_bytes()


def test_samples_are_left_out_by_their_ids() -> None:
    left = samples().without(np.array([7, 0]))
    assert left.ids.tolist() == [2, 3, 4, 8]
    assert left.next_id == 9
    assert left.answers.new_labels == ("b",)  # nothing is of class a any more
    assert left.answers.y.tolist() == [1, 2, 1, 2]
    np.testing.assert_array_equal(left.x, X[[1, 2, 3, 5]])
    assert left.group is not None
    assert left.group.tolist() == ["u", "v", "v", "w"]


@pytest.mark.parametrize(
    ("ids", "what"),
    [
        ([1], "the id 1, expected those of samples that are kept, from 0 to 8"),
        ([-1], "the id -1"), ([2, 2], "different ones"), ([0, 2, 3, 4, 7, 8], "not all"),
    ],
)  # fmt: skip
def test_ids_that_are_not_there_are_refused(ids: list[int], what: str) -> None:
    with pytest.raises(DataError, match=what):
        samples().without(np.array(ids))


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


ABOUT = {
    "next_id": 3, "asked": {}, "numbers": [0, 1], "names": None, "in_order": False,
    "new_labels": [],
}  # fmt: skip
SOUND: dict[str, Any] = {
    "about": np.array(json.dumps(ABOUT)), "ids": np.arange(2), "y": np.zeros(2, np.int32),
    "X": np.zeros((2, 3), np.float32),
}  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        b"", b"nothing", npz(**SOUND)[:-40], npz(**SOUND | {"about": np.array("{")}),
        npz(**SOUND | {"about": np.array("[]")}), npz(**SOUND | {"y": np.zeros(3, np.int32)}),
        npz(**SOUND | {"ids": np.arange(4).reshape(2, 2)}),
        npz(**{name: array for name, array in SOUND.items() if name != "X"}),
        npz(**SOUND | {"y": np.array([None, None])}),
    ],
)  # fmt: skip
def test_damaged_samples_are_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / SAMPLES_FILE
    file.write_bytes(npz(**SOUND))
    assert len(KeptSamples.read(file)) == 2
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"is damaged.*expected samples as adapt wrote them"):
        KeptSamples.read(file)


def files(content: int) -> dict[str, bytes]:
    return {TENSORS_FILE: b"%d" % content, CONFIG_FILE: b"{}"}


def test_the_last_versions_are_kept(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    folder = folder_beside(adapter)
    assert folder == tmp_path / "adapter.rows"
    assert versions_in(folder) == []
    for number in range(1, MOST_VERSIONS + 3):
        write_version(folder, files(number), samples().to_bytes(with_x=True))
    versions = versions_in(folder)
    assert [each.number for each in versions] == [3, 4, 5, 6, 7]
    for name, content in files(4).items():
        (adapter / name).write_bytes(content)
    assert version_of(adapter) == versions[1]
    assert versions[1].files() == files(4)
    assert kept_beside(adapter).cache is None
    (adapter / TENSORS_FILE).write_bytes(b"another")
    with pytest.raises(ParameterError, match=r"has no samples of .*adapt from all samples"):
        version_of(adapter)
    with pytest.raises(FileError, match="is not an adapter folder"):
        version_of(tmp_path / "none")
    with pytest.raises(ParameterError, match="adapt with keep_rows=True"):
        kept_beside(None)


def test_versions_that_learned_from_what_is_forgotten_go(tmp_path: Path) -> None:
    folder = tmp_path / "adapter.rows"
    write_version(folder, files(1), samples().to_bytes(with_x=True))
    link = tmp_path / "link"
    link.hardlink_to(versions_in(folder)[0].path / SAMPLES_FILE)
    write_version(folder, files(2), samples().without(np.array([3])).to_bytes(with_x=True))
    forget_versions(folder, np.array([3]))
    assert [each.number for each in versions_in(folder)] == [2]
    assert not link.read_bytes().strip(b"\0")
