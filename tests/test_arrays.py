"""check_samples: the edge where a user's arrays are validated."""

from __future__ import annotations

import tracemalloc
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from skip2lora.arrays import (
    as_array,
    check_samples,
    choice,
    first_not_finite,
    plain_array,
    real,
    size,
    whole,
    zeros,
)
from skip2lora.errors import DataError, ParameterError


def table(n_samples: int = 6, n_features: int = 4) -> np.ndarray:
    return np.arange(n_samples * n_features, dtype=np.float32).reshape(n_samples, n_features)


def refusal(*args: object, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        check_samples(*args, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert ": " in message
    return message


def test_float32_is_not_copied() -> None:
    x = table()
    values, labels = check_samples(x)
    assert values is x
    assert labels is None


@pytest.mark.parametrize(
    "x",
    [
        table().astype(np.float64),
        table().astype(">f4"),
        table().astype(np.int64),
        np.asfortranarray(table()),
        table(12)[::2],
        table().tolist(),
        table() > 3,
        np.frombuffer(b"\0" + table().tobytes(), np.uint8)[1:].view(np.float32).reshape(6, 4),
    ],
    ids=["f64", "big-endian", "int", "fortran", "strided", "list", "bool", "unaligned"],
)
def test_anything_else_becomes_float32_rows(x: object) -> None:
    values, _ = check_samples(x)  # type: ignore[arg-type]
    assert values.dtype == np.float32
    assert values.dtype.isnative
    assert values.flags.c_contiguous
    assert values.flags.aligned
    np.testing.assert_array_equal(values, np.asarray(x, np.float32))


def test_read_only_input_stays_in_place() -> None:
    x = table()
    x.setflags(write=False)
    assert check_samples(x)[0] is x


def test_one_dimension_says_reshape() -> None:
    assert "X.reshape(1, -1)" in refusal(np.zeros(5))
    assert "3 dimensions (2, 2, 2)" in refusal(np.zeros((2, 2, 2)))
    assert "0 dimensions" in refusal(3.0)


def test_width_is_compared_with_the_model() -> None:
    message = refusal(table(3, 255), n_features=256)
    assert "X has 255 columns, the model expects 256" in message
    check_samples(table(3, 256), n_features=256)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_nothing_to_learn_from(shape: tuple[int, int]) -> None:
    assert f"{shape[0]} samples and {shape[1]} features" in refusal(np.zeros(shape))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_counts_and_gives_the_first_place(bad: float) -> None:
    x = table()
    x[2, 3] = bad
    x[4, 0] = bad
    assert "2 NaN, infinite or too large values, the first at row 2, column 3" in refusal(x)


def test_overflow_of_float32_counts_as_infinite() -> None:
    x = table().astype(np.float64)
    x[5, 1] = 1e300
    assert "1 NaN, infinite or too large values, the first at row 5, column 1" in refusal(x)


def test_not_finite_is_found_beyond_the_first_chunk() -> None:
    x = np.zeros((300, 1000), np.float32)
    assert first_not_finite(x) is None
    x[299, 999] = np.nan
    assert first_not_finite(x) == (1, 299, 999)
    x[0, 0] = np.inf
    assert first_not_finite(x) == (2, 0, 0)


def test_checking_a_big_array_takes_little_memory() -> None:
    x = np.zeros((4000, 2000), np.float32)  # 32 MB
    tracemalloc.start()
    try:
        check_samples(x, np.zeros(len(x), np.int32), n_classes=1)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1_000_000


@pytest.mark.parametrize(
    "x",
    [
        np.array([["a", "b"]]),
        np.array([[object()]]),
        np.array([[1j]]),
        np.array([["2020-01-01"]], "M8[D]"),
    ],
    ids=["text", "object", "complex", "date"],
)
def test_only_real_numbers(x: np.ndarray) -> None:
    assert f"X has dtype {x.dtype}, expected real numbers" in refusal(x)


def test_ragged_and_masked() -> None:
    assert "expected rows of equal length" in refusal([[1.0, 2.0], [3.0]])
    assert "masked" in refusal(np.ma.masked_equal(table(), 3))


@pytest.mark.parametrize(
    "y",
    [
        [0, 1, 2, 0, 1, 2],
        np.array([0, 1, 2, 0, 1, 2], np.uint8),
        np.array([0, 1, 2, 0, 1, 2], np.float64),
        np.arange(12)[::2] % 3,
        np.array([[0], [1], [2], [0], [1], [2]]),
        np.array([0, 1.0, np.int64(2), np.float32(0), True, Decimal(2)], object),
    ],
    ids=["list", "uint8", "whole floats", "strided", "column", "objects"],
)
def test_labels_become_int32(y: object) -> None:
    _, labels = check_samples(table(), y, n_classes=3)  # type: ignore[arg-type]
    assert labels is not None
    assert labels.dtype == np.int32
    assert labels.flags.c_contiguous
    np.testing.assert_array_equal(labels, np.asarray(y, np.int32).ravel())


def test_bool_labels_are_two_classes() -> None:
    _, labels = check_samples(table(), np.array([True, False] * 3), n_classes=2)
    assert labels is not None
    assert labels.tolist() == [1, 0, 1, 0, 1, 0]


def test_label_beyond_the_outputs() -> None:
    y = [0, 1, 2, 0, 5, 9]
    message = refusal(table(), y, n_classes=3)
    assert "the model has 3 outputs (0..2), got label 5 at row 4" in message
    check_samples(table(), y, n_classes=10)
    check_samples(table(), y)


@pytest.mark.parametrize("n_classes", [None, 3])
def test_negative_label(n_classes: int | None) -> None:
    said = refusal(table(2), [0, -1], n_classes=n_classes)
    assert "got label -1 at row 1" in said
    assert said.endswith("leave samples out that have no label, if -1 marks them, such as y >= 0")
    said = refusal(table(2), [1, -1], n_classes=n_classes)
    assert said.endswith("number the two classes 0 and 1, such as y > 0")
    assert "-1" not in refusal(table(2), [1, -2], n_classes=n_classes)


def test_label_beyond_int32() -> None:
    assert "at row 1" in refusal(table(2), np.array([0, 2**31]))
    assert "at row 0" in refusal(table(2), np.array([2**63, 0], np.uint64))


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf])
def test_fractional_label(bad: float) -> None:
    assert "row 1" in refusal(table(2), [0.0, bad])


def test_shape_and_type_of_labels() -> None:
    assert "y has 2 dimensions (6, 2)" in refusal(table(), np.zeros((6, 2)))
    assert "y has 3 dimensions (6, 1, 1)" in refusal(table(), np.zeros((6, 1, 1)))
    assert "y has 5 labels, expected 6" in refusal(table(), np.zeros(5))
    assert "number the classes with np.unique" in refusal(table(2), ["stop", "normal"])


class NAType:
    """What a missing value of pandas is called."""

    def __repr__(self) -> str:
        return "<NA>"

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    def __ne__(self, other: object) -> Any:
        return self


class Column:
    """An array of a data frame, of the values given."""

    def __init__(self, *values: object) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = np.empty(len(self.values), object)
        array[:] = self.values
        return array


@pytest.mark.parametrize(
    ("values", "plain"),
    [
        (Column("a", "bc"), ["a", "bc"]),
        (Column(np.str_("a"), b"b\xc3\xb6"), ["a", "bö"]),
        (np.array([b"a", b"b"]), ["a", "b"]),
        (Column(1, np.int32(2)), [1, 2]),
        (Column(True, 0.5), [1.0, 0.5]),
        (Column(2**53 + 1, 3), [2**53 + 1, 3]),
        (np.array([[1, 2.5]], object), [[1.0, 2.5]]),
    ],
)
def test_objects_become_text_or_numbers(values: Any, plain: list[Any]) -> None:
    array = plain_array(values, "y")
    assert array.dtype != object
    assert array.tolist() == plain


@pytest.mark.parametrize("missing", [None, NAType(), float("nan")], ids=repr)
@pytest.mark.parametrize("other", ["a", 1, True])
def test_missing_values_are_named(missing: Any, other: Any) -> None:
    if isinstance(missing, float) and not isinstance(other, str):
        assert np.isnan(plain_array(Column(other, missing), "y")[1])  # a number that is none
        return
    with pytest.raises(DataError) as caught:
        plain_array(Column(other, other, missing), "y")
    assert f"y has {missing!r} at row 2 (from 0), a missing value" in str(caught.value)
    table = np.array([[other, other], [other, missing]], object)
    with pytest.raises(DataError, match=r"at row 1, column 1 \(from 0\), a missing value"):
        plain_array(table, "X")


def test_objects_of_several_kinds() -> None:
    with pytest.raises(DataError, match=r"y has 7 at row 1 \(from 0\), expected str as in other"):
        plain_array(Column("a", 7), "y")
    with pytest.raises(DataError, match=r"X is a set, expected an array: .* sparse matrix"):
        plain_array({1}, "X")


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


def test_tensors_come_without_their_gradients() -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    x = torch.arange(6.0).reshape(2, 3).requires_grad_()
    values, labels = check_samples(x, torch.tensor([1, 0]), n_classes=2)
    assert values.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert labels is not None
    assert labels.tolist() == [1, 0]
    assert check_samples(x.bfloat16())[0].tolist() == values.tolist()
    assert as_array(x).base is not None  # no copy
    assert "cannot become an array" in refusal([x[0], x[1]])


@pytest.mark.parametrize(
    ("value", "n_bytes"),
    [
        (0, 0), (65536, 65536), (np.int64(7), 7), ("65536", 65536), ("64KiB", 65536),
        (" 64 kib ", 65536), ("1.5MiB", 3 << 19), ("2GB", 2_000_000_000), ("3 TiB", 3 << 40),
        ("12B", 12), ("0.1kB", 100), ("0", 0),
    ],
)  # fmt: skip
def test_sizes(value: Any, n_bytes: int) -> None:
    assert size("cache_size", value) == n_bytes


@pytest.mark.parametrize(
    "value", [-1, 2.5, True, None, "", "KiB", "-3", "1e3", "64 K", "٣", "4XB", "1.MB", "9" * 40]
)
def test_no_sizes(value: Any) -> None:
    with pytest.raises(ParameterError, match=r"^cache_size is .* expected .*: (correct|choose)"):
        size("cache_size", value)


def test_a_long_value_is_cut() -> None:
    number = int("1" * 31 + "2" * 31)
    with pytest.raises(DataError, match=r"y has 1{28}\.\.\.2{28} at row 1"):
        plain_array(Column("a", number), "y")


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 16), (2, 33)])
def test_zeros_lie_where_the_core_reads_them(shape: tuple[int, int]) -> None:
    several = [zeros(*shape) for _ in range(9)]
    for array in several:
        assert (array.shape, array.dtype, array.ctypes.data % 64) == (shape, np.float32, 0)
        assert array.flags.c_contiguous
        assert not array.any()
