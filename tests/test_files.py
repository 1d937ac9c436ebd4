"""Results are written whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from skip2lora.errors import FileError
from skip2lora.files import check_output, make_folder, write_bytes, write_file, write_folder

MARKER = "adapter_config.json"
NAMES = (MARKER, "weights")


def text(content: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(content)

    return write


def folder(**files: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        for name, content in files.items():
            (path / name.replace("__", ".")).write_text(content)

    return write


def adapter(content: str) -> Callable[[Path], None]:
    return folder(adapter_config__json=content, weights=content)


def disk_full(path: Path) -> None:
    if path.is_dir():
        path = path / "part"
    path.write_text("half of it")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_output_that_can_be_written(tmp_path: Path) -> None:
    assert check_output(tmp_path / "a", force=False) == tmp_path / "a"
    (tmp_path / "a").touch()
    assert check_output(tmp_path / "a", force=True) == tmp_path / "a"


def test_output_that_exists(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("a", "dangling"):
        with pytest.raises(FileError, match="expected a free name: pass force=True"):
            check_output(tmp_path / name, force=False)


def test_output_without_a_parent(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for parent in ("none", "file"):
        with pytest.raises(FileError, match="is not a folder"):
            check_output(tmp_path / parent / "a", force=True)


def test_output_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(FileError, match="no permission"):
        check_output(tmp_path / "a", force=True)


def test_file_is_written_and_replaced(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_file(target, text("one"))
    assert target.read_text() == "one"
    write_file(str(target), text("two"))
    assert target.read_text() == "two"
    assert names(tmp_path) == ["a.txt"]


def test_file_keeps_its_suffix_while_written(tmp_path: Path) -> None:
    seen: list[Path] = []

    def write(path: Path) -> None:
        seen.append(path)
        path.touch()

    write_file(tmp_path / "a.npz", write)
    assert seen[0].name == "a.npz"
    assert seen[0] != tmp_path / "a.npz"


def test_file_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_file("a.txt", text("one"))
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("before", ["old", None])
@pytest.mark.parametrize("failure", [disk_full, None])
def test_file_is_as_it_was_after_a_failure(
    tmp_path: Path, before: str | None, failure: Callable[[Path], None] | None
) -> None:
    target = tmp_path / "a.txt"
    if before is not None:
        target.write_text(before)

    def interrupted(path: Path) -> None:
        path.write_text("half of it")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt if failure is None else FileError) as caught:
        write_file(target, failure or interrupted)
    if failure is not None:
        assert "\n" not in str(caught.value)
        assert "No space left" in str(caught.value)
        assert "a.txt" in str(caught.value)
    assert names(tmp_path) == ([] if before is None else ["a.txt"])
    assert before is None or target.read_text() == before


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write(path: Path) -> None:
        path.write_text("new")
        assert target.read_text() == "old"

    write_file(target, write)
    assert target.read_text() == "new"


def test_a_reader_of_the_old_file_is_not_disturbed(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with target.open() as reading:
        write_file(target, text("new"))
        assert reading.read() == "old"


def test_file_over_a_folder_or_in_none(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(FileError, match="it is a folder"):
        write_file(tmp_path / "a", text("one"))
    assert names(tmp_path) == ["a"]
    with pytest.raises(FileError, match="No such file or directory"):
        write_file(tmp_path / "none" / "a", text("one"))


def test_file_too_big_for_the_system(tmp_path: Path) -> None:
    """A true refusal by the system in the middle of a write, not one that is simulated."""
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    code = """
import resource, signal, sys
from pathlib import Path
from skip2lora.errors import FileError
from skip2lora.files import write_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_file(sys.argv[1], lambda path: path.write_bytes(bytes(100_000)) and None)
except FileError as error:
    sys.exit(f"refused: {error}")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("refused: cannot write")
    assert "File too large" in done.stderr
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_folder_is_written_and_replaced(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    write_folder(target, adapter("one"), names=NAMES)
    assert names(target) == [MARKER, "weights"]
    (target / "weights").write_text("changed")
    write_folder(target, adapter("two"), names=NAMES)
    assert names(target) == [MARKER, "weights"]  # the old folder is gone whole
    assert (target / "weights").read_text() == "two"
    assert names(tmp_path) == ["adapter"]


def test_folder_replaces_an_empty_one(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    target.mkdir()
    write_folder(target, adapter("one"), names=NAMES)
    assert names(target) == [MARKER, "weights"]


def test_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cat").write_text("meow")
    mixed = tmp_path / "mixed"  # a result, but something else lies beside it
    write_folder(mixed, adapter("one"), names=NAMES)
    (mixed / "notes").write_text("keep me")
    nested = tmp_path / "nested"
    (nested / MARKER).mkdir(parents=True)
    plain = tmp_path / "plain"
    plain.write_text("text")
    earlier = tmp_path / "earlier"
    write_folder(earlier, adapter("one"), names=NAMES)
    link = tmp_path / "link"
    link.symlink_to(earlier)
    before = names(tmp_path)
    for target in (photos, mixed, nested, plain, link):
        with pytest.raises(FileError, match="choose another name"):
            write_folder(target, adapter("two"), names=NAMES)
    assert names(tmp_path) == before
    assert (photos / "cat").read_text() == "meow"
    assert plain.read_text() == "text"
    assert (mixed / "notes").read_text() == "keep me"
    assert (earlier / "weights").read_text() == "one"


@pytest.mark.parametrize("exists", [True, False])
def test_folder_is_as_it_was_after_a_failure(tmp_path: Path, exists: bool) -> None:
    target = tmp_path / "adapter"
    if exists:
        write_folder(target, adapter("one"), names=NAMES)
    with pytest.raises(FileError, match="No space left"):
        write_folder(target, disk_full, names=NAMES)
    assert names(tmp_path) == (["adapter"] if exists else [])
    if exists:
        assert (target / "weights").read_text() == "one"


def test_old_folder_comes_back_when_the_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "adapter"
    write_folder(target, adapter("one"), names=NAMES)
    rename = Path.rename

    def second_fails(self: Path, to: Path) -> Path:
        if to == target and not self.name.endswith(".old"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(FileError, match="cannot write"):
        write_folder(target, adapter("two"), names=NAMES)
    assert names(tmp_path) == ["adapter"]
    assert (target / "weights").read_text() == "one"


def test_errors_of_the_writer_pass_through(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        raise ZeroDivisionError

    for refuse in (
        lambda: write_file(tmp_path / "a", write),
        lambda: write_folder(tmp_path / "b", write, names=NAMES),
    ):
        with pytest.raises(ZeroDivisionError):
            refuse()
    assert names(tmp_path) == []


def test_a_folder_is_made_with_those_above_it(tmp_path):
    assert make_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert make_folder(tmp_path / "a" / "b").is_dir()  # again: it is there


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(FileError, match=r"cannot make .*b: .*expected a folder.*: choose another"):
        make_folder(tmp_path / "a" / "b")


def test_bytes_are_written_whole(tmp_path):
    write_bytes(tmp_path / "a", b"\0\r\n")
    assert (tmp_path / "a").read_bytes() == b"\0\r\n"
    with pytest.raises(FileError, match="is a folder"):
        write_bytes(tmp_path, b"")
