"""Which files of a folder are images, of which class, and what is said of the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skip2lora.data import file_folder
from skip2lora.data.file_folder import (
    IMAGES,
    SENSORS,
    SOUNDS,
    Listing,
    kind_of,
    list_all,
    list_files,
    readable,
)
from skip2lora.errors import DataError
from skip2lora.tasks.columns import Wanted


def put(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def listed(root: Path, **wanted: object) -> Listing:
    return list_files(root, Wanted(**wanted), IMAGES)  # type: ignore[arg-type]


def names(listing: Listing, root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in listing.files]


PLAIN = ("a/1.jpg", "b/2.png")


@pytest.mark.parametrize("name", ["__MACOSX", "@eaDir", "$RECYCLE.BIN", ".cache", "lost+found"])
@pytest.mark.parametrize("place", ["", "a/"])
def test_folders_that_systems_leave_behind(name: str, place: str, tmp_path: Path) -> None:
    put(tmp_path, *PLAIN, f"{place}{name}/a/._1.jpg", f"{place}{name}/1.jpg")
    listing = listed(tmp_path)
    assert (names(listing, tmp_path), listing.notes) == ([*PLAIN], ())


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini", "._1.jpg", "Icon\r"])
@pytest.mark.parametrize("place", ["", "a/"])
def test_files_that_systems_leave_behind(name: str, place: str, tmp_path: Path) -> None:
    listing = listed(put(tmp_path, *PLAIN, f"{place}{name}"))
    assert (names(listing, tmp_path), listing.notes) == ([*PLAIN], ())


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    """A link to where one comes from, or a second one to the same folder, adds nothing."""
    elsewhere = put(tmp_path / "elsewhere", "3.png", "4.png")
    root = put(tmp_path / "data", *PLAIN)
    (root / "b" / "more").symlink_to(elsewhere)
    (root / "b" / "once more").symlink_to(elsewhere)
    (root / "b" / "round").symlink_to(root / "b")
    listing = listed(root)
    assert names(listing, root) == ["a/1.jpg", "b/2.png", "b/more/3.png", "b/more/4.png"]
    assert listing.classes == ["a", "b", "b", "b"]


def test_names_that_are_no_text_are_spelled_out(tmp_path: Path) -> None:
    """No file that names a class or an image could be written."""
    listing = listed(put(tmp_path, *PLAIN, os.fsdecode(b"\xfe/1\xff.jpg")))
    assert sorted(set(listing.classes or ())) == [r"\xfe", "a", "b"]
    assert all(file.exists() for file in listing.files)
    assert [readable(name) for name in ("größe", "\udcff", "a.jpg")] == ["größe", r"\xff", "a.jpg"]


def test_what_is_no_image_is_counted(tmp_path: Path) -> None:
    put(tmp_path, *PLAIN, "README.txt", "a/notes.txt", "a/IMG_9.MOV", "b/IMG_0.AAE", "b/none")
    os.mkfifo(tmp_path / "b" / "pipe.jpg")
    listing = listed(tmp_path)
    assert names(listing, tmp_path) == [*PLAIN]
    assert listing.notes == (
        "no image, left out: .MOV 1, .txt 1, .AAE 1, none 1, .jpg 1",
        "videos are read where every says how many seconds to the next frame",
    )


def test_heic_is_named_where_it_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, *PLAIN, "a/IMG_1.HEIC")
    monkeypatch.setattr(file_folder, "heif_is_read", lambda: False)
    listing = listed(tmp_path)
    assert names(listing, tmp_path) == [*PLAIN]
    assert "a/IMG_1.HEIC, which pip install pillow-heif makes readable" in listing.notes[0]
    put(tmp_path, "c/IMG_2.heic")
    with pytest.raises(DataError, match=r"c has 1 images as \.heic alone, expected pillow-heif"):
        listed(tmp_path)
    monkeypatch.setattr(file_folder, "heif_is_read", lambda: True)
    assert names(listed(tmp_path), tmp_path)[1::2] == ["a/IMG_1.HEIC", "c/IMG_2.heic"]


def test_nested_loose_and_empty(tmp_path: Path) -> None:
    put(tmp_path, *PLAIN, "a/day2/0.jpg", "loose.jpg")
    (tmp_path / "c").mkdir()
    listing = listed(tmp_path)
    assert names(listing, tmp_path) == ["a/1.jpg", "a/day2/0.jpg", "b/2.png"]
    assert listing.classes == ["a", "a", "b"]
    assert listing.notes == (
        "no images in c, which is no class then",
        "loose.jpg beside the folders of classes left out",
    )


@pytest.mark.parametrize("words", [("train", "val", "test"), ("Training", "Valid", "testing")])
def test_parts(words: tuple[str, ...], tmp_path: Path) -> None:
    put(tmp_path, *(f"{word}/{name}" for word in words for name in PLAIN), "README.txt")
    for asked, word in zip(("train", "val", "test"), words, strict=True):
        for wanted in ({"split": asked}, {"usual_split": asked}):
            listing = listed(tmp_path, **wanted)
            assert names(listing, tmp_path / word) == [*PLAIN]
            assert listing.classes == ["a", "b"]
            assert listing.notes[0].endswith(f"{asked} is read")
    with pytest.raises(DataError, match=r"has parts .*, expected one: say which with split="):
        listed(tmp_path)


def test_parts_that_are_none(tmp_path: Path) -> None:
    put(tmp_path, "train/1.jpg", "bus/2.jpg")
    assert listed(tmp_path, usual_split="train").classes == ["bus", "train"]
    with pytest.raises(DataError, match="split= is train, it has no parts"):
        listed(tmp_path, split="train")
    put(tmp_path / "other", *(f"{part}/{name}" for part in ("fold1", "fold2") for name in PLAIN))
    with pytest.raises(DataError, match=r"fold1, fold2 each have folders a, b, .* other/fold1"):
        listed(tmp_path / "other")
    put(tmp_path / "wrapped", *(f"photos/{name}" for name in PLAIN))
    with pytest.raises(DataError, match="pass wrapped/photos"):
        listed(tmp_path / "wrapped")


def test_a_part_without_sub_folders_has_no_labels(tmp_path: Path) -> None:
    put(tmp_path, *(f"train/{name}" for name in PLAIN), "test/1.jpg")
    assert listed(tmp_path, split="test", labels_required=False).classes is None
    with pytest.raises(DataError, match="expected images in one sub-folder a class"):
        listed(tmp_path, split="test")


def test_folders_of_one_folder_each_are_classes(tmp_path: Path) -> None:
    """As day/camera is; parts would have two at least."""
    put(tmp_path, "a/x/1.jpg", "b/x/2.jpg")
    assert listed(tmp_path).classes == ["a", "b"]
    put(tmp_path, *(f"{name}/{one}/1.jpg" for name in "abcde" for one in "xy"))
    with pytest.raises(DataError, match=r"its folders a, b, c, d, e each have folders x, y, exp"):
        listed(tmp_path)
    put(tmp_path, "c/2.jpg")  # a file beside them
    assert listed(tmp_path).classes == list("aabbbcccddee")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((), "it has nothing in it, expected images in one sub-folder a class"),
        (("a.txt", "b.txt"), "it has 2 files and no sub-folder, expected images"),
        (("a/1.txt",), "a has no images but 1 other files (1.txt), expected images"),
        (("a/1.txt", "b/2.txt"), "a, b have no images but 2 other files (1.txt)"),
        (("a/.keep",), "a has no images, expected at least one: add some"),
    ],
)
def test_nothing_to_read(files: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        listed(put(tmp_path, *files))
    assert said in str(error.value)


def test_a_link_that_leads_nowhere_is_a_damaged_file(tmp_path: Path) -> None:
    put(tmp_path, *PLAIN)
    (tmp_path / "a" / "0.jpg").symlink_to(tmp_path / "gone.jpg")
    assert names(listed(tmp_path), tmp_path) == ["a/0.jpg", *PLAIN]


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (("a/1.WAV",), SOUNDS), (("a/1.wav", "b/2.jpg"), IMAGES), (("a/1.heic",), IMAGES),
        (("a/1.docx",), IMAGES), (("a/1.wav", "b/2.txt"), SOUNDS), (("a/1.txt",), IMAGES),
        (("a/1.csv",), SENSORS),
    ],
)  # fmt: skip
def test_what_a_folder_holds(files: tuple[str, ...], kind: object, tmp_path: Path) -> None:
    assert kind_of(put(tmp_path, *files)) is kind


def test_what_a_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "1.flac", "2.PNG", "3.docx", "4.heic")
    assert [kind_of(path) for path in sorted(tmp_path.iterdir())] == [SOUNDS] + [IMAGES] * 3
    monkeypatch.setattr(file_folder, "heif_is_read", lambda: True)
    kinds = {path.name: (IMAGES.reads(path), SOUNDS.reads(path)) for path in tmp_path.iterdir()}
    assert kinds == {
        "1.flac": (False, True), "2.PNG": (True, False), "3.docx": (False, False),
        "4.heic": (True, False),
    }  # fmt: skip


def test_all_files_wherever_they_lie(tmp_path: Path) -> None:
    for name in ("b/1.png", "a/c/2.png", "a/note.txt", "a/.hidden.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listed = list_all(tmp_path, IMAGES)
    assert [str(file.relative_to(tmp_path)) for file in listed.files] == ["a/c/2.png", "b/1.png"]
    assert (listed.classes, listed.notes) == (["a", "b"], ("no image, left out: .txt 1",))
    (tmp_path / "3.png").touch()
    assert list_all(tmp_path, IMAGES).classes is None
    assert list_all(tmp_path / "3.png", IMAGES).files == [tmp_path / "3.png"]
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="it has no images, expected at least one"):
        list_all(tmp_path / "none", IMAGES)
