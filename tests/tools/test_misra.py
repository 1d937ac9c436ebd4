"""What ``make misra`` says of cppcheck's output and of the page."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[2] / "tools" / "misra.py"
OUTPUT = """\
src/a.c:1: misra violation (use --rule-texts) [misra-c2012-12.1]
include/b.h:7: misra violation (use --rule-texts) [misra-c2012-12.1]
include/b.h:7: misra violation (use --rule-texts) [misra-c2012-12.1]
src/a.c:9: misra violation (use --rule-texts) [misra-c2012-17.7]
src/a.c:9: Variable is unused [unusedVariable]
"""
PAGE = "| rule |\n| 12.1 | advisory | 9 | why |\n| 17.7 | required | 0 | why |\n"


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("misra", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_line_counts_once_for_a_rule(tool: Any) -> None:
    assert tool.places(OUTPUT) == {"12.1": 2, "17.7": 1}


def test_a_rule_that_the_page_lacks_is_told(tool: Any) -> None:
    assert tool.faults(tool.places(OUTPUT), PAGE) == []
    (fault,) = tool.faults(Counter({"12.1": 2, "17.7": 1, "21.3": 1}), PAGE)
    assert fault.startswith("rule 21.3 is broken in 1 places")


def test_a_rule_that_nothing_breaks_is_told(tool: Any) -> None:
    (fault,) = tool.faults(Counter({"12.1": 2}), PAGE)
    assert fault == "docs/misra.md lists rule 17.7, which nothing breaks: take it out"


def test_numbers_are_put_into_the_page(tool: Any) -> None:
    page = tool.renewed(tool.places(OUTPUT), PAGE)
    assert page == "| rule |\n| 12.1 | advisory | 2 | why |\n| 17.7 | required | 1 | why |\n"
