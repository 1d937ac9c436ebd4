"""How files become samples of a service, and stored samples of sound a file that plays again."""

from __future__ import annotations

import io
import json
import wave
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.backbones.inputs import InputSpec
from skip2lora.data.media import Media, media_from_json
from skip2lora.data.sound_options import Sound
from skip2lora.serve.store import Store, json_text

_FULL = 32767  # of 16 bits
_BYTES = 2


def images_of(
    store: Store, said: Media | None, given: Sound | None, inputs: tuple[InputSpec, ...]
) -> Media | None:
    """How files become samples: as the version in use ``said``, or was told once, or is ``given``.

    It is kept, as the model alone, which may be in use next, says nothing of it.

    Raises:
        FileError: the disk refuses.
        ParameterError: ``given`` is another rate, or does not fit the model's ``inputs``.
    """
    text = store.meta("images")
    known = said or (None if text is None else media_from_json(json.loads(text)))
    if given is not None:
        known = given.following(known).resolved(inputs)
    if known is not None and (now := json_text(known.to_json())) != text:
        store.set_meta(images=now)
    return known


def sound_of(images: Media | None, x: Any) -> NDArray[np.int16] | None:
    """The waveform of a sample, (samples of sound,), from its numbers; None where it is no sound.

    ``images`` tells the gain. What is louder than a recording can be is clipped.
    """
    if not isinstance(images, Sound) or not isinstance(x, np.ndarray):
        return None
    values = x.ravel().astype(np.float64) / (images.gain or 1.0)
    pulses: NDArray[np.int16] = np.rint(_FULL * np.clip(values, -1, 1)).astype(np.int16)
    return pulses


def wav(images: Media | None, x: Any) -> bytes | None:
    """The bytes of a ``.wav`` of one channel and 16 bits; None where the sample is no sound."""
    pulses = sound_of(images, x)
    if pulses is None or not isinstance(images, Sound) or images.rate is None:
        return None
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(_BYTES)
        file.setframerate(images.rate)
        file.writeframes(pulses.astype("<i2").tobytes())
    return stream.getvalue()
