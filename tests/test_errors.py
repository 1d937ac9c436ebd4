"""Errors of the package: each of a built-in kind as well."""

from __future__ import annotations

import skip2lora as s2


def test_errors_are_of_the_built_in_kinds() -> None:
    kinds = {
        s2.DataError: ValueError, s2.ParameterError: ValueError, s2.ModelError: ValueError,
        s2.FileError: OSError, s2.DivergedError: ArithmeticError, s2.MissingExtraError: ImportError,
    }  # fmt: skip
    for error, kind in kinds.items():
        assert issubclass(error, kind)
