"""Which boxes belong to which file, which count, and what is said of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skip2lora.data.boxes import Upright
from skip2lora.data.crop_options import Crops
from skip2lora.data.crops import Cut, matched
from skip2lora.data.detections import Boxes, Detected, Detection
from skip2lora.data.video_files import Frame, Video
from skip2lora.errors import DataError

Refused = Callable[..., str]
ROOT = Path("/field/camera")
UPRIGHT = Upright("a.jpg", 100, 50)


def boxes(*files: str, labelled: bool = False) -> Boxes:
    images = tuple(Detected(file, (), {}) for file in files)
    return Boxes(Path("boxes.json"), images, ("animal", "person"), labelled)


def named(names: Sequence[str], here: Sequence[str], root: Path = ROOT) -> dict[str, str]:
    of_file = matched(boxes(*names), [root / name for name in here], root)
    return {str(file.relative_to(root)): image.file for file, image in of_file.items()}


@pytest.mark.parametrize(
    ("names", "here", "want"),
    [
        (["a.jpg", "b.jpg"], ["a.jpg", "c.jpg"], {"a.jpg": "a.jpg"}),
        (["x/1.jpg", "y/1.jpg"], ["y/1.jpg", "x/1.jpg"],
         {"y/1.jpg": "y/1.jpg", "x/1.jpg": "x/1.jpg"}),
        # from a folder above, by absolute paths, of another machine
        (["camera/1.jpg", "other/1.jpg"], ["1.jpg"], {"1.jpg": "camera/1.jpg"}),
        (["/field/camera/x/1.jpg", "/field/other/x/1.jpg"], ["x/1.jpg"],
         {"x/1.jpg": "/field/camera/x/1.jpg"}),
        (["D:\\trips\\x\\1.jpg", "D:\\trips\\y\\1.jpg"], ["x/1.jpg"],
         {"x/1.jpg": "D:\\trips\\x\\1.jpg"}),
        # from a folder below, or sorted into classes since
        (["1.jpg"], ["x/1.jpg"], {"x/1.jpg": "1.jpg"}),
        (["site/1.jpg", "site/2.jpg"], ["fox/1.jpg", "hen/2.jpg"],
         {"fox/1.jpg": "site/1.jpg", "hen/2.jpg": "site/2.jpg"}),
        # a file of that name elsewhere is another image
        (["x/1.jpg", "y/2.jpg"], ["x/1.jpg", "z/2.jpg"], {"x/1.jpg": "x/1.jpg"}),
        (["./x/1.jpg"], ["x/1.jpg"], {"x/1.jpg": "./x/1.jpg"}),
        (["b.jpg"], ["a.jpg"], {}),
        ([], ["a.jpg"], {}),
    ],
)  # fmt: skip
def test_names(names: list[str], here: list[str], want: dict[str, str]) -> None:
    assert named(names, here) == want


@pytest.mark.parametrize(
    ("names", "here"),
    [
        (["a.jpg", "a.jpg"], ["a.jpg"]),
        (["p/a.jpg", "q/a.jpg"], ["a.jpg"]),
        (["site/1.jpg", "farm/1.jpg"], ["fox/1.jpg"]),
        (["1.jpg"], ["fox/1.jpg", "hen/1.jpg"]),
    ],
)
def test_what_is_not_clear_is_refused(names: list[str], here: list[str], refused: Refused) -> None:
    said = refused(DataError, named, names, here)
    assert f"boxes.json names {names[0]}" in said
    assert "expected one image for it" in said


def crops(of: Sequence[Detection], *, labelled: bool = False, **options: Any) -> tuple[Any, Cut]:
    image = Detected("a.jpg", tuple(of), {"site": "pond", "n": 3, "tags": []}, (100, 50))
    everything = Boxes(Path("boxes.json"), (image,), ("animal", "person"), labelled)
    cut = Cut.of(everything, Crops(**options), [ROOT / "a.jpg"], ROOT)
    made = cut.crops(ROOT / "a.jpg", UPRIGHT)
    return [each.rectangle for each in made], cut


def seen(x: float, category: str | None = "animal", sure: float | None = 0.9, **more: Any) -> Any:
    return Detection((x, 0.0, 0.25, 0.5), category, sure, **more)


def test_which_boxes_count() -> None:
    of = [
        seen(0.0), seen(0.25, sure=0.2), seen(0.5, sure=0.1999), seen(0.75, "person"),
        seen(0.5, None), seen(2.0), seen(0.25),
    ]  # fmt: skip
    rectangles, cut = crops(of)
    assert rectangles == [(0, 0, 25, 25), (25, 0, 50, 25), (75, 0, 100, 25)]
    assert (
        cut.notes(cut.crops(ROOT / "a.jpg", UPRIGHT))[0] == "crops by boxes of animal 2, person 1"
    )
    assert {**cut.reasons} == {
        "boxes below a confidence of 0.2": 2,
        "boxes of a category without a name": 2,
        "boxes that are there twice": 2,
        "boxes without a pixel of the image": 2,
    }  # counted twice
    assert crops(of, category=("person",))[0] == [(75, 0, 100, 25)]
    assert crops(of, confidence=0.0)[0][2] == (50, 0, 75, 25)
    assert crops(of, confidence=0.9)[0] == [(0, 0, 25, 25), (75, 0, 100, 25), (25, 0, 50, 25)]


def test_of_two_alike_the_surer_counts() -> None:
    _, cut = crops([seen(0.0, "person", 0.4), seen(0.0, "animal", 0.8), seen(0.0, "person", 0.5)])
    [crop] = cut.crops(ROOT / "a.jpg", UPRIGHT)
    assert (crop.detection.category, crop.detection.confidence) == ("animal", 0.8)


def test_boxes_of_coco_are_pixels(refused: Refused) -> None:
    of = [Detection((5, 5, 20, 10), "animal", None), Detection((0, 0, 9, 9), "animal", None, True)]
    rectangles, cut = crops(of, labelled=True)
    assert rectangles == [(5, 5, 25, 15)]
    assert {**cut.reasons} == {"boxes of a crowd": 1}
    twice = [Detection((5, 5, 20, 10), name, None) for name in ("animal", "person")]
    said = refused(DataError, crops, twice, labelled=True)
    assert "has animal and person in the same box of a.jpg" in said


def test_boxes_of_a_video_in_the_order_of_time() -> None:
    """Each in its own frame: the same box in two frames is two samples."""
    of = (seen(0.5, frame=2), seen(0.0, frame=0), seen(0.5, frame=0), seen(0.0, frame=3),
          seen(0.0), seen(0.5, sure=0.95, frame=2))  # fmt: skip
    video = Video(np.array([10, 20, 30]), Fraction(1, 10), 100, 50, 0.0)
    cut = Cut.of(
        Boxes(Path("boxes.json"), (Detected("a.mp4", of, {}),), ("animal",), False), Crops(),
        [ROOT / "a.mp4"], ROOT,
    )  # fmt: skip
    made = cut.crops(ROOT / "a.mp4", Upright("a.mp4", 100, 50), video)
    assert [(each.rectangle[0], each.frame, each.detection.confidence) for each in made] == [
        (0, Frame(10, 0.0), 0.9), (50, Frame(10, 0.0), 0.9), (50, Frame(30, 2.0), 0.95),
    ]  # fmt: skip
    assert {**cut.reasons} == {
        "boxes beyond the end of a video": 1, "boxes that are there twice": 1,
        "boxes of a video without the number of a frame": 1,
    }  # fmt: skip


def test_images_without_a_box_are_counted() -> None:
    of = (Detected("a.jpg", (), {}), Detected("b.jpg", (), {}, failure="cannot be read"))
    files = [ROOT / "a.jpg", ROOT / "b.jpg"]
    cut = Cut.of(Boxes(Path("boxes.json"), of, ("animal",), False), Crops(), files, ROOT)
    assert [cut.crops(file, UPRIGHT) for file in files] == [[], []]
    assert cut.notes([]) == [
        "left out: 1 images that the detector could not read, 1 images without a box"
    ]
    assert cut.coverage(3) == ["3 images left out that boxes.json does not name"]
    assert cut.coverage(1) == ["1 image left out that boxes.json does not name"]
    assert cut.coverage(0) == []
    one = Cut.of(cut.boxes, Crops(), files[:1], ROOT)
    assert one.coverage(0) == ["1 of 2 images in boxes.json are not here"]


def test_that_names_alone_count_is_said() -> None:
    """Cameras count their images anew: another one's boxes would fit as well."""
    of, options = boxes("pond/1.jpg", "pond/2.jpg"), Crops()
    sorted_since = Cut.of(of, options, [ROOT / "fox/1.jpg", ROOT / "hen/2.jpg"], ROOT)
    assert sorted_since.coverage(0) == [
        "boxes.json has none of their paths, so their names alone count"
    ]
    for here in ("pond/1.jpg", "1.jpg"):
        assert "alone" not in " ".join(Cut.of(of, options, [ROOT / here], ROOT).coverage(0))


def test_boxes_that_reach_beyond_are_said() -> None:
    """As corners do that are taken for sizes."""
    box = Detection((0.6, 0.0, 0.5, 0.5), "animal", 0.9)
    (rectangle, inside), cut = crops([box, seen(0.0)])
    assert (rectangle, inside) == ((60, 0, 100, 25), (0, 0, 25, 25))
    assert cut.notes([])[-1] == "1 boxes reach beyond their image and are cut"
    assert crops([Detection((0.75, 0.5, 0.255, 0.51), "animal", 0.9)])[1].notes([]) == []


def test_no_image_and_no_such_category(refused: Refused) -> None:
    files = [ROOT / "a.jpg"]
    said = refused(DataError, Cut.of, boxes("b.jpg"), Crops(), files, ROOT)
    assert "names 1 images (b.jpg), none of the 1 in /field/camera" in said
    said = refused(DataError, Cut.of, boxes("a.jpg"), Crops(category=("deer",)), files, ROOT)
    assert 'category= names "deer", boxes.json has animal, person' in said


def test_groups_are_what_the_file_says(refused: Refused) -> None:
    for name, want in (("site", "pond"), ("n", "3")):
        assert crops([seen(0.0)], group=name)[1].group(ROOT / "a.jpg") == want
    for name in ("tags", "seq_id"):
        cut = crops([seen(0.0)], group=name)[1]
        said = refused(DataError, cut.group, ROOT / "a.jpg")
        assert f'group= names "{name}", boxes.json has site, n, tags of a.jpg' in said


def test_megadetector_leaves_mirrored_images_as_they_are() -> None:
    image = Detected("a.jpg", (Detection((0.0, 0.0, 0.5, 1.0), "animal", 0.9),), {})
    cut = Cut.of(
        Boxes(Path("boxes.json"), (image,), ("animal",), False), Crops(), [ROOT / "a.jpg"], ROOT
    )
    for orientation, want in ((1, (0, 0, 50, 50)), (2, (50, 0, 100, 50)), (3, (0, 0, 50, 50))):
        [crop] = cut.crops(ROOT / "a.jpg", Upright("a.jpg", 100, 50, orientation))
        assert crop.rectangle == want
