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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.data.image_layout import CHANNELS, Layout
from skip2lora.data.image_options import Images as Images
from skip2lora.data.image_options import find_size
from skip2lora.data.samples import Table
from skip2lora.errors import DataError, MissingExtraError, ParameterError, first_line
from skip2lora.tasks.task import Answers

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_LEFT_OUT = ("thumbs.db", "desktop.ini")  # what file managers leave behind, as are dot files

#: Called with the images read so far and their number.
Progress = Callable[[int, int], None]


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
    height, width = find_size(images, layout)
    channels = _find_channels(layout, height * width, files)
    _check_scaling(images, layout, channels)
    kind: Any = np.uint8 if layout.integers else np.float32
    pixels = np.empty((len(files), height, width, channels), kind)
    for at, file in enumerate(files):
        picture = _pixels(file, (height, width), channels)
        pixels[at] = picture if layout.integers else _normal(picture, images)
        if progress is not None:
            progress(at + 1, len(files))
    labels = None
    if files[0].parent != folder:
        labels = np.array([file.parent.name for file in files], np.str_)
    place = lambda row: str(files[row].relative_to(folder))  # noqa: E731
    return Table(_laid_out(pixels, layout), Answers(labels, place=place))


def _check_scaling(images: Images, layout: Layout, channels: int) -> None:
    if images.axes not in (None, layout.axes):
        raise ParameterError(
            f"images were laid out as {images.axes}, the model takes {layout.axes}: adapt again"
        )
    for name, numbers in zip(("mean", "std"), images.scale, strict=True):
        if len(numbers) not in (1, channels):
            expected = "1" if channels == 1 else f"1 or {channels}, one a channel"
            raise ParameterError(
                f"{name}= has {len(numbers)} numbers, expected {expected}: correct it"
            )
    if layout.integers and images.scaled:
        raise ParameterError(
            "mean= or std= is given, but the model takes whole pixels from 0 to 255: leave them out"
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
                f"{folder.name}/{file.name} is a folder, expected images alone in the folder of "
                "a class: move them up"
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


def _find_channels(layout: Layout, n_pixels: int, files: Sequence[Path]) -> int:
    if layout.channels is not None:
        return layout.channels
    if layout.n_features is None:
        return 1 if all(map(_is_grey, files)) else 3
    for channels in CHANNELS:
        if channels * n_pixels == layout.n_features:
            return channels
    raise ParameterError(
        f"size= gives {n_pixels} pixels, the model takes rows of {layout.n_features} numbers, "
        f"expected {layout.n_features} pixels (grey) or a third (colour): correct size="
    )


def _is_grey(file: Path) -> bool:
    pillow = _pillow(file)
    try:
        with pillow.open(file) as image:
            return str(image.mode) in ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")
    except (OSError, ValueError, pillow.DecompressionBombError) as error:
        raise _no_image(file, error) from error


def _no_image(file: Path, error: Exception) -> DataError:
    reason = first_line(error).replace(str(file), file.name)
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
