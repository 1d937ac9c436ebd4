"""Samples that are read where they are needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from skip2lora.arrays import Inputs
from skip2lora.data import lazy
from skip2lora.data.lazy import LazySamples, digests_of, parts_of, read
from skip2lora.errors import DataError


@dataclass
class Table:
    """A source that counts what is read."""

    values: NDArray[Any]
    asked: list[int] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    def read(self, places: NDArray[np.intp]) -> NDArray[Any]:
        self.asked += places.tolist()
        return self.values[places]

    def digests(self, places: NDArray[np.intp], known: object = None) -> list[bytes]:
        return digests_of(self.values[places])


@pytest.fixture
def table() -> Table:
    return Table(np.arange(20, dtype=np.float32).reshape(10, 2))


def test_an_index_reads_nothing_and_says_the_shape(table: Table) -> None:
    part = LazySamples.of(table)[2:8][np.array([3, 0, 5])]
    assert (len(part), part.shape, part.dtype) == (3, (3, 2), np.float32)
    assert table.asked == []


@pytest.mark.parametrize("which", [slice(2, 7), np.array([4, 1, 4]), np.arange(10) % 3 == 0])
def test_reads_what_an_array_has_there(table: Table, which: Any) -> None:
    np.testing.assert_array_equal(LazySamples.of(table)[which].read(), table.values[which])


def test_a_check_sees_one_sample_at_once_and_the_others_as_they_are_read(table: Table) -> None:
    seen: list[int] = []

    def check(x: NDArray[Any]) -> NDArray[Any]:
        seen.append(len(x))
        return x + 1

    samples = LazySamples.of(table).checked(check)
    assert seen == [1]
    np.testing.assert_array_equal(samples[3:5].read(), table.values[3:5] + 1)
    assert seen == [1, 2]


def test_a_check_refuses_at_once_what_no_sample_can_mend(table: Table) -> None:
    def check(x: NDArray[Any]) -> NDArray[Any]:
        raise DataError("X has 2 columns, expected 3")

    with pytest.raises(DataError, match="2 columns"):
        LazySamples.of(table).checked(check)


def test_read_leaves_an_array(table: Table) -> None:
    assert read(table.values) is table.values
    np.testing.assert_array_equal(read(LazySamples.of(table)), table.values)


def test_digests_tell_samples_types_and_shapes_apart(table: Table) -> None:
    x = table.values
    others = [x + 1, x.astype(np.int32), x.reshape(10, 2, 1), x.view(np.int32)]
    digests = [digests_of(each)[0] for each in (x, *others)]
    digests += [digests_of(Inputs({"a": x}))[0], digests_of(Inputs({"b": x}))[0]]
    assert len({*digests}) == len(digests)
    assert all(len(each) == 32 for each in digests)


def test_a_sample_has_the_digest_that_it_has_among_others(table: Table) -> None:
    x = table.values
    assert digests_of(x[::2]) == digests_of(x)[::2]
    assert LazySamples.of(table)[::2].digests() == digests_of(x)[::2]
    both = Inputs({"a": x, "b": x[:, :1]})
    assert digests_of(both)[3:5] == digests_of(both[3:5])
    assert digests_of(np.asfortranarray(x)) == digests_of(x)
    images = np.moveaxis(np.arange(120, dtype=np.float32).reshape(2, 5, 4, 3), 3, 1)
    assert digests_of(images) == digests_of(np.ascontiguousarray(images))


def test_parts_are_all_samples_in_order(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def places(x: Any, most: int) -> list[list[int]]:
        return [np.arange(10)[part].tolist() for part in parts_of(x, most)]

    x = LazySamples.of(table)
    assert places(x, 4) == places(table.values, 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    monkeypatch.setattr(lazy, "READ_BYTES", 3 * 8 + 7)  # three samples of two floats
    assert places(x, 4) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert places(table.values, 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]  # are there anyhow
    monkeypatch.setattr(lazy, "READ_BYTES", 1)
    assert places(x, 4) == [[at] for at in range(10)]
    assert table.asked == []


def test_whoever_takes_arrays_gets_one(table: Table) -> None:
    np.testing.assert_array_equal(np.asarray(LazySamples.of(table)[3:5]), table.values[3:5])
    assert np.array(LazySamples.of(table), np.float64).dtype == np.float64


def test_samples_of_no_numbers_and_no_samples() -> None:
    empty = np.zeros((0, 3), np.float32)
    assert digests_of(empty) == []
    assert list(parts_of(LazySamples.of(Table(empty)), 4)) == []
    none = np.zeros((3, 0), np.float32)
    assert len(set(digests_of(none))) == 1
    assert list(parts_of(LazySamples.of(Table(none)), 2)) == [slice(0, 2), slice(2, 4)]


def test_a_sample_too_large_to_read_two_is_read_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(np.zeros((3, 4, 2), np.float64))
    for most, want in ((64, 1), (127, 1), (128, 2), (10**9, 2)):
        monkeypatch.setattr(lazy, "READ_BYTES", most)
        assert next(parts_of(LazySamples.of(table), 2)) == slice(0, want)
