"""Crops of images as samples: their pixels, labels and groups, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from camera_files import SIZE, Place, coco, megadetector, scene, trail
from skip2lora.data import image_files
from skip2lora.data.crop_options import Crops
from skip2lora.data.image_files import opened
from skip2lora.data.image_layout import Layout
from skip2lora.data.image_options import Images
from skip2lora.data.lazy import LazySamples, read
from skip2lora.data.reading import read_table
from skip2lora.data.samples import Table
from skip2lora.errors import DataError, ParameterError

Refused = Callable[..., str]
BYTES = Layout("hwc", None, None, 3, integers=True)


def table(folder: Path, boxes: Path, size: Any = (14, 12), **options: Any) -> Table:
    required = options.pop("labels_required", True)
    crops = Crops(segments=boxes, **options)
    return read_table(
        folder, images=Images(size=size, crops=crops), layout=BYTES, labels_required=required
    )


def test_pixels_of_a_box_are_the_sample(tmp_path: Path) -> None:
    place: Place = (10, 9, 12, 14)
    pixels = scene(tmp_path / "trail" / "fox" / "a.png", {place: "fox"})
    seen = {"fox/a.png": [(place, "fox")]}
    for boxes in (
        megadetector(tmp_path / "m.json", seen), coco(tmp_path / "c.json", seen)
    ):  # fmt: skip
        of = table(tmp_path / "trail", boxes)
        np.testing.assert_array_equal(read(of.x)[0], pixels[9:23, 10:22])
        assert (of.files, len(of.x)) == (("fox/a.png",), 1)
    wide = table(tmp_path / "trail", boxes, (28, 24), margin=0.5)
    np.testing.assert_array_equal(read(wide.x)[0], pixels[2:30, 4:28])
    small = table(tmp_path / "trail", boxes, (7, 6))
    want = Image.fromarray(pixels[9:23, 10:22]).resize((6, 7), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(read(small.x)[0], np.asarray(want))


def test_a_square_beyond_the_image_is_black_there(tmp_path: Path) -> None:
    """Also of a palette, whose first colour may be any."""
    pixels = scene(tmp_path / "trail" / "a.png", {(0, 0, 48, 32): "fox"})
    palette = Image.fromarray(pixels).quantize(16)
    palette.save(tmp_path / "trail" / "b.png")
    seen: Any = {name: [((0, 4, 48, 24), "fox")] for name in ("a.png", "b.png")}
    of = table(tmp_path / "trail", coco(tmp_path / "c.json", seen), (48, 48), square=True)
    for sample, want in zip(read(of.x), (pixels, np.asarray(palette.convert("RGB"))), strict=True):
        np.testing.assert_array_equal(sample[8:40], want)
        assert not sample[:8].any()
        assert not sample[40:].any()


def test_labels_are_of_folders_or_of_coco(tmp_path: Path) -> None:
    seen = trail(tmp_path / "trail", 3)
    by_folder = table(tmp_path / "trail", megadetector(tmp_path / "m.json", seen))
    files = [file for file, animals in seen.items() for _ in animals]
    assert list(by_folder.files or ()) == files
    assert by_folder.answers.values is not None
    assert by_folder.answers.values.tolist() == [file.split("/")[0] for file in files]
    flat = {file: [(place, "hen") for place, _ in animals] for file, animals in seen.items()}
    by_box = table(tmp_path / "trail", coco(tmp_path / "c.json", flat))
    assert by_box.answers.values is not None
    assert {*by_box.answers.values.tolist()} == {"hen"}
    places = by_folder.places
    assert {*places["category"]} == {"animal"}
    assert {*places["confidence"]} == {0.9}
    assert places["x"][0] * SIZE[1] == pytest.approx(seen[files[0]][0][0][0])
    assert by_box.places["height"][0] == 14
    assert {*by_box.places["confidence"]} == {""}
    assert "fox/0.png, box " in by_box.answers.place(1)


def test_crops_of_an_image_are_a_group(tmp_path: Path) -> None:
    seen = trail(tmp_path / "trail", 4)
    boxes = coco(tmp_path / "c.json", seen)
    of = table(tmp_path / "trail", boxes)
    assert of.aside["group"].tolist() == list(of.files or ())
    series = table(tmp_path / "trail", boxes, group="seq_id").aside["group"].tolist()
    places = {file: f"s{at // 2}" for at, file in enumerate(seen)}
    assert series == [places[file] for file in of.files or ()]
    alone = {file: animals[:1] for file, animals in seen.items()}
    assert table(tmp_path / "trail", coco(tmp_path / "c.json", alone)).aside == {}


def test_an_image_is_decoded_once_for_its_crops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = trail(tmp_path / "trail", 4)
    of = table(tmp_path / "trail", megadetector(tmp_path / "m.json", seen))
    decoded: list[str] = []

    def counted(file: Path) -> Any:
        decoded.append(file.name)
        return opened(file)

    monkeypatch.setattr(image_files, "opened", counted)
    one_by_one = np.concatenate([read(of.x[at : at + 1]) for at in range(len(of.x))])
    assert (len(decoded), len(of.x)) == (8, 12)
    shuffled = np.random.default_rng(0).permutation(len(of.x))
    np.testing.assert_array_equal(read(of.x[shuffled]), one_by_one[shuffled])
    assert len(decoded) == 16  # a part of samples in any order too
    assert isinstance(of.x, LazySamples)
    digests = of.x.digests()
    assert len({*digests}) == len(of.x)
    assert of.x[shuffled].digests() == [digests[at] for at in shuffled]


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_whose_boxes_are_of_the_turned_image(kind: str, tmp_path: Path) -> None:
    """MegaDetector's are; COCO's are not, unless it has the size of the turned image."""
    place: Place = (5, 9, 12, 14)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter clockwise, so that 48 x 32 pixels stand upright
    pixels = scene(
        tmp_path / "trail" / f"a.{kind}", {place: "fox"}, exif=exif,
        **({"quality": 100, "subsampling": 0} if kind == "jpg" else {}),
    )  # fmt: skip
    upright = np.rot90(pixels, -1)
    top, left = 5, SIZE[0] - 9 - 14
    want = upright[top : top + 12, left : left + 14].astype(int)
    entry: dict[str, Any] = {"file": f"a.{kind}", "detections": [
        {"category": "1", "conf": 1.0,
         "bbox": [left / SIZE[0], top / SIZE[1], 14 / SIZE[0], 12 / SIZE[1]]},
    ]}  # fmt: skip
    detected = megadetector(tmp_path / "m.json", {}, images=[entry])
    stored = coco(tmp_path / "c.json", {f"a.{kind}": [(place, "fox")]})
    turned = json.loads(stored.read_text())
    turned["images"][0] |= {"width": SIZE[0], "height": SIZE[1]}
    turned["annotations"][0]["bbox"] = [left, top, 14, 12]
    (tmp_path / "t.json").write_text(json.dumps(turned))
    for boxes in (detected, stored, tmp_path / "t.json"):
        of = table(tmp_path / "trail", boxes, (12, 14), labels_required=False)
        assert np.abs(read(of.x)[0].astype(int) - want).max() <= (12 if kind == "jpg" else 0), boxes


def test_what_is_said(tmp_path: Path) -> None:
    seen = trail(tmp_path / "trail", 3)
    place: Place = (5, 9, 12, 14)
    scene(tmp_path / "trail" / "hen" / "extra.png", {place: "hen"})
    scene(tmp_path / "trail" / "hen" / "empty.png", {})
    (tmp_path / "trail" / "hen" / "bad.png").write_bytes(b"no image")
    more: dict[str, Any] = {"hen/bad.png": [(place, "hen")], "hen/gone.png": [(place, "hen")]}
    of = table(
        tmp_path / "trail", megadetector(tmp_path / "m.json", seen | more | {"hen/empty.png": []})
    )
    notes = " | ".join(note.removeprefix(f"{tmp_path / 'trail'}: ") for note in of.notes)
    assert "1 image left out that" in notes
    assert f"1 of 9 images in {tmp_path / 'm.json'} are not here" in notes
    assert "1 image that cannot be read left out: hen/bad.png" in notes
    assert "crops by boxes of animal 8 | left out: 7 boxes below a confidence of 0.2" in notes


def test_a_class_without_a_crop_is_none(tmp_path: Path) -> None:
    seen = trail(tmp_path / "trail", 2)
    scene(tmp_path / "trail" / "empty" / "a.png", {})
    of = table(tmp_path / "trail", megadetector(tmp_path / "m.json", seen | {"empty/a.png": []}))
    assert of.notes[-1].endswith("no crops in empty, which is no class then")


def test_a_tree_of_cameras_is_predicted(tmp_path: Path) -> None:
    """Folders with the same folders in each, and images beside folders, are no classes."""
    place: Place = (5, 9, 12, 14)
    names = ["north/100/1.png", "north/101/1.png", "south/100/1.png", "south/101/1.png"]
    for name in names:
        scene(tmp_path / "trail" / name, {place: "fox"})
    seen: Any = {name: [(place, "fox")] for name in names}
    boxes = megadetector(tmp_path / "m.json", seen)
    assert table(tmp_path / "trail", boxes, labels_required=False).files == tuple(names)
    scene(tmp_path / "trail" / "2.png", {place: "fox"})
    boxes = megadetector(tmp_path / "m.json", seen | {"2.png": [(place, "fox")]})
    of = table(tmp_path / "trail", boxes, labels_required=False)
    assert (of.files, of.answers.values) == (("2.png", *names), None)
    one = table(tmp_path / "trail" / "north" / "101" / "1.png", boxes, labels_required=False)
    assert (one.files, len(one.x)) == (("1.png",), 1)


def test_refusals(tmp_path: Path, refused: Refused) -> None:
    seen = trail(tmp_path / "trail", 2)
    boxes = megadetector(tmp_path / "m.json", seen)
    said = refused(DataError, table, tmp_path / "trail", boxes, confidence=0.95)
    assert "has no box that counts (left out: 10 boxes below a confidence of 0.95)" in said
    assert "lower confidence=" in said
    said = refused(
        ParameterError, read_table, tmp_path / "trail",
        images=Images(size=(9, 9), crops=Crops(margin=0.1)), layout=BYTES,
    )  # fmt: skip
    assert "crops from 0.2, margin 0.1 are asked for without boxes" in said
    other = json.loads(coco(tmp_path / "c.json", seen).read_text())
    other["images"][0] |= {"width": 96, "height": 64}
    (tmp_path / "c.json").write_text(json.dumps(other))
    said = refused(DataError, table, tmp_path / "trail", tmp_path / "c.json")
    assert "0.png has 48x32 pixels, its boxes are of 96x64" in said


def test_deep_pixels_are_cut_too(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 1 << 12, SIZE).astype(np.uint16)
    (tmp_path / "trail").mkdir()
    Image.fromarray(pixels).save(tmp_path / "trail" / "a.png")
    boxes = coco(tmp_path / "c.json", {"a.png": [((5, 9, 12, 14), "fox")]})
    of = table(tmp_path / "trail", boxes)
    np.testing.assert_array_equal(read(of.x)[0, :, :, 0], pixels[9:23, 5:17] >> 4)
    assert of.images is not None
    assert of.images.to_json()["bits"] == 12
