"""Crops of images as samples: which boxes of a detector belong to which file, and which count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skip2lora.arrays import listing
from skip2lora.data.boxes import Rectangle, Upright, edges_of, in_pixels, reaches_beyond
from skip2lora.data.crop_options import Crops
from skip2lora.data.detections import Boxes, Detected, Detection
from skip2lora.data.video_files import Frame, Video
from skip2lora.errors import DataError


@dataclass(frozen=True)
class Crop:
    """Pixels of an upright image, or of a ``frame`` of a video, around a box."""

    rectangle: Rectangle
    detection: Detection
    frame: Frame | None = None


@dataclass(frozen=True, eq=False)
class Cut:
    """Boxes of files as samples, by ``options``.

    Counted are ``reasons`` why others are none, and what of some is ``changed``. ``by_name`` says
    that files were sorted into other folders since, and go by their names alone.
    """

    boxes: Boxes
    options: Crops
    of_file: Mapping[Path, Detected]
    by_name: bool = False
    reasons: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, boxes: Boxes, options: Crops, files: Sequence[Path], root: Path) -> Cut:
        """The boxes of ``files`` within ``root``.

        Raises:
            DataError: there are none, a category has no such name, or which image is meant is not
                clear.
        """
        for name in options.category or ():
            if name not in boxes.categories:
                raise DataError(
                    f'category= names "{name}", {boxes.path} has {listing(list(boxes.categories))},'
                    " expected some of them: correct category="
                )
        of_file = matched(boxes, files, root)
        if not of_file:
            example = boxes.images[0].file if boxes.images else "none"
            raise DataError(
                f"{boxes.path} names {len(boxes.images)} images ({example}), none of the "
                f"{len(files)} in {root}, expected boxes of these: check which folder it is of"
            )
        file, image = next(iter(of_file.items()))
        own = file.relative_to(root).parts
        return cls(boxes, options, of_file, _parts(image.file)[-len(own) :] != own)

    def crops(self, file: Path, upright: Upright, video: Video | None = None) -> list[Crop]:
        """Those of one file, in the order of the boxes, of a video in that of time.

        Raises:
            DataError: the boxes are of an image of another size, or two categories have one box.
        """
        of = self.of_file[file]
        if of.failure is not None:
            self.reasons["images that the detector could not read"] += 1
            return []
        if not of.detections:
            self.reasons["images without a box"] += 1
        # MegaDetector turns an image before it looks at it, but leaves mirrored ones as they are.
        stored = upright.is_stored(of.size) if self.boxes.labelled else upright.mirrored
        crops: dict[tuple[int | None, Rectangle], Crop] = {}
        for each in of.detections:
            reason = self._refusal(each) or _out_of(video, each)
            share = not self.boxes.labelled
            area = None if reason else in_pixels(each.box, upright, self.options, stored, share)
            if area is None:
                self.reasons[reason or "boxes without a pixel of the image"] += 1
                continue
            if reaches_beyond(edges_of(each.box, upright, stored, share), upright):
                self.changed["reach beyond their image and are cut"] += 1
            number = None if video is None else each.frame
            earlier = crops.get((number, area))
            if earlier is not None:
                self._check_same(file, earlier.detection, each)
                self.reasons["boxes that are there twice"] += 1
            if earlier is None or _sure(each) > _sure(earlier.detection):
                frame = None if video is None or number is None else video.frame(number)
                crops[number, area] = Crop(area, each, frame)
        return sorted(crops.values(), key=lambda crop: crop.frame.stamp if crop.frame else 0)

    def _refusal(self, of: Detection) -> str | None:
        if of.category is None:
            return "boxes of a category without a name"
        if self.options.category is not None and of.category not in self.options.category:
            return "boxes of other categories"
        if of.crowd:
            return "boxes of a crowd"
        if of.confidence is not None and of.confidence < self.options.least:
            return f"boxes below a confidence of {self.options.least:g}"
        return None

    def _check_same(self, file: Path, first: Detection, second: Detection) -> None:
        if self.boxes.labelled and first.category != second.category:
            raise DataError(
                f"{self.boxes.path} has {first.category} and {second.category} in the same box of "
                f"{file.name}, expected one category: correct it"
            )

    def group(self, file: Path) -> str:
        """What the boxes' file says of an image under the name asked for.

        Raises:
            DataError: it says nothing.
        """
        name = self.options.group or ""
        value = self.of_file[file].entry.get(name)
        if not isinstance(value, str | int):
            keys = listing([str(key) for key in self.of_file[file].entry])
            raise DataError(
                f'group= names "{name}", {self.boxes.path} has {keys} of {file.name}, expected one '
                "of them that is text or a number: correct group="
            )
        return str(value)

    def coverage(self, n_unnamed: int) -> list[str]:
        """What is said of images that either of folder and boxes has alone."""
        notes, n_images = [], len(self.boxes.images)
        if self.by_name:
            notes.append(f"{self.boxes.path} has none of their paths, so their names alone count")
        if n_unnamed:
            s = "s" * (n_unnamed != 1)
            notes.append(f"{n_unnamed} image{s} left out that {self.boxes.path} does not name")
        elsewhere = n_images - len(self.of_file)
        if elsewhere:
            notes.append(f"{elsewhere} of {n_images} images in {self.boxes.path} are not here")
        return notes

    def notes(self, crops: Iterable[Crop]) -> list[str]:
        """How many crops there are of which category, and why other boxes are none."""
        counts = Counter(str(each.detection.category) for each in crops)
        kinds = listing([f"{name} {count}" for name, count in counts.most_common()])
        left_out = [f"{count} {reason}" for reason, count in sorted(self.reasons.items())]
        changed = [f"{count} boxes {how}" for how, count in self.changed.items()]
        return [
            *([f"crops by boxes of {kinds}"] if counts else []),
            *([f"left out: {', '.join(left_out)}"] if left_out else []),
            *changed,
        ]


def _out_of(video: Video | None, of: Detection) -> str | None:
    """Why a box is of no frame of a video, if it is."""
    if video is None:
        return None
    if of.frame is None:
        return "boxes of a video without the number of a frame"
    return "boxes beyond the end of a video" if of.frame >= len(video.stamps) else None


def _sure(of: Detection) -> float:
    return 1.0 if of.confidence is None else of.confidence


def matched(boxes: Boxes, files: Sequence[Path], root: Path) -> dict[Path, Detected]:
    """What ``boxes`` say of each of the ``files`` within ``root`` that they name.

    Detectors name files from a folder above or below ``root``, or by a path of another machine: of
    names that end as the path of a file within ``root`` does, the one with the longest common end
    is meant. Where there is none at all, files were sorted into other folders: then names without
    folders count.

    Raises:
        DataError: several images may be meant.
    """
    here = {file.name for file in files}
    by_end: dict[tuple[str, ...], list[Detected]] = {}
    for image in boxes.images:
        parts = _parts(image.file)
        if parts and parts[-1] in here:
            for at in range(len(parts)):
                by_end.setdefault(parts[at:], []).append(image)
    of_file: dict[Path, Detected] = {}
    for file in files:
        own, least = _parts(str(file.absolute())), len(file.relative_to(root).parts)
        ends = (own[at:] for at in range(len(own) - least + 1))
        images = next((by_end[end] for end in ends if end in by_end), [])
        if images:
            of_file[file] = _only(boxes.path, file, images)
    if of_file:
        return of_file
    counts = Counter(file.name for file in files)
    for file in files:
        images = by_end.get((file.name,), [])
        if images:
            of_file[file] = _only(boxes.path, file, images * counts[file.name])
    return of_file


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def _only(path: Path, file: Path, images: Sequence[Detected]) -> Detected:
    if len(images) > 1:
        names = listing(list(dict.fromkeys(image.file for image in images)))
        raise DataError(
            f"{path} names {names}, which may be {file.name} in {file.parent} or another, expected "
            "one image for it: pass the folder that the boxes are of"
        )
    return images[0]
