"""What is kept beside an adapter to go on later: rows of its samples, answers, earlier versions.

The folder ``adapter.rows`` lies beside the folder ``adapter``. ``cache`` in it is a
:class:`~skip2lora.adapters.store.CacheFolder` with rows of a model; of a network of which the
sample itself is the first tap, the samples are kept instead. Each folder in ``versions`` is an
adapter with the list of the samples that it learned, ``samples.npz``; docs/go-on.md.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapters.folder import TENSORS_FILE
from skip2lora.adapters.shards import overwrite
from skip2lora.adapters.store import CacheFolder
from skip2lora.backbones.loading import CONFIG_FILE
from skip2lora.data.joined import DIGEST_BYTES, Recalled, Settled
from skip2lora.data.lazy import digests_of
from skip2lora.errors import DataError, FileError, ModelError, ParameterError, first_line
from skip2lora.files import BAD_ZIP, make_folder, unreadable, write_files
from skip2lora.limits import check_file
from skip2lora.replacing import refusals
from skip2lora.tasks.task import Encoded, Outputs

#: Of versions that are there at a time.
MOST_VERSIONS = 5
SAMPLES_FILE, CACHE, _SUFFIX = "samples.npz", "cache", ".rows"
_FILES = (CONFIG_FILE, TENSORS_FILE, SAMPLES_FILE)


@dataclass(frozen=True, eq=False)
class KeptSamples:
    """Samples that an adapter learned, in their order; all that training needs beside their rows.

    ``ids``, (n,), number them in the order in which they came, and are never used again; the next
    one gets ``next_id``. ``x`` are the samples, or what knows their digests alone. ``weight``,
    (n,), and ``group``, (n,), are None where none were given. ``asked`` are the options of
    training that were set.
    """

    ids: NDArray[np.int64]
    next_id: int
    x: Any
    answers: Encoded
    weight: NDArray[np.float32] | None = None
    group: NDArray[Any] | None = None
    asked: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def labels(self) -> NDArray[Any]:
        """The answers as they were given: names or numbers of classes, (n,), or targets."""
        if self.answers.y.ndim > 1:
            return self.answers.y
        outputs, new = self.answers.outputs, self.answers.new_labels
        every = [*(outputs.names or outputs.numbers or ()), *new]
        if any(isinstance(label, str) for label in every):
            every = [str(label) for label in every]
        labels: NDArray[Any] = np.array(every)[self.answers.y]
        return labels

    def without(self, ids: NDArray[np.int64]) -> KeptSamples:
        """Without those of these ``ids``.

        Raises:
            DataError: one that is not there, one twice, or all there are.
        """
        unknown = ids[~np.isin(ids, self.ids)]
        if len(unknown):
            raise DataError(
                f"forget has the id {unknown[0]}, expected those of samples that are kept, from "
                f"{self.ids[0]} to {self.ids[-1]} ({len(self):,} of them): correct it"
            )
        if len(np.unique(ids)) < len(ids) or len(ids) == len(self):
            raise DataError(
                f"forget has {len(ids)} ids of {len(self):,} samples, expected different ones and "
                "not all: correct it"
            )
        stay = ~np.isin(self.ids, ids)
        weight, group = (None if of is None else of[stay] for of in (self.weight, self.group))
        answers = replace(self.answers, y=self.answers.y[stay])
        if answers.new_labels:
            answers = _with_used_labels(answers)
        return replace(
            self, ids=self.ids[stay], x=self.x[stay], answers=answers, weight=weight, group=group
        )

    def to_bytes(self, *, with_x: bool) -> bytes:
        """``samples.npz``; samples whose rows are kept are not in it, but their digests."""
        outputs = self.answers.outputs
        numbers = outputs.numbers
        about = {
            "next_id": self.next_id, "asked": self.asked,
            "numbers": None if numbers is None else list(map(int, numbers)),
            "names": outputs.names, "in_order": outputs.in_order,
            "new_labels": self.answers.new_labels,
        }  # fmt: skip
        arrays: dict[str, Any] = {"ids": self.ids, "y": self.answers.y}
        if with_x:
            arrays["X"] = self.x
        else:
            digests = np.frombuffer(b"".join(digests_of(self.x)), np.uint8)
            arrays["digests"] = digests.reshape(len(self), DIGEST_BYTES)
        arrays |= {} if self.weight is None else {"weight": self.weight}
        arrays |= {} if self.group is None else {"group": self.group}
        file = io.BytesIO()
        np.savez(file, about=np.array(json.dumps(about)), **arrays)
        return file.getvalue()

    @classmethod
    def read(cls, file: Path) -> KeptSamples:
        """What :meth:`to_bytes` gave.

        Raises:
            FileError: it is not there, or cannot be read.
            ModelError: it is damaged.
        """
        check_file(file, "the samples of an adapter")
        try:
            with file.open("rb") as content, np.load(content, allow_pickle=False) as opened:
                arrays = {name: opened[name] for name in opened.files}
            about = json.loads(str(arrays.pop("about")))
            names, numbers = about["names"], about["numbers"]
            if numbers == list(range(len(numbers or ()))):
                numbers = range(len(numbers))
            outputs = Outputs(numbers, None if names is None else tuple(names), about["in_order"])
            answers = Encoded(arrays["y"], outputs, tuple(about["new_labels"]))
            x = arrays["X"] if "X" in arrays else Settled.of(Recalled(arrays["digests"]))
            same = {len(array) for array in arrays.values()} == {len(arrays["ids"])}
            if not same or arrays["ids"].ndim != 1 or not len(arrays["ids"]):
                raise ValueError("its arrays have several lengths")
            return cls(
                arrays["ids"], int(about["next_id"]), x, answers, arrays.get("weight"),
                arrays.get("group"), dict(about["asked"]),
            )  # fmt: skip
        except OSError as error:
            raise unreadable(file, error) from error
        except (*BAD_ZIP, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"{file} is damaged ({first_line(error)}), expected samples as adapt wrote them: "
                "copy it again, or adapt from all samples"
            ) from error


def _with_used_labels(answers: Encoded) -> Encoded:
    """Without new labels that no sample has any more."""
    count = answers.outputs.count or 0
    used = [at for at in range(len(answers.new_labels)) if (answers.y == count + at).any()]
    places = np.arange(count + len(answers.new_labels), dtype=np.int32)
    places[[count + at for at in used]] = count + np.arange(len(used), dtype=np.int32)
    labels = tuple(answers.new_labels[at] for at in used)
    return replace(answers, y=places[answers.y], new_labels=labels)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Version:
    """An adapter that was once the newest: ``path`` is its folder, with its list of samples."""

    number: int
    path: Path

    def samples(self) -> KeptSamples:
        """Those that it learned."""
        return KeptSamples.read(self.path / SAMPLES_FILE)

    def files(self) -> dict[str, bytes]:
        """The files of the adapter by name."""
        names = (CONFIG_FILE, TENSORS_FILE)
        try:
            return {name: (self.path / name).read_bytes() for name in names}
        except OSError as error:
            raise unreadable(self.path, error) from error


def folder_beside(adapter: str | os.PathLike[str]) -> Path:
    """Where what is kept of an adapter lies."""
    path = Path(adapter).absolute()
    return path.with_name(f"{path.name}{_SUFFIX}")


def versions_in(folder: Path) -> list[Version]:
    """Those that are kept, the oldest first."""
    place = folder / "versions"
    if not place.is_dir():
        return []
    numbers = sorted(int(each.name) for each in place.iterdir() if each.name.isdecimal())
    return [Version(number, place / f"{number:05d}") for number in numbers]


def version_of(adapter: str | os.PathLike[str]) -> Version:
    """The version that an adapter's folder has now.

    Raises:
        ParameterError: its rows were not kept, or it is none of the versions.
    """
    folder = folder_beside(adapter)
    try:
        now = (Path(adapter) / TENSORS_FILE).read_bytes()
    except OSError as error:
        raise FileError(
            f"{adapter} is not an adapter folder, expected {TENSORS_FILE} in it: make one with "
            "`skip2lora adapt`"
        ) from error
    for version in reversed(versions_in(folder)):
        if version.files()[TENSORS_FILE] == now:
            return version
    raise ParameterError(
        f"{folder} has no samples of {adapter}, expected rows kept beside it: adapt from all "
        "samples, and keep their rows"
    )


def write_version(folder: Path, files: Mapping[str, bytes], samples: bytes) -> Version:
    """Keep an adapter's ``files``, and what ``samples`` gave, as the newest; the oldest ones go.

    Raises:
        FileError: the system refused.
    """
    versions = versions_in(folder)
    number = versions[-1].number + 1 if versions else 1
    path = make_folder(folder / "versions") / f"{number:05d}"
    write_files(path, {**files, SAMPLES_FILE: samples}, names=_FILES)
    for version in versions[: max(0, len(versions) + 1 - MOST_VERSIONS)]:
        shutil.rmtree(version.path, ignore_errors=True)
    return Version(number, path)


def forget_versions(folder: Path, ids: NDArray[np.int64]) -> None:
    """Remove the versions that learned from samples of these ``ids``; their lists are overwritten.

    Raises:
        FileError: the system refused.
    """
    for version in versions_in(folder):
        if np.isin(version.samples().ids, ids).any():
            overwrite(version.path / SAMPLES_FILE)
            shutil.rmtree(version.path, ignore_errors=True)


@dataclass(frozen=True, eq=False)
class Kept:
    """What is kept of the samples of an adapter.

    ``cache`` has their rows, None where the samples are there; ``place`` is what removes it if
    that is to be only until the adapter is saved. ``gone`` are ids of samples to be forgotten, and
    ``gone_rows`` the digests of those of which no other has the row.
    """

    samples: KeptSamples
    cache: CacheFolder | None = None
    place: Any = None
    gone: NDArray[np.int64] | None = None
    gone_rows: tuple[bytes, ...] = ()

    def save(self, adapter: str | os.PathLike[str], files: Mapping[str, bytes]) -> None:
        """Keep rows, samples and the version of ``files`` beside where ``adapter`` is to be.

        Raises:
            FileError: the system refused.
        """
        folder = make_folder(folder_beside(adapter))
        if self.cache is not None and self.cache.path.resolve() != (folder / CACHE).resolve():
            with refusals(folder):
                self.cache.copied_to(folder / CACHE, digests_of(self.samples.x, self.cache.known))
        write_version(folder, files, self.samples.to_bytes(with_x=self.cache is None))

    def forget(self, adapter: str | os.PathLike[str]) -> None:
        """Overwrite what there is of samples to be forgotten, once the new adapter is there.

        Raises:
            FileError: the system refused.
        """
        if self.gone is None:
            return
        folder = folder_beside(adapter)
        forget_versions(folder, self.gone)
        if self.cache is not None and self.gone_rows:
            self.cache.forget(self.gone_rows)
            self.cache.copied_to(folder / CACHE).forget(self.gone_rows)


def kept_beside(adapter: str | os.PathLike[str] | None) -> Kept:
    """What is kept of an adapter that was read from a folder.

    Raises:
        FileError: what is there cannot be read.
        ModelError: it is damaged.
        ParameterError: nothing is kept.
    """
    if adapter is None:
        raise ParameterError(
            "the adapted model has no samples with it, expected one that keeps them: adapt with "
            "keep_rows=True"
        )
    samples, cache = version_of(adapter).samples(), folder_beside(adapter) / CACHE
    return Kept(samples, None if isinstance(samples.x, np.ndarray) else CacheFolder(cache))
