"""What an adapter keeps of images and of recordings is told apart."""

from __future__ import annotations

from skip2lora.data.image_options import Images
from skip2lora.data.media import media_from_json, media_in
from skip2lora.data.sensor_options import Sensors
from skip2lora.data.sound_options import Sound


def test_both_kinds_are_read_back() -> None:
    images = Images(size=(8, 9), mean=(0.5,), std=(0.25,), axes="chw")
    sound = Sound(rate=8000, window=0.5, hop=0.25, crop="centre", gain=2.0)
    assert media_from_json(images.to_json()) == images
    assert media_from_json(sound.to_json()) == sound


def test_among_other_entries() -> None:
    sensors = Sensors(window=50, hop=25, channels=("a", "b"), rate=50.0)
    for media in (
        Images(size=(8, 9)),
        Sound(rate=8000, window=0.5, hop=0.5, crop="slide", gain=1.0),
        sensors,
    ):
        assert media_in({"task": "regression", media.key: media.to_json()}) == media
    assert media_in({"task": "regression"}) is None
