"""What the numbers of a mask mean, by running a model, by its name, or told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.arrays import Inputs
from skip2lora.backbones.inputs import InputSpec, check_inputs
from skip2lora.backbones.masks import (
    MEANINGS,
    Mask,
    _changed,
    _effects,
    _meaning,
    by_name,
    candidates,
    find_mask,
    mask_of,
)
from skip2lora.backbones.taps import Tap
from skip2lora.errors import DataError, ParameterError

Refused = Callable[..., str]
COUNTS = np.array([[1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0], [1] * 6], np.float32)
WIDTH = 4


def as_meant(meaning: str, dtype: str) -> np.ndarray:
    """COUNTS, said so."""
    if meaning == "lengths":
        return COUNTS.sum(axis=1).astype(dtype)
    values = {"tokens": COUNTS, "padding": 1 - COUNTS, "additive": (COUNTS - 1) * 1e4}
    return values[meaning].astype(dtype)


class Pooling(s2.Backbone):
    """Tokens, of which those that count by ``mask`` are pooled, in NumPy."""

    fingerprint, path = "pooling", None

    def __init__(self, mask: InputSpec, meaning: str | None, pool: str = "mean", **kind: Any):
        ids = InputSpec("input_ids", (kind.get("tokens"),), "int64")
        if kind.get("reals"):
            ids = InputSpec("sound", (kind.get("tokens"), WIDTH), "float32")
        others = [InputSpec("token_type_ids", ids.shape[:1], "int64")] if kind.get("types") else []
        self.inputs = (ids, *others, mask)
        self.meaning, self.pool, self.n_outputs = meaning, pool, 0 if kind.get("encoder") else 3
        random = np.random.default_rng(1)
        self.table = random.normal(size=(kind.get("vocabulary", 9), WIDTH))
        self.head = random.normal(size=(WIDTH, 3))
        self.taps = (Tap("layer", "tokens", "sequence", (kind.get("tokens"), WIDTH)),)
        self.tap_widths = (2 * WIDTH,)
        self.runs = 0

    def check(self, X: Any) -> Any:
        return check_inputs(X, self.inputs)

    def forward(self, x: Any) -> s2.Taps:
        self.runs += 1
        ids, *_, _mask = x.arrays.values()
        if ids.ndim == 2 and not 0 <= ids.min() <= ids.max() < len(self.table):
            raise DataError("no such token")
        tokens = self.table[ids] if ids.ndim == 2 else ids.astype(np.float64)
        names = [spec.name for spec in self.inputs]
        counts = np.ones(tokens.shape[:2])
        if self.meaning is not None:
            counts = Mask(names[-1], self.meaning, names[0]).counts(x.arrays).astype(float)
        mean = (tokens * counts[:, :, None]).sum(1) / np.maximum(counts.sum(1), 1)[:, None]
        if self.pool == "first":
            mean = mean + tokens[:, 0]
        if self.pool == "last":
            mean = mean + tokens[:, -1]
        rows = np.concatenate([mean, tokens[:, 0] + mean], axis=1).astype(np.float32)
        return s2.Taps((rows,), (np.tanh(mean) @ self.head)[:, : self.n_outputs].astype("f4"))


KINDS = [
    *(("tokens", dtype, ones) for dtype in ("int64", "bool", "float32") for ones in (0, 1, 2)),
    *(("padding", dtype, ones) for dtype in ("int32", "bool", "float32") for ones in (0, 2)),
    *(("additive", dtype, ones) for dtype in ("float32", "float16") for ones in (0, 2)),
    *(("lengths", dtype, ones) for dtype in ("int64", "int32") for ones in (0, 1)),
]


@pytest.mark.parametrize(
    "kind",
    [
        {}, {"pool": "first"}, {"encoder": True}, {"types": True}, {"reals": True},
        {"tokens": 7}, {"vocabulary": 2}, {"vocabulary": 3},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize(("meaning", "dtype", "ones"), KINDS)
def test_running_tells_whatever_the_name(
    meaning: str, dtype: str, ones: int, kind: dict[str, Any]
) -> None:
    tokens = (1,) * ones if meaning == "lengths" else (1,) * ones + (kind.get("tokens"),)
    for name in ("m", "attention_mask"):
        model = Pooling(InputSpec(name, tokens, dtype), meaning, **kind)
        assert find_mask(model) == f"{name}={meaning}"
        assert model.runs <= 3


@pytest.mark.parametrize("meaning", ["tokens", "padding"])
def test_running_tells_of_a_model_that_reads_its_last_token(meaning: str) -> None:
    model = Pooling(InputSpec("m", (None,), "bool"), meaning, "last")
    assert find_mask(model) == f"m={meaning}"


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("attention_mask", "attention_mask=tokens"), ("padding_mask", "padding_mask=padding"),
        ("src_key_padding_mask", "src_key_padding_mask=padding"), ("m", "none"),
    ],
)  # fmt: skip
def test_where_running_does_not_tell_a_usual_name_does(name: str, mask: str) -> None:
    assert find_mask(Pooling(InputSpec(name, (None,), "int64"), None)) == mask


@pytest.mark.parametrize("name", ["mask", "pad_mask", "valid", "padding"])
def test_what_nothing_tells_is_asked_for(name: str, refused: Refused) -> None:
    model = Pooling(InputSpec(name, (None,), "int64"), None)
    said = refused(ParameterError, find_mask, model)
    assert f"input {name} of Pooling may say which tokens count" in said
    for meaning in (*MEANINGS, "none"):
        assert f"mask='{meaning}'" in said


def test_a_mask_that_no_sequence_reads_is_not_asked_for() -> None:
    model = Pooling(InputSpec("mask", (None,), "int64"), None)
    model.taps = (Tap("layer", "x", "vector", (8,)),)
    assert find_mask(model) is None


class Pair(Pooling):
    """Two texts, each with a mask of its own."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(InputSpec("m", (None,), "int64"), first)
        names = (("ids_a", "int64"), ("ids_b", "int64"), ("a", "int64"), ("b", "bool"))
        self.inputs = tuple(InputSpec(name, (None,), dtype) for name, dtype in names)
        self.meanings = (first, second)

    def forward(self, x: Any) -> s2.Taps:
        logits, arrays, own = [], list(x.arrays.values()), self.inputs
        for at, meaning in enumerate(self.meanings):
            self.inputs, self.meaning = (own[0], InputSpec("m", (None,), "int64")), meaning
            rows = super().forward(Inputs({"ids_a": arrays[at], "m": arrays[2 + at]}))
            logits.append(rows.base_logits)
        self.inputs = own
        return s2.Taps(rows.taps, logits[0] + logits[1])


@pytest.mark.parametrize("second", ["tokens", "padding"])
def test_of_two_masks_one_is_to_be_told(second: str, refused: Refused) -> None:
    said = refused(ParameterError, find_mask, Pair("tokens", second))
    assert "inputs a and b of Pair both say which tokens count" in said
    assert f"choose mask='a=tokens' or mask='b={second}'" in said


def test_a_model_without_a_mask_is_not_run() -> None:
    model = Pooling(InputSpec("other_ids", (None,), "int64"), None)
    assert find_mask(model) is None
    assert model.runs == 0


@pytest.mark.parametrize(("meaning", "dtype", "ones"), KINDS)
def test_counts(meaning: str, dtype: str, ones: int) -> None:
    values = as_meant(meaning, dtype)
    values = values.reshape(len(values), *[1] * ones, *values.shape[1:])
    arrays = {"m": values, "ids": np.zeros((3, 6), int)}
    assert np.array_equal(Mask("m", meaning, "ids").counts(arrays), COUNTS)


@pytest.mark.parametrize(
    ("meaning", "values", "counting"),
    [
        ("additive", [0, -0.5, -1, -1.5, -1e4], [1, 1, 0, 0, 0]),
        ("tokens", [0, 1, 2, -1], [0, 1, 1, 1]),
        ("padding", [0, 1, 2, -1], [1, 0, 0, 0]),
    ],
)  # fmt: skip
def test_counts_of_any_number(meaning: str, values: list[float], counting: list[int]) -> None:
    counts = Mask("m", meaning, "ids").counts({"m": np.array([values])})
    assert counts.tolist() == [counting]


@pytest.mark.parametrize(("length", "counting"), [(0, [0] * 4), (1, [1, 0, 0, 0]), (9, [1] * 4)])
def test_counts_of_any_length(length: int, counting: list[int]) -> None:
    arrays = {"m": np.array([[length]]), "ids": np.zeros((1, 4, 7))}
    assert Mask("m", "lengths", "ids").counts(arrays).tolist() == [counting]


def specs(*inputs: tuple[str, tuple[int | None, ...], str]) -> tuple[InputSpec, ...]:
    return tuple(InputSpec(*each) for each in inputs)


IDS = ("ids", (None,), "int64")


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ([IDS, ("attention_mask", (None,), "int64")], ["attention_mask"]),
        ([("keep", (None,), "bool"), IDS, ("my_mask", (None,), "int64")], ["my_mask", "keep"]),
        ([IDS, ("mask", (None, None), "int64")], []),
        ([("mask", (None,), "int64")], []),
        ([IDS, ("token_type_ids", (None,), "int64"), ("position_ids", (None,), "int64")], []),
        ([IDS, ("mask", (1, 1, None), "float32")], ["mask"]),
        ([("x", (5, 3), "float32"), ("m", (5,), "float32"), ("n", (7,), "float32")], ["m"]),
        ([IDS, ("valid", (), "int64"), ("input_ids", (), "int64")], ["valid"]),
        ([IDS, ("lengths", (), "int64"), ("temperature", (1,), "float32")], ["lengths"]),
    ],
)
def test_candidates(inputs: list[Any], names: list[str]) -> None:
    assert candidates(specs(*inputs)) == names


def test_by_name() -> None:
    assert by_name("encoder_attention_mask") == by_name("input_mask:0") == "tokens"
    assert by_name("key_padding_mask") == by_name("x.padding_mask") == "padding"
    assert by_name("seq_lengths") == by_name("x_lens") == "lengths"
    assert by_name("mask") is by_name("pad") is None


@pytest.mark.parametrize(
    ("name", "shape", "mask"),
    [
        ("lengths", (None,), "lengths=tokens"), ("lengths", (1, 1, 7), "lengths=tokens"),
        ("lengths", (), "lengths=lengths"), ("attention_mask", (1,), "attention_mask=lengths"),
        ("padding_mask", (None,), "padding_mask=padding"),
    ],
)  # fmt: skip
def test_the_shape_says_more_than_the_name(
    name: str, shape: tuple[int | None, ...], mask: str, refused: Refused
) -> None:
    """A model read by the name alone could not even be asked what its mask means."""
    inputs = specs(IDS, (name, shape, "int64"))
    assert str(mask_of(None, inputs, "m.onnx")) == mask
    model = Pooling(inputs[1], None)
    if mask == "lengths=tokens":
        assert "nor running the model tells" in refused(ParameterError, find_mask, model)
    else:
        assert find_mask(model) == mask


def test_a_mask_that_is_told() -> None:
    inputs = specs(IDS, ("m", (None,), "bool"))
    assert mask_of("padding", inputs, "it") == mask_of("m=padding", inputs, "it")
    assert str(mask_of("m=additive", inputs, "it")) == "m=additive"
    assert mask_of("lengths", specs(IDS, ("n", (), "int64")), "it") == Mask("n", "lengths", "ids")
    assert mask_of("none", inputs, "it") is mask_of(None, inputs, "it") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("inverted", "expected none, tokens, padding, additive, lengths"),
        ("x=padding", "or one of the inputs ids, a, b before it"),
        ("padding", "in which 2 inputs may be one (a, b)"),
    ],
)
def test_a_mask_that_is_told_wrongly(text: str, said: str, refused: Refused) -> None:
    inputs = specs(IDS, ("a", (None,), "bool"), ("b", (None,), "bool"))
    assert said in refused(ParameterError, mask_of, text, inputs, "it")


@pytest.mark.parametrize(
    ("sample", "want"),
    [
        ([[5, 5, 7, 7]], [[7, 7, 7, 7]]),  # what the half has least of
        ([[7, 5, 5, 5]], [[5, 5, 5, 5]]),
        ([[5, 6, 7, 7]], [[7, 7, 7, 7]]),
        ([[0.25, 0.5, 3, 3]], [[0.75, 0.5, 3, 3]]),
        ([[[1.0], [2.0], [3.0], [4.0]]], [[[0.0], [-1.0], [3.0], [4.0]]]),
    ],
)
def test_other_tokens_in_one_half(sample: Any, want: Any) -> None:
    half = np.array([True, True, False, False])
    got = _changed(np.array(sample), half)
    np.testing.assert_array_equal(got, want)


def test_effects_are_shares_of_the_largest_answer() -> None:
    same = np.array([1.0, -4.0, 2.0])
    assert _effects(same, same + np.array([0, 1, -2]), same) == (0.5, 0.0)
    assert _effects(np.zeros(2), np.zeros(2)) == (0.0,)


NOTHING, MUCH = 0.0, 1.0


@pytest.mark.parametrize(
    ("effects", "of", "meaning"),
    [
        # of a mask whose first half is 1, and of one whose second is: of each half of the tokens
        ([(MUCH, NOTHING), (NOTHING, MUCH)], {"first": True}, "tokens"),
        ([(NOTHING, MUCH), (MUCH, NOTHING)], {"first": True}, "padding"),
        ([(MUCH, MUCH), (NOTHING, MUCH)], {"first": False}, None),
        ([(MUCH, NOTHING), (MUCH, MUCH)], {"first": False}, "tokens"),
        ([(MUCH, NOTHING), (MUCH, MUCH)], {"first": True}, "tokens"),
        ([(MUCH, MUCH), (MUCH, MUCH)], {"first": True}, None),
        ([(MUCH, MUCH)] * 2 + [(NOTHING, MUCH), (MUCH, NOTHING)], {"first": True}, "additive"),
        ([(MUCH, MUCH)] * 2 + [(MUCH, NOTHING), (NOTHING, MUCH)], {"first": True}, None),
        ([(MUCH, NOTHING), (MUCH, MUCH)], {"lengths": True}, "lengths"),
        ([(MUCH, MUCH), (MUCH, MUCH)], {"lengths": True}, None),
        ([(MUCH, NOTHING), (MUCH, NOTHING)], {"lengths": True}, None),
    ],
)
def test_what_is_hidden_tells_the_meaning(
    effects: Any, of: dict[str, bool], meaning: str | None
) -> None:
    assert _meaning(effects, **{"lengths": False, "first": True} | of) == meaning
