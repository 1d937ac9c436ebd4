"""Boxes around what is in images: the batch output of MegaDetector, or annotations of COCO.

MegaDetector's (https://lila.science/megadetector-output-format) are shares of the width and height
of an image as it is looked at, turned by its EXIF orientation; those of COCO
(https://cocodataset.org/#format-data) are pixels as they are stored. Both are x, y of the upper
left corner, width and height.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from skip2lora.arrays import listing
from skip2lora.errors import DataError, brief, first_line
from skip2lora.files import unreadable
from skip2lora.limits import check_file

_MOST_SHARE = 2  # of a box of MegaDetector; beyond it are pixels
_WANTED = "expected the batch output of MegaDetector, or annotations of COCO"


@dataclass(frozen=True)
class Detection:
    """A box: ``x``, ``y``, ``width`` and ``height`` as the file has them.

    ``category`` is its name, None of one that the file does not name; ``confidence`` is None where
    a person drew the box. A ``crowd`` is several in one box. ``frame`` is the number, from 0, of
    that of a video.
    """

    box: tuple[float, float, float, float]
    category: str | None
    confidence: float | None
    crowd: bool = False
    frame: int | None = None


@dataclass(frozen=True)
class Detected:
    """What a file says of one image: its boxes, and why there are none if there is a ``failure``.

    ``size`` is (width, height) in pixels where it is told, ``entry`` all that is said of it.
    """

    file: str
    detections: tuple[Detection, ...]
    entry: Mapping[str, Any]
    size: tuple[int, int] | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Boxes:
    """What a file says of all images.

    ``labelled`` says that a person gave each box its category, as in COCO, and with that that they
    are in pixels as these are stored; otherwise they are shares of an image that stands upright.
    """

    path: Path
    images: tuple[Detected, ...]
    categories: tuple[str, ...]
    labelled: bool


def read_boxes(path: Path) -> Boxes:
    """The boxes in a file of JSON.

    Raises:
        DataError: it is of another program, damaged, or holds numbers that are none.
        FileError: it cannot be read.
    """
    check_file(path, "the boxes of a detector")
    try:
        content = json.loads(path.read_bytes(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is no JSON ({first_line(error)}), {_WANTED}: export it again"
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error
    of = _Reader(path)
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        if "annotations" in content and "categories" in content:
            return of.coco(content)
        if "detection_categories" in content:
            return of.megadetector(content)
    raise DataError(f"{path} {_described(content)}, {_WANTED}: convert it")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


#: What other programs write, by the keys of what they write, or of the first in a list.
_OTHERS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset(("image_id", "category_id")), "has results of COCO, which name no files"),
    (frozenset(("file", "detections")), "has corners in pixels, as PytorchWildlife lists them"),
    (frozenset(("predictions",)), "has predictions, as SpeciesNet writes them"),
    (frozenset(("shapes", "imagePath")), "has the shapes of one image, as LabelMe writes them"),
    (frozenset(("data", "annotations")), "has tasks, as Label Studio exports them"),
    (frozenset(("_via_img_metadata",)), "is a project of VGG Image Annotator"),
    (frozenset(("type", "features")), "is GeoJSON"),
)


def _described(content: Any) -> str:
    first = content[0] if isinstance(content, list) and content else content
    if not isinstance(first, dict):
        return f"holds {type(content).__name__}"
    names = next((name for keys, name in _OTHERS if keys <= first.keys()), None)
    return names or f"has the keys {listing([brief(key) for key in first])}"


@dataclass(frozen=True)
class _Reader:
    path: Path

    def megadetector(self, content: Mapping[str, Any]) -> Boxes:
        names = self._typed(content["detection_categories"], dict, "detection_categories")
        for key, name in names.items():
            self._typed(name, str, f"detection_categories {key}")
        images = []
        for at, entry in enumerate(content["images"]):
            where = f"images[{at}]"
            file = self._file(entry, "file", where)
            failure = entry.get("failure")
            listed = [] if failure is not None else entry.get("detections")
            detections = tuple(
                self._detection(each, names, f"{where} detections[{number}]")
                for number, each in enumerate(self._typed(listed, list, f"{where} detections"))
            )
            reason = None if failure is None else str(failure)
            images.append(Detected(file, detections, entry, failure=reason))
        return Boxes(self.path, tuple(images), tuple(names.values()), labelled=False)

    def _detection(self, each: Any, names: Mapping[str, str], where: str) -> Detection:
        entry = self._typed(each, dict, where)
        category, frame = names.get(str(entry.get("category"))), entry.get("frame_number")
        if frame is not None and (type(frame) is not int or frame < 0):
            self._wrong(f"{where} frame_number is {brief(frame)}", "a whole number from 0")
        sure, box = self._share(entry, "conf", where), self._box(entry, where)
        if max(map(abs, box)) > _MOST_SHARE:
            self._wrong(f"{where} bbox is {list(box)}", "shares of width and height")
        return Detection(box, category, sure, frame=frame)

    def coco(self, content: Mapping[str, Any]) -> Boxes:
        names: dict[int | str, str] = {}
        for at, each in enumerate(self._typed(content["categories"], list, "categories")):
            number = self._id(each, "id", f"categories[{at}]")
            if number in names:
                self._wrong(f"categories[{at}] has the id {number} of another", "ids of their own")
            names[number] = self._typed(each.get("name"), str, f"categories[{at}] name")
        of: dict[int | str, list[Detection]] = {}
        for at, each in enumerate(content["images"]):
            number = self._id(each, "id", f"images[{at}]")
            if number in of:
                self._wrong(f"images[{at}] has the id {number} of another", "ids of their own")
            of[number] = []
        for at, each in enumerate(self._typed(content["annotations"], list, "annotations")):
            where = f"annotations[{at}]"
            image = self._id(each, "image_id", where)
            category = self._id(each, "category_id", where)
            if image not in of or category not in names:
                got = f"image_id {image}" if image not in of else f"category_id {category}"
                self._wrong(f"{where} has {got}", "one that the file lists")
            sure = self._share(each, "score", where) if "score" in each else None
            if "bbox" in each:  # others say what the whole image is
                box, crowd = self._box(each, where), bool(each.get("iscrowd"))
                of[image].append(Detection(box, names[category], sure, crowd))
        boxes = [each.box for several in of.values() for each in several]
        if boxes and max(map(max, boxes)) <= 1:
            self._wrong(f"no box reaches beyond 1, such as {list(boxes[0])}", "them in pixels")
        images = []
        for at, each in enumerate(content["images"]):
            sides = (each.get("width"), each.get("height"))
            size = sides if all(type(side) is int for side in sides) else None
            file = self._file(each, "file_name", f"images[{at}]")
            images.append(Detected(file, tuple(of[each["id"]]), each, size))
        return Boxes(self.path, tuple(images), tuple(names.values()), labelled=True)

    def _file(self, entry: Any, key: str, where: str) -> str:
        return str(self._typed(self._typed(entry, dict, where).get(key), str, f"{where} {key}"))

    def _id(self, entry: Any, key: str, where: str) -> int | str:
        value: int | str = self._typed(self._typed(entry, dict, where).get(key), int | str,
                                       f"{where} {key}")  # fmt: skip
        return value

    def _box(self, entry: Mapping[str, Any], where: str) -> tuple[float, float, float, float]:
        numbers = entry.get("bbox")
        if not isinstance(numbers, Sequence) or len(numbers) != 4 or not all(map(_real, numbers)):
            self._wrong(f"{where} bbox is {brief(numbers)}", "x, y, width and height")
        x, y, width, height = map(float, numbers)
        return x, y, width, height

    def _share(self, entry: Mapping[str, Any], key: str, where: str) -> float:
        value = entry.get(key)
        if not _real(value) or not 0 <= float(value or 0) <= 1:
            self._wrong(f"{where} {key} is {brief(value)}", "a number from 0 to 1")
        return float(value or 0)

    def _typed(self, value: Any, kind: Any, where: str) -> Any:
        if not isinstance(value, kind):
            of = {dict: "an object", list: "a list", str: "text"}.get(kind, "a number or text")
            self._wrong(f"{where} is {brief(value)}", of)
        return value

    def _wrong(self, got: str, expected: str) -> NoReturn:
        raise DataError(f"{self.path}: {got}, expected {expected}: export it again")


def _real(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
