"""A folder of images as samples: one sub-folder a class, its name the class.

Each image is turned as its EXIF orientation says, converted to the model's channels (grey to
colour, colour to grey; transparency is dropped), and where its size differs resized as a whole,
bilinearly, without cropping. Pixels become numbers from 0 to 1, minus ``mean``, over ``std``, which
are 0 and 1 unless told; a model that reads whole numbers gets them as they are, 0 to 255.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skip2lora.arrays import listing
from skip2lora.data.file_folder import IMAGES, Listing, list_files, readable
from skip2lora.data.image_files import (
    ImageFiles,
    UnusableError,
    check_bits,
    check_image,
    depth,
    head,
    is_grey,
    pillow,
)
from skip2lora.data.image_layout import CHANNELS, Layout
from skip2lora.data.image_options import Images as Images
from skip2lora.data.image_options import find_size
from skip2lora.data.lazy import LazySamples
from skip2lora.data.samples import Table
from skip2lora.errors import DataError, ParameterError
from skip2lora.tasks.columns import Wanted
from skip2lora.tasks.task import Answers

#: Called with the images looked at so far and their number.
Progress = Callable[[int, int], None]


def read_images(
    folder: Path,
    images: Images,
    layout: Layout,
    wanted: Wanted,
    progress: Progress | None = None,
) -> Table:
    """All images of ``folder``, float32 or uint8 as ``layout`` says, labelled by sub-folder.

    Classes are in the order of their sorted names, files in that of theirs. Without sub-folders
    the images have no labels. Those that cannot be read are left out, and named in a note; pixels
    are read where they are needed. ``progress`` is called for each file that was looked at.

    Raises:
        DataError: no images, none of a class that can be read.
        ParameterError: a size that the model does not take, numbers that do not fit the channels.
        MissingExtraError: Pillow is not installed.
    """
    pillow(folder)
    listed = list_files(folder, wanted, IMAGES)
    files = listed.files
    height, width = find_size(images, layout)
    channels = _find_channels(layout, height * width, files)
    _check_scaling(images, layout, channels)
    bad: dict[int, UnusableError] = {}
    deep: dict[int, int] = {}  # the largest pixel of each with 16 bits
    for at, file in enumerate(files):
        try:
            pixel = check_image(file)
            if pixel is not None:
                deep[at] = pixel
        except UnusableError as error:
            bad[at] = error
        if progress is not None:
            progress(at + 1, len(files))
    bits = images.bits or depth(max(deep.values(), default=0))
    for at, pixel in deep.items():
        try:
            check_bits(files[at], pixel, bits)
        except UnusableError as error:
            bad[at] = error
    notes = [*listed.notes]
    if deep and bits < 16 and images.bits is None:
        notes.append(f"images of 16 bits are read as of {bits}, as no pixel is larger")
    used = [at for at in range(len(files)) if at not in bad]
    notes += _left_out(listed, bad)
    labels = None
    if listed.classes is not None:
        labels = np.array(listed.classes, np.str_)[np.array(used, np.intp)]
    root = folder if folder.is_dir() else folder.parent
    names = tuple(readable(str(files[at].relative_to(root))) for at in used)
    images = replace(images, bits=bits) if deep else images
    source = ImageFiles(
        folder, [files[at] for at in used], (height, width), channels, images, layout
    )
    return Table(
        LazySamples.of(source), Answers(labels, place=lambda row: names[row]),
        notes=tuple(notes), files=names, images=images,
    )  # fmt: skip


def _left_out(listed: Listing, bad: Mapping[int, UnusableError]) -> list[str]:
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
    pillow(folder)
    listed = list_files(folder, Wanted(labels_required=False, usual_split="train"), IMAGES)
    bad: dict[int, UnusableError] = {}
    sizes: dict[int, tuple[int, int]] = {}
    for at, file in enumerate(listed.files):
        try:
            with head(file) as image:
                sizes[at] = (image.height, image.width)
        except UnusableError as error:
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


def _find_channels(layout: Layout, n_pixels: int, files: Sequence[Path]) -> int:
    if layout.channels is not None:
        return layout.channels
    if layout.n_features is None:
        return 1 if all(map(is_grey, files)) else 3
    for channels in CHANNELS:
        if channels * n_pixels == layout.n_features:
            return channels
    raise ParameterError(
        f"size= gives {n_pixels} pixels, the model takes rows of {layout.n_features} numbers, "
        f"expected {layout.n_features} pixels (grey) or a third (colour): correct size="
    )
