"""Results are written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from skip2lora.errors import FileError, ModelError
from skip2lora.files import (
    WRITTEN,
    canonical,
    check_output,
    digest,
    holding,
    kind_of,
    let_go,
    make_folder,
    read_tensors,
    take,
    to_bytes,
    write_bytes,
    write_file,
    write_files,
    write_folder,
    write_together,
)

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
    link.symlink_to(photos)
    before = names(tmp_path)
    for target in (photos, mixed, nested, plain, link):
        with pytest.raises(FileError, match="choose another name"):
            write_folder(target, adapter("two"), names=NAMES)
    assert names(tmp_path) == before
    assert (photos / "cat").read_text() == "meow"
    assert plain.read_text() == "text"
    assert (mixed / "notes").read_text() == "keep me"
    assert (earlier / "weights").read_text() == "one"


WITHIN = ("a.txt", "src/b.c", "build/*")


def test_folders_within_a_folder(tmp_path: Path) -> None:
    target = tmp_path / "result"
    write_files(target, {"a.txt": b"1", "src/b.c": b"2"}, names=WITHIN)
    assert (target / "src" / "b.c").read_bytes() == b"2"
    (target / "build" / "deep").mkdir(parents=True)
    (target / "build" / "deep" / "b.o").touch()
    write_files(target, {"a.txt": b"3"}, names=WITHIN)
    assert names(target) == ["a.txt"]


@pytest.mark.parametrize("mine", ["src/c.c", "src/b.c/d", "buildings/b.o", "src/build/b.o"])
def test_what_lies_within_and_is_none_of_it_is_left_alone(tmp_path: Path, mine: str) -> None:
    target = tmp_path / "result"
    (target / mine).parent.mkdir(parents=True)
    (target / mine).write_text("mine")
    with pytest.raises(FileError, match=r"holds .*, expected a.txt or src/b.c or build/. alone"):
        write_files(target, {"a.txt": b"3"}, names=WITHIN)
    assert (target / mine).read_text() == "mine"


def test_a_link_among_them_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "result"
    target.mkdir()
    (target / "build").symlink_to(tmp_path)
    with pytest.raises(FileError, match="holds build, expected"):
        write_files(target, {"a.txt": b"3"}, names=WITHIN)


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


TENSORS = {
    "b.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.bias": np.array([0.5, -0.0], np.float32),
}
DESCRIPTION = {"kind": "thing", "version": 1, "names": ["ä", "b"], "none": None, "eps": 1e-5}


def write_with_header(path: Path, header: dict[str, Any], data: bytes = b"") -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_with_text(path: Path, text: str) -> None:
    path.write_bytes(save(TENSORS, metadata={"skip2lora": text}))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    path.write_bytes(to_bytes(TENSORS, DESCRIPTION))
    return path


def test_round_trip(file: Path) -> None:
    tensors, description = read_tensors(file, kind="thing")
    assert description == DESCRIPTION
    assert set(tensors) == set(TENSORS)
    for name, array in TENSORS.items():
        assert tensors[name].dtype == np.float32
        assert tensors[name].shape == array.shape
        assert tensors[name].tobytes() == array.tobytes()


def test_equal_content_gives_equal_bytes(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.safetensors"
    other.write_bytes(
        to_bytes(dict(reversed(TENSORS.items())), dict(reversed(DESCRIPTION.items())))
    )
    assert other.read_bytes() == file.read_bytes()
    other.write_bytes(to_bytes(TENSORS, DESCRIPTION | {"eps": 2e-5}))
    assert other.read_bytes() != file.read_bytes()


def test_any_memory_order_is_written_as_rows(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.safetensors"
    other.write_bytes(to_bytes({k: np.asfortranarray(v) for k, v in TENSORS.items()}, DESCRIPTION))
    assert other.read_bytes() == file.read_bytes()


def test_one_metadata_key(file: Path) -> None:
    data = file.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    assert list(header["__metadata__"]) == ["skip2lora"]
    said = {**DESCRIPTION, "sha256": digest(TENSORS, DESCRIPTION)}
    assert header["__metadata__"]["skip2lora"] == canonical(said)


def test_digest_ignores_order_and_layout() -> None:
    same = digest({k: np.asfortranarray(v) for k, v in reversed(TENSORS.items())}, DESCRIPTION)
    assert same == digest(TENSORS, dict(reversed(DESCRIPTION.items())))
    assert same.startswith("sha256:")
    assert len(same) == len("sha256:") + 64


@pytest.mark.parametrize(
    ("tensors", "description"),
    [
        ({"a.bias": np.array([0.5, 0.0], np.float32)}, {}),
        ({"a.bias": np.array([0.5, np.nextafter(np.float32(0), np.float32(1))], np.float32)}, {}),
        ({"a.bias": np.array([[0.5, -0.0]], np.float32)}, {}),
        ({"c": np.array([1], np.float32)}, {}),
        ({}, {"eps": 2e-5}),
        ({}, {"more": 1}),
    ],
    ids=["sign of zero", "last bit", "shape", "another tensor", "number", "key"],
)
def test_digest_changes_with_content(
    tensors: dict[str, np.ndarray], description: dict[str, Any]
) -> None:
    assert digest(TENSORS | tensors, DESCRIPTION | description) != digest(TENSORS, DESCRIPTION)


def test_digest_changes_with_a_name() -> None:
    renamed = {"b.weight": TENSORS["b.weight"], "a.bia": TENSORS["a.bias"]}
    assert digest(renamed, DESCRIPTION) != digest(TENSORS, DESCRIPTION)


def test_no_file(tmp_path: Path, refused: Callable[..., str]) -> None:
    for path in (tmp_path, tmp_path / "none"):
        message = refused(FileError, read_tensors, path, kind="thing")
        assert "expected a thing written by skip2lora" in message


def test_every_truncation_is_refused(file: Path, refused: Callable[..., str]) -> None:
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        message = refused(ModelError, read_tensors, file, kind="thing")
        assert f"{file} is not a readable .safetensors file" in message
        assert "copy it again" in message


@pytest.mark.parametrize(
    "data",
    [b"hello", b"\0" * 8, b"\xff" * 64, b"PK\3\4" + b"\0" * 60, b'{"a": 1}'],
    ids=["text", "zeros", "ones", "zip", "json"],
)
def test_another_format(file: Path, refused: Callable[..., str], data: bytes) -> None:
    file.write_bytes(data)
    message = refused(ModelError, read_tensors, file, kind="thing")
    assert "is not a readable .safetensors file" in message
    assert "expected a thing written by skip2lora" in message


def test_more_names_than_a_model_has(file: Path, refused: Callable[..., str]) -> None:
    """A million tensors would take 12 seconds and 1 GB to refuse."""
    data = file.read_bytes()
    size, header = int.from_bytes(data[:8], "little"), data[8:]
    spaces = b" " * ((1 << 24) + 1 - size)
    file.write_bytes((size + len(spaces)).to_bytes(8, "little") + header[:size] + spaces)
    said = refused(ModelError, read_tensors, file, kind="mlp")
    assert "its list of tensors has 16,777,217 bytes, expected 16,777,216" in said
    assert kind_of(file) is None


def test_longer_than_its_header_says(file: Path, refused: Callable[..., str]) -> None:
    file.write_bytes(file.read_bytes() + b"\0")
    assert "not a readable" in refused(ModelError, read_tensors, file, kind="thing")


def test_another_program_wrote_it(file: Path, refused: Callable[..., str]) -> None:
    for metadata in (None, {"format": "pt"}):
        file.write_bytes(save(TENSORS, metadata=metadata))
        message = refused(ModelError, read_tensors, file, kind="thing")
        assert f"{file} was not written by skip2lora, expected a thing of it" in message


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", '"thing"', "[" * 100_000, '{"version": ' + "1" * 5000 + "}"],
    ids=["empty", "open", "list", "null", "number", "text", "deep", "long number"],
)
def test_damaged_description(file: Path, refused: Callable[..., str], text: str) -> None:
    write_with_text(file, text)
    message = refused(ModelError, read_tensors, file, kind="thing")
    assert f"{file} was not written by skip2lora" in message
    assert len(message) < 1000


def test_another_kind_or_version(file: Path, refused: Callable[..., str]) -> None:
    message = refused(ModelError, read_tensors, file, kind="stuff")
    assert f"{file} is a thing, expected a stuff" in message
    for version in (0, 2, None, "1"):
        file.write_bytes(to_bytes(TENSORS, DESCRIPTION | {"version": version}))
        message = refused(ModelError, read_tensors, file, kind="thing")
        assert f"format version {version}, this program reads version 1: update" in message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(file: Path, refused: Callable[..., str], bad: float) -> None:
    file.write_bytes(to_bytes(TENSORS | {"a.bias": np.array([0, bad], np.float32)}, DESCRIPTION))
    message = refused(ModelError, read_tensors, file, kind="thing")
    assert "tensor a.bias" in message
    assert "expected finite float32" in message


@pytest.mark.parametrize(
    ("dtype", "n_bytes"),
    [("F64", 8), ("F16", 2), ("I32", 4), ("BOOL", 1), ("BF16", 2), ("F8_E4M3", 1)],
)
def test_other_types_of_number(
    file: Path, refused: Callable[..., str], dtype: str, n_bytes: int
) -> None:
    header = {
        "__metadata__": {"skip2lora": canonical(DESCRIPTION)},
        "a": {"dtype": dtype, "shape": [1], "data_offsets": [0, n_bytes]},
    }
    write_with_header(file, header, bytes(n_bytes))
    message = refused(ModelError, read_tensors, file, kind="thing")
    assert str(file) in message
    assert "expected" in message


def test_take(file: Path, refused: Callable[..., str]) -> None:
    tensors = dict(TENSORS)
    assert take(file, tensors, "b.weight", (2, 3)) is TENSORS["b.weight"]
    assert set(tensors) == {"a.bias"}  # what is left over can be named
    message = refused(ModelError, take, file, tensors, "b.weight", (2, 3))
    assert f"{file}: tensor b.weight is missing, expected shape (2, 3)" in message
    message = refused(ModelError, take, file, tensors, "a.bias", (3,))
    assert f"{file}: tensor a.bias has shape (2,), expected (3,)" in message


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_links_stay_and_what_they_lead_to_is_replaced(tmp_path: Path, kind: str) -> None:
    """Through two links, the second relative and in another folder."""

    def write(path: Path, content: str) -> None:
        if kind == "file":
            write_file(path, text(content))
        else:
            write_folder(path, adapter(content), names=NAMES)

    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "second").symlink_to("true")
    first = tmp_path / "first"
    first.symlink_to(tmp_path / "far" / "second")
    for content in ("one", "two"):  # dangling, then not
        with pytest.raises(FileError, match="exists already"):
            check_output(first, force=False, names=None if kind == "file" else NAMES)
        check_output(first, force=True, names=None if kind == "file" else NAMES)
        write(first, content)
        assert first.is_symlink()
        assert (tmp_path / "far" / "second").is_symlink()
        place = tmp_path / "far" / "true"
        assert not place.is_symlink()
        assert (place if kind == "file" else place / "weights").read_text() == content
    assert names(tmp_path) == ["far", "first"]
    assert names(tmp_path / "far") == ["second", "true"]


def test_links_in_a_circle_and_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").symlink_to(tmp_path / "none" / "c")
    for name, reason in (("a", "symbolic links"), ("c", "is not a folder")):
        for which in (None, NAMES):
            with pytest.raises(FileError, match=reason):
                check_output(tmp_path / name, force=True, names=which)
    with pytest.raises(FileError, match="symbolic links"):
        write_file(tmp_path / "a", text("one"))
    assert names(tmp_path) == ["a", "b", "c"]


def test_a_link_to_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with pytest.raises(FileError, match="it is a folder"):
        write_file(tmp_path / "link", text("one"))


def reader_of(fifo: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE)


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_gets_the_content_and_stays(tmp_path: Path, linked: bool) -> None:
    fifo = target = tmp_path / "fifo.txt"
    os.mkfifo(fifo)
    if linked:
        target = tmp_path / "link.txt"
        target.symlink_to("fifo.txt")
    before = names(tmp_path)
    check_output(target, force=False)  # nothing is replaced
    with pytest.raises(FileError, match="no process reads this pipe"):
        write_file(target, text("one"))
    with reader_of(fifo) as reader:
        descriptor = os.open(fifo, os.O_WRONLY)  # waits for the reader
        write_file(target, text("two"))
        os.close(descriptor)
        assert reader.communicate(timeout=30)[0] == b"two"
    assert fifo.is_fifo()
    assert names(tmp_path) == before


def test_a_reader_that_left_is_no_refusal(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

    def leave(path: Path) -> None:
        path.write_bytes(bytes(1 << 20))  # more than a pipe holds
        threading.Timer(0.2, os.close, [reading]).start()

    with pytest.raises(BrokenPipeError):
        write_file(fifo, leave)


def test_a_terminal_gets_the_content_and_stays(tmp_path: Path) -> None:
    master, slave = os.openpty()
    place = os.ttyname(slave)
    check_output(place, force=False)
    write_file(place, text("one"))
    assert os.read(master, 100) == b"one"
    assert Path(place).is_char_device()
    with pytest.raises(FileError, match="is a device, expected a folder"):
        check_output(place, force=True, names=NAMES)
    os.close(master)
    os.close(slave)


def test_a_socket_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # its path may not be long
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
        for which, reason in ((None, "it is a socket"), (NAMES, "is a socket")):
            with pytest.raises(FileError, match=reason):
                check_output("s", force=True, names=which)
        with pytest.raises(FileError, match="it is a socket"):
            write_file("s", text("one"))
        with pytest.raises(FileError, match="is a socket"):
            write_folder("s", adapter("one"), names=NAMES)
        assert Path("s").is_socket()


def test_open_descriptors_are_written_to(tmp_path: Path) -> None:
    """/dev/stdout of a shell that appends, and another descriptor of it."""
    code = """
import sys
from skip2lora.files import check_output, write_bytes, write_folder
print("first")
for path, content in (("/dev/stdout", b"second\\n"), ("/dev/fd/7", b"seven")):
    check_output(path, force=False)
    write_bytes(path, content)
try:
    write_folder("/dev/stdout", print, names=())
except OSError as error:
    print(error)
"""
    subprocess.run(
        f"{sys.executable} -c '{code}' >> out 7> seven", shell=True, cwd=tmp_path, check=True
    )
    out = (tmp_path / "out").read_text().splitlines()
    assert out[:2] == ["first", "second"]
    assert "expected a folder" in out[2]
    assert (tmp_path / "seven").read_text() == "seven"
    assert names(tmp_path) == ["out", "seven"]


def test_files_together_are_all_whole_before_the_first_is_replaced(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write_together({one: text("old"), two: text("old")})

    def fail(path: Path) -> None:
        assert one.read_text() == "old"
        disk_full(path)

    with pytest.raises(FileError, match="two: No space left"):
        write_together({one: text("new"), two: fail})
    assert [one.read_text(), two.read_text()] == ["old", "old"]
    write_together({one: text("new"), two: text("new")})
    assert [one.read_text(), two.read_text()] == ["new", "new"]
    assert names(tmp_path) == ["one", "two"]


def test_what_was_written_last_is_known(tmp_path: Path) -> None:
    WRITTEN.clear()
    with pytest.raises(FileError):
        write_file(tmp_path / "a", disk_full)
    assert not WRITTEN
    write_file(tmp_path / "a", text("one"))
    assert list(WRITTEN) == [tmp_path / "a"]
    write_folder(tmp_path / "b", adapter("one"), names=NAMES)
    assert list(WRITTEN) == [tmp_path / "b"]


def test_an_output_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    with holding(target), pytest.raises(FileError, match="is being made by") as error:  # noqa: PT012
        write_folder(target, adapter("new"), names=NAMES)  # the holder may
        with holding(target):
            pass
    assert f", {os.getpid()}, expected one at a time" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    with holding(target), holding(tmp_path / "other"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_who_ends_at_once_lets_go(tmp_path: Path) -> None:
    with holding(tmp_path / "adapter"):
        assert len(list(tmp_path.iterdir())) == 1
        let_go()
        assert list(tmp_path.iterdir()) == []


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from skip2lora.files import holding\n"
        "with holding(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    target = tmp_path / "adapter"
    assert subprocess.run([sys.executable, "-c", code, target], check=False).returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    with holding(target):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_is_told_who_holds_an_output(tmp_path: Path) -> None:
    code = (
        "import sys; from skip2lora.files import holding\n"
        "with holding(sys.argv[1]): print(flush=True); sys.stdin.read()"
    )
    target = tmp_path / "adapter"
    with subprocess.Popen(
        [sys.executable, "-c", code, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(FileError, match=f"another process, {other.pid}, expected"):
            holding(target).__enter__()
    with holding(target):
        pass


def test_what_cannot_be_written_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot write"), holding(tmp_path / "none" / "adapter"):
        pass
