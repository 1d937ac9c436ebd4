"""Numbers and words from a user."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skip2lora.checks import choice, real, whole
from skip2lora.errors import ParameterError


@pytest.mark.parametrize("value", [1, 16, np.int64(7), np.uint8(3)])
def test_whole_numbers(value: Any) -> None:
    assert whole("rank", value, 1, 16) == value
    assert type(whole("rank", value, 1, 16)) is int


@pytest.mark.parametrize("value", [0, 17, 4.0, True, "4", None, np.float32(4)])
def test_what_is_no_whole_number_in_range(value: Any) -> None:
    with pytest.raises(ParameterError, match=r"rank is .*, expected a whole number"):
        whole("rank", value, 1, 16)


def test_what_was_expected_is_said() -> None:
    with pytest.raises(
        ParameterError, match=r"^n is 0, expected a whole number from 1: choose another$"
    ):
        whole("n", 0, 1)
    with pytest.raises(
        ParameterError, match=r"^n is 9, expected .* from 1 to 3, as it is small: choose another$"
    ):
        whole("n", 9, 1, 3, "as it is small")
    assert whole("n", 10**12, 1) == 10**12


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.25), np.int8(1)])
def test_real_numbers(value: Any) -> None:
    assert real("share", value, 0, 1, "from 0 to 1") == value
    assert type(real("share", value, 0, 1, "from 0 to 1")) is float


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True, "0.5", None, 1j])
def test_what_is_no_real_number_in_range(value: Any) -> None:
    with pytest.raises(ParameterError, match=r"share is .*, expected a number from 0 to 1"):
        real("share", value, 0, 1, "from 0 to 1")


def test_choices() -> None:
    assert choice("kind", "b", ("a", "b")) == "b"
    with pytest.raises(ParameterError, match="kind is 'c', expected one of a, b"):
        choice("kind", "c", ("a", "b"))
