"""Samples of several parts, one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skip2lora.arrays import Inputs
from skip2lora.data.joined import Joined, Recalled, joined
from skip2lora.data.lazy import LazySamples, digests_of, read
from skip2lora.errors import DataError


class Numbers:
    """A source of (n, 3) that counts what is read of it."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.n_read = values, 0
        self.shape, self.dtype = values.shape, values.dtype

    def read(self, places: np.ndarray) -> np.ndarray:
        self.n_read += len(places)
        return self.values[places]

    def digests(self, places: np.ndarray, known: object = None) -> list[bytes]:
        return digests_of(self.values[places])


@pytest.fixture
def values() -> np.ndarray:
    return np.arange(30, dtype=np.float32).reshape(10, 3)


def test_arrays_are_one_array(values: np.ndarray) -> None:
    assert joined([values]) is values
    np.testing.assert_array_equal(joined([values[:4], values[4:]]), values)
    named = joined([Inputs({"a": values[:4]}), Inputs({"a": values[4:]})])
    np.testing.assert_array_equal(named.arrays["a"], values)


@pytest.mark.parametrize("other", [np.zeros((2, 4), np.float32), Inputs({"a": np.zeros(2)})])
def test_other_shapes_are_refused(values: np.ndarray, other: Any) -> None:
    with pytest.raises(DataError, match="expected the same in all files"):
        joined([values, other])


@pytest.mark.parametrize("which", [slice(2, 8), np.array([9, 0, 5, 5, 3]), np.arange(10) % 2 == 0])
def test_what_is_read_lazily_is_read_in_order(values: np.ndarray, which: Any) -> None:
    lazy = Numbers(values[4:7])
    samples = joined([values[:4], LazySamples.of(lazy), values[7:]])
    assert samples.shape == values.shape
    part = samples[which]
    assert lazy.n_read == 0
    np.testing.assert_array_equal(read(part), values[which])
    assert digests_of(part) == digests_of(values[which])


def test_recalled_samples_have_digests_alone(values: np.ndarray) -> None:
    digests = np.frombuffer(b"".join(digests_of(values[:6])), np.uint8).reshape(6, 32)
    known = LazySamples.of(Recalled(digests))
    samples = joined([known, values[6:]], settled=True)
    assert digests_of(samples) == digests_of(values)
    assert samples.checked(lambda x: 1 / 0) is samples
    assert isinstance(samples.source, Joined)
    np.testing.assert_array_equal(read(samples[7:]), values[7:])
    with pytest.raises(DataError, match="the row of sample 5 is needed and not kept any more"):
        read(samples[5:])
    np.testing.assert_array_equal(joined([values], settled=True), values)


def test_named_samples_among_lazy_ones(values: np.ndarray) -> None:
    """Type and shape are those of the last part."""
    named = Joined((Inputs({"a": values[:4]}), Inputs({"a": values[4:], "b": values[4:]})))
    assert (named.shape, named.dtype) == ((10,), np.float32)
    plain = Joined((Inputs({"a": values[:4]}), values[4:].astype(np.float64)))
    assert (plain.shape, plain.dtype) == ((10, 3), np.float64)


@pytest.mark.parametrize("at", [0, 3, 4, 6, 7, 9])
def test_one_sample_at_the_ends_of_parts(values: np.ndarray, at: int) -> None:
    samples = joined([values[:4], LazySamples.of(Numbers(values[4:7])), values[7:]])
    np.testing.assert_array_equal(read(samples[at : at + 1]), values[at : at + 1])
