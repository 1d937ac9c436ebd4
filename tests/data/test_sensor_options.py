"""How streams become numbers: what is asked and kept, and which shape a model takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from skip2lora.backbones.inputs import InputSpec
from skip2lora.backbones.litert.inputs import LiteRTInput
from skip2lora.data.image_options import Images
from skip2lora.data.sensor_options import Form, Sensors, form_of, seconds_of
from skip2lora.errors import ParameterError

Refused = Callable[..., str]
KEPT = Sensors(
    rate=50.0, window=128, hop=64, channels=("ax", "ay"), features=("spectrum",), time="t:ms",
    group=("user", "session"), mixed="drop",
)  # fmt: skip


def test_rows_and_seconds() -> None:
    asked = Sensors.parse(window="128", hop="0.5s", channels="ax, ay", features=None)
    assert asked == Sensors(window=128, hop=0.5, channels=("ax", "ay"))
    assert (asked.rows("window", None), asked.rows("hop", 50.0)) == (128, 25)
    assert Sensors().rows("window", None) is None
    assert (seconds_of("window", "2.5"), seconds_of("hop", "2s")) == (2.5, 2.0)


def test_it_is_read_back() -> None:
    assert Sensors.from_json(KEPT.to_json()) == KEPT
    assert str(KEPT) == (
        "window 128, hop 64, channels ax, ay, features spectrum, rate 50 Hz, time t:ms, "
        "group user, session, mixed drop"
    )
    for damage in ({"window": 1.5}, {"hop": True}, {"channels": [1]}, {"features": ["wavelets"]}):
        with pytest.raises((ValueError, ParameterError)):
            Sensors.from_json(KEPT.to_json() | damage)


def test_an_adapter_is_followed(refused: Refused) -> None:
    assert Sensors().following(KEPT) == KEPT
    assert Sensors().following(None) == Sensors()
    other = Sensors(hop=32, time="clock", window=2.56).following(KEPT)
    assert (other.hop, other.time, other.window, other.group) == (32, "clock", 128, KEPT.group)
    for asked, said in (
        (Sensors(rate=10.0), "rate= is 10 Hz, the model learned with 50 Hz"),
        (Sensors(window=64), "window= is 64, the model learned with 128"),
        (Sensors(channels=("ay", "ax")), "channels= is ay, ax, the model learned with ax, ay"),
        (Sensors(features=("statistics",)), "features= is statistics"),
    ):
        assert said in refused(ParameterError, asked.following, KEPT)
    said = refused(ParameterError, Sensors(window=4).following, Images())
    assert "the model learned from images, got streams of sensors, expected images" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"window": "2.5"}, "expected a whole number of rows such as 128, or seconds such as 2.5s"),
        ({"window": "many"}, "window= is 'many'"),
        ({"hop": "0"}, "hop= is 0, expected 1 to"),
        ({"hop": "-1s"}, "hop= is -1, expected 1 to"),
        ({"rate": 0.0}, "rate= is 0, expected rows a second above 0"),
        ({"channels": "a,,b"}, "channels= is 'a,,b', expected names with commas"),
        ({"channels": "a,a"}, "channels= is a, a, expected each once"),
        ({"features": "wavelets"}, "features= is 'wavelets', expected statistics, spectrum"),
        ({"mixed": "some"}, "mixed= is 'some', expected majority, drop, refuse"),
        ({"label_by": "luck"}, "label_by= is 'luck', expected column, folder, name"),
    ],
)
def test_what_cannot_be_asked(words: dict[str, Any], said: str, refused: Refused) -> None:
    assert said in refused(ParameterError, Sensors.parse, **words)


def test_seconds_need_a_clock(refused: Refused) -> None:
    asked = Sensors(window=2.5)
    assert "add time=COLUMN or rate=HZ" in refused(ParameterError, asked.rows, "window", None)
    assert "0 rows at 0.1 Hz" in refused(ParameterError, asked.rows, "window", 0.1)


@pytest.mark.parametrize(
    ("shape", "rows", "channels", "form", "n_rows"),
    [
        ((128, 6), 128, 6, Form("tc", (128, 6)), 128),
        ((6, 128), 128, 6, Form("ct", (6, 128)), 128),
        ((1, 128, 6), None, 6, Form("tc", (1, 128, 6)), 128),
        ((6, 128, 1), None, 6, Form("ct", (6, 128, 1)), 128),
        ((None, 6), 40, 6, Form("tc", (40, 6)), 40),
        ((6, None), 40, 6, Form("ct", (6, 40)), 40),
        ((768,), None, 6, Form("flat", (768,)), 128),
        ((None,), 10, 6, Form("flat", (60,)), 10),
        ((1, 128), None, 1, Form("tc", (1, 128)), 128),
        ((1, None), 30, 1, Form("tc", (1, 30)), 30),
    ],
)
def test_how_a_model_takes_windows(
    shape: Any, rows: int | None, channels: int, form: Form, n_rows: int
) -> None:
    inputs = (InputSpec("x", shape, "float32"),)
    assert form_of(inputs, rows, channels, ()) == (form, n_rows)


def test_a_network_that_is_yet_to_be_made(refused: Refused) -> None:
    assert form_of(None, 128, 6, ()) == (Form("flat", (768,)), 128)
    form, rows = form_of(None, 128, 6, ("spectrum",))
    assert (form, rows) == (Form("features", (6 * 33,)), 128)
    assert form_of((InputSpec("x", (198,), "float32"),), 128, 6, ("spectrum",)) == (form, rows)
    assert "window= is missing" in refused(ParameterError, form_of, None, None, 6, ())


@pytest.mark.parametrize(
    ("shape", "rows", "channels", "features", "said"),
    [
        ((128, 6), 64, 6, (), "the model takes (128, 6), got windows of 64 rows x 6 channels"),
        ((128, 6), 128, 3, (), "got windows of 128 rows x 3 channels"),
        ((6, 6), 6, 6, (), "choose window= unlike the number of channels"),
        ((100,), None, 6, (), "got windows of any number of rows x 6 channels"),
        ((None, 6), None, 6, (), "the model takes windows of any length: add window=ROWS"),
        ((2, 3, 4), 2, 3, (), "the model takes (2, 3, 4)"),
        ((39,), 128, 3, ("spectrum",), "spectrum of 3 channels are 99 numbers"),
        ((39,), None, 3, ("statistics",), "window= is missing beside features="),
    ],
)
def test_models_that_take_no_such_windows(
    shape: Any, rows: int | None, channels: int, features: Any, said: str, refused: Refused
) -> None:
    inputs = (InputSpec("x", shape, "float32"),)
    assert said in refused(ParameterError, form_of, inputs, rows, channels, features)


def test_models_of_other_inputs(refused: Refused) -> None:
    tokens = (InputSpec("ids", (128,), "int64"),)
    assert "ids (128) int64, expected one input" in refused(
        ParameterError, form_of, tokens, 128, 1, ()
    ).replace("(128,)", "(128)")
    quantised = (LiteRTInput("x", (128, 6), "int8", scale=0.1),)
    assert form_of(quantised, None, 6, ()) == (Form("tc", (128, 6)), 128)
    two = (InputSpec("a", (8,), "float32"), InputSpec("b", (8,), "float32"))
    assert "expected one input of real numbers" in refused(ParameterError, form_of, two, 8, 1, ())


@pytest.mark.parametrize(
    ("shape", "hop", "form"),
    [
        ((None, 3, 5), 3, (12, 5)), ((None, 4, 5), 2, (12, 5)), ((None, 3, 1, 5), 3, (12, 1, 5)),
        ((None, 5), 5, (12, 5)),
    ],
)  # fmt: skip
def test_windows_of_several_calls(shape: Any, hop: int, form: Any, refused: Refused) -> None:
    """A model with a state between calls takes some rows of a window after the others."""
    inputs = (InputSpec("x", shape, "float32", hop=hop),)
    assert form_of(inputs, 12, 5, ()) == (Form("tc", form), 12)
    message = refused(ParameterError, form_of, inputs, 12, 4, ())
    assert (
        "a call, got windows of 12 rows x 4 channels, expected a whole number of calls" in message
    )
    if len(shape) > 2:
        assert "got windows of 13 rows" in refused(ParameterError, form_of, inputs, 13, 5, ())
    assert "any number of rows" in refused(ParameterError, form_of, inputs, None, 5, ())
