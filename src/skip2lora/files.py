"""Write files and folders whole or not at all; named float32 tensors as ``.safetensors``.

A result is written beside its target, synced to disk and put in its place in one step
(:mod:`skip2lora.replacing`), so that a full disk, a crash or Ctrl-C never leaves half a file and
never loses the one that was there.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora import system
from skip2lora import tensors as tensor_format
from skip2lora.errors import FileError, ModelError, ParameterError, first_line
from skip2lora.limits import check_file
from skip2lora.replacing import (
    Place,
    check_replaceable,
    claim,
    is_stream,
    pour,
    put,
    refusals,
    resolved,
    room_of,
    sweep,
    temporary,
    uninterrupted,
)  # fmt: skip

#: What reading a damaged zip raises, whatever its compression.
BAD_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)
_HELD = "in_use__"  # a room that says that its target is being made
_ROOMS: set[Path] = set()  # of that kind, of this process
#: The path that was written last in this process, for who is stopped and says what was done.
WRITTEN: deque[Path] = deque(maxlen=1)


def check_output(
    path: str | os.PathLike[str], *, force: bool, names: tuple[str, ...] | None = None
) -> Path:
    """Refuse an output path that exists (unless ``force``) or whose folder cannot be written.

    Called before any long work starts, so that nothing is computed in vain. ``names`` are those of
    :func:`write_folder`, None for a file. Links are followed. A pipe or a terminal is written to as
    it is and never replaced, so it needs no ``force``.

    Raises:
        FileError: the path exists, is a disk or a socket, or its parent is missing, not a folder or
            not writable.
    """
    target = Path(path)
    with refusals(target):
        place = resolved(target)
    check_replaceable(target, place, names)
    if isinstance(place, int) or is_stream(place):
        return target
    parent = place.parent
    if not parent.is_dir():
        raise FileError(
            f"cannot write {target}: {parent} is not a folder, expected one: create it first"
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise FileError(
            f"cannot write {target}: no permission in {parent}, expected a folder that can be "
            "written: choose another"
        )
    sweep(place)
    if os.path.lexists(target) and not force:
        raise FileError(
            f"{target} exists already, expected a free name: pass force=True to replace it, or "
            "another"
        )
    return target


@contextmanager
def holding(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold an output from here to its end; who else would make it meanwhile is told.

    Where the file system has no locks, or on another machine, nobody is.

    Raises:
        FileError: another process holds it, or the system refused.
    """
    held: tuple[Path, int] | None = None
    try:
        with uninterrupted():
            held = _hold(Path(path))
        yield
    finally:
        if held is not None:
            with uninterrupted():
                system.remove_locked(*held)
                _ROOMS.discard(held[0])


def let_go() -> None:
    """Hold nothing any more, where the process ends at once."""
    for room in _ROOMS:
        shutil.rmtree(room, ignore_errors=True)


def _hold(target: Path) -> tuple[Path, int] | None:
    """The room that says so, and its lock; None for a pipe and the like."""
    with refusals(target):
        place = resolved(target)
        if isinstance(place, int) or is_stream(place):
            return None
        sweep(place)
        room = place.with_name(room_of(place, _HELD))
        for _ in range(3):
            with suppress(FileExistsError):
                room.mkdir()
            lock = claim(room, fresh=True)
            if lock is not None:
                _ROOMS.add(room)
                (room / _HELD).write_text(str(os.getpid()))
                return room, lock
            if room.is_dir():  # else its holder left just now
                break
        holder = ""
        with suppress(OSError, ValueError):  # it has not said so yet
            holder = f", {int((room / _HELD).read_text())}"
        raise FileError(
            f"{target} is being made by another process{holder}, expected one at a time: "
            "wait for it, or choose another output"
        )


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder and those above it, unless it is there.

    Raises:
        FileError: the system refused.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"cannot make {folder}: {error.strerror or error}, expected a folder that can be "
            "written: choose another"
        ) from error
    return folder


def unreadable(path: str | os.PathLike[str], error: OSError) -> FileError:
    """The error for a file or folder that the system does not let us read."""
    return FileError(
        f"cannot read {path}: {error.strerror or error}, expected a readable file: check the path "
        "and its permissions"
    )


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        FileError, BrokenPipeError: as :func:`write_file`.
    """
    write_file(path, lambda temporary: temporary.write_bytes(content))


def write_file(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    """Call ``write(temporary)``, then put the result in the place of ``path``.

    Links are followed: the file at their end is replaced. A pipe or a terminal gets the content.

    Raises:
        FileError: the system refused (no space, no permission, ...); ``path`` is as it was.
        BrokenPipeError: the reader of a pipe left.
    """
    write_together({Path(path): write})


def label_lines(names: Sequence[str]) -> bytes:
    """Names of classes as a text of a line each.

    Raises:
        ParameterError: one is empty or has a line break, which would shift those behind it.
    """
    wrong = [name for name in names if name.splitlines() != [name]]
    if wrong:
        raise ParameterError(
            f"class_names has {wrong[0]!r}, expected names of one line each, as each is a line of "
            "a list of labels: rename that class"
        )
    return "".join(f"{name}\n" for name in names).encode()


def write_together(files: Mapping[Path, Callable[[Path], object]]) -> None:
    """Several files as :func:`write_file` does; all are whole before the first is replaced.

    Raises:
        FileError, BrokenPipeError: as there.
    """
    ready: list[tuple[Path, Path, Place]] = []
    with ExitStack() as stack:
        for target, write in files.items():
            stack.enter_context(refusals(target))
            place = resolved(target)
            check_replaceable(target, place, None)
            draft = stack.enter_context(temporary(place))
            write(draft)
            system.sync(draft)
            ready.append((draft, target, place))
        with uninterrupted():
            for draft, target, place in ready:
                if not isinstance(place, int) and not is_stream(place):
                    check_replaceable(target, place, None)
                    put(draft, place)
                    WRITTEN.append(target)
        for draft, target, place in ready:
            if is_stream(place):
                WRITTEN.append(target)
                pour(draft, place)


def write_folder(
    path: str | os.PathLike[str], write: Callable[[Path], None], *, names: tuple[str, ...]
) -> None:
    """Call ``write(temporary_folder)``, then put that folder in the place of ``path``.

    A folder that is there is replaced only when it holds files of these ``names`` alone (such as
    ``src/a.c`` or ``build/*``), as an earlier result of the same kind does. Links are followed.

    Raises:
        FileError: the system refused, or ``path`` is something else; ``path`` is as it was.
    """
    target = Path(path)
    with refusals(target):
        place = resolved(target)
        check_replaceable(target, place, names)
        if isinstance(place, int):  # refused above
            raise TypeError(f"{target} is open descriptor {place}")
        with temporary(place) as draft:
            draft.mkdir()
            write(draft)
            for file in sorted(draft.rglob("*")):
                system.sync(file)
            system.sync(draft)
            with uninterrupted():
                check_replaceable(target, place, names)
                put(draft, place)
                WRITTEN.append(target)


def write_files(
    path: str | os.PathLike[str], files: Mapping[str, bytes], *, names: tuple[str, ...]
) -> None:
    """Write a folder of these ``files``, as :func:`write_folder` does.

    Raises:
        FileError: as there.
    """

    def write(folder: Path) -> None:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    write_folder(path, write, names=names)


Tensors = dict[str, NDArray[np.float32]]
_KEY = "skip2lora"
_DIGEST = "sha256"  # of the tensors and the rest of the description


def canonical(description: Mapping[str, Any]) -> str:
    """The one spelling of a description as JSON."""
    return json.dumps(description, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(tensors: Mapping[str, NDArray[np.float32]], description: Mapping[str, Any]) -> str:
    """SHA-256 of names, shapes, values and description, as ``sha256:<hex>``."""
    state = hashlib.sha256(canonical(description).encode())
    for name in sorted(tensors):
        array = tensors[name]
        state.update(f"\0{name}\0{array.shape}\0".encode())
        state.update(np.ascontiguousarray(array, "<f4").tobytes())
    return f"sha256:{state.hexdigest()}"


def to_bytes(tensors: Mapping[str, NDArray[np.float32]], description: Mapping[str, Any]) -> bytes:
    """A ``.safetensors`` file, with the digest of its content."""
    said = canonical({**description, _DIGEST: digest(tensors, description)})
    return tensor_format.write(tensors, {_KEY: said})


def read_tensors(path: str | os.PathLike[str], *, kind: str) -> tuple[Tensors, dict[str, Any]]:
    """Read a file that :func:`to_bytes` gave, with ``description["kind"] == kind``.

    Raises:
        FileError: missing or unreadable file.
        ModelError: truncated, written by another program, or of another kind.
    """
    file = Path(path)
    check_file(file, f"a {kind} written by skip2lora")
    try:
        tensors, about = tensor_format.read(file)
    except ValueError as error:
        raise ModelError(
            f"{file} is not a readable .safetensors file ({first_line(error)}), "
            f"expected a {kind} written by skip2lora: copy it again"
        ) from error
    except OSError as error:
        raise unreadable(file, error) from error
    description = _description(file, about.get(_KEY), kind)
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise ModelError(
                f"{file}: tensor {name} holds NaN, expected finite float32: make the file again"
            )
    if description.pop(_DIGEST, None) != digest(tensors, description):
        raise ModelError(
            f"{file} was changed, expected it as written, its content does not match its digest: "
            "copy it again"
        )
    return tensors, description


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """What a file that :func:`to_bytes` gave is of; None of any other, of which nothing is said."""
    try:
        description = json.loads(tensor_format.read_about(path).get(_KEY, "{}"))
    except (ValueError, RecursionError, OSError):
        return None
    kind = description.get("kind") if isinstance(description, dict) else None
    return kind if isinstance(kind, str) else None


def _description(file: Path, text: str | None, kind: str) -> dict[str, Any]:
    try:
        description = json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        description = None
    if not isinstance(description, dict):
        raise ModelError(
            f"{file} was not written by skip2lora, expected a {kind} of it: check the path"
        )
    if description.get("kind") != kind:
        raise ModelError(
            f"{file} is a {description.get('kind')}, expected a {kind}: check the path"
        )
    if description.get("version") != 1:
        raise ModelError(
            f"{file} has format version {description.get('version')}, this program reads version "
            "1: update skip2lora"
        )
    return description


def take(
    file: str | os.PathLike[str], tensors: Tensors, name: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """The tensor of that name, taken out of ``tensors``, with its shape checked.

    Raises:
        ModelError: it is missing or has another shape.
    """
    if name not in tensors:
        raise ModelError(f"{file}: tensor {name} is missing, expected shape {shape}: copy it again")
    array = tensors.pop(name)
    if array.shape != shape:
        raise ModelError(
            f"{file}: tensor {name} has shape {array.shape}, expected {shape}: was it made for "
            "another model?"
        )
    return array
