"""Boxes as MegaDetector and COCO write them; what others write is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skip2lora.data.detections import Boxes, Detection, read_boxes
from skip2lora.errors import DataError, FileError

Refused = Callable[..., str]
# As in the description of the format, its version 1.6.
MEGADETECTOR: dict[str, Any] = {
    "info": {"format_version": "1.6", "detector": "MDV5A"},
    "detection_categories": {"1": "animal", "2": "person", "3": "vehicle"},
    "classification_categories": {"0": "fox", "3": "bear"},
    "images": [
        {
            "file": "path/a.jpg",
            "detections": [
                {
                    "category": "1", "conf": 0.926, "bbox": [0.0, 0.2762, 0.1539, 0.2825],
                    "classifications": [["3", 0.901], ["1", 0.071]],
                },
                {"category": "7", "conf": 0.061, "bbox": [0.0451, 0.1849, 0.3642, 0.4636]},
            ],
        },
        {"file": "/path/empty.jpg", "detections": [], "failure": None},
        {"file": "bad.jpg", "failure": "Failure image access", "detections": None},
    ],
}  # fmt: skip
COCO: dict[str, Any] = {
    "info": {"year": 2024},
    "licenses": [],
    "images": [
        {"id": "one", "file_name": "a.jpg", "width": 640, "height": 480, "seq_id": "s1"},
        {"id": 2, "file_name": "deep/b.jpg"},
    ],
    "annotations": [
        {"id": 1, "image_id": 2, "category_id": 18, "bbox": [10.5, 20, 90, 60], "iscrowd": 0},
        {"id": 2, "image_id": "one", "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 1},
        {"id": 3, "image_id": "one", "category_id": 18, "bbox": [1, 2, 3, 4], "score": 0.25},
        {"id": 4, "image_id": "one", "category_id": 18},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
}


def read(folder: Path, content: Any) -> Boxes:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "boxes.json").write_text(text)
    return read_boxes(folder / "boxes.json")


def test_megadetector(tmp_path: Path) -> None:
    boxes = read(tmp_path, MEGADETECTOR)
    assert boxes.categories == ("animal", "person", "vehicle")
    assert not boxes.labelled
    first, empty, bad = boxes.images
    assert first.file == "path/a.jpg"
    assert first.detections == (
        Detection((0.0, 0.2762, 0.1539, 0.2825), "animal", 0.926),
        Detection((0.0451, 0.1849, 0.3642, 0.4636), None, 0.061),
    )
    assert (empty.detections, empty.failure) == ((), None)
    assert (bad.detections, bad.failure) == ((), "Failure image access")


def test_coco(tmp_path: Path) -> None:
    boxes = read(tmp_path, COCO)
    assert boxes.categories == ("person", "dog")
    assert boxes.labelled
    first, second = boxes.images
    assert (first.file, first.size, first.entry["seq_id"]) == ("a.jpg", (640, 480), "s1")
    assert first.detections == (
        Detection((0, 0, 5, 5), "person", None, crowd=True),
        Detection((1, 2, 3, 4), "dog", 0.25),
    )
    assert (second.file, second.size) == ("deep/b.jpg", None)
    assert second.detections == (Detection((10.5, 20, 90, 60), "dog", None),)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON"),
        ("", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("\0\1\2", "is no JSON"),
        ('{"images": [NaN]}', "is no JSON (NaN is no number"),
        ("3", "holds int"),
        ("[]", "holds list"),
        ({"a": 1, "b": 2}, "has the keys a, b"),
        ([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}], "results of COCO"),
        (
            [{"file": "a", "detections": [{"category": "animal", "confidence": 0.9}]}],
            "corners in pixels, as PytorchWildlife",
        ),
        ({"predictions": [{"filepath": "a.jpg", "detections": []}]}, "as SpeciesNet writes"),
        ({"version": "5", "shapes": [], "imagePath": "a.jpg"}, "as LabelMe"),
        ([{"id": 1, "data": {"image": "a"}, "annotations": []}], "as Label Studio"),
        ({"_via_img_metadata": {}}, "VGG Image Annotator"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_others_write_is_named(
    content: Any, said: str, tmp_path: Path, refused: Refused
) -> None:
    message = refused(DataError, read, tmp_path, content)
    assert said in message
    assert "expected the batch output of MegaDetector, or annotations of COCO" in message


def changed(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at a path such as ``images 0 file``; ``...`` takes it away."""
    copy = json.loads(json.dumps(content))
    *outer, last = (int(key) if key.isdecimal() else key for key in path.split())
    at = copy
    for key in outer:
        at = at[key]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("images 0", "a.jpg", "images[0] is a.jpg, expected an object"),
        ("images 0 file", 3, "images[0] file is 3, expected text"),
        ("images 0 detections", ..., "images[0] detections is None, expected a list"),
        ("images 0 detections 1", [], "images[0] detections[1] is [], expected an object"),
        ("images 0 detections 0 conf", ..., "detections[0] conf is None, expected a number from"),
        ("images 0 detections 0 conf", 1.5, "detections[0] conf is 1.5, expected a number from"),
        ("images 0 detections 0 bbox", [1, 2, 3], "bbox is [1, 2, 3], expected x, y, width and"),
        ("images 0 detections 0 bbox", [1, 2, "3", 4], "expected x, y, width and height"),
        ("images 0 detections 0 bbox", [0, 0, 1, True], "expected x, y, width and height"),
        ("images 0 detections 0 bbox", ..., "bbox is None, expected"),
        ("images 0 detections 0 bbox", [3, 2, 9, 6], "is [3.0, 2.0, 9.0, 6.0], expected shares"),
        ("detection_categories", [], "detection_categories is [], expected an object"),
    ],
)  # fmt: skip
def test_damaged_output_of_megadetector(
    path: str, value: Any, said: str, tmp_path: Path, refused: Refused
) -> None:
    assert said in refused(DataError, read, tmp_path, changed(MEGADETECTOR, path, value))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("images 1 id", "one", "images[1] has the id one of another"),
        ("images 0 id", None, "images[0] id is None, expected a number or text"),
        ("images 0 file_name", ..., "images[0] file_name is None, expected text"),
        ("annotations 0 image_id", 9, "annotations[0] has image_id 9, expected one that"),
        ("annotations 0 category_id", 9, "annotations[0] has category_id 9, expected one that"),
        ("annotations 0 bbox", None, "annotations[0] bbox is None, expected x, y, width"),
        ("annotations", {}, "annotations is {}, expected a list"),
        ("categories 1 id", 1, "categories[1] has the id 1 of another, expected ids of their own"),
        ("categories 0 name", ..., "categories[0] name is None, expected text"),
        ("annotations 2 score", -1, "annotations[2] score is -1, expected a number from 0"),
    ],
)
def test_damaged_coco(path: str, value: Any, said: str, tmp_path: Path, refused: Refused) -> None:
    assert said in refused(DataError, read, tmp_path, changed(COCO, path, value))


def test_shares_are_no_pixels(tmp_path: Path, refused: Refused) -> None:
    """As programs that normalise boxes write them; one box alone may be as small as that."""
    small = [0.25, 0.5, 0.5, 0.25]
    read(tmp_path, changed(COCO, "annotations 0 bbox", small))
    content = json.loads(json.dumps(COCO))
    for entry in content["annotations"][:3]:
        entry["bbox"] = small
    said = refused(DataError, read, tmp_path, content)
    assert "no box reaches beyond 1, such as [0.25, 0.5, 0.5, 0.25], expected them in pix" in said


def test_numbers_without_end(tmp_path: Path, refused: Refused) -> None:
    text = json.dumps(MEGADETECTOR).replace("0.1539", "1e999")
    assert "bbox is [0.0, 0.2762, inf" in refused(DataError, read, tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path, refused: Refused) -> None:
    assert "does not exist" in refused(FileError, read_boxes, tmp_path / "gone.json")
    assert "no regular file" in refused(FileError, read_boxes, tmp_path)
