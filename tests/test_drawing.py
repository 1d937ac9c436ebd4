"""Figures, and matplotlib that is not there."""

from __future__ import annotations

import sys

import pytest

from skip2lora.drawing import need_matplotlib, new_figure, png
from skip2lora.errors import MissingExtraError


def test_a_figure_as_png():
    pytest.importorskip("matplotlib")
    figure = new_figure(figsize=(2, 1))
    small, large = png(figure, dpi=50), png(figure, dpi=100)
    for image, width, height in ((small, 100, 50), (large, 200, 100)):
        assert image.startswith(b"\x89PNG\r\n\x1a\n")
        assert image[16:24] == width.to_bytes(4, "big") + height.to_bytes(4, "big")


@pytest.mark.parametrize("call", [need_matplotlib, new_figure])
def test_without_matplotlib(monkeypatch, call):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'skip2lora\[plot\]'"):
        call()
