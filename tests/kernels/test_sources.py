"""The style of the core that its compiler does not check (DESIGN, section 5)."""

import re

import pytest

from kernels.core_api import CORE

MOST_PARAMETERS, MOST_LINES, MOST_COLUMNS = 8, 400, 100
FILES = sorted(file for folder in ("include", "src") for file in (CORE / folder).glob("*.[ch]"))
# a declaration or definition: a type, a name, parameters, and what follows them
FUNCTION = re.compile(r"\b\w[\w *]*?[ *](\w+)\(((?:[^();{}]|\([^();{}]*\))*)\)\s*[;{]")


def functions(text):
    """Name and number of parameters of every function; names of calls come with it."""
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return [(match[1], match[2].count(",") + 1) for match in FUNCTION.finditer(code)]


def test_parameters_are_counted():
    text = "static void f(int a, /* (b, c) */ float *b) {\nvoid g(int a, int (*b)(int), int c);"
    assert functions(text) == [("f", 2), ("g", 3)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_of_the_core(file):
    text = file.read_text()
    lines = text.splitlines()
    assert len(lines) < MOST_LINES
    if file.parent.name == "include":
        assert [line for line in lines if len(line) > MOST_COLUMNS] == []
    many = [(name, count) for name, count in functions(text) if count > MOST_PARAMETERS]
    assert many == []
