"""Boxes in pixels: turned as an image is, widened, made square, and cut at its edges."""

from __future__ import annotations

from dataclasses import dataclass

from skip2lora.data.crop_options import Crops
from skip2lora.errors import DataError

#: Left, top, right, bottom, in pixels; a square one may reach beyond an image.
Rectangle = tuple[int, int, int, int]
_Edges = tuple[float, float, float, float]


@dataclass(frozen=True)
class Upright:
    """An image of ``width`` x ``height`` pixels once it is turned by its EXIF ``orientation``."""

    name: str
    width: int
    height: int
    orientation: int = 1

    @property
    def turned(self) -> bool:
        """Whether its width is the height that is stored."""
        return self.orientation >= 5

    @property
    def mirrored(self) -> bool:
        """Whether turning alone does not make it upright."""
        return self.orientation in (2, 4, 5, 7)

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height as they are stored."""
        return (self.height, self.width) if self.turned else (self.width, self.height)

    def is_stored(self, size: tuple[int, int] | None) -> bool:
        """Whether boxes of an image of ``size`` are of the pixels as these are stored.

        Otherwise they are of those of the upright image, as where a program turned it before it
        wrote its size. What cannot be told by the size is meant as it is stored.

        Raises:
            DataError: they are of an image of another size.
        """
        upright, stored = (self.width, self.height), self.stored
        if size in (None, stored):
            return True
        if size == upright:
            return False
        raise DataError(
            f"{self.name} has {stored[0]}x{stored[1]} pixels, its boxes are of {size[0]}x{size[1]},"
            " expected the same image: scale it or its boxes"
        )


def in_pixels(
    box: tuple[float, float, float, float], of: Upright, crops: Crops, stored: bool, shares: bool
) -> Rectangle | None:
    """The pixels of an upright image in a box of x, y, width and height; None where there are none.

    ``stored`` says that the box is of the pixels as these are stored, ``shares`` that it is in
    shares of width and height. A margin is cut at the edges of the image; a square is moved to lie
    within it, and reaches beyond where it is larger.
    """
    _, _, width, height = box
    whole = _cut(edges_of(box, of, stored, shares), of) if min(width, height) > 0 else None
    if whole is None:
        return None
    margin = crops.margin or 0.0
    left, top, right, bottom = map(float, whole)
    aside, above = margin * (right - left), margin * (bottom - top)
    wider = _cut((left - aside, top - above, right + aside, bottom + above), of) or whole
    return _square(wider, of) if crops.square else wider


def edges_of(
    box: tuple[float, float, float, float], of: Upright, stored: bool, shares: bool
) -> _Edges:
    """The edges of such a box in the pixels of an upright image, within it or beyond."""
    x, y, width, height = box
    edges = (x, y, x + width, y + height)
    if shares:
        across, down = of.stored if stored else (of.width, of.height)
        edges = (x * across, y * down, (x + width) * across, (y + height) * down)
    return _turned(edges, of) if stored else edges


def reaches_beyond(edges: _Edges, of: Upright) -> bool:
    """Whether edges lie outside of an image by more than their rounding to pixels."""
    left, top, right, bottom = edges
    return min(left, top, of.width - right, of.height - bottom) <= -1


def _cut(edges: _Edges, of: Upright) -> Rectangle | None:
    left, top, right, bottom = (round(edge) for edge in edges)
    left, top, right, bottom = (
        max(0, left),
        max(0, top),
        min(of.width, right),
        min(of.height, bottom),
    )
    return (left, top, right, bottom) if left < right and top < bottom else None


def _square(inside: Rectangle, of: Upright) -> Rectangle:
    left, top, right, bottom = inside
    side = max(right - left, bottom - top)

    def start(low: int, high: int, whole: int) -> int:
        middle = (low + high - side) // 2
        return (whole - side) // 2 if side > whole else min(max(0, middle), whole - side)

    left, top = start(left, right, of.width), start(top, bottom, of.height)
    return left, top, left + side, top + side


def _turned(edges: _Edges, of: Upright) -> _Edges:
    """Edges in the pixels as they are stored, in those of the upright image."""
    left, top, right, bottom = edges
    if of.turned:
        left, top, right, bottom = top, left, bottom, right
    if of.orientation in (2, 3, 6, 7):
        left, right = of.width - right, of.width - left
    if of.orientation in (3, 4, 7, 8):
        top, bottom = of.height - bottom, of.height - top
    return left, top, right, bottom
