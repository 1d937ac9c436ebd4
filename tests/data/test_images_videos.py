"""Frames of videos as samples beside images: which, their labels and groups, and boxes in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camera_files import scene
from skip2lora.data.crop_options import Crops
from skip2lora.data.file_folder import IMAGES, kind_of
from skip2lora.data.image_layout import Layout
from skip2lora.data.image_options import Images
from skip2lora.data.images import describe_images
from skip2lora.data.lazy import LazySamples, read
from skip2lora.data.reading import read_table
from skip2lora.data.samples import Table
from skip2lora.errors import DataError, ParameterError
from videos import STEP, write

pytest.importorskip("av", reason="needs PyAV: pip group test")

Refused = Callable[..., str]
BYTES = Layout("hwc", 32, 48, 3, integers=True)


def table(folder: Path, every: float | None = 1.0, **options: Any) -> Table:
    crops = options.pop("crops", None)
    return read_table(folder, images=Images(every=every, crops=crops), layout=BYTES, **options)


def shades(of: Table) -> list[int]:
    x = read(of.x).astype(float)
    return [round((each.mean() - 10) / STEP) for each in x]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    write(tmp_path / "videos" / "dark" / "a.mp4", [0, 400, 900, 2500, 2600])
    write(tmp_path / "videos" / "dark" / "b.avi", [0, 400])
    write(tmp_path / "videos" / "late" / "c.mkv", [0, 400, 1100, 2200])
    return tmp_path / "videos"


def test_frames_are_samples_of_their_folder(videos: Path) -> None:
    of = table(videos)
    # At 1 and at 2 s the third frame of the first is seen: it is one sample.
    assert of.files == ("dark/a.mp4",) * 2 + ("dark/b.avi",) + ("late/c.mkv",) * 3
    assert of.places == {"time": ["0.000", "0.900", "0.000", "0.000", "0.400", "1.100"]}
    assert shades(of) == [0, 2, 0, 0, 1, 2]
    assert of.answers.values is not None
    assert of.answers.values.tolist() == ["dark"] * 3 + ["late"] * 3
    assert of.aside["group"].tolist() == list(of.files)
    assert of.answers.place(1) == "dark/a.mp4 at 0.90 s"
    assert of.notes == (f"{videos}: 6 frames of 3 videos, every 1 s",)
    assert shades(table(videos, 0.3))[:5] == [0, 1, 2, 0, 0]
    assert of.images is not None
    assert of.images.to_json() == {"every": 1.0}


def test_in_any_order_and_by_parts(videos: Path) -> None:
    of = table(videos, 0.3)
    whole = read(of.x)
    order = np.random.default_rng(0).permutation(len(whole))
    np.testing.assert_array_equal(read(of.x[order]), whole[order])
    parts = [read(of.x[at : at + 2]) for at in range(0, len(whole), 2)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert isinstance(of.x, LazySamples)
    digests = of.x.digests()
    assert len({*digests}) == len(digests)


def test_beside_images(videos: Path) -> None:
    """These are samples as they were, and known by the same digest."""
    scene(videos / "dark" / "z.png", {})
    alone = read_table(videos / "dark" / "z.png", layout=BYTES, labels_required=False)
    both = table(videos)
    at = list(both.files or ()).index("dark/z.png")
    assert both.places["time"][at] == ""
    assert isinstance(both.x, LazySamples)
    assert isinstance(alone.x, LazySamples)
    assert both.x.digests()[at] == alone.x.digests()[0]
    np.testing.assert_array_equal(read(both.x)[at], read(alone.x)[0])
    left = table(videos, None, labels_required=False)
    assert left.files == ("dark/z.png",)
    assert "no image, left out: .mp4 1, .avi 1, .mkv 1" in " ".join(left.notes)
    assert "videos are read where every says" in " ".join(left.notes)


def test_how_often_is_asked_for(videos: Path, refused: Refused) -> None:
    for path in (videos, videos / "dark" / "a.mp4"):
        assert kind_of(path) is IMAGES
        said = refused(ParameterError, table, path, None, labels_required=False)
        assert "every= is missing, it has videos, expected how many seconds" in said
    one = table(videos / "dark" / "a.mp4", labels_required=False)
    assert (one.files, one.aside, shades(one)) == (("a.mp4", "a.mp4"), {}, [0, 2])


def test_videos_that_cannot_be_read(videos: Path, refused: Refused) -> None:
    (videos / "dark" / "0.mp4").write_bytes(b"no video")
    cut = videos / "dark" / "1.mp4"
    write(cut, list(range(0, 4000, 200)))
    cut.write_bytes(cut.read_bytes()[:-400])
    notes = " ".join(table(videos).notes)
    assert "left out: dark/0.mp4 (Invalid data found when processing input)" in notes
    assert "1 of 4 videos end before their head says" in notes
    (videos / "late" / "c.mkv").write_bytes(b"no video")
    assert "no image of late can be read" in refused(DataError, table, videos)


def detected(path: Path, file: str, frames: list[Any]) -> Path:
    detections = [
        {"category": "1", "conf": 0.9, "bbox": [0.0, 0.0, 0.5, 1.0], "frame_number": frame}
        for frame in frames
    ]
    for each in detections:
        if each["frame_number"] is None:
            del each["frame_number"]
    entry = {"file": file, "frame_rate": 30, "frames_processed": [0], "detections": detections}
    content = {"detection_categories": {"1": "animal"}, "images": [entry]}
    path.write_text(json.dumps(content))
    return path


def test_boxes_in_videos(videos: Path, tmp_path: Path, refused: Refused) -> None:
    """Of MegaDetector, with the number of a frame: those alone are samples."""
    boxes = detected(tmp_path / "m.json", "videos/late/c.mkv", [3, 1, None, 4, 1])
    of = table(videos, None, crops=Crops(segments=boxes), labels_required=False)
    assert of.files == ("late/c.mkv",) * 2
    assert of.places["time"] == ["0.400", "2.200"]
    assert of.places["width"] == (0.5, 0.5)
    assert shades(of) == [1, 3]
    notes = " ".join(of.notes)
    assert "1 boxes beyond the end of a video" in notes
    assert "1 boxes of a video without the number of a frame" in notes
    assert "1 boxes that are there twice" in notes
    bad = detected(tmp_path / "bad.json", "videos/late/c.mkv", [-1])
    said = refused(DataError, table, videos, None, crops=Crops(segments=bad))
    assert "frame_number is -1, expected a whole number from 0" in said


def test_a_folder_of_videos_is_described(videos: Path) -> None:
    facts = describe_images(videos)
    assert (facts["kind"], facts["n_samples"], facts["largest"]) == ("videos", 3, "32x48")
    assert facts["samples_a_class"] == {"dark": 2, "late": 1}
    scene(videos / "dark" / "z.png", {})
    assert describe_images(videos)["n_samples"] == 1
