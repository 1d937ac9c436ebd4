"""What a user passes, in the types and shapes that a model takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skip2lora.arrays import Inputs
from skip2lora.backbones.inputs import (
    InputSpec,
    check_inputs,
    counting_value,
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
