"""Windows of what the models before give: how many, and what is behind the last one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from skip2lora.backbones.onnx.windows import Windows, windows_of
from skip2lora.errors import ModelError

Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("size", "width", "hop", "count", "rest"),
    [(24, 8, 4, 5, 0), (25, 8, 4, 5, 1), (27, 8, 4, 5, 3), (28, 8, 4, 6, 0), (8, 8, 4, 1, 0),
     (11, 8, 100, 1, 3), (30, 2, 10, 3, 8)],
)  # fmt: skip
def test_what_is_behind_the_last_one(
    size: int, width: int, hop: int, count: int, rest: int
) -> None:
    windows = Windows(1, size, width, hop)
    assert windows.count == count
    covered = {
        at for start in range(0, size - width + 1, hop) for at in range(start, start + width)
    }
    assert size - 1 - max(covered) == rest  # by hand
    said = windows.left_out("head.onnx")
    expected = (
        f"of {size} steps before head.onnx the last {rest} are left out, as {count} windows of "
        f"{width}, hop {hop}, end before them"
    )
    assert said == (expected if rest else "")


def test_the_axis_that_is_longer() -> None:
    assert windows_of((1, 25, 4), (8, 4, 1), 4, "m") == Windows(1, 25, 8, 4)


@pytest.mark.parametrize(
    ("before", "shape", "hop", "said"),
    [
        ((25, 4), (8, 4), None, "expected hop = NUMBER between windows of them"),
        ((7, 4), (8, 4), 4, "or a hop where one axis alone is longer"),
        ((25, 5), (8, 4), 4, "or a hop where one axis alone is longer"),
        ((25,), (8, 4), 4, "expected 32 in the same axes"),
    ],
)
def test_where_there_are_none(
    before: tuple[int, ...], shape: tuple[int, ...], hop: int | None, said: str, refused: Refused
) -> None:
    assert said in refused(ModelError, windows_of, before, shape, hop, "m")
