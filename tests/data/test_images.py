"""Folders of images: what becomes of a pixel, which files are read, what is refused."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from skip2lora.backbones.inputs import InputSpec
from skip2lora.data.image_layout import Layout
from skip2lora.data.image_options import Images
from skip2lora.data.images import describe_images
from skip2lora.data.reading import read_samples, read_table
from skip2lora.errors import DataError, MissingExtraError, ParameterError, Skip2LoraError

CHW = Layout("chw", 4, 6, 3)
RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (4, 6, 3), np.uint8)
GREY = RANDOM.integers(0, 256, (4, 6), np.uint8)


def save(path: Path, pixels: Any, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def folder(root: Path, *classes: str, pixels: Any = COLOUR) -> Path:
    for name in classes:
        save(root / name / "1.png", pixels)
    return root


def read(root: Path, layout: Layout = CHW, images: Images | None = None, **options: Any) -> Any:
    return read_samples(root, layout=layout, images=images, **options)


def refusal(root: Path, kind: type[Skip2LoraError] = DataError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        read(root, **options)
    assert "\n" not in str(caught.value)
    assert "expected" in str(caught.value) or "such as" in str(caught.value), caught.value
    return str(caught.value)


def test_classes_and_files_are_sorted(tmp_path: Path) -> None:
    for number, name in enumerate(("b/2.png", "a/9.png", "b/1.png", "a/10.png")):
        save(tmp_path / name, np.full((4, 6, 3), number, np.uint8))
    samples = read(tmp_path)
    assert samples.class_names == ("a", "b")
    assert samples.y.tolist() == [0, 0, 1, 1]
    assert (samples.x[:, 0, 0, 0] * 255).round().tolist() == [3, 1, 2, 0]


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (Layout("chw", 4, 6, 3), COLOUR.transpose(2, 0, 1)),
        (Layout("hwc", 4, 6, 3), COLOUR),
        (Layout("flat", n_features=72), COLOUR.reshape(-1)),
    ],
    ids=["chw", "hwc", "flat"],
)
def test_layouts(tmp_path: Path, layout: Layout, expected: Any) -> None:
    images = Images(size=(4, 6)) if layout.axes == "flat" else None
    samples = read(folder(tmp_path, "a", "b"), layout, images)
    assert samples.x.dtype == np.float32
    np.testing.assert_array_equal(samples.x[1], expected.astype(np.float32) / np.float32(255))
    whole = read(tmp_path, Layout(**{**vars(layout), "integers": True}), images)
    assert whole.x.dtype == np.uint8
    np.testing.assert_array_equal(whole.x[0], expected)


def test_grey_layouts(tmp_path: Path) -> None:
    folder(tmp_path, "a", "b", pixels=GREY)
    for layout, shape in ((Layout("hw", 4, 6, 1), (4, 6)), (Layout("chw", 4, 6, 1), (1, 4, 6))):
        samples = read(tmp_path, Layout(**{**vars(layout), "integers": True}))
        np.testing.assert_array_equal(samples.x[0], GREY.reshape(shape))
    rows = read(tmp_path, Layout("flat"), Images(size=(4, 6)))  # as many channels as the files have
    assert rows.x.shape == (2, 24)
    assert read(folder(tmp_path, "c"), Layout("flat"), Images(size=(4, 6))).x.shape == (3, 72)


def test_mean_and_std_are_of_pixels_from_0_to_1(tmp_path: Path) -> None:
    folder(tmp_path, "a", "b")
    images = Images(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    expected = (COLOUR / 255 - np.array(images.mean)) / np.array(images.std)
    for layout in (CHW, Layout("hwc", 4, 6, 3)):
        made = read(tmp_path, layout, images).x[0]
        made = made.transpose(1, 2, 0) if layout is CHW else made
        np.testing.assert_allclose(made, expected, atol=1e-6)
    to_255 = read(tmp_path, CHW, Images.parse(None, None, "1/255")).x[0]
    np.testing.assert_allclose(to_255, COLOUR.transpose(2, 0, 1), rtol=1e-6)


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    for name in ("a", "b"):
        save(tmp_path / name / "1.png", np.rot90(COLOUR).copy(), exif=exif)
    samples = read(tmp_path, Layout("hwc", 4, 6, 3, integers=True))
    np.testing.assert_array_equal(samples.x[0], COLOUR)


def test_grey_alpha_palette_and_16_bits_are_converted(tmp_path: Path) -> None:
    see_through = np.dstack([COLOUR, np.zeros((4, 6), np.uint8)])
    palette = Image.fromarray(COLOUR).quantize(24)  # as many colours as pixels: exact
    save(tmp_path / "a" / "1grey.png", GREY)
    save(tmp_path / "a" / "2alpha.png", see_through)
    save(tmp_path / "a" / "3palette.png", palette, transparency=bytes(range(24)))
    save(tmp_path / "b" / "4deep.png", GREY.astype(np.uint16) * 256 + 255)
    x = read(tmp_path, Layout("hwc", 4, 6, 3, integers=True)).x
    np.testing.assert_array_equal(x[0], np.dstack([GREY] * 3))
    np.testing.assert_array_equal(x[1], COLOUR)
    np.testing.assert_array_equal(x[2], np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(x[3], np.dstack([GREY] * 3))
    grey = read(tmp_path, Layout("hw", 4, 6, 1, integers=True)).x
    np.testing.assert_array_equal(grey[1], np.asarray(Image.fromarray(COLOUR).convert("L")))


def test_other_sizes_are_resized_whole_and_bilinearly(tmp_path: Path) -> None:
    wide = RANDOM.integers(0, 256, (9, 30, 3), np.uint8)
    folder(tmp_path, "a", "b", pixels=wide)
    x = read(tmp_path, Layout("hwc", 4, 6, 3, integers=True)).x
    expected = Image.fromarray(wide).resize((6, 4), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(x[0], np.asarray(expected))
    assert read(tmp_path, Layout("chw", None, None, 3), Images(size=(5, 7))).x.shape == (2, 3, 5, 7)


def test_a_folder_without_sub_folders_has_no_labels(tmp_path: Path) -> None:
    save(tmp_path / "b.png", COLOUR)
    save(tmp_path / "a.png", COLOUR)
    samples = read(tmp_path, labels_required=False)
    assert samples.x.shape == (2, 3, 4, 6)
    assert samples.y is None


def test_numbers_as_names_are_numbers_of_classes(tmp_path: Path) -> None:
    samples = read(folder(tmp_path, "10", "2"))
    assert (samples.y.tolist(), samples.class_names) == ([10, 2], None)


def test_names_are_numbered_as_the_model_does(tmp_path: Path) -> None:
    folder(tmp_path, "ant", "bee")
    assert read(tmp_path, class_names=("cat", "bee", "ant")).y.tolist() == [2, 1]
    message = refusal(tmp_path, class_names=("cat", "bee"))
    assert 'label "ant", expected one of cat, bee' in message
    assert "ant/1.png" in message


def test_dot_files_and_notes_beside_the_classes_are_left_out(tmp_path: Path) -> None:
    folder(tmp_path, "a", "b")
    for name in ("README.txt", ".DS_Store", "a/.hidden", "a/Thumbs.db"):
        (tmp_path / name).write_text("no image")
    (tmp_path / ".cache").mkdir()
    assert len(read(tmp_path).x) == 2


def test_progress_is_told(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    read(folder(tmp_path, "a", "b"), progress=lambda *at: seen.append(at))
    assert seen == [(1, 2), (2, 2)]


def test_nothing_to_read(tmp_path: Path) -> None:
    assert "nothing in it" in refusal(tmp_path)
    assert "nothing in it" in refusal(tmp_path, labels_required=False)
    save(tmp_path / "1.png", COLOUR)
    assert "1 files and no sub-folder" in refusal(tmp_path)
    (tmp_path / "a").mkdir()
    assert "a has no images, expected at least one" in refusal(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "hum.wav").touch()
    said = refusal(tmp_path)
    assert "a, b have no images but 1 other files (hum.wav), expected images" in said
    assert "an .npz of what the model takes" in said


def broken_images() -> dict[str, bytes]:
    stream = io.BytesIO()
    Image.fromarray(COLOUR).save(stream, "png")
    whole = stream.getvalue()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    bad = {"text": b"just text", "empty": b"", "half": whole[: len(whole) // 2], "head": whole[:40]}
    return bad | {"flipped": bytes(flipped)}


@pytest.mark.parametrize("kind", broken_images())
def test_images_that_cannot_be_read_are_listed_in_one_go(kind: str, tmp_path: Path) -> None:
    folder(tmp_path, "a", "b")
    content = broken_images()[kind]
    (tmp_path / "b" / "0.png").write_bytes(content)
    (tmp_path / "a" / "9.png").write_bytes(content)
    samples = read(tmp_path)
    assert samples.y.tolist() == [0, 1]
    np.testing.assert_allclose(samples.x[1], COLOUR.transpose(2, 0, 1) / 255, rtol=1e-6)
    note = samples.notes[-1]
    assert note.startswith(f"{tmp_path}: 2 images that cannot be read left out: a/9.png (")
    assert "), b/0.png (" in note
    (tmp_path / "b" / "1.png").write_bytes(content)
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path}: no image of b can be read (a/9.png (")
    assert message.count(str(tmp_path)) == 1
    assert "b/1.png (" in message


def test_damaged_metadata_warn_nobody(tmp_path: Path) -> None:
    """Pixels that can be read are read; an orientation that cannot is a damaged image."""
    exif = Image.Exif()
    exif[0x0112] = 6
    folder(tmp_path, "a", "b")
    n_read = set()
    for cut in range(8, 26, 3):
        save(tmp_path / "a" / "2.png", COLOUR, exif=exif.tobytes()[:cut])
        samples = read(tmp_path)
        assert (len(samples.x) == 2) == ("a/2.png (" in " ".join(samples.notes))
        n_read.add(len(samples.x))
    assert n_read == {2, 3}


@pytest.mark.skipif(not features.check("avif"), reason="Pillow has no AVIF")
def test_a_damaged_avif(tmp_path: Path) -> None:
    folder(tmp_path, "a", "b")
    whole = save(tmp_path / "a" / "2.avif", COLOUR).read_bytes()
    for at in range(40, len(whole), 7):
        (tmp_path / "a" / "2.avif").write_bytes(whole[:at] + b"\xff\0" + whole[at + 2 :])
        assert len(read(tmp_path).x) in (2, 3)


def test_images_that_are_no_single_picture_of_8_or_16_bits(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 6), value, np.uint8)) for value in (0, 200)]
    folder(tmp_path, "a", "b")
    save(tmp_path / "b" / "2.gif", frames[0], save_all=True, append_images=frames[1:])
    save(tmp_path / "b" / "3.tif", np.full((4, 6), 1 << 20, np.int32))
    save(tmp_path / "b" / "4.tif", np.full((4, 6), 0.5, np.float32))
    (tmp_path / "b" / "5.png").symlink_to(tmp_path / "gone.png")
    note = read(tmp_path).notes[-1]
    assert "b/2.gif (2 pictures" in note
    assert "b/3.tif (pixels from 1048576 to 1048576" in note
    assert "b/4.tif (pixels of floating point" in note
    assert "b/5.png (" in note
    assert describe_images(tmp_path)["samples_a_class"] == {"a": 1, "b": 4}


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    assert "exceeds limit of 20 pixels" in refusal(folder(tmp_path, "a", "b"))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_fewer_bits_in_16(bits: int, tmp_path: Path) -> None:
    folder(tmp_path, "a", "b")
    pixels = (GREY.astype(np.uint16) << (bits - 8)) + ((1 << (bits - 8)) - 1)
    pixels[0, 0] = (1 << bits) - 1
    save(tmp_path / "b" / "deep.png", pixels)
    save(tmp_path / "b" / "deepdark.png", pixels >> 2)  # dark, not of fewer bits
    layout = Layout("hw", 4, 6, 1, integers=True)
    samples = read_table(tmp_path, layout=layout)
    np.testing.assert_array_equal(np.asarray(samples.x)[2], pixels >> (bits - 8))
    np.testing.assert_array_equal(np.asarray(samples.x)[3], (pixels >> 2) >> (bits - 8))
    assert any("images of 16 bits are read as of" in note for note in samples.notes) == (bits < 16)
    assert samples.images is not None
    assert samples.images.bits == bits
    saved = Images.from_json(samples.images.resolved([InputSpec("x", (4, 6), "uint8")]).to_json())
    assert saved.bits == bits
    (tmp_path / "b" / "deep.png").unlink()  # as an adapter was made, whatever comes later
    later = read_table(tmp_path, layout=layout, images=Images().following(saved))
    np.testing.assert_array_equal(np.asarray(later.x)[2], (pixels >> 2) >> (bits - 8))
    if bits < 16:
        save(tmp_path / "b" / "deep.png", np.full((4, 6), 1 << bits, np.uint16))
        later = read_table(tmp_path, layout=layout, images=Images().following(saved))
        assert f"b/deep.png (pixels up to {1 << bits}, beyond" in later.notes[-1]


def test_one_image(tmp_path: Path) -> None:
    path = save(tmp_path / "photo.PNG", COLOUR)
    samples = read(path, labels_required=False)
    assert samples.x.shape == (1, 3, 4, 6)
    assert samples.y is None
    path.write_text("text")
    assert "photo.PNG cannot be read" in refusal(path, labels_required=False)


def test_size(tmp_path: Path) -> None:
    folder(tmp_path, "a", "b")
    fixed = Images(size=(4, 7))
    assert "size= is 4x7, the model takes 4x6" in _parameter(tmp_path, CHW, fixed)
    open_size = Layout("chw", None, None, 3)
    assert "size= is missing, the model takes images of any size" in _parameter(
        tmp_path, open_size, None
    )
    rows = Layout("flat", n_features=30)
    assert "size= is missing, the model takes rows of 30 numbers" in _parameter(
        tmp_path, rows, None
    )
    assert "size= gives 28 pixels, the model takes rows of 30" in _parameter(tmp_path, rows, fixed)


def _parameter(root: Path, layout: Layout, images: Images | None) -> str:
    with pytest.raises(ParameterError) as caught:
        read(root, layout, images)
    return str(caught.value)


def test_numbers_that_do_not_fit(tmp_path: Path) -> None:
    folder(tmp_path, "a", "b")
    grey = Layout("hw", 4, 6, 1)
    three = Images(mean=(0.1, 0.2, 0.3))
    assert "mean= has 3 numbers, expected 1:" in _parameter(tmp_path, grey, three)
    integers = Layout("chw", 4, 6, 3, integers=True)
    assert "whole pixels from 0 to 255" in _parameter(tmp_path, integers, three)
    table = tmp_path / "a.npz"
    np.savez(table, X=np.zeros((2, 2)), y=[0, 1])
    with pytest.raises(ParameterError, match="expected a folder of images"):
        read(table, images=three)


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'skip2lora\[image\]'"):
        read(folder_without_pillow(tmp_path))


def folder_without_pillow(root: Path) -> Path:
    (root / "a").mkdir()
    (root / "a" / "1.png").write_bytes(b"")
    return root


def test_describe(tmp_path: Path) -> None:
    folder(tmp_path, "a", "b")
    save(tmp_path / "b" / "2.png", np.zeros((9, 2), np.uint8))
    facts = describe_images(tmp_path)
    assert facts["samples_a_class"] == {"a": 1, "b": 2}
    assert (facts["n_samples"], facts["smallest"], facts["largest"]) == (3, "9x2", "4x6")
    assert facts["notes"] is None
    (tmp_path / "b" / "2.png").write_text("text")
    facts = describe_images(tmp_path)
    assert facts["samples_a_class"] == {"a": 1, "b": 1}
    assert "b/2.png" in facts["notes"][0]


def test_names_of_files_can_be_written(tmp_path: Path) -> None:
    folder(tmp_path, "a", "b")
    [first, *_] = sorted((tmp_path / "a").iterdir())
    first.rename(os.fsdecode(os.fsencode(first.parent) + b"/\xff.png"))
    names = read_table(tmp_path, layout=CHW).files or ()
    assert r"a/\xff.png" in names
    assert "\n".join(names).encode()


def test_images_laid_out_for_another_model(tmp_path: Path) -> None:
    folder(tmp_path, "a", "b")
    told = Images(size=(4, 6), mean=(0.0,), std=(1.0,), axes="hwc")
    said = _parameter(tmp_path, CHW, told)
    assert "images were laid out as hwc, the model takes chw" in said
    assert len(read(tmp_path, CHW, replace(told, axes="chw")).x) > 0


def test_images_of_no_classes_are_described(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("L", (4, 6)).save(tmp_path / name)
    facts = describe_images(tmp_path)
    assert (facts["samples_a_class"], facts["kind"]) == (None, "images")


def test_the_part_for_training_is_described(tmp_path: Path) -> None:
    folder(tmp_path / "train", "a", "b")
    folder(tmp_path / "test", "a", "b")
    save(tmp_path / "test" / "a" / "2.png", COLOUR)
    facts = describe_images(tmp_path)
    assert (facts["n_samples"], facts["samples_a_class"]) == (2, {"a": 1, "b": 1})
