"""In which shape a model takes an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skip2lora.backbones.litert.inputs import LiteRTInput
from skip2lora.data.image_layout import Layout, layout_of
from skip2lora.errors import DataError


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
