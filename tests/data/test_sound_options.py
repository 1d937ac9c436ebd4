"""Options of recordings: kept with an adapter, and followed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from skip2lora.backbones.inputs import InputSpec
from skip2lora.data.image_options import Images
from skip2lora.data.media import media_from_json
from skip2lora.data.sound_options import Sound, waveform_of
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
        assert f"{name}= is {value:g}, the model learned with" in message
    assert "from images, got recordings" in refused(ParameterError, Sound().following, Images())
    assert "from recordings, got images" in refused(ParameterError, Images().following, SAVED)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate": 0}, "rate= is 0"),
        ({"rate": 1_000_001}, "rate= is 1000001, expected samples a second from 1 to 1000000"),
        ({"window": 0.0}, "window= is 0"),
        ({"window": 3600.1}, "window= is 3600.1, expected seconds above 0, 3600 at most"),
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


@pytest.mark.parametrize(
    "options",
    [{"rate": 1}, {"rate": 1_000_000}, {"window": 3600.0, "hop": 3600.0}, {"window": 1e-6},
     {"hop": 1e-6}, {"gain": 1e-9}],
)  # fmt: skip
def test_numbers_at_the_ends_of_their_range(options: dict[str, Any]) -> None:
    assert Sound(**options).checked() == Sound(**options)


@pytest.mark.parametrize("name", ["window", "hop"])
def test_less_than_a_sample_of_sound(name: str, refused: Refused) -> None:
    inputs = [InputSpec("x", (None,), "float32")]
    told = Sound(rate=16000, window=0.25)
    message = refused(ParameterError, replace(told, **{name: 3e-5}).resolved, inputs)
    assert message == (
        f"{name}= is 3e-05 s, less than a sample at 16000 Hz, expected one or more: correct it"
    )
    least = replace(told, **{name: 4e-5}).resolved(inputs)
    assert least.in_samples[("rate", "window", "hop").index(name)] == 1


@pytest.mark.parametrize(("more", "same"), [(1e-10, True), (1e-8, False)])
def test_a_window_is_the_same_but_for_rounding(more: float, same: bool, refused: Refused) -> None:
    given = Sound(window=0.25 * (1 + more))
    if same:
        assert given.following(SAVED) == SAVED
    else:
        assert "window= is 0.25" in refused(ParameterError, given.following, SAVED)


def test_whether_anything_is_told() -> None:
    assert [each.asked for each in (Sound(), Sound(gain=2.0), SAVED)] == [False, True, True]
    assert str(Sound(rate=8000)) == "rate 8000 Hz, crop None, gain 1"
    assert Sound(rate=8000).to_json() == {"kind": "sound", "rate": 8000}
    told = Sound(rate=100, window=0.5, hop=0.2, crop="centre", gain=3.0)
    assert told.resolved([InputSpec("x", (50,), "float32")]) == told


@pytest.mark.parametrize(
    ("shape", "dtype", "n_samples"),
    [
        ((4000,), "float32", 4000), ((1, 4000), "float64", 4000), ((4000, 1, 1), "float16", 4000),
        ((2,), "int16", 2), ((None,), "float32", None), ((1, None), "float32", None),
    ],
)  # fmt: skip
def test_models_that_take_sound(shape: Any, dtype: str, n_samples: int | None) -> None:
    assert waveform_of([InputSpec("x", shape, dtype)]) == n_samples


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1,), "float32"), ((2, 4000), "float32"), ((None, None), "float32"), ((4000,), "int32"),
     ((4000,), "uint8")],
)  # fmt: skip
def test_models_that_take_none(shape: Any, dtype: str, refused: Refused) -> None:
    message = refused(ParameterError, waveform_of, [InputSpec("x", shape, dtype)])
    assert f"{dtype}, expected one row of samples of sound" in message


@pytest.mark.parametrize("step", [(500,), (1, 500)], ids=str)
def test_calls_of_a_model_with_a_state(step: tuple[int, ...], refused: Refused) -> None:
    inputs = [InputSpec("x", (None, *step), "float32", hop=step[0])]
    assert waveform_of(inputs) is None
    told = Sound(rate=8000, window=0.25)
    assert told.resolved(inputs) == replace(told, hop=0.25, crop="slide", gain=1.0)
    message = refused(ParameterError, Sound(rate=8000, window=0.26).resolved, inputs)
    assert message == (
        "window= is 0.26 s, 2080 samples at 8000 Hz, the model takes 500 a call, expected a whole "
        "number of calls: take window=0.25, or correct rate="
    )
    assert "window= is missing" in refused(ParameterError, Sound(rate=8000).resolved, inputs)
    maps = [InputSpec("x", (None, 3, 40), "float32", hop=3)]
    assert "expected one row of samples of sound" in refused(ParameterError, waveform_of, maps)
