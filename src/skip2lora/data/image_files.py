"""Image files: which can be read, and their pixels as numbers, read where they are needed."""

from __future__ import annotations

import hashlib
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.data.boxes import Rectangle, Upright
from skip2lora.data.file_folder import heif_is_read
from skip2lora.data.image_layout import Layout
from skip2lora.data.image_options import Images
from skip2lora.data.known import KnownDigests
from skip2lora.data.lazy import READ_BYTES
from skip2lora.data.unusable import UnusableError
from skip2lora.data.video_files import Frame, Reader
from skip2lora.errors import MissingExtraError, first_line
from skip2lora.limits import check_bytes
from skip2lora.tasks.columns import Checked

# What Pillow raises for files that are cut, changed or of another kind.
_BAD_IMAGE = (
    OSError, ValueError, SyntaxError, TypeError, LookupError, AttributeError, ArithmeticError,
    EOFError, RuntimeError, struct.error,
)  # fmt: skip
_END_OF_JPEG, _ORIENTATION = b"\xff\xd9", 0x0112  # of its EXIF: 1 is upright
_SOUND = bytes(32)  # what is remembered of a file of 8 bits that can be read


@dataclass(frozen=True)
class Piece:
    """What of a file is a sample: a ``frame`` of a video, an ``area`` of an image, None for all."""

    area: Rectangle | None = None
    frame: Frame | None = None


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Files in ``folder`` as samples, laid out as a model takes them; one at most stays in memory.

    ``pieces`` are what each is of its file, None where these are whole images: several samples of
    one file are then neighbours. They become ``size``, (height, width), of ``channels``,
    and numbers as ``images`` says, of which ``bits`` is known where there are images of 16.
    """

    folder: Path
    files: Sequence[Path]
    size: tuple[int, int]
    channels: int
    images: Images
    layout: Layout
    pieces: Sequence[Piece] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(samples, ...), as ``layout`` has the axes."""
        (height, width), channels = self.size, self.channels
        of = {"chw": (channels, height, width), "hw": self.size, "hwc": (*self.size, channels)}
        return (len(self.files), *of.get(self.layout.axes, (height * width * channels,)))

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 where a model reads whole numbers, else float32."""
        return np.dtype(np.uint8 if self.layout.integers else np.float32)

    def read(self, places: NDArray[np.intp]) -> NDArray[Any]:
        """The files at ``places`` as numbers, (places, ...).

        Raises:
            DataError: one of them cannot be read as an image.
            FileError: as numbers they take more than the memory allowed.
        """
        samples = np.empty((len(places), *self.shape[1:]), self.dtype)
        if samples.nbytes > READ_BYTES:  # asking costs more than reading a few
            check_bytes(self.folder, samples.nbytes)
        laid_out = np.moveaxis(samples, 1, -1) if self.layout.axes == "chw" else samples
        pixels = laid_out.reshape(len(places), *self.size, self.channels)
        for at in np.argsort(places, kind="stable"):  # a file is decoded once for its crops
            pixels[at] = self._numbers(int(places[at]))
        return samples

    def _numbers(self, place: int) -> NDArray[Any]:
        file = self.files[place]
        if self.pieces is None:
            image = self._decoded(file)
        else:
            piece = self.pieces[place]
            image = self._last.of(file, piece.frame, self._decoded)
            image = image if piece.area is None else image.crop(piece.area)
        pixels = _pixels(image, self.size)
        # A channel is one run of numbers, which is scaled three times as fast as three numbers are.
        channels = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
        return np.moveaxis(
            channels if self.layout.integers else _normal(channels, self.images), 0, -1
        )

    def _decoded(self, file: Path, frame: Frame | None = None) -> Any:
        """A whole image or frame, upright, grey or in colour, of 8 bits a channel."""
        image = opened(file) if frame is None else self._reader.frame(file, frame.stamp)
        if image.mode.startswith("I"):
            bits = self.images.bits or 16
            check_bits(file, largest(image, file), bits)
            image = _shallow(image, bits)
        if "transparency" in image.info:
            image = image.convert("RGBA")
        return image.convert("L" if self.channels == 1 else "RGB")

    @cached_property
    def _reader(self) -> Reader:
        return Reader()

    @cached_property
    def _last(self) -> _Last:
        return _Last()

    def digests(self, places: NDArray[np.intp], known: KnownDigests | None = None) -> list[bytes]:
        """SHA-256 of each file, its piece and how it becomes numbers: nothing is decoded.

        What ``known`` remembers is not read.

        Raises:
            DataError: one of them cannot be read.
        """
        if self.pieces is None:
            return [self._digest(self.files[place], known) for place in places]
        of_file, last = b"", None
        digests = {}
        for place in sorted(set(places.tolist())):
            file = self.files[place]
            if file != last:
                of_file, last = self._digest(file, known), file
            digests[place] = of_file
            if self.pieces[place] != Piece():
                about = f"{self.pieces[place]}".encode()
                digests[place] = hashlib.sha256(of_file + about).digest()
        return [digests[place] for place in places.tolist()]

    def _digest(self, file: Path, known: KnownDigests | None) -> bytes:
        hashed = partial(self._hashed, file)
        try:
            there = None if known is None else known.of_file(file, self._about, hashed)
            return there or hashed()
        except OSError as error:
            raise UnusableError(file, error.strerror or str(error)) from error

    def _hashed(self, file: Path) -> bytes:
        digest = hashlib.sha256(self._about.encode())
        with file.open("rb") as stream:
            while content := stream.read(READ_BYTES):
                digest.update(content)
        return digest.digest()

    @cached_property
    def _about(self) -> str:
        about = (self.shape[1:], self.dtype.str, self.images.scale, self.images.bits, self.layout)
        return f"{about} {_version()}"


class _Last:
    """The image that was decoded last, of which there may be more to cut."""

    def __init__(self) -> None:
        self._last: tuple[tuple[Path, Frame | None] | None, Any] = (None, None)

    def of(
        self, file: Path, frame: Frame | None, decoded: Callable[[Path, Frame | None], Any]
    ) -> Any:
        """The image of a file, or one of its frames."""
        known, image = self._last
        if known != (file, frame):
            self._last = (None, None)  # which is in memory beside no other
            image = decoded(file, frame)
            self._last = ((file, frame), image)
        return image


def _version() -> str:
    """Of what decodes and resizes: another may round pixels otherwise."""
    import PIL

    return f"Pillow {PIL.__version__}"


def pillow(path: Path) -> Any:
    """The module that reads images.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(
            f"reading the images in {path} needs Pillow: pip install 'skip2lora[image]', "
            "or use .npz"
        ) from error
    _register_heif()
    return Image


@cache
def _register_heif() -> None:
    """Once: to look for what reads ``.heic`` takes a tenth as long as to read an image."""
    if heif_is_read():
        from pillow_heif import register_heif_opener

        register_heif_opener()


@contextmanager
def head(file: Path) -> Iterator[Any]:
    """Yield what Pillow makes of a file, whose pixels are yet to be read.

    Raises:
        DataError: it makes nothing of it, here or within.
    """
    module = pillow(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata beside pixels that can be read
            warnings.simplefilter("error", module.DecompressionBombWarning)
            with module.open(file) as image:
                yield image
    except (*_BAD_IMAGE, module.DecompressionBombError, module.DecompressionBombWarning) as error:
        reason = first_line(error).replace(str(file), file.name) or type(error).__name__
        raise UnusableError(file, reason) from error


def is_grey(file: Path) -> bool:
    """Whether its pixels are of one number, as its head says."""
    try:
        with head(file) as image:
            return str(image.mode) in ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")
    except UnusableError:
        return True  # it is left out, and says nothing


def upright(file: Path) -> Upright:
    """How large an image is once it is turned by its EXIF orientation.

    Raises:
        DataError: it cannot be read.
    """
    with head(file) as image:
        size, orientation = (image.width, image.height), image.getexif().get(_ORIENTATION, 1)
    if orientation not in range(1, 9):  # as where it is turned
        orientation = 1
    width, height = size[::-1] if orientation >= 5 else size
    return Upright(file.name, width, height, orientation)


def check_image(file: Path, checked: Checked | None = None) -> int | None:
    """Look whether a file can be read; of one of more than 8 bits the largest pixel, else None.

    That takes less than reading it, where its kind allows, and finds what was cut off or changed.
    One of 8 bits that ``checked`` remembers is not looked at.

    Raises:
        DataError: it cannot.
    """
    if checked is None:
        return _pixel(file)
    largest_pixels = list[int]()

    def look() -> bytes | None:
        pixel = _pixel(file)
        if pixel is None:
            return _SOUND
        largest_pixels.append(pixel)
        return None

    try:
        checked.of_file(file, f"sound {_version()}", look)
    except OSError as error:
        raise UnusableError(file, error.strerror or str(error)) from error
    return max(largest_pixels, default=None)


def _pixel(file: Path) -> int | None:
    if _is_sound(file):
        return None
    image = opened(file, small=True)
    return largest(image, file) if image.mode.startswith("I") else None


def _is_sound(file: Path) -> bool:
    """Whether it is a .jpg with its end, or a .png of 8 bits with right checksums, and upright."""
    with head(file) as image:
        _check_pixels(image, file)
        content = file.read_bytes()
        if image.format == "JPEG":
            return content.endswith(_END_OF_JPEG) and image.getexif().get(_ORIENTATION, 1) == 1
        if image.format != "PNG" or image.mode.startswith("I") or _n_frames(image) > 1:
            return False
        if b"eXIf" in content or b"exif" in content:
            return False
        image.verify()
    return True


def _n_frames(image: Any) -> int:
    """Pictures in a file; a camera keeps its preview in an .mpo, which comes second."""
    return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))


def _check_pixels(image: Any, file: Path) -> None:
    n_bytes = 4 * image.width * image.height
    if n_bytes > READ_BYTES:
        check_bytes(file, n_bytes)


def opened(file: Path, *, small: bool = False) -> Any:
    """One image as its EXIF orientation says, in the mode of the file.

    A ``small`` one may be reduced and without colours, as fast as its kind allows.

    Raises:
        DataError: it cannot be read, or is no single picture of whole numbers.
    """
    from PIL import ImageOps

    with head(file) as picture:
        n_frames = _n_frames(picture)
        _check_pixels(picture, file)
        if small:
            picture.draft("L", (1, 1))
        picture.load()
        image = ImageOps.exif_transpose(picture)
    if n_frames > 1:
        raise UnusableError(file, f"{n_frames} pictures, where one counts")
    if image.mode == "F":
        raise UnusableError(file, "pixels of floating point, not of 8 or 16 bits")
    return image


def largest(image: Any, file: Path) -> int:
    """The largest pixel of an image of more than 8 bits.

    Raises:
        DataError: it has pixels beyond 16 bits.
    """
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        reason = f"pixels from {values.min()} to {values.max()}, beyond 16 bits"
        raise UnusableError(file, reason)
    return int(values.max())


def depth(pixel: int) -> int:
    """How many bits cameras and sensors give, whose largest pixel this is: 8 to 16."""
    return next(bits for bits in (8, 10, 12, 14, 16) if pixel < 1 << bits)


def check_bits(file: Path, pixel: int, bits: int) -> None:
    """Raise DataError where the largest ``pixel`` of a file has more than ``bits``."""
    if pixel >> bits:
        reason = f"pixels up to {pixel}, beyond the {bits} bits that others had"
        raise UnusableError(file, reason)


def _shallow(image: Any, bits: int) -> Any:
    """An image of more than 8 bits, of which ``bits`` count, in 8."""
    values = np.asarray(image).astype(np.int64) >> (bits - 8)
    return pillow(Path()).fromarray(values.astype(np.uint8))


def _pixels(image: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    """One image in 8 bits as (height, width, channels)."""
    if image.size != size[::-1]:
        image = image.resize(size[::-1], pillow(Path()).Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(*size, -1)


def _normal(channels: NDArray[np.uint8], images: Images) -> NDArray[np.float32]:
    """(channels, height, width) of 0 to 255 as numbers of the scale asked for."""
    values = channels.astype(np.float32)
    values /= np.float32(255)
    if images.scaled:
        mean, std = images.scale
        values -= np.array(mean, np.float32)[:, None, None]
        values /= np.array(std, np.float32)[:, None, None]
    return values
