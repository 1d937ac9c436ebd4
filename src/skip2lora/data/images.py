"""A folder of images as samples: one sub-folder a class, its name the class.

Each image is turned as its EXIF orientation says, converted to the model's channels (grey to
colour, colour to grey; transparency is dropped), and where its size differs resized as a whole,
bilinearly, without cropping. Pixels become numbers from 0 to 1, minus ``mean``, over ``std``, which
are 0 and 1 unless told; a model that reads whole numbers gets them as they are, 0 to 255.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import listing
from skip2lora.data.image_folder import Listing, heif_is_read, list_images
from skip2lora.data.image_layout import CHANNELS, Layout
from skip2lora.data.image_options import Images as Images
from skip2lora.data.image_options import find_size
from skip2lora.data.samples import Table
from skip2lora.errors import DataError, MissingExtraError, ParameterError, first_line
from skip2lora.limits import check_bytes
from skip2lora.tasks.columns import Wanted
from skip2lora.tasks.task import Answers

# What Pillow raises for files that are cut, changed or of another kind.
_BAD_IMAGE = (
    OSError, ValueError, SyntaxError, TypeError, LookupError, AttributeError, ArithmeticError,
    EOFError, RuntimeError, struct.error,
)  # fmt: skip

#: Called with the images read so far and their number.
Progress = Callable[[int, int], None]


class _UnusableError(DataError):
    """An image that cannot be read as one sample; ``reason`` says why."""

    def __init__(self, file: Path, reason: str) -> None:
        self.name, self.reason = f"{file.parent.name}/{file.name}", reason
        super().__init__(
            f"{self.name} cannot be read as an image ({reason}), expected a whole image such as "
            ".png or .jpg: replace or remove it"
        )


def read_images(
    folder: Path,
    images: Images,
    layout: Layout,
    wanted: Wanted,
    progress: Progress | None = None,
) -> Table:
    """All images of ``folder``, float32 or uint8 as ``layout`` says, labelled by sub-folder.

    Classes are in the order of their sorted names, files in that of theirs. Without sub-folders
    the images have no labels. Those that cannot be read are left out, and named in a note.

    Raises:
        DataError: no images, none of a class that can be read.
        ParameterError: a size that the model does not take, numbers that do not fit the channels.
        MissingExtraError: Pillow is not installed.
    """
    _pillow(folder)
    listed = list_images(folder, wanted)
    files = listed.files
    height, width = find_size(images, layout)
    channels = _find_channels(layout, height * width, files)
    _check_scaling(images, layout, channels)
    kind: Any = np.uint8 if layout.integers else np.float32
    check_bytes(folder, len(files) * height * width * channels * np.dtype(kind).itemsize)
    pixels = np.empty((len(files), height, width, channels), kind)
    bad: dict[int, _UnusableError] = {}
    deep: dict[int, int] = {}  # the largest pixel of each with 16 bits

    def fill(at: int, image: Any) -> None:
        picture = _pixels(image, files[at], (height, width), channels)
        pixels[at] = picture if layout.integers else _normal(picture, images)

    for at, file in enumerate(files):
        try:
            image = _opened(file)
            if image.mode.startswith("I"):
                deep[at] = _largest(image, file)
            else:
                fill(at, image)
        except _UnusableError as error:
            bad[at] = error
        if progress is not None:
            progress(at + 1, len(files))
    bits = images.bits or _depth(max(deep.values(), default=0))
    for at, largest in deep.items():
        if largest >> bits:
            reason = f"pixels up to {largest}, beyond the {bits} bits that others had"
            bad[at] = _UnusableError(files[at], reason)
        else:
            fill(at, _shallow(_opened(files[at]), bits))
    notes = [*listed.notes]
    if deep and bits < 16 and images.bits is None:
        notes.append(f"images of 16 bits are read as of {bits}, as no pixel is larger")
    used = [at for at in range(len(files)) if at not in bad]
    notes += _left_out(listed, bad)
    at_used = np.array(used, np.intp)
    labels = None if listed.classes is None else np.array(listed.classes, np.str_)[at_used]
    root = folder if folder.is_dir() else folder.parent
    names = tuple(str(files[at].relative_to(root)) for at in used)
    return Table(
        _laid_out(pixels if len(used) == len(files) else pixels[at_used], layout),
        Answers(labels, place=lambda row: names[row]),
        notes=tuple(notes), files=names, images=replace(images, bits=bits) if deep else images,
    )  # fmt: skip


def _left_out(listed: Listing, bad: Mapping[int, _UnusableError]) -> list[str]:
    """A note of the images that cannot be read.

    Raises:
        DataError: without them there are none, or none of a class.
    """
    if not bad:
        return []
    named = listing([f"{error.name} ({error.reason})" for error in bad.values()])
    classes = listed.classes or [""] * len(listed.files)
    lost = {*classes} - {name for at, name in enumerate(classes) if at not in bad}
    if lost and len(bad) == 1:
        raise next(iter(bad.values()))
    if lost:
        of = f" of {listing(sorted(lost))}" if listed.classes else ""
        raise DataError(
            f"no image{of} can be read ({named}), expected at least one: replace or remove them"
        )
    s = "s" * (len(bad) != 1)
    return [f"{len(bad)} image{s} that cannot be read left out: {named}"]


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


def describe_images(folder: Path) -> dict[str, Any]:
    """Numbers of samples and sizes, from the heads of the files, and what was left out.

    Raises:
        DataError: as :func:`read_images`.
    """
    _pillow(folder)
    listed = list_images(folder, Wanted(labels_required=False, usual_split="train"))
    bad: dict[int, _UnusableError] = {}
    sizes: dict[int, tuple[int, int]] = {}
    for at, file in enumerate(listed.files):
        try:
            with _head(file) as image:
                sizes[at] = (image.height, image.width)
        except _UnusableError as error:
            bad[at] = error
    notes = [*listed.notes, *_left_out(listed, bad)]
    counts = None if listed.classes is None else Counter(listed.classes[at] for at in sizes)
    return {
        "kind": "images",
        "n_samples": len(sizes),
        "smallest": "x".join(map(str, min(sizes.values(), key=math.prod))),
        "largest": "x".join(map(str, max(sizes.values(), key=math.prod))),
        "samples_a_class": counts,
        "notes": notes or None,
    }


def _pillow(folder: Path) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(
            f"reading the images in {folder} needs Pillow: pip install 'skip2lora[image]', "
            "or use .npz"
        ) from error
    if heif_is_read():
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return Image


@contextmanager
def _head(file: Path) -> Iterator[Any]:
    """Yield what Pillow makes of a file, whose pixels are yet to be read."""
    pillow = _pillow(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata beside pixels that can be read
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            with pillow.open(file) as image:
                yield image
    except (*_BAD_IMAGE, pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        reason = first_line(error).replace(str(file), file.name) or type(error).__name__
        raise _UnusableError(file, reason) from error


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
    try:
        with _head(file) as image:
            return str(image.mode) in ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")
    except _UnusableError:
        return True  # it is left out, and says nothing


def _opened(file: Path) -> Any:
    """One image as its EXIF orientation says, in the mode of the file."""
    from PIL import ImageOps

    with _head(file) as opened:
        # A camera keeps its preview in an .mpo, which comes second.
        n_frames = 1 if opened.format == "MPO" else int(getattr(opened, "n_frames", 1))
        check_bytes(file, 4 * opened.width * opened.height)
        opened.load()
        image = ImageOps.exif_transpose(opened)
    if n_frames > 1:
        raise _UnusableError(file, f"{n_frames} pictures, where one counts")
    if image.mode == "F":
        raise _UnusableError(file, "pixels of floating point, not of 8 or 16 bits")
    return image


def _largest(image: Any, file: Path) -> int:
    """The largest pixel of an image of more than 8 bits."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        reason = f"pixels from {values.min()} to {values.max()}, beyond 16 bits"
        raise _UnusableError(file, reason)
    return int(values.max())


def _depth(largest: int) -> int:
    """How many bits cameras and sensors give, whose largest pixel this is: 8 to 16."""
    return next(bits for bits in (8, 10, 12, 14, 16) if largest < 1 << bits)


def _shallow(image: Any, bits: int) -> Any:
    """An image of more than 8 bits, of which ``bits`` count, in 8."""
    values = np.asarray(image).astype(np.int64) >> (bits - 8)
    return _pillow(Path()).fromarray(values.astype(np.uint8))


def _pixels(image: Any, file: Path, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """One image in 8 bits, grey or colour, (height, width, channels)."""
    if "transparency" in image.info:
        image = image.convert("RGBA")
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != size[::-1]:
        image = image.resize(size[::-1], _pillow(file).Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(*size, channels)


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
