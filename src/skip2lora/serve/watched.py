"""A folder whose files are predicted as they come, and labelled where they lie in one of a class.

A file in ``FOLDER`` is predicted and moved to ``FOLDER/done``; one in ``FOLDER/CLASS`` is labelled
so too. What cannot be read goes to ``FOLDER/failed``, beside a text that says why. So the folder
itself tells what is left to do, and nothing is predicted twice after a restart.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from skip2lora.errors import ParameterError, Skip2LoraError
from skip2lora.files import unreadable, write_bytes
from skip2lora.serve.uploads import read_file

if TYPE_CHECKING:
    from skip2lora.serve.service import Service

DONE, FAILED = "done", "failed"
SOURCE = "folder"
_SCAN_S = 1.0
#: A file's place, size and time: it is whole when they stay the same between two looks.
_Seen = dict[Path, tuple[int, int]]


class Watched:
    """Watches ``folder`` for ``service`` while it is open.

    Raises:
        ParameterError: there is no such folder.
        FileError: nothing can be moved there.
    """

    def __init__(self, service: Service, folder: Path) -> None:
        if not folder.is_dir():
            raise ParameterError(f"{folder} is no folder, expected one to watch: create it")
        self._service, self._folder = service, folder
        for name in (DONE, FAILED):
            try:
                (folder / name).mkdir(exist_ok=True)
            except OSError as error:
                raise unreadable(folder / name, error) from error
        self._seen: _Seen = {}
        self._stuck: set[tuple[Path, tuple[int, int]]] = set()  # taken, but not to be moved
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="skip2lora-folder", daemon=True)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(_SCAN_S):
            self.scan()

    def scan(self) -> int:
        """Take every file that is whole; how many there were."""
        now = dict(self._files())
        self._stuck &= now.items()
        new = now.items() - self._stuck
        whole = [path for path, about in sorted(new) if self._seen.get(path) == about]
        for path in whole:
            self._take(path)
            if path.exists():
                self._stuck.add((path, now[path]))
        self._seen = now
        return len(whole)

    def _files(self) -> Iterator[tuple[Path, tuple[int, int]]]:
        """Regular files of the folder and of those of classes, but hidden ones; no links."""
        folders = [self._folder]
        names = {*self._service.class_names} - {DONE, FAILED}
        folders += [self._folder / name for name in sorted(names) if _is_plain(name)]
        for folder in folders:
            try:
                entries = sorted(folder.iterdir())
            except OSError:  # no folder of that class
                continue
            for path in entries:
                try:
                    about = path.lstat()
                except OSError:  # gone since
                    continue
                if stat.S_ISREG(about.st_mode) and not path.name.startswith("."):
                    yield path, (about.st_size, about.st_mtime_ns)

    def _take(self, path: Path) -> None:
        label = None if path.parent == self._folder else path.parent.name
        try:
            inputs = read_file(self._service, path)
            only = next(iter(inputs.values())) if len(inputs) == 1 else inputs
            served = self._service.predict(only, source=SOURCE)
            if label is not None:
                for id in served.ids:
                    self._service.label(id, label, source=SOURCE)
        except Skip2LoraError as error:
            moved = self._move(path, FAILED)
            if moved is not None:
                write_bytes(moved.with_name(f"{moved.name}.txt"), f"{error}\n".encode())
            return
        self._move(path, DONE)

    def _move(self, path: Path, to: str) -> Path | None:
        """Move a file, under another name where there is one of its own; None if it is gone."""
        target, number = self._folder / to / path.name, 1
        while target.exists():
            number += 1
            target = self._folder / to / f"{path.stem}-{number}{path.suffix}"
        try:
            path.rename(target)
        except OSError:
            return None
        return target


def _is_plain(name: str) -> bool:
    """Whether the name of a class names a folder of its own here."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name
