"""Warnings point at the line of whoever called the package."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType

import pytest

import skip2lora
from skip2lora.errors import ColumnsWarning, warn

SOURCES = sorted(Path(skip2lora.__file__).parent.rglob("*.py"))


def _call() -> None:
    globals()["function"]()


def within_the_package(function: Callable[[], None]) -> Callable[[], None]:
    """``function`` called by code that says it is of the package."""
    scope = {"__name__": "skip2lora.somewhere", "function": function}
    return FunctionType(_call.__code__, scope)


@contextlib.contextmanager
def warning() -> Iterator[None]:
    warn("said")
    yield


def in_a_context() -> None:
    with warning():
        pass


@pytest.mark.parametrize("n_calls", [0, 1, 4])
def test_a_warning_is_of_the_line_that_called_the_package(n_calls: int) -> None:
    call: Callable[[], None] = lambda: warn("said", ColumnsWarning)  # noqa: E731
    for _ in range(n_calls):
        call = within_the_package(call)
    with pytest.warns(ColumnsWarning, match="said") as caught:
        call()
    assert [each.filename for each in caught] == [__file__]


def test_calls_of_others_between_do_not_count() -> None:
    with pytest.warns(UserWarning, match="said") as caught:
        within_the_package(in_a_context)()
    assert [each.filename for each in caught] == [__file__]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_the_package_warns_in_no_other_way(path: Path) -> None:
    calls = [
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    assert calls.count("warn") == (path.stem == "errors")
