"""Samples that are images, as a browser shows them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapted import AdaptedModel
from skip2lora.backbones.base import Backbone
from skip2lora.data.image_layout import CHANNELS
from skip2lora.data.image_options import Images
from skip2lora.errors import MissingExtraError

_LEAST_SIDE = 4  # of what is shown as an image where nothing says that it is one


def pixels_of(model: Backbone | AdaptedModel, x: Any) -> NDArray[np.uint8] | None:
    """The pixels of a sample, (height, width) or (height, width, 3); None where it is no image.

    It is one where the model was adapted on images, or where its shape is that of one, with 1 or 3
    channels first or last. Numbers are spread over what the sample has, from dark to bright.
    """
    if not isinstance(x, np.ndarray) or not _is_image(model, x):
        return None
    if x.ndim == 3 and x.shape[0] in CHANNELS and x.shape[-1] not in CHANNELS:
        x = np.moveaxis(x, 0, -1)
    if x.ndim == 3 and x.shape[-1] == 1:
        x = x[..., 0]
    if x.dtype == np.uint8:
        return np.asarray(x, np.uint8)
    low, high = float(x.min()), float(x.max())
    spread = (x.astype(np.float64) - low) * (255 / (high - low) if high > low else 0.0)
    pixels: NDArray[np.uint8] = np.rint(spread).astype(np.uint8)
    return pixels


def shown(model: Backbone | AdaptedModel, x: Any) -> NDArray[np.uint8] | None:
    """The pixels of a stored sample, (1, ...): of an image, or of a plane such as a spectrogram."""
    if not isinstance(x, np.ndarray):
        return None
    pixels = pixels_of(model, x[0])
    return pixels_of(model, x) if pixels is None else pixels


def _is_image(model: Backbone | AdaptedModel, x: NDArray[Any]) -> bool:
    known = isinstance(model.images, Images)
    if x.ndim == 2:
        return known
    if x.ndim != 3 or not {x.shape[0], x.shape[-1]}.intersection(CHANNELS):
        return False
    sides = x.shape[:-1] if x.shape[-1] in CHANNELS else x.shape[1:]
    return known or min(sides) >= _LEAST_SIDE


def png(pixels: NDArray[np.uint8]) -> bytes:
    """The bytes of a PNG.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(
            "pictures on the page need Pillow, which is not installed: install skip2lora[image]"
        ) from error
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()
