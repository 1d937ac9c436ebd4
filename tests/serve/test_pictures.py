import io
from types import SimpleNamespace

import numpy as np
import pytest

from serve.place import model
from skip2lora.data.image_options import Images
from skip2lora.serve.pictures import pixels_of, png


def test_images_are_shown_as_they_are():
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert pixels_of(model(), image) is image
    np.testing.assert_array_equal(pixels_of(model(), np.moveaxis(image, -1, 0)), image)
    assert pixels_of(model(), image[..., :1]).shape == (4, 4)


def test_numbers_are_spread_from_dark_to_bright():
    image = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4, 1)
    pixels = pixels_of(model(), image)
    assert (pixels.min(), pixels.max(), pixels.dtype) == (0, 255, np.uint8)
    assert pixels_of(model(), np.full((4, 4, 1), 3.0)).max() == 0


@pytest.mark.parametrize("x", [
    None, np.zeros(16), np.zeros((4, 4)), np.zeros((4, 4, 2)), np.zeros((3, 4, 1)),
    np.zeros((3, 3, 3)), {"a": np.zeros((4, 4, 3))},
])  # fmt: skip
def test_other_samples_are_no_images(x):
    assert pixels_of(model(), x) is None


def test_a_png_holds_the_pixels():
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(image.open(io.BytesIO(png(pixels)))), pixels)


@pytest.mark.parametrize(
    ("shape", "guessed", "shown"),
    [
        ((4, 4), False, (4, 4)), ((1, 7), False, (1, 7)), ((1, 4, 5), True, (4, 5)),
        ((3, 4, 5), True, (4, 5, 3)), ((4, 5, 1), True, (4, 5)), ((4, 5, 3), True, (4, 5, 3)),
        ((3, 3, 9), False, (3, 9, 3)), ((9, 3, 3), False, (9, 3, 3)), ((3, 4, 1), False, (3, 4)),
        ((3, 4, 3), False, (3, 4, 3)), ((1, 4, 3), False, (1, 4, 3)), ((4, 3, 1), False, (4, 3)),
        ((3, 5, 3), False, (3, 5, 3)), ((3, 4, 4), True, (4, 4, 3)), ((4, 4, 4), False, None),
        ((2, 4, 5), False, None), ((4, 5, 2), False, None), ((16,), False, None),
        ((1, 4, 4, 3), False, None),
    ],
)  # fmt: skip
def test_which_shapes_are_images_of_themselves_and_which_after_images(shape, guessed, shown):
    """Channels are last where they may be either; small ones are images only where others were."""
    x = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    plain, adapted = (pixels_of(SimpleNamespace(images=images), x) for images in (None, Images()))
    assert (plain is not None) == guessed
    assert (None if adapted is None else adapted.shape) == shown
    if guessed:
        np.testing.assert_array_equal(plain, adapted)
