"""The limits that ``make check`` holds."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[2] / "tools" / "check_sizes.py"


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("check_sizes", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def flaws(tool: Any, source: str, path: str = "src/a.py") -> list[str]:
    return list(tool.flaws(path, source))


def function(n_lines: int, docstring: str = "") -> str:
    return f"def f():\n    '''{docstring}'''\n" + "    # why\n\n    x = 1\n" * n_lines


def test_a_body_has_at_most_50_lines(tool: Any) -> None:
    assert flaws(tool, function(50, "long\n" * 60)) == []
    assert flaws(tool, function(51)) == [
        "src/a.py:1: f has 51 lines, expected at most 50: split it"
    ]


def test_a_function_has_at_most_8_parameters(tool: Any) -> None:
    eight = "a, b, c, d, *, e, f, g"
    assert flaws(tool, f"def f({eight}, **others): pass") == []
    assert flaws(tool, f"class A:\n    def f(self, {eight}, h): pass") == []
    (said,) = flaws(tool, f"def f({eight}, h, **others): pass")
    assert said == "src/a.py:1: f has 9 parameters, expected at most 8: group them"
    named = f"def adapt({eight}, h, i): pass"
    assert flaws(tool, named, "src/skip2lora/adapt.py") == []
    assert len(flaws(tool, named, "src/skip2lora/plan.py")) == 1


def test_a_file_has_at_most_400_lines(tool: Any) -> None:
    for path in ("src/a.py", "core/src/a.c"):
        assert flaws(tool, "\n" * 400, path) == []
        assert flaws(tool, "\n" * 401, path) == [
            f"{path}: 401 lines, expected at most 400: split it"
        ]


def test_the_sources_are_within_the_limits(tool: Any, capsys: Any) -> None:
    assert tool.main() == 0, capsys.readouterr().out


def test_every_exception_is_needed(tool: Any) -> None:
    """A name that no function over the limit has is a permit for a later one."""
    for place in tool.PUBLIC:
        path, name = place.split(":")
        source = (PATH.parents[1] / path).read_text(encoding="utf-8")
        counts = [
            tool.n_parameters(node)
            for node in tool.ast.walk(tool.ast.parse(source))
            if isinstance(node, tool.Function) and node.name == name
        ]
        assert max(counts) > tool.MOST_PARAMETERS, place
