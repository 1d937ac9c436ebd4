"""Each method's row of compute types is the one of sections 3 and 4.1."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from skip2lora import _core, methods
from skip2lora.errors import ParameterError
from skip2lora.methods import Method

LETTERS = {"y": _core.Y, "w": _core.W, "b": _core.B, "x": _core.X, "s": _core.STATS}
METHODS = methods.METHODS
# Of the first, an inner and the last layer. Batch norm: y alone is frozen; s, statistics of the
# batch; w, gamma and beta train. None follows the last layer.
FC = {  # in the order of Table 4
    "ft-all": ("ywb", "ywbx", "ywbx"),
    "ft-last": ("y", "y", "ywb"),
    "ft-bias": ("yb", "ybx", "ybx"),
    "ft-all-lora": ("ywb", "ywbx", "ywbx"),
    "lora-all": ("y", "yx", "yx"),
    "lora-last": ("y", "y", "y"),
    "skip-lora": ("y", "y", "y"),
    "skip2-lora": ("y", "y", "y"),
}
LORA = {
    "ft-all": ("", "", ""),
    "ft-last": ("", "", ""),
    "ft-bias": ("", "", ""),
    "ft-all-lora": ("yw", "ywx", "ywx"),
    "lora-all": ("yw", "ywx", "ywx"),
    "lora-last": ("", "", "yw"),
    "skip-lora": ("yw", "yw", "yw"),
    "skip2-lora": ("yw", "yw", "yw"),
}
NORM = {
    "ft-all": ("ysw", "ysw", ""),
    "ft-last": ("y", "y", ""),
    "ft-bias": ("ys", "ys", ""),
    "ft-all-lora": ("ysw", "ysw", ""),
    "lora-all": ("ys", "ys", ""),
    "lora-last": ("y", "y", ""),
    "skip-lora": ("y", "y", ""),
    "skip2-lora": ("y", "y", ""),
}


def flags(types: str) -> int:
    return sum(LETTERS[letter] for letter in types)


def test_letters_are_separate_bits() -> None:
    assert sorted(LETTERS.values()) == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("name", METHODS)
def test_rows_are_those_of_the_paper(name: str, depth: int) -> None:
    places = [0, *[1] * (depth - 2), 2]
    expected = tuple(
        (flags(FC[name][place]), flags(LORA[name][place]), flags(NORM[name][place]))
        for place in places
    )
    assert METHODS[name].rows(depth) == expected


@pytest.mark.parametrize("name", METHODS)
def test_one_layer_is_first_and_last(name: str) -> None:
    ((fc, lora, norm),) = METHODS[name].rows(1)
    assert fc == flags(FC[name][2].replace("x", ""))
    assert lora == flags(LORA[name][2].replace("x", ""))
    assert norm == 0


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_adapted_layers_have_a_lora_type(depth: int) -> None:
    for method in METHODS.values():
        having = [layer for layer, row in enumerate(method.rows(depth)) if row[1]]
        assert list(range(depth)[method.adapted]) == having
    assert list(range(depth)[METHODS["ft-all"].adapted]) == []
    assert list(range(depth)[METHODS["lora-last"].adapted]) == [depth - 1]
    assert list(range(depth)[METHODS["skip2-lora"].adapted]) == list(range(depth))


def test_what_only_some_methods_do() -> None:
    def names(holds: Callable[[Method], bool]) -> set[str]:
        return {method.name for method in METHODS.values() if holds(method)}

    whole = {"ft-all", "ft-bias", "ft-all-lora"}
    assert names(lambda method: method.batch_statistics) == {*whole, "lora-all"}
    assert names(lambda method: method.tunes_network) == {*whole, "ft-last"}
    assert names(lambda method: method.cache) == {"skip2-lora"}
    assert names(lambda method: method.skip) == {"lora-last", "skip-lora", "skip2-lora"}
    # Section 4.2 names those that Skip-Cache works for.
    assert names(lambda method: method.freezes_below) == {
        "ft-last", "lora-last", "skip-lora", "skip2-lora",
    }  # fmt: skip
    assert {name for name, method in METHODS.items() if method.name == name} == set(METHODS)


def test_method_by_name(refused: Callable[..., str]) -> None:
    assert set(METHODS) == set(FC)
    for name, method in METHODS.items():
        assert METHODS[name] is method
    for name in ("skip3-lora", "Skip2-LoRA", "", None):
        message = refused(ParameterError, METHODS.__getitem__, name)
        assert f"method {name!r} is unknown" in message
        assert f"expected one of {', '.join(FC)}" in message
