"""Options of recordings: kept with an adapter, and followed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from skip2lora.backbones.inputs import InputSpec
from skip2lora.data.image_options import Images
from skip2lora.data.media import media_from_json
from skip2lora.data.sound_options import Sound
from skip2lora.errors import ParameterError

Refused = Callable[..., str]
INPUTS = (InputSpec("x", (4000,), "float32"),)
SAVED = Sound(rate=16000).resolved(INPUTS)


def test_what_is_kept() -> None:
    assert SAVED.to_json() == {
        "kind": "sound", "rate": 16000, "window": 0.25, "hop": 0.25, "crop": "slide", "gain": 1.0,
    }  # fmt: skip
    assert media_from_json(SAVED.to_json()) == SAVED
    assert str(SAVED) == "rate 16000 Hz, window 0.25 s, hop 0.25 s, crop slide, gain 1"


def test_an_adapter_is_followed(refused: Refused) -> None:
    """In all but where windows are taken."""
    assert Sound().following(SAVED) == SAVED
    assert Sound(rate=16000, window=0.25).following(SAVED) == SAVED
    other = Sound(hop=0.1, crop="loudest").following(SAVED)
    assert (other.hop, other.crop, other.rate) == (0.1, "loudest", 16000)
    for name, value in (("rate", 8000), ("window", 0.5), ("gain", 2.0)):
        message = refused(ParameterError, Sound(**{name: value}).following, SAVED)
        assert f"{name}= is {value:g}, the adapter was made with" in message
    assert "made of images, got recordings" in refused(ParameterError, Sound().following, Images())
    assert "made of recordings, got images" in refused(ParameterError, Images().following, SAVED)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate": 0}, "rate= is 0"),
        ({"rate": 10**7}, "rate= is 10000000"),
        ({"window": 0.0}, "window= is 0"),
        ({"window": float("nan")}, "window= is nan"),
        ({"hop": -1.0}, "hop= is -1"),
        ({"gain": 0.0}, "gain= is 0"),
        ({"gain": float("inf")}, "gain= is inf"),
        ({"crop": "middle"}, "crop= is 'middle', expected slide, centre, loudest"),
    ],
)
def test_numbers_out_of_range(options: dict[str, Any], said: str, refused: Refused) -> None:
    assert said in refused(ParameterError, Sound(**options).checked)


@pytest.mark.parametrize(
    "change", [{"rate": 0}, {"kind": "smell"}, {"crop": "all"}, {"window": None}, {"gain": "loud"}]
)
def test_damaged_descriptions(change: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, ParameterError)):
        media_from_json(SAVED.to_json() | change)
