"""Sequences of calls from a fresh state, beside a network that adds up what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from skip2lora.backbones.inputs import InputSpec
from skip2lora.backbones.streams import Stream, laid_out
from skip2lora.errors import DataError, ModelError

Refused = Callable[..., str]
INPUTS = (InputSpec("x", (3, 2), "float32"), InputSpec("s", (2,), "float32"))
X = np.random.default_rng(0).normal(size=(4, 5, 3, 2)).astype(np.float32)


def adding(given: Mapping[str, Any], wanted: Sequence[str]) -> list[Any]:
    """The state is the sum of all frames so far, and ``y`` its double."""
    state = given["s"] + given["x"].sum(axis=1)
    return [{"y": 2 * state, "t": state}[name] for name in wanted]


def over(x: Any, calls: str = "last") -> Any:
    stream = Stream({"s": "t"}, calls)
    [values] = stream.over(adding, stream.zeros(INPUTS), {"x": x}, ["y"])
    return values


def test_the_last_call_and_the_mean_of_all() -> None:
    sums = 2 * X.sum(axis=2, dtype=np.float64).cumsum(axis=1)
    np.testing.assert_allclose(over(X), sums[:, -1], rtol=1e-5)
    np.testing.assert_allclose(over(X, "mean"), sums.mean(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(over(X[:, :1], "mean"), over(X[:, :1]))


@pytest.mark.parametrize("calls", ["last", "mean"])
def test_no_state_passes_to_the_next_sample(calls: str) -> None:
    together = over(X, calls)
    np.testing.assert_array_equal(together, np.concatenate([over(x[None], calls) for x in X]))
    np.testing.assert_array_equal(together, over(X[::-1], calls)[::-1])
    np.testing.assert_array_equal(together, over(X, calls))


def test_only_what_counts_is_asked_of_a_call() -> None:
    asked = []

    def call(given: Mapping[str, Any], wanted: Sequence[str]) -> list[Any]:
        asked.append(list(wanted))
        return adding(given, wanted)

    Stream({"s": "t"}).over(call, {"s": np.zeros(2, np.float32)}, {"x": X}, ["y"])
    assert asked == [["t"]] * 4 + [["y", "t"]]


def test_a_sequence_is_any_number_of_calls() -> None:
    [spec] = Stream({"s": "t"}).sequences(INPUTS)
    assert (spec.name, spec.shape) == ("x", (None, 3, 2))
    for given in (X, X.reshape(4, 15, 2), X.reshape(4, 30)):
        np.testing.assert_array_equal(laid_out(given, [spec]), X)
    np.testing.assert_array_equal(laid_out({"x": X.reshape(4, 15, 2)}, [spec])["x"], X)


def test_a_rest_is_refused(refused: Refused) -> None:
    [spec] = Stream({"s": "t"}).sequences(INPUTS)
    message = refused(DataError, laid_out, X.reshape(4, 15, 2)[:, :13], [spec])
    assert message == (
        "X has 13 along the second axis, the model takes 3 a call, expected a whole number of "
        "calls: cut or fill up the rest of 1"
    )


def test_two_inputs_with_other_numbers_of_calls(refused: Refused) -> None:
    specs = [InputSpec("a", (None, 3), "float32"), InputSpec("b", (None, 2), "float32")]
    given = [np.zeros((4, 9), np.float32), np.zeros((4, 8), np.float32)]
    message = refused(DataError, laid_out, given, specs)
    assert message.startswith("the inputs have different numbers of calls (a 3, b 4), expected one")
    assert [each.shape for each in laid_out([given[0], given[1][:, :6]], specs)] == [
        (4, 3, 3), (4, 3, 2),
    ]  # fmt: skip


def test_what_a_person_is_told() -> None:
    assert Stream({"s": "t"}, "mean").note({"x": (3, 2), "s": (2,)}) == (
        "state: s (2); a sample is any number of calls of 3 x 2 from a fresh state, and its row "
        "the mean of all calls"
    )


def test_calls_that_take_what_was_before_them_too() -> None:
    """Each of three frames, two of them new, as detectors of voices take a little sound again."""
    stream = Stream({"s": "t"}, hop=2)
    [spec] = stream.sequences(INPUTS)
    assert (spec.shape, spec.hop) == ((None, 3, 2), 2)
    frames = X.reshape(4, 15, 2)[:, :8]
    calls = laid_out(frames, [spec])
    assert calls.shape == (4, 4, 3, 2)
    before = np.concatenate([np.zeros((4, 1, 2), np.float32), frames], axis=1)
    for number in range(4):
        np.testing.assert_array_equal(calls[:, number], before[:, 2 * number : 2 * number + 3])
    np.testing.assert_array_equal(laid_out(frames.reshape(4, 16), [spec]), calls)
    np.testing.assert_array_equal(laid_out(X, [spec]), X)
    assert "3 x 2, 2 of them new, from a fresh state" in stream.note({"x": (3, 2), "s": (2,)})


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"call": 1}, "call"), ({"calls": "first"}, "calls"), ({"hop": 0}, "hop 0"),
        ({"hop": True}, "hop True"), ({"hop": 1.5}, "hop 1.5"), ({"states": {"a": 1}}, "states"),
    ],
)  # fmt: skip
def test_what_is_said_wrongly(said: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        Stream.from_json(said)
    given = {"states": {"s": "t"}, "calls": "mean", "hop": 2}
    assert Stream.from_json(given) == Stream({"s": "t"}, "mean", 2)


def test_a_state_that_is_no_input(refused: Refused) -> None:
    message = refused(ModelError, Stream({"c": "t"}).zeros, INPUTS)
    assert message.startswith("state c is no input of the model, expected one of x, s: prepare")


def test_a_state_of_a_size_that_is_open_begins_empty() -> None:
    inputs = (InputSpec("x", (3, 2), "float32"), InputSpec("s", (None, 4), "int64"))
    begin = Stream({"s": "t"}).zeros(inputs)
    assert {name: (of.shape, of.dtype.name) for name, of in begin.items()} == {
        "s": ((0, 4), "int64")
    }
