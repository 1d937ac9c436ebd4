"""Boxes in pixels: of turned images, with a margin, square, and at the edge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from skip2lora.data.boxes import Upright, in_pixels
from skip2lora.data.crop_options import Crops
from skip2lora.errors import DataError

WIDE = Upright("a.jpg", 100, 50)


def pixels(box: tuple[float, ...], of: Upright = WIDE, **crops: Any) -> Any:
    return in_pixels(box, of, Crops(**crops), stored=True, shares=False)


def test_shares_are_of_width_and_height() -> None:
    assert in_pixels((0.1, 0.2, 0.5, 0.4), WIDE, Crops(), False, True) == (10, 10, 60, 30)


@pytest.mark.parametrize(
    ("box", "want"),
    [
        ((10, 5, 20, 10), (10, 5, 30, 15)),
        ((10.4, 5.6, 20, 10), (10, 6, 30, 16)),
        ((-5, -5, 20, 20), (0, 0, 15, 15)),
        ((90, 40, 20, 20), (90, 40, 100, 50)),
        ((-10, 0, 200, 50), (0, 0, 100, 50)),
        ((100, 10, 5, 5), None),
        ((-9, 10, 9, 5), None),
        ((10, 10, 0, 5), None),
        ((10, 10, 5, -3), None),
        ((10.1, 10.1, 0.2, 5), None),
        ((1e300, 0, 1e300, 5), None),
    ],
)
def test_boxes_are_cut_at_the_edge(box: tuple[float, ...], want: Any) -> None:
    assert pixels(box) == want


def test_a_margin_is_a_share_of_each_side() -> None:
    assert pixels((40, 20, 20, 10), margin=0.5) == (30, 15, 70, 35)
    assert pixels((0, 0, 20, 10), margin=0.5) == (0, 0, 30, 15)  # cut at the edge
    # Of what is within the image, as a detector cannot see how an animal goes on.
    assert pixels((-20, 0, 40, 10), margin=0.5) == (0, 0, 30, 15)


@pytest.mark.parametrize(
    ("box", "want"),
    [
        ((40, 20, 20, 10), (40, 15, 60, 35)),
        ((40, 20, 10, 20), (35, 20, 55, 40)),
        ((40, 0, 20, 10), (40, 0, 60, 20)),  # moved to lie within
        ((40, 40, 20, 10), (40, 30, 60, 50)),
        ((0, 10, 10, 30), (0, 10, 30, 40)),
        ((10, 10, 80, 20), (10, -15, 90, 65)),  # larger than the image: as far beyond both edges
    ],
)
def test_squares(box: tuple[float, ...], want: Any) -> None:
    left, top, right, bottom = pixels(box, square=True)
    assert (left, top, right, bottom) == want
    assert right - left == bottom - top


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_stored_box_is_turned_as_its_image_is(orientation: int) -> None:
    """What is in it stays the same, but turned."""
    stored = np.arange(5 * 9, dtype=np.uint8).reshape(5, 9)
    image = Image.fromarray(stored)
    image.getexif()[0x0112] = orientation
    upright = ImageOps.exif_transpose(image)
    of = Upright("a.png", *upright.size, orientation)
    area = in_pixels((1, 2, 4, 2), of, Crops(), stored=True, shares=False)
    assert area is not None
    inside = {*np.asarray(upright.crop(area)).ravel().tolist()}
    assert inside == {*stored[2:4, 1:5].ravel().tolist()}
    assert in_pixels((1, 2, 4, 2), of, Crops(), stored=False, shares=False) == (1, 2, 5, 4)
    shares = (1 / 9, 2 / 5, 4 / 9, 2 / 5)
    assert in_pixels(shares, of, Crops(), stored=True, shares=True) == area
    assert of.mirrored == (orientation in (2, 4, 5, 7))


def test_which_frame_a_size_tells(refused: Callable[..., str]) -> None:
    turned = Upright("a.jpg", 50, 100, 6)
    assert WIDE.is_stored(None)
    assert WIDE.is_stored((100, 50))
    assert turned.is_stored((100, 50))
    assert not turned.is_stored((50, 100))
    assert turned.is_stored(None)
    assert Upright("a.jpg", 9, 9, 6).is_stored((9, 9))  # it cannot be told
    said = refused(DataError, WIDE.is_stored, (50, 100))
    assert "a.jpg has 100x50 pixels, its boxes are of 50x100" in said
    assert "has 100x50" in refused(DataError, turned.is_stored, (200, 100))


@pytest.mark.parametrize("size", [(0.0, 4.0), (4.0, 0.0), (-1.0, 4.0)])
def test_a_box_without_width_or_height_has_no_pixels(size: tuple[float, float]) -> None:
    crops = Crops(margin=0.5)
    assert in_pixels((3.2, 3.2, *size), Upright("a", 20, 10), crops, False, False) is None
