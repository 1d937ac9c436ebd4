"""Which files of a folder are images, recordings or streams, and of which class: others left out.

What a system leaves behind (``.DS_Store``, ``Thumbs.db``, ``__MACOSX``, ``@eaDir``) is not counted;
files that are of another kind by their name are, in a note.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from skip2lora.arrays import listing
from skip2lora.data.image_options import Images
from skip2lora.data.media import Media
from skip2lora.data.parts import check_no_part, choose_part, part_called
from skip2lora.data.sensor_formats import is_stream
from skip2lora.data.sensor_options import Sensors
from skip2lora.data.sound_files import is_sound
from skip2lora.data.sound_options import Sound
from skip2lora.data.video_files import is_video
from skip2lora.errors import DataError
from skip2lora.tasks.columns import Wanted

_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".avif",
     ".mpo", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".tga")
)  # fmt: skip
_HEIF = frozenset((".heic", ".heif", ".hif"))
# What file managers, archives and network drives leave behind, as are dot files.
_LEFTOVERS = frozenset(
    ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found",
     "icon\r", "#recycle", "system volume information")
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of files: ``one`` and ``many`` of them are called so; ``media`` makes numbers of them.

    ``holds`` says whether a file is of this kind, ``reads`` whether there is also what reads it, as
    far as its name tells.
    """

    one: str
    many: str
    media: type[Media]
    holds: Callable[[Path], bool]
    reads: Callable[[Path], bool]


@dataclass(frozen=True, eq=False)
class Listing:
    """The files of a folder, and the class of each where they are in sub-folders.

    ``notes`` say what else there is, and is left out.
    """

    files: list[Path]
    classes: list[str] | None
    notes: tuple[str, ...]


def readable(name: str) -> str:
    """A name of the file system as a text file can have it: bytes that are no text spelled out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def is_image(path: Path) -> bool:
    """Whether a file is one, as far as its name tells."""
    return path.suffix.lower() in _SUFFIXES | _HEIF


def heif_is_read() -> bool:
    """Whether there is what reads ``.heic``."""
    return find_spec("pillow_heif") is not None


def _image_is_read(path: Path) -> bool:
    return is_image(path) and (not _is_heif(path) or heif_is_read())


def _is_picture(path: Path) -> bool:
    return is_image(path) or is_video(path)


def _picture_is_read(path: Path) -> bool:
    return _image_is_read(path) or is_video(path)


IMAGES = Kind("image", "images", Images, _is_picture, _image_is_read)
#: Videos are read where it is told which of their frames are.
FRAMES = Kind("image or video", "images or videos", Images, _is_picture, _picture_is_read)
SOUNDS = Kind("recording", "recordings", Sound, is_sound, is_sound)
SENSORS = Kind("stream of sensors", "streams of sensors", Sensors, is_stream, is_stream)
#: Beside what comes first, files of the others tell about it, as a table of the images does.
KINDS = (IMAGES, SOUNDS, SENSORS)


def kind_of(path: Path, among: Sequence[Kind] = KINDS) -> Kind:
    """What a file or folder holds: the first kind of which there is a file, or the first."""
    if not path.is_dir():
        return next((kind for kind in among if kind.holds(path)), among[0])
    best = len(among)
    for file in _walk(path):
        best = next((at for at, kind in enumerate(among[:best]) if kind.holds(file)), best)
        if best == 0:
            break
    return among[best % len(among)]


def kind_for(media: Media | None, path: Path) -> Kind:
    """That of which ``media`` makes numbers, or what ``path`` holds."""
    return next((kind for kind in KINDS if isinstance(media, kind.media)), None) or kind_of(path)


def list_files(folder: Path, wanted: Wanted, kind: Kind) -> Listing:
    """The files of that kind of all sub-folders, or of the folder itself where it has none.

    Classes are in the order of their sorted names, files in that of theirs, those of folders in the
    folder of a class after its own.

    Raises:
        DataError: there are none, or they lie where they belong to no class, or are in no parts
            where one is asked for.
    """
    if not folder.is_dir():
        return Listing([folder], None, ())
    folders, loose = _entries(folder)
    parts = {part_called(path.name): path for path in folders}
    if folders and None not in parts and (kind is SENSORS or any(map(_has_classes, folders))):
        chosen, note = choose_part({str(name): path for name, path in parts.items()}, wanted)
        inside = list_files(chosen, Wanted(labels_required=wanted.required), kind)
        return Listing(inside.files, inside.classes, (note, *inside.notes))
    check_no_part(wanted, [path.name for path in folders])
    left_out: list[Path] = []
    if not folders:
        files = list(_of_kind(loose, left_out, kind))
        if wanted.required or not files:
            got = f"{len(loose)} files and no sub-folder" if loose else "nothing in it"
            raise DataError(
                f"it has {got}, expected {kind.many} in one sub-folder a class: sort them into "
                "sub-folders"
            )
        return Listing(files, None, _notes(left_out, [], folder, kind))
    _check_one_level(folder, folders)
    by_class = {path.name: list(_of_kind(_walk(path), left_out, kind)) for path in folders}
    notes = _without_any(folder, by_class, left_out, kind)
    beside = list(_of_kind(loose, [], kind))
    if beside:
        names = listing([path.name for path in beside])
        notes.append(f"{names} beside the folders of classes left out")
    return Listing(
        [file for files in by_class.values() for file in files],
        [readable(name) for name, files in by_class.items() for _ in files],
        _notes(left_out, notes, folder, kind),
    )


def list_all(folder: Path, kind: Kind) -> Listing:
    """The files of that kind wherever they lie in a folder; their class is its sub-folder.

    They have no class where some lie in no sub-folder.

    Raises:
        DataError: there are none.
    """
    if not folder.is_dir():
        return Listing([folder], None, ())
    left_out: list[Path] = []
    files = list(_of_kind(_walk(folder), left_out, kind))
    if not files:
        raise DataError(f"it has no {kind.many}, expected at least one: add some")
    own = [file.relative_to(folder).parts for file in files]
    classes = [readable(parts[0]) for parts in own] if min(map(len, own)) > 1 else None
    return Listing(files, classes, _notes(left_out, [], folder, kind))


def videos_alone(path: Path) -> bool:
    """Whether there are videos and no images in a file or folder."""
    there = False
    for file in _walk(path) if path.is_dir() else [path]:
        if is_image(file):
            return False
        there |= is_video(file)
    return there


def _without_any(
    folder: Path, by_class: dict[str, list[Path]], left_out: list[Path], kind: Kind
) -> list[str]:
    """A note of folders without files of that kind.

    Raises:
        DataError: they all are, or images are in one that cannot be read here.
    """
    empty = [name for name, files in by_class.items() if not files]
    for name in empty:
        heif = [path for path in left_out if _is_heif(path) and folder / name in path.parents]
        if heif and kind.media is Images:
            raise DataError(
                f"{name} has {len(heif)} images as {heif[0].suffix} alone, expected pillow-heif to "
                "read them: install it with pip install pillow-heif, or convert them"
            )
    if len(empty) == len(by_class):
        got = f"{listing(empty)} {'have' if len(empty) > 1 else 'has'} no {kind.many}"
        if left_out:
            raise DataError(
                f"{got} but {len(left_out)} other files ({left_out[0].name}), expected "
                f"{kind.many}: convert them, or give others as an .npz of what the model takes"
            )
        raise DataError(f"{got}, expected at least one: add some")
    return [f"no {kind.many} in {listing(empty)}, which is no class then"] if empty else []


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Sub-folders and files, sorted, without leftovers."""
    entries = sorted(path for path in folder.iterdir() if not _left_behind(path.name))
    folders = [path for path in entries if path.is_dir()]
    return folders, [path for path in entries if not path.is_dir()]


def _left_behind(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LEFTOVERS


def _has_classes(folder: Path) -> bool:
    return bool(_entries(folder)[0])


def _walk(folder: Path) -> Iterator[Path]:
    """Files in a folder, its own first, then those of folders in it; of linked ones each once."""
    seen = {os.path.realpath(folder)}
    for root, folders, files in os.walk(folder, followlinks=True):
        places = {os.path.realpath(Path(root, name)): name for name in sorted(folders, reverse=True)
                  if not _left_behind(name)}  # fmt: skip
        folders[:] = sorted(name for place, name in places.items() if place not in seen)
        seen.update(places)
        yield from (Path(root, name) for name in sorted(files) if not _left_behind(name))


def _of_kind(files: Iterable[Path], left_out: list[Path], kind: Kind) -> Iterator[Path]:
    """Those that can be of that kind; the others are added to ``left_out``."""
    for path in files:
        # A pipe or device is never opened; a link that leads nowhere is a damaged file.
        if kind.reads(path) and (path.is_file() or not path.exists()):
            yield path
        else:
            left_out.append(path)


def _check_one_level(folder: Path, folders: list[Path]) -> None:
    """Raise DataError if the folders look like parts with the same classes each, or one alone."""
    inside = [_entries(path) for path in folders]
    names = [{path.name for path in classes} for classes, _ in inside]
    alike = all(each == names[0] and len(each) > 1 for each in names)
    if alike and not any(files for _, files in inside):
        parts, classes = listing([path.name for path in folders]), listing(sorted(names[0]))
        raise DataError(
            f"its folders {parts} each have folders {classes}, expected one "
            f"folder a class: pass {folder.name}/{folders[0].name}"
        )


def _is_heif(path: Path) -> bool:
    return path.suffix.lower() in _HEIF


def _notes(left_out: list[Path], notes: list[str], folder: Path, kind: Kind) -> tuple[str, ...]:
    """What is said of files that are left out: counted by suffix."""
    images = kind.media is Images
    heif = [str(path.relative_to(folder)) for path in left_out if images and _is_heif(path)]
    rest = (path for path in left_out if not (images and _is_heif(path)))
    others = Counter(path.suffix or path.name for path in rest)
    kinds = [f"{suffix} {count}" for suffix, count in others.most_common()]
    said = [f"no {kind.one}, left out: {listing(kinds)}"] if kinds else []
    if images and any(map(is_video, left_out)):
        said.append("videos are read where every says how many seconds to the next frame")
    if heif:
        said.append(f"left out: {listing(heif)}, which pip install pillow-heif makes readable")
    return (*notes, *said)
