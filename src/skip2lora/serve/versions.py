"""Versions on the disk: a folder each, and one pointer file that says which is in use.

Version 0 is the model alone and has no folder. A folder is written whole or not at all, the pointer
is put in place in one step, so after a kill or a power cut a whole version is in use.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from skip2lora.adapted import RESULT_FILES, AdaptedModel
from skip2lora.backbones.base import Backbone
from skip2lora.errors import ModelError
from skip2lora.files import make_folder, unreadable, write_bytes, write_files
from skip2lora.replacing import sweep

POINTER, FOLDER = "current", "versions"


class VersionFolders:
    """The folder ``versions`` of a store, and the file ``current`` beside it."""

    def __init__(self, store: Path) -> None:
        """Sweep what killed runs left.

        Raises:
            FileError: the folder cannot be made.
        """
        self._store = store
        self._pointer, self._folder = store / POINTER, make_folder(store / FOLDER)
        sweep(self._pointer)
        for hidden in self._folder.glob(".*-*"):  # rooms: of any version that was being written
            shutil.rmtree(hidden, ignore_errors=True)

    def path(self, number: int) -> Path:
        """Where a version lies."""
        return _path(self._folder, number)

    def numbers(self) -> tuple[int, ...]:
        """Those that are there, ascending, without 0."""
        names = (each.name for each in self._folder.iterdir())
        return tuple(sorted(int(name) for name in names if name.isdecimal()))

    @property
    def current(self) -> int:
        """The number of the version in use.

        Raises:
            FileError: the pointer cannot be read.
            ModelError: it is damaged, or names a version that is gone.
        """
        try:
            text = self._pointer.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return 0
        except UnicodeDecodeError:
            text = "?"
        except OSError as error:
            raise unreadable(self._pointer, error) from error
        number = int(text) if text.isdecimal() else -1
        if number < 0 or (number and not self.path(number).is_dir()):
            raise ModelError(
                f"{self._pointer} names the version {text!r}, expected one in {self._folder}: "
                "write a number that is there into it, or 0 for the model alone"
            )
        return number

    def point(self, number: int) -> None:
        """Use that version from now on, written to the disk.

        Raises:
            FileError: the system refused; the one before stays in use.
        """
        write_bytes(self._pointer, f"{number}\n".encode())

    def save(self, number: int, files: Mapping[str, bytes]) -> None:
        """Write a version, whose ``files`` are those of an adapted model; it is not in use yet.

        Raises:
            FileError: the system refused.
        """
        write_files(self.path(number), files, names=RESULT_FILES)

    def load(self, number: int, model: Backbone) -> AdaptedModel | None:
        """Read a version of ``model``; None is the model alone.

        Raises:
            FileError, ModelError: it is not there, damaged, or of another model.
        """
        return read_version(self._store, number, model)

    def keep(self, numbers: set[int]) -> None:
        """Remove all others."""
        for number in set(self.numbers()) - numbers:
            shutil.rmtree(self.path(number), ignore_errors=True)


def read_version(store: Path, number: int, model: Backbone) -> AdaptedModel | None:
    """As :meth:`VersionFolders.load`, for who only reads in ``store``.

    Raises:
        FileError, ModelError: as there.
    """
    return AdaptedModel.load(model, _path(store / FOLDER, number)) if number else None


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}"
