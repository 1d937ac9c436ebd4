"""How files become numbers: of images, of recordings, or of streams of sensors."""

from __future__ import annotations

from typing import Any

from skip2lora.data.image_options import Images
from skip2lora.data.sensor_options import Sensors
from skip2lora.data.sound_options import Sound

#: Told once, and kept with an adapter.
Media = Images | Sound | Sensors
_KINDS: dict[str, type[Sound] | type[Sensors]] = {"sound": Sound, "sensors": Sensors}
#: What an adapter keeps them under.
KEYS = ("images", "windows")


def media_from_json(entries: Any) -> Media:
    """What ``to_json`` of either gave.

    Raises:
        KeyError, TypeError, ValueError, ParameterError: it gave something else.
    """
    if "kind" not in entries:  # as images have been written from the first on
        return Images.from_json(entries)
    return _KINDS[entries["kind"]].from_json(entries)
