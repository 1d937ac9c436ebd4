"""How files become numbers: of images, or of recordings."""

from __future__ import annotations

from typing import Any

from skip2lora.data.image_options import Images
from skip2lora.data.sound_options import Sound

#: Told once, and kept with an adapter.
Media = Images | Sound


def media_from_json(entries: Any) -> Media:
    """What ``to_json`` of either gave.

    Raises:
        KeyError, TypeError, ValueError, ParameterError: it gave something else.
    """
    if "kind" not in entries:  # as images have been written from the first on
        return Images.from_json(entries)
    if entries["kind"] != "sound":
        raise ValueError(f"kind {entries['kind']!r}")
    return Sound.from_json(entries)
