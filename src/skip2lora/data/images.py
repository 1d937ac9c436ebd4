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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from skip2lora.arrays import listing
from skip2lora.data.crop_options import Crops
from skip2lora.data.crops import Crop, Cut
from skip2lora.data.detections import read_boxes
from skip2lora.data.file_folder import IMAGES, Listing, list_all, list_files, readable
from skip2lora.data.image_files import (
    ImageFiles,
    UnusableError,
    check_bits,
    check_image,
    depth,
    head,
    is_grey,
    pillow,
    upright,
)
from skip2lora.data.image_layout import CHANNELS, Layout
from skip2lora.data.image_options import Images as Images
from skip2lora.data.image_options import find_size
from skip2lora.data.lazy import LazySamples
from skip2lora.data.parts import check_no_part
from skip2lora.data.samples import Table
from skip2lora.errors import DataError, ParameterError
from skip2lora.tasks.columns import Wanted
from skip2lora.tasks.task import Answers

#: Called with the images looked at so far and their number.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class _Images:
    """Those that can be read, at ``used`` among ``listed``, and which of 16 ``bits`` count.

    ``bits`` is None where no image has 16. ``cut`` is what says where crops of them are.
    """

    listed: Listing
    used: list[int]
    bits: int | None
    notes: list[str]
    cut: Cut | None

    def samples(self, folder: Path) -> _Samples:
        """Whole images, or their crops.

        Raises:
            DataError: there are no crops, or the boxes are of other images.
        """
        files, classes = [self.listed.files[at] for at in self.used], self.listed.classes
        of_class = None if classes is None else [classes[at] for at in self.used]
        root = folder if folder.is_dir() else folder.parent
        names = [readable(str(file.relative_to(root))) for file in files]
        if self.cut is None:
            return _Samples(files, names, of_class, None)
        return _cut(self.cut, files, names, of_class)


@dataclass(frozen=True, eq=False)
class _Samples:
    """The file of each sample, what it is called, its class, and its crop where it is one."""

    files: Sequence[Path]
    names: Sequence[str]
    classes: Sequence[str] | None
    crops: Sequence[Crop] | None
    groups: Sequence[str] | None = None
    notes: Sequence[str] = ()

    @property
    def beside(self) -> dict[str, Sequence[Any]]:
        """Columns that tell which box of an image a sample is."""
        if self.crops is None:
            return {}
        of = [crop.detection for crop in self.crops]
        edges = zip(*(each.box for each in of), strict=True)
        names = ("x", "y", "width", "height")
        columns: dict[str, Sequence[Any]] = dict(zip(names, edges, strict=True))
        sure = ["" if each.confidence is None else each.confidence for each in of]
        return columns | {"category": [str(each.category) for each in of], "confidence": sure}

    def place(self, row: int) -> str:
        """What a sample is called in messages."""
        if self.crops is None:
            return self.names[row]
        box = ", ".join(f"{edge:g}" for edge in self.crops[row].detection.box)
        return f"{self.names[row]}, box {box}"


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
    are read where they are needed. ``progress`` is called for each file that was looked at. With
    boxes each crop is a sample, labelled by the sub-folder or, of COCO, by the category of its box;
    crops of one image are a group.

    Raises:
        DataError: no images, none of a class that can be read; boxes that do not fit.
        ParameterError: a size that the model does not take, numbers that do not fit the channels.
        MissingExtraError: Pillow is not installed.
    """
    pillow(folder)
    listed, cut = _listed(folder, images.crops, wanted)
    height, width = find_size(images, layout)
    channels = _find_channels(layout, height * width, listed.files)
    _check_scaling(images, layout, channels)
    usable = _usable(listed, cut, images.bits, progress)
    samples = usable.samples(folder)
    images = replace(images, bits=usable.bits or images.bits)
    areas = None if samples.crops is None else [crop.rectangle for crop in samples.crops]
    source = ImageFiles(folder, samples.files, (height, width), channels, images, layout, areas)
    labels = None if samples.classes is None else np.array(samples.classes, np.str_)
    groups = {} if samples.groups is None else {"group": np.array(samples.groups, np.str_)}
    return Table(
        LazySamples.of(source), Answers(labels, place=samples.place), aside=groups,
        notes=(*usable.notes, *samples.notes), files=tuple(samples.names), images=images,
        places=samples.beside,
    )  # fmt: skip


def _listed(folder: Path, crops: Crops | None, wanted: Wanted) -> tuple[Listing, Cut | None]:
    """The files with their classes, and where crops of them are.

    Raises:
        DataError: there are none, or how crops are cut is told without boxes.
    """
    if crops is None:
        return list_files(folder, wanted, IMAGES), None
    if crops.segments is None:
        raise ParameterError(
            f"{crops} are asked for without boxes, expected those of a detector: add segments=FILE"
        )
    boxes = read_boxes(crops.segments)
    if wanted.required and not boxes.labelled:
        listed = list_files(folder, wanted, IMAGES)
    else:
        check_no_part(wanted)
        listed = list_all(folder, IMAGES)
        if boxes.labelled:
            listed = replace(listed, classes=None)
    root = folder if folder.is_dir() else folder.parent
    cut = Cut.of(boxes, crops, listed.files, root)
    used = [at for at, file in enumerate(listed.files) if file in cut.of_file]
    classes = None if listed.classes is None else [listed.classes[at] for at in used]
    n_unnamed = len(listed.files) - len(used)
    notes = [*listed.notes, *cut.coverage(n_unnamed)]
    return Listing([listed.files[at] for at in used], classes, tuple(notes)), cut


def _usable(
    listed: Listing, cut: Cut | None, bits: int | None, progress: Progress | None
) -> _Images:
    """Look which images can be read.

    Raises:
        DataError: none of a class can.
    """
    files = listed.files
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
    counted = bits or depth(max(deep.values(), default=0))
    for at, pixel in deep.items():
        try:
            check_bits(files[at], pixel, counted)
        except UnusableError as error:
            bad[at] = error
    notes = [*listed.notes]
    if deep and counted < 16 and bits is None:
        notes.append(f"images of 16 bits are read as of {counted}, as no pixel is larger")
    notes += _left_out(listed, bad)
    used = [at for at in range(len(files)) if at not in bad]
    return _Images(listed, used, counted if deep else None, notes, cut)


def _cut(
    cut: Cut, files: Sequence[Path], names: Sequence[str], classes: Sequence[str] | None
) -> _Samples:
    """The crops of these images.

    Raises:
        DataError: there are none, or the boxes are of other images.
    """
    of: list[int] = []
    crops: list[Crop] = []
    for at, file in enumerate(files):
        own = cut.crops(file, upright(file))
        of += [at] * len(own)
        crops += own
    notes = cut.notes(crops)
    if not crops:
        raise DataError(
            f"{cut.boxes.path} has no box that counts ({'; '.join(notes)}), expected at least one: "
            "lower confidence=, or check category="
        )
    if cut.boxes.labelled:
        labels: Sequence[str] | None = [str(crop.detection.category) for crop in crops]
    else:
        labels = None if classes is None else [classes[at] for at in of]
        empty = sorted({*(classes or ())} - {*(labels or ())})
        if empty:
            notes.append(f"no crops in {listing(empty)}, which is no class then")
    groups: Sequence[str] | None = [names[at] for at in of]
    if cut.options.group is not None:
        groups = [cut.group(files[at]) for at in of]
    elif len({*of}) in (1, len(of)):
        groups = None
    return _Samples(
        [files[at] for at in of], [names[at] for at in of], labels, crops, groups, notes
    )


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
