"""A folder of images as samples: one sub-folder a class, its name the class.

Each image is turned as its EXIF orientation says, converted to the model's channels (grey to
colour, colour to grey; transparency is dropped), and where its size differs resized as a whole,
bilinearly, without cropping. Pixels become numbers from 0 to 1, minus ``mean``, over ``std``, which
are 0 and 1 unless told; a model that reads whole numbers gets them as they are, 0 to 255.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.errors import DataError, MissingExtraError, ParameterError
from skip2lora.layouts import CHANNELS, Layout
from skip2lora.samples import Table

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_MOST_PIXELS = 1 << 14  # an axis
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_LEFT_OUT = ("thumbs.db", "desktop.ini")  # what file managers leave behind, as are dot files

#: Called with the images read so far and their number.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Images:
    """How images become numbers; ``size`` is (height, width).

    ``mean`` and ``std`` are one number, or one a channel, of pixels from 0 to 1. ``axes`` is the
    order of axes, as of :class:`~skip2lora.layouts.Layout`. What is None is as by default: size and
    axes those of the model, mean 0, std 1.
    """

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    axes: str | None = None

    @property
    def asked(self) -> bool:
        """Whether anything is told."""
        return self != Images()

    @property
    def scale(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std, with their defaults."""
        return self.mean or (0.0,), self.std or (1.0,)

    @property
    def scaled(self) -> bool:
        """Whether pixels are scaled beyond 0 to 1."""
        return self.scale != ((0.0,), (1.0,))

    def following(self, kept: Images | None) -> Images:
        """What was ``kept``; what is told here must be the same.

        Raises:
            ParameterError: it is not.
        """
        if kept is None:
            return self
        pairs = zip(("mean", "std"), self.scale, kept.scale, strict=True)
        for name, told, of in (("size", self.size, kept.size), *pairs):
            if getattr(self, name) is not None and not _same(told, of):
                raise ParameterError(
                    f"--{name} is {_told(name, told)}, the adapter was made with "
                    f"{_told(name, of)}: leave it out, or adapt again"
                )
        return kept

    def resolved(self, layout: Layout) -> Images:
        """All of it, for a model of that layout, to be kept."""
        mean, std = self.scale
        return Images(size=_find_size(self, layout), mean=mean, std=std, axes=layout.axes)

    def to_json(self) -> dict[str, Any]:
        """What is told, as JSON holds it."""
        said = {"size": self.size, "mean": self.mean, "std": self.std}
        lists = {name: list(value) for name, value in said.items() if value is not None}
        return lists if self.axes is None else {**lists, "layout": self.axes}

    def __str__(self) -> str:
        """Such as ``size 224x224, mean 0, std 1, layout chw``."""
        said = [f"{n} {_told(n, getattr(self, n))}" for n in ("size", "mean", "std")]
        return ", ".join([*said, f"layout {self.axes}"])

    @classmethod
    def from_json(cls, found: Any) -> Images:
        """What :meth:`to_json` gave.

        Raises:
            TypeError, ValueError: it gave something else.
        """
        size, axes = found.get("size"), found.get("layout")
        if size is not None:
            height, width = map(int, size)
            size = (height, width)
        scale = {n: tuple(map(float, found[n])) for n in ("mean", "std") if n in found}
        if not all(math.isfinite(value) for numbers in scale.values() for value in numbers):
            raise ValueError("images")
        return cls(size=size, axes=None if axes is None else str(axes), **scale)

    @classmethod
    def parse(cls, size: str | None, mean: str | None, std: str | None) -> Images:
        """From text: ``224`` or ``HEIGHTxWIDTH``; numbers, fractions such as ``1/255``, imagenet.

        ``mean`` imagenet brings its ``std`` along unless that is given too.

        Raises:
            ParameterError: one of them is something else.
        """
        if mean == "imagenet" and std is None:
            std = "imagenet"
        means = None if mean is None else _numbers("mean", mean, IMAGENET_MEAN)
        stds = None if std is None else _numbers("std", std, IMAGENET_STD)
        if stds is not None and min(stds) <= 0:
            raise ParameterError(f"--std is {std}, expected numbers above 0: correct it")
        return cls(size=None if size is None else _size(size), mean=means, std=stds)


def _same(told: Any, kept: Any) -> bool:
    """Whether both are the same, one number standing for all channels."""
    if told is None or kept is None:
        return told is kept
    most = max(len(told), len(kept))
    wide = [values * most if len(values) == 1 else values for values in (told, kept)]
    return bool(wide[0] == wide[1])


def _told(name: str, values: Any) -> str:
    if values is None:
        return "none"
    return ("x" if name == "size" else ",").join(f"{value:g}" for value in values)


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) <= 2 and all(side.isascii() and side.isdigit() for side in sides):
        height, width = int(sides[0]), int(sides[-1])
        if min(height, width) >= 1 and max(height, width) <= _MOST_PIXELS:
            return height, width
    raise ParameterError(
        f'--size is "{text}", expected pixels from 1 to {_MOST_PIXELS}, such as 224 or 192x256 '
        "(height x width): correct it"
    )


def _numbers(name: str, text: str, imagenet: tuple[float, ...]) -> tuple[float, ...]:
    if text == "imagenet":
        return imagenet
    try:
        numbers = tuple(float(Fraction(part.strip())) for part in text.split(","))
    except (ValueError, ZeroDivisionError, OverflowError):
        numbers = ()
    if len(numbers) not in CHANNELS:
        raise ParameterError(
            f'--{name} is "{text}", expected 1 number, 3 such as 0.5,0.5,0.5, or imagenet: '
            "correct it"
        )
    return numbers


def read_images(
    folder: Path,
    images: Images,
    layout: Layout,
    labels_required: bool,
    progress: Progress | None = None,
) -> Table:
    """All images of ``folder``, float32 or uint8 as ``layout`` says, labelled by sub-folder.

    Classes are in the order of their sorted names, files in that of theirs. Without sub-folders
    the images have no labels.

    Raises:
        DataError: no images, a file that is no image or holds several.
        ParameterError: a size that the model does not take, numbers that do not fit the channels.
        MissingExtraError: Pillow is not installed.
    """
    _pillow(folder)
    files = image_files(folder, labels_required=labels_required)
    height, width = _find_size(images, layout)
    channels = _find_channels(layout, height * width, files)
    _check_scaling(images, layout, channels)
    kind: Any = np.uint8 if layout.whole else np.float32
    pixels = np.empty((len(files), height, width, channels), kind)
    for at, file in enumerate(files):
        made = _pixels(file, (height, width), channels)
        pixels[at] = made if layout.whole else _normal(made, images)
        if progress is not None:
            progress(at + 1, len(files))
    return Table(
        x=_laid_out(pixels, layout),
        labels=np.array([file.parent.name for file in files], np.str_)
        if files[0].parent != folder
        else None,
        class_names=None,
        feature_names=None,
        place=lambda row: str(files[row].relative_to(folder)),
    )


def _check_scaling(images: Images, layout: Layout, channels: int) -> None:
    if images.axes not in (None, layout.axes):
        raise ParameterError(
            f"images were laid out as {images.axes}, the model takes {layout.axes}: adapt again"
        )
    for name, numbers in zip(("mean", "std"), images.scale, strict=True):
        if len(numbers) not in (1, channels):
            expected = "1" if channels == 1 else f"1 or {channels}, one a channel"
            raise ParameterError(
                f"--{name} has {len(numbers)} numbers, expected {expected}: correct it"
            )
    if layout.whole and images.scaled:
        raise ParameterError(
            "--mean or --std is given, but the model takes whole pixels from 0 to 255: "
            "leave them out"
        )


def image_files(folder: Path, *, labels_required: bool) -> list[Path]:
    """The images of all sub-folders, or of the folder itself where it has none.

    Dot files are left out; beside sub-folders whatever is no image by its name.

    Raises:
        DataError: there are none, or they lie where they belong to no class.
    """
    entries = sorted(path for path in folder.iterdir() if not _left_out(path))
    classes = [path for path in entries if path.is_dir()]
    loose = [path for path in entries if not path.is_dir()]
    if not classes and (labels_required or not loose):
        got = f"{len(loose)} files and no sub-folder" if loose else "nothing in it"
        raise DataError(
            f"it has {got}, expected images in one sub-folder a class: sort them into sub-folders"
        )
    if not classes:
        return loose
    for path in loose:
        if path.suffix.lower() in _SUFFIXES:
            raise DataError(
                f"{path.name} lies beside the sub-folders, expected every image in that of its "
                "class: move or remove it"
            )
    return [file for path in classes for file in _files_of(path)]


def _files_of(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if not _left_out(path))
    for file in files:
        if file.is_dir():
            raise DataError(
                f"{folder.name}/{file.name} is a folder, expected images: one level of sub-folders "
                "is read, one a class"
            )
    if not files:
        raise DataError(f"{folder.name} has no images, expected at least one: remove the folder")
    return files


def _left_out(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _LEFT_OUT


def describe_images(folder: Path) -> dict[str, Any]:
    """Numbers of samples and sizes, from the heads of the files.

    Raises:
        DataError: as :func:`read_images`.
    """
    pillow = _pillow(folder)
    files = image_files(folder, labels_required=False)
    counts: dict[str, int] = {}
    sizes = []
    for file in files:
        counts[file.parent.name] = counts.get(file.parent.name, 0) + 1
        try:
            with pillow.open(file) as image:
                sizes.append((image.height, image.width))
        except (OSError, ValueError, pillow.DecompressionBombError) as error:
            raise _no_image(file, error) from error
    return {
        "kind": "images",
        "n_samples": len(files),
        "smallest": "x".join(map(str, min(sizes, key=math.prod))),
        "largest": "x".join(map(str, max(sizes, key=math.prod))),
        "samples_a_class": None if files[0].parent == folder else counts,
    }


def _pillow(folder: Path) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(
            f"reading the images in {folder} needs Pillow: pip install 'skip2lora[image]', "
            "or use .npz"
        ) from error
    return Image


def _find_size(images: Images, layout: Layout) -> tuple[int, int]:
    wanted = images.size
    if wanted is None:
        if layout.height is None or layout.width is None:
            takes = "images of any size" if layout.axes != "flat" else _rows(layout)
            raise ParameterError(
                f"--size is missing, the model takes {takes}: add --size HEIGHTxWIDTH, such as "
                "--size 224"
            )
        return layout.height, layout.width
    for side, fixed in zip(wanted, (layout.height, layout.width), strict=True):
        if fixed not in (None, side):
            raise ParameterError(
                f"--size is {wanted[0]}x{wanted[1]}, the model takes {layout.height or 'any'}x"
                f"{layout.width or 'any'}: leave --size out, images are resized to that"
            )
    return wanted


def _rows(layout: Layout) -> str:
    return "rows" if layout.n_features is None else f"rows of {layout.n_features} numbers"


def _find_channels(layout: Layout, n_pixels: int, files: Sequence[Path]) -> int:
    if layout.channels is not None:
        return layout.channels
    if layout.n_features is None:
        return 1 if all(map(_is_grey, files)) else 3
    for channels in CHANNELS:
        if channels * n_pixels == layout.n_features:
            return channels
    raise ParameterError(
        f"--size gives {n_pixels} pixels, the model takes rows of {layout.n_features} numbers, "
        f"expected {layout.n_features} pixels (grey) or a third (colour): correct --size"
    )


def _is_grey(file: Path) -> bool:
    pillow = _pillow(file)
    try:
        with pillow.open(file) as image:
            return str(image.mode) in ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")
    except (OSError, ValueError, pillow.DecompressionBombError) as error:
        raise _no_image(file, error) from error


def _no_image(file: Path, error: Exception) -> DataError:
    reason = str(error).splitlines()[0].replace(str(file), file.name)
    return DataError(
        f"{file.parent.name}/{file.name} cannot be read as an image ({reason}), expected a whole "
        "image such as .png or .jpg: replace or remove it"
    )


def _pixels(file: Path, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """One image, (height, width, channels)."""
    pillow = _pillow(file)
    from PIL import ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            with pillow.open(file) as opened:
                # A camera keeps its preview in an .mpo, which comes second.
                n_frames = 1 if opened.format == "MPO" else int(getattr(opened, "n_frames", 1))
                opened.load()
                image = ImageOps.exif_transpose(opened)
    except (
        OSError, ValueError, SyntaxError, pillow.DecompressionBombError,
        pillow.DecompressionBombWarning,
    ) as error:  # fmt: skip
        raise _no_image(file, error) from error
    if n_frames > 1:
        raise DataError(
            f"{file.parent.name}/{file.name} has {n_frames} pictures, expected one a file: "
            "export the one that counts"
        )
    image = _converted(image, channels, file)
    if image.size != size[::-1]:
        image = image.resize(size[::-1], pillow.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(*size, channels)


def _converted(image: Any, channels: int, file: Path) -> Any:
    """In 8 bits, grey or colour."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(
                f"{file.parent.name}/{file.name} has pixels from {values.min()} to "
                f"{values.max()}, expected at most 16 bits: convert it"
            )
        image = _pillow(file).fromarray((values >> 8).astype(np.uint8))
    if image.mode == "F":
        raise DataError(
            f"{file.parent.name}/{file.name} has pixels of floating point, expected 8 or 16 bits: "
            "convert it, or pass a .npz"
        )
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("L" if channels == 1 else "RGB")


def _normal(pixels: NDArray[np.uint8], images: Images) -> NDArray[np.float32]:
    values = pixels.astype(np.float32) / np.float32(255)
    if images.scaled:
        mean, std = images.scale
        values -= np.array(mean, np.float32)
        values /= np.array(std, np.float32)
    return values


def _laid_out(pixels: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """From (samples, height, width, channels) to what the model takes."""
    if layout.axes == "chw":
        return np.ascontiguousarray(np.moveaxis(pixels, -1, 1))
    if layout.axes == "hw":
        return pixels[..., 0]
    return pixels if layout.axes == "hwc" else pixels.reshape(len(pixels), -1)
