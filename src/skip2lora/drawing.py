"""Figures by matplotlib, which is an extra."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from skip2lora.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def need_matplotlib() -> None:
    """Called before long work whose result is drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "matplotlib is not installed, figures are expected of it: pip install 'skip2lora[plot]'"
        ) from error


def new_figure(**options: Any) -> Figure:
    """An empty figure; ``options`` are those of matplotlib's ``Figure``.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    need_matplotlib()
    from matplotlib.figure import Figure

    return Figure(**options)


def png(figure: Figure, *, dpi: int = 130) -> bytes:
    """The figure as a PNG file."""
    image = io.BytesIO()
    figure.savefig(image, dpi=dpi, format="png")
    return image.getvalue()
