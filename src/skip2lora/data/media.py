"""How files become numbers: of images, of recordings, or of streams of sensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skip2lora.data.image_options import Images
from skip2lora.data.sensor_options import Sensors
from skip2lora.data.sound_options import Sound

#: Told once, and kept with an adapter.
Media = Images | Sound | Sensors
_KINDS: dict[str, type[Sound] | type[Sensors]] = {"sound": Sound, "sensors": Sensors}
#: What a model or an adapter keeps them under.
KEYS = ("images", "windows")


def media_from_json(entries: Any) -> Media:
    """What ``to_json`` of either gave.

    Raises:
        KeyError, TypeError, ValueError, ParameterError: it gave something else.
    """
    if "kind" not in entries:  # as images have been written from the first on
        return Images.from_json(entries)
    return _KINDS[entries["kind"]].from_json(entries)


def media_in(entries: Mapping[str, Any]) -> Media | None:
    """What a model or an adapter keeps among other ``entries``; None where there is none.

    Raises:
        AttributeError, KeyError, TypeError, ValueError, ParameterError: as :func:`media_from_json`.
    """
    own = next((entries[key] for key in KEYS if key in entries), None)
    return None if own is None else media_from_json(own)
