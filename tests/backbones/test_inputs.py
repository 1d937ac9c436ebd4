"""What a user passes, in the types and shapes that a model takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skip2lora.arrays import Inputs
from skip2lora.backbones.inputs import (
    InputSpec,
    bounded,
    check_inputs,
    counting_value,
    drawn,
)
from skip2lora.errors import DataError

IMAGE = (InputSpec("x", (2, 3, 4), "float32"),)
TEXT = (InputSpec("ids", (None,), "int64"), InputSpec("mask", (None,), "int64"))


def test_a_spec_for_a_person() -> None:
    assert str(InputSpec("x", (3, None), "uint8")) == "(samples, 3, any)"
    assert str(InputSpec("x", (), "uint8")) == "(samples)"


def test_one_input_is_one_array() -> None:
    x = np.random.default_rng(0).normal(size=(5, 2, 3, 4)).astype(np.float32)
    assert check_inputs(x, IMAGE) is x
    assert check_inputs(x.reshape(5, 24), IMAGE).tobytes() == x.tobytes()
    assert check_inputs(x.astype(float), IMAGE).dtype == np.float32
    named = check_inputs({"x": x}, IMAGE)
    assert isinstance(named, Inputs)
    assert named.arrays["x"] is x


def test_several_by_name_or_in_order() -> None:
    ids, mask = [[1.0, 2.0]], [[True, False]]
    for given in ({"mask": mask, "ids": ids}, (ids, mask), [ids, mask]):
        made = check_inputs(given, TEXT)
        assert list(made.arrays) == ["ids", "mask"]
        assert [array.dtype for array in made.arrays.values()] == [np.int64, np.int64]
        assert made.arrays["ids"].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros((5, 3, 4, 2)), "move channels first, np.moveaxis(X, -1, 1)"),
        (np.zeros((5, 4, 2, 3)), "move channels last, np.moveaxis(X, 1, -1)"),
        (np.zeros((5, 23)), "pass each sample with all its axes"),
        (np.zeros((5, 3, 4)), "add the missing axis"),
        (np.zeros((5, 2, 3, 5)), "resize or crop"),
        (np.full((5, 2, 3, 4), 1e39), "values too large for float32"),
        (np.zeros((0, 2, 3, 4)), "no samples"),
    ],
)
def test_shapes_and_values_that_do_not_fit(x: Any, said: str) -> None:
    with pytest.raises(DataError) as caught:
        check_inputs(x, IMAGE)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("value", "said"), [(256, "values from"), (-1, "values from"), (0.5, "fractions")]
)
def test_whole_numbers_in_range(value: float, said: str) -> None:
    spec = (InputSpec("x", (2,), "uint8"),)
    assert check_inputs([[0.0, 255.0]], spec).dtype == np.uint8
    with pytest.raises(DataError, match=said):
        check_inputs([[0, value]], spec)


def test_the_first_bad_sample_is_named() -> None:
    x = np.zeros((5, 2, 3, 4), np.float32)
    x[3, 1, 0, 0] = np.nan
    with pytest.raises(DataError, match=r"the first in sample 3 \(from 0\)"):
        check_inputs(x, IMAGE)


def test_minus_infinity_is_a_mask_and_nothing_else() -> None:
    inputs = (InputSpec("ids", (2,), "int64"), InputSpec("mask", (2,), "float32"))
    checked = check_inputs({"ids": [[1, 2]], "mask": np.array([[0, -np.inf]])}, inputs)
    assert checked.arrays["mask"].tolist() == [[0, -65504]]
    for other in ([[1, -np.inf]], [[0, np.inf]], [[0, np.nan]]):
        with pytest.raises(DataError, match="mask has NaN or infinite values"):
            check_inputs({"ids": [[1, 2]], "mask": np.array(other)}, inputs)


def test_values_by_which_all_tokens_count() -> None:
    names = ("ids", "attention_mask", "padding_mask", "key_padding_mask", "src_key_padding_mask")
    assert [counting_value(name) for name in names] == [1, 1, 0, 0, 0]


NOISE = (
    InputSpec("x", (2, 3), "float32"), InputSpec("ids", (None,), "int64"),
    InputSpec("pixels", (2, 2), "uint8"), InputSpec("byte", (2,), "uint8"),
    InputSpec("my_Mask", (2,), "int64"), InputSpec("padding_mask", (4,), "bool"),
)  # fmt: skip


def test_noise_for_any_input() -> None:
    """Reals from 0 to 1, ones for all else, and what lets all tokens count for masks."""
    arrays = drawn(NOISE, 200)
    shapes = {name: array.shape[1:] for name, array in arrays.items()}
    assert shapes == {
        "x": (2, 3), "ids": (1,), "pixels": (2, 2), "byte": (2,), "my_Mask": (2,),
        "padding_mask": (4,),
    }  # fmt: skip
    assert {len(array) for array in arrays.values()} == {200}
    x = arrays["x"]
    assert x.dtype == np.float32
    assert 0 <= x.min() < 0.01
    assert 0.99 < x.max() < 1
    assert abs(x.mean() - 0.5) < 0.05
    for name in ("ids", "pixels", "byte", "my_Mask"):
        assert (arrays[name] == 1).all()
    assert not arrays["padding_mask"].any()


def test_noise_is_the_same_whatever_its_number() -> None:
    for n_tokens in (0, 9):
        few, many = (drawn(NOISE, count, n_tokens=n_tokens) for count in (5, 30))
        for name, array in few.items():
            assert array.tolist() == many[name][:5].tolist()
    two = (InputSpec("a", (3,), "float32"), InputSpec("b", (3,), "float32"))
    assert drawn(two, 4)["a"].tolist() != drawn(two, 4)["b"].tolist()


def test_noise_that_is_more_different() -> None:
    """Ranges of 1/4 to 1, the third sample like the second, tokens below a number, any bytes."""
    arrays, plain = drawn(NOISE, 400, n_tokens=9), drawn(NOISE, 400)["x"]
    x = arrays["x"]
    for at in range(400):
        if at != 2:
            np.testing.assert_allclose(x[at], plain[at] * (1 + at % 4) / 4, rtol=1e-6)
    np.testing.assert_allclose(x[2], 0.9 * x[1] + 0.1 * 0.75 * plain[2], rtol=1e-5)
    pair = drawn(NOISE, 2, n_tokens=9)["x"]
    assert pair.tolist() == x[:2].tolist()
    three = drawn(NOISE, 3, n_tokens=9)["x"]
    assert three.tolist() == x[:3].tolist()
    assert set(arrays["ids"].ravel().tolist()) == set(range(9))
    assert set(arrays["byte"].ravel().tolist()) == set(range(9))
    assert 250 < len(set(arrays["pixels"].ravel().tolist())) <= 256
    assert (arrays["pixels"].min(), arrays["pixels"].max()) == (0, 255)
    assert (arrays["my_Mask"] == 1).all()
    assert not arrays["padding_mask"].any()


@pytest.mark.parametrize(
    ("shape", "expected", "said"),
    [
        ((5,), (3, 4), "pass each sample with all its axes, or one sample as X[None]"),
        ((5, 7), (8,), "pass the features the model was trained on, in the same order"),
        ((5, 7), (None, 9, 8), "pass each sample with all its axes"),
        ((5, 7, 8), (None, 9, 8), "add the missing axis, X[None] for one sample"),
        ((5, 7, 8, 3), (3, 7, 8), "move channels first"),
        ((5, 3, 7, 8), (7, 8, 3), "move channels last"),
        ((5, 7, 8, 3), (3, 7), "resize or crop the samples to it"),
    ],
)  # fmt: skip
def test_advice_for_other_shapes(shape: Any, expected: Any, said: str) -> None:
    with pytest.raises(DataError) as caught:
        check_inputs(np.zeros(shape), (InputSpec("x", expected, "float32"),))
    assert f"X has shape {shape}, the model expects (samples, " in str(caught.value)
    assert said in str(caught.value)


def test_inputs_that_are_missing_or_strange() -> None:
    ids, mask = [[1, 2]], [[1, 0]]
    for given, said in (
        ({"ids": ids}, "X has no input mask, expected ids, mask"),
        ({"ids": ids, "mask": mask, "more": 1}, "X has input more, the model takes ids, mask"),
        ((ids,), "X is tuple, the model takes 2 inputs"),
        (np.array(ids), "X is ndarray, the model takes 2 inputs: pass a dict of arrays named ids"),
        ({"ids": ids, "mask": mask * 2}, r"different numbers of samples (ids 1, mask 2)"),
        ({"ids": [["a"]], "mask": mask}, "ids has dtype <U1, expected int64 (samples, any)"),
        ({"ids": [[1], [1, 2]], "mask": mask}, "ids has samples of different sizes"),
    ):  # fmt: skip
        with pytest.raises(DataError) as caught:
            check_inputs(given, TEXT)
        assert said in str(caught.value)


def test_limits_of_whole_numbers_are_in_range() -> None:
    spec = (InputSpec("x", (2,), "int8"),)
    assert check_inputs([[-128, 127]], spec).tolist() == [[-128, 127]]
    for value in (-129, 128):
        with pytest.raises(DataError, match=r"X has values from .*, expected int8, -128 to 127"):
            check_inputs([[0, value]], spec)


def test_what_a_mask_hides_stays_hidden() -> None:
    finite = np.array([[0.0, 1.0]])
    assert bounded(finite) is finite
    whole = np.array([[0, 1]])
    assert bounded(whole) is whole
