"""In which shape a model takes an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skip2lora.backbones.litert.inputs import LiteRTInput
from skip2lora.data.image_layout import Layout, check_size, layout_of, valid_size
from skip2lora.errors import DataError, ParameterError


def spec(
    shape: tuple[int | None, ...], dtype: Any = "float32", scale: float = 0.0, name: str = "x"
) -> LiteRTInput:
    return LiteRTInput(name, shape, dtype, scale)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (spec((3, 8, 9)), Layout("chw", 8, 9, 3)),
        (spec((1, None, None)), Layout("chw", None, None, 1)),
        (spec((8, 9, 3)), Layout("hwc", 8, 9, 3)),
        (spec((8, 9, 1), "uint8"), Layout("hwc", 8, 9, 1, integers=True)),
        (spec((8, 9, 1), np.dtype("int8"), 0.5), Layout("hwc", 8, 9, 1)),
        (spec((8, 9)), Layout("hw", 8, 9, 1)),
        (spec((72,)), Layout("flat", n_features=72)),
    ],
    ids=str,
)
def test_layout_of(given: LiteRTInput, expected: Layout) -> None:
    assert layout_of([given]) == expected


@pytest.mark.parametrize("shape", [(4, 8, 8), (3, 8, 3), (), (3, 8, 8, 8)], ids=str)
def test_layout_of_what_is_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="expected one image"):
        layout_of([spec(shape)])


def test_layout_of_several_inputs() -> None:
    with pytest.raises(DataError, match=r"2 inputs \(ids, mask\)"):
        layout_of([spec((8,), name="ids"), spec((8,), name="mask")])


@pytest.mark.parametrize(
    ("height", "width", "valid"),
    [
        (1, 1, True), (16384, 16384, True), (16385, 8, False), (8, 16385, False), (0, 8, False),
        (8, 0, False),
    ],
)  # fmt: skip
def test_sizes_of_images(height: int, width: int, valid: bool) -> None:
    assert valid_size(height, width) == valid
    if valid:
        assert check_size([height, width]) == (height, width)
        return
    with pytest.raises(ParameterError, match="expected height and width of 1 to 16384 pixels"):
        check_size((height, width))


@pytest.mark.parametrize("size", [8, (8,), (8, 8, 8), ("8", 8), (8, 8.0), (True, 8), None])
def test_what_is_no_size(size: Any) -> None:
    with pytest.raises(ParameterError, match="size is "):
        check_size(size)
