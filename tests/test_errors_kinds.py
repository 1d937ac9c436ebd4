"""Errors of the package, and what is said of those that another package raised."""

from __future__ import annotations

import pytest

import skip2lora as s2
from skip2lora.errors import first_line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("one\ntwo", "one"),
        ("\n  \n  three \n", "three"),
        ("", "ValueError"),
        ("x" * 300, "x" * 300),
        ("x" * 301, "x" * 148 + "..." + "x" * 148),
    ],
)
def test_first_line(text: str, said: str) -> None:
    assert first_line(ValueError(text)) == said


def test_errors_are_of_the_built_in_kinds() -> None:
    kinds = {
        s2.DataError: ValueError, s2.ParameterError: ValueError, s2.ModelError: ValueError,
        s2.FileError: OSError, s2.DivergedError: ArithmeticError, s2.MissingExtraError: ImportError,
    }  # fmt: skip
    for error, kind in kinds.items():
        assert issubclass(error, kind)
