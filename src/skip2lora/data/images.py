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
from skip2lora.data.boxes import Upright
from skip2lora.data.crops import Crop, Cut
from skip2lora.data.detections import Detection, read_boxes
from skip2lora.data.file_folder import (
    FRAMES,
    IMAGES,
    Listing,
    list_all,
    list_files,
    readable,
    videos_alone,
)
from skip2lora.data.image_files import (
    ImageFiles,
    Piece,
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
from skip2lora.data.unusable import UnusableError
from skip2lora.data.video_files import Video, is_video, look_at
from skip2lora.errors import DataError, ParameterError
from skip2lora.tasks.columns import Checked, Wanted
from skip2lora.tasks.task import Answers

#: Called with the images looked at so far and their number.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class _Images:
    """Files that can be read, their classes, and the videos among them.

    Which of 16 ``bits`` count is None where no image has 16. ``cut`` is what says where crops are.
    """

    files: Sequence[Path]
    classes: Sequence[str] | None
    videos: Mapping[Path, Video]
    bits: int | None
    notes: list[str]
    cut: Cut | None

    def samples(self, folder: Path, every: float | None) -> _Samples:
        """Whole images and frames, or crops of them.

        Raises:
            DataError: there are no crops, or the boxes are of other images.
        """
        root = folder if folder.is_dir() else folder.parent
        names = [readable(str(file.relative_to(root))) for file in self.files]
        if self.cut is not None:
            return _cut(self, self.cut, names)
        of: list[int] = []
        pieces: list[Piece] = []
        for at, file in enumerate(self.files):
            frames = self.videos[file].every(every or 1.0) if file in self.videos else [None]
            of += [at] * len(frames)
            pieces += [Piece(frame=frame) for frame in frames]
        notes = []
        if self.videos:
            n_frames, n_videos = sum(each.frame is not None for each in pieces), len(self.videos)
            s = "s" * (n_videos != 1)
            notes.append(f"{n_frames} frames of {n_videos} video{s}, every {every:g} s")
        labels = None if self.classes is None else [self.classes[at] for at in of]
        return _Samples.of(self, names, of, labels, pieces, None, notes)


@dataclass(frozen=True, eq=False)
class _Samples:
    """The file of each sample, what it is called, its class, and what of the file it is.

    ``detections`` are those that crops were cut by.
    """

    files: Sequence[Path]
    names: Sequence[str]
    classes: Sequence[str] | None
    pieces: Sequence[Piece] | None
    detections: Sequence[Detection] | None
    groups: Sequence[str] | None
    notes: Sequence[str]

    @classmethod
    def of(
        cls, images: _Images, names: Sequence[str], at: Sequence[int],
        classes: Sequence[str] | None, pieces: Sequence[Piece],
        detections: Sequence[Detection] | None, notes: Sequence[str],
    ) -> _Samples:  # fmt: skip
        """Those of the files ``at`` places; several of one file are a group, unless all are."""
        several = 1 < len({*at}) < len(at)
        return cls(
            [images.files[each] for each in at], [names[each] for each in at], classes,
            pieces if any(piece != Piece() for piece in pieces) else None, detections,
            [names[each] for each in at] if several else None, notes,
        )  # fmt: skip

    @property
    def beside(self) -> dict[str, Sequence[Any]]:
        """Columns that tell which frame of a video, and which box, a sample is."""
        columns: dict[str, Sequence[Any]] = {}
        frames = [piece.frame for piece in self.pieces or ()]
        if any(frames):
            columns["time"] = [f"{each.seconds:.3f}" if each else "" for each in frames]
        if self.detections is not None:
            names = ("x", "y", "width", "height")
            edges = zip(*(each.box for each in self.detections), strict=True)
            columns |= zip(names, edges, strict=True)
            columns["category"] = [str(each.category) for each in self.detections]
            sure = [each.confidence for each in self.detections]
            columns["confidence"] = ["" if each is None else each for each in sure]
        return columns

    def place(self, row: int) -> str:
        """What a sample is called in messages."""
        frame = None if self.pieces is None else self.pieces[row].frame
        name = self.names[row] + (f" at {frame.seconds:.2f} s" if frame else "")
        if self.detections is None:
            return name
        box = ", ".join(f"{edge:g}" for edge in self.detections[row].box)
        return f"{name}, box {box}"


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
    are read where they are needed. ``progress`` is called for each file that was looked at. Of a
    video each frame that is seen every so many seconds is a sample. With boxes each crop is a
    sample, labelled by the sub-folder or, of COCO, by the category of its box. Crops of one image
    are a group, as are frames of one video.

    Raises:
        DataError: no images, none of a class that can be read; boxes that do not fit.
        ParameterError: a size that the model does not take, numbers that do not fit the channels.
        MissingExtraError: Pillow, or PyAV for videos, is not installed.
    """
    pillow(folder)
    listed, cut = _listed(folder, images, wanted)
    height, width = find_size(images, layout)
    channels = _find_channels(layout, height * width, listed.files)
    _check_scaling(images, layout, channels)
    usable = _usable(listed, cut, images.bits, progress, wanted.checked)
    samples = usable.samples(folder, images.every)
    images = replace(images, bits=usable.bits or images.bits)
    source = ImageFiles(
        folder, samples.files, (height, width), channels, images, layout, samples.pieces
    )
    labels = None if samples.classes is None else np.array(samples.classes, np.str_)
    groups = {} if samples.groups is None else {"group": np.array(samples.groups, np.str_)}
    return Table(
        LazySamples.of(source), Answers(labels, place=samples.place), aside=groups,
        notes=(*usable.notes, *samples.notes), files=tuple(samples.names), images=images,
        places=samples.beside,
    )  # fmt: skip


def _listed(folder: Path, images: Images, wanted: Wanted) -> tuple[Listing, Cut | None]:
    """The files with their classes, and where crops of them are.

    Raises:
        DataError: there are none.
        ParameterError: how crops are cut is told without boxes, or nothing of the frames of videos.
    """
    crops, kind = images.crops, IMAGES if images.every is None else FRAMES
    if crops is None:
        if kind is IMAGES and videos_alone(folder):
            raise ParameterError(
                "every= is missing, it has videos, expected how many seconds lie between frames "
                "that are samples: add every=SECONDS, such as every=1"
            )
        return list_files(folder, wanted, kind), None
    if crops.segments is None:
        raise ParameterError(
            f"{crops} are asked for without boxes, expected those of a detector: add segments=FILE"
        )
    boxes = read_boxes(crops.segments)
    if any(each.frame is not None for image in boxes.images for each in image.detections):
        kind = FRAMES
    if wanted.required and not boxes.labelled:
        listed = list_files(folder, wanted, kind)
    else:
        check_no_part(wanted)
        listed = list_all(folder, kind)
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
    listed: Listing,
    cut: Cut | None,
    bits: int | None,
    progress: Progress | None,
    checked: Checked | None,
) -> _Images:
    """Look which images can be read.

    Raises:
        DataError: none of a class can.
    """
    files = listed.files
    bad: dict[int, UnusableError] = {}
    deep: dict[int, int] = {}  # the largest pixel of each with 16 bits
    videos: dict[Path, Video] = {}
    for at, file in enumerate(files):
        try:
            if is_video(file):
                videos[file] = look_at(file)
            elif (pixel := check_image(file, checked)) is not None:
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
    short = sum(video.missing > 0 for video in videos.values())
    if short:
        notes.append(f"{short} of {len(videos)} videos end before their head says")
    used = [at for at in range(len(files)) if at not in bad]
    classes = None if listed.classes is None else [listed.classes[at] for at in used]
    bits = counted if deep else None
    return _Images([files[at] for at in used], classes, videos, bits, notes, cut)


def _cut(images: _Images, cut: Cut, names: Sequence[str]) -> _Samples:
    """The crops of these images.

    Raises:
        DataError: there are none, or the boxes are of other images.
    """
    of: list[int] = []
    crops: list[Crop] = []
    for at, file in enumerate(images.files):
        video = images.videos.get(file)
        whole = upright(file) if video is None else Upright(file.name, video.width, video.height)
        own = cut.crops(file, whole, video)
        of += [at] * len(own)
        crops += own
    notes, classes = cut.notes(crops), images.classes
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
    pieces = [Piece(crop.rectangle, crop.frame) for crop in crops]
    detections = [crop.detection for crop in crops]
    samples = _Samples.of(images, names, of, labels, pieces, detections, notes)
    if cut.options.group is None:
        return samples
    return replace(samples, groups=[cut.group(images.files[at]) for at in of])


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
    """Numbers of files and sizes, from the heads of the files, and what was left out.

    Raises:
        DataError: as :func:`read_images`.
    """
    pillow(folder)
    kind = FRAMES if videos_alone(folder) else IMAGES
    listed = list_files(folder, Wanted(labels_required=False, usual_split="train"), kind)
    bad: dict[int, UnusableError] = {}
    sizes: dict[int, tuple[int, int]] = {}
    for at, file in enumerate(listed.files):
        try:
            if kind is FRAMES:
                video = look_at(file)
                sizes[at] = (video.height, video.width)
                continue
            with head(file) as image:
                sizes[at] = (image.height, image.width)
        except UnusableError as error:
            bad[at] = error
    notes = [*listed.notes, *_left_out(listed, bad)]
    counts = None if listed.classes is None else Counter(listed.classes[at] for at in sizes)
    return {
        "kind": "videos" if kind is FRAMES else "images",
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
        return 1 if all(not is_video(file) and is_grey(file) for file in files) else 3
    for channels in CHANNELS:
        if channels * n_pixels == layout.n_features:
            return channels
    raise ParameterError(
        f"size= gives {n_pixels} pixels, the model takes rows of {layout.n_features} numbers, "
        f"expected {layout.n_features} pixels (grey) or a third (colour): correct size="
    )
