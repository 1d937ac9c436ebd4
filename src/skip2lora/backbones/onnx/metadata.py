"""What the metadata of a chain say, of those of its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skip2lora.backbones.onnx.tapped import CHAIN_KEY, SAID_PREFIX
from skip2lora.backbones.said import OF_OUTPUTS, Said
from skip2lora.data.media import KEYS
from skip2lora.data.sensor_features import n_features
from skip2lora.data.sensor_options import Sensors
from skip2lora.data.sound_options import Sound
from skip2lora.errors import ModelError

_OF_INPUTS = ("columns", *KEYS)


def say(model: Any, what: str) -> None:
    """Let the metadata of a chain say this of what it leaves out as well."""
    for entry in model.metadata_props:
        if entry.key == CHAIN_KEY:
            entry.value = f"{entry.value}; {what}"
            return
    model.metadata_props.add(key=CHAIN_KEY, value=what)


def say_of_ends(
    model: Any, first: Mapping[str, str], last: Mapping[str, str], prefix: str, path: Path
) -> None:
    """Let a chain say of its samples what its ``first`` model does, of answers what its ``last``.

    Those are their metadata; ``prefix`` stands before names of the last model. Where its answers to
    windows stand side by side, they are no longer what it says.

    Raises:
        ModelError: it gives one number a window, and says what that means: they would be a row.
    """
    output, shapes = (
        SAID_PREFIX + "output",
        {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.output},
    )
    name = prefix + last.get(output, "")
    beside = f"{name}.windows"
    if shapes.get(beside) == 2:
        raise ModelError(
            f"{path}: its last model says what it answers to one window, the chain passes it "
            "several of each sample, expected one: correct samples or hop"
        )
    ends = [(first, _OF_INPUTS), *([] if beside in shapes else [(last, OF_OUTPUTS)])]
    ours = {
        SAID_PREFIX + entry: of[SAID_PREFIX + entry]
        for of, entries in ends for entry in entries if SAID_PREFIX + entry in of
    }  # fmt: skip
    if output in ours:
        ours[output] = name
    others = [
        entry for entry in model.metadata_props
        if entry.key == CHAIN_KEY or not entry.key.startswith(SAID_PREFIX)
    ]  # fmt: skip
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    for entry, text in ours.items():
        model.metadata_props.add(key=entry, value=text)


def numbers_of(said: Said) -> int | None:
    """How many numbers a sample has, as a file says how tables or recordings become some."""
    media = said.images
    if isinstance(media, Sound):
        return media.in_samples[1]
    if isinstance(media, Sensors) and media.channels and isinstance(media.window, int):
        n_channels = len(media.channels)
        if media.features:
            return n_features(media.features, media.window, n_channels)
        return media.window * n_channels
    features = said.columns.features
    return len(features) if media is None and features else None


def samples_of(said: Said, known: Sequence[int]) -> int | None:
    """How many of them the one open axis has, beside axes of ``known`` sizes; None if not said."""
    numbers, rest = numbers_of(said), 1
    for size in known:
        rest *= size
    return None if numbers is None or numbers % rest else numbers // rest
