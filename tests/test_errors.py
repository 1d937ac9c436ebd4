"""Warnings point at the line of whoever called the package."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType

import pytest

import skip2lora
from skip2lora.errors import ColumnsWarning, brief, first_line, warn

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


def test_a_message_shows_both_ends_of_what_is_longer_than_60() -> None:
    letters = "".join(map(chr, range(0x100, 0x100 + 61)))
    assert brief(letters[:60]) == letters[:60]
    assert brief(letters) == f"{letters[:28]}...{letters[-28:]}"
    assert brief([1, None]) == "[1, None]"
    assert brief(letters[:12], 11) == f"{letters[:4]}...{letters[8:12]}"


def test_a_reason_is_the_first_line_that_says_something_and_at_most_300() -> None:
    assert first_line(ValueError("\n  a reason \nof two lines")) == "a reason"
    assert first_line(KeyboardInterrupt()) == "KeyboardInterrupt"
    letters = "".join(map(chr, range(0x100, 0x100 + 301)))
    assert first_line(ValueError(letters[:300])) == letters[:300]
    assert first_line(ValueError(letters)) == f"{letters[:148]}...{letters[-148:]}"
