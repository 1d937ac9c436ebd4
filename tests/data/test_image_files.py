"""Image files as samples: looked at first, read where they are needed."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from skip2lora.data.image_files import ImageFiles, check_image
from skip2lora.data.image_layout import Layout
from skip2lora.data.image_options import Images
from skip2lora.data.lazy import LazySamples
from skip2lora.data.reading import read_table
from skip2lora.errors import DataError, FileError

SIZE = (40, 48)
CHW = Layout("chw", *SIZE, 3)
KINDS = ("png", "jpg", "bmp", "gif", "tif", "webp")


def picture(seed: int = 0) -> Image.Image:
    smooth = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(smooth).resize(SIZE[::-1], Image.Resampling.BICUBIC)


def content(kind: str) -> bytes:
    stream = io.BytesIO()
    picture().save(stream, "jpeg" if kind == "jpg" else "tiff" if kind == "tif" else kind)
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for at in range(6):
        file = tmp_path / "ab"[at % 2] / f"{at}.png"
        file.parent.mkdir(exist_ok=True)
        picture(at).save(file)
    return tmp_path


def files_of(folder: Path, **of: Any) -> ImageFiles:
    files = sorted(folder.rglob("*.*"))
    known = {"size": SIZE, "channels": 3, "images": Images(), "layout": CHW}
    return ImageFiles(folder, files, **{**known, **of})


def test_no_pixel_of_a_png_is_read_before_it_is_needed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    load = ImageFile.ImageFile.load

    def counted(image: Any) -> Any:
        decoded.append(Path(image.filename).name)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", counted)
    table = read_table(folder, layout=CHW)
    assert isinstance(table.x, LazySamples)
    assert table.x.shape == (6, 3, *SIZE)
    assert decoded == []
    some = table.x[2:4].read()
    assert {*decoded} == {"4.png", "1.png"}
    whole = np.stack([np.asarray(picture(at)) for at in (4, 1)]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(some, whole.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_cut_off_is_seen_without_its_pixels(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"a.{kind}"
    whole = content(kind)
    file.write_bytes(whole)
    assert check_image(file) is None
    for share in (0.2, 0.5, 0.9):
        file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match=f"a.{kind} cannot be read as an image"):
            check_image(file)


@pytest.mark.parametrize("orientation", [None, 1, 6])
@pytest.mark.parametrize("end", [b"", b"more of a camera"])
def test_a_jpeg_is_looked_at_small_if_at_all(
    end: bytes, orientation: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As fast as its kind allows: an eighth of each side is decoded where its end is unusual."""
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    picture().save(tmp_path / "a.jpg", exif=exif)
    with (tmp_path / "a.jpg").open("ab") as stream:
        stream.write(end)
    sizes: list[Any] = []
    load = ImageFile.ImageFile.load

    def seen(image: Any) -> Any:
        sizes.append((image.size, image.mode))
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", seen)
    assert check_image(tmp_path / "a.jpg") is None
    assert {*sizes} == ({((6, 5), "L")} if end or orientation == 6 else set())


def lying_png() -> bytes:
    """Every checksum is right, and the pixels do not suffice."""
    stream = io.BytesIO()
    picture().save(stream, "png")
    whole = stream.getvalue()
    start = whole.index(b"IDAT") - 4
    packed = zlib.compress(b"\0" * 100)
    chunk = b"IDAT" + packed
    changed = len(packed).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return whole[:start] + changed + whole[whole.index(b"IEND") - 4 :]


def test_what_only_reading_shows_is_refused_by_its_name(folder: Path) -> None:
    (folder / "b" / "3.png").write_bytes(lying_png())
    table = read_table(folder, layout=CHW)
    assert len(table.x) == 6
    with pytest.raises(DataError) as caught:
        table.x[2:].read()
    message = str(caught.value)
    assert message.startswith("b/3.png cannot be read as an image (")
    assert message.endswith("expected a whole image such as .png or .jpg: replace or remove it")
    table.x[:2].read()


def test_what_is_gone_later_is_refused(folder: Path) -> None:
    table = read_table(folder, layout=CHW)
    (folder / "b" / "3.png").unlink()
    for use in (table.x.read, table.x.digests):
        with pytest.raises(DataError, match=r"b/3\.png cannot be read as an image \("):
            use()


def test_more_than_the_memory_allowed_is_not_held(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIP2LORA_MAX_BYTES", str(3 * 4 * 3 * SIZE[0] * SIZE[1]))
    monkeypatch.setattr("skip2lora.data.image_files.READ_BYTES", 1)
    x = read_table(folder, layout=CHW).x
    assert x[:3].read().shape == (3, 3, *SIZE)
    with pytest.raises(FileError, match="MB of memory or more"):
        x.read()


def test_a_digest_is_that_of_the_file_and_of_what_becomes_of_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "open", None)  # nothing is decoded
    places = np.arange(6)
    digests = files_of(folder).digests(places)
    assert len({*digests}) == 6
    assert files_of(folder).digests(places[::-1]) == digests[::-1]
    others = [
        files_of(folder, images=Images(mean=(0.5,))),
        files_of(folder, images=Images(std=(0.5,))),
        files_of(folder, size=(20, 24)),
        files_of(folder, layout=Layout("hwc", *SIZE, 3)),
        files_of(folder, layout=Layout("chw", *SIZE, 3, integers=True)),
        files_of(folder, images=Images(bits=12)),
    ]
    for other in others:
        assert not {*digests} & {*other.digests(places)}
    file = files_of(folder).files[1]
    file.write_bytes(file.read_bytes() + b"\0")
    changed = files_of(folder).digests(places)
    assert [one == other for one, other in zip(digests, changed, strict=True)].count(False) == 1
