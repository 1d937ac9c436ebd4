import io

import numpy as np
import pytest

from serve.place import model
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
