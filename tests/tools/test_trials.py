"""tools/trials.py: which test kills a mutant, wherever it is, and that no file is written."""

from __future__ import annotations

import pytest
from trials import Trial, tried

PARTS = """\
import functools

SIZE = 3

def double(x):
    return 2 * x

@functools.cache
def triple():
    return 3

def adder(n):
    def add(x):
        return x + n
    return add
"""
TESTS = """\
import os, subprocess, sys, time

import pytest
from parts import SIZE, adder, double, triple

KNOWN = triple()  # before any mutant

class Loud:  # as torch has some
    @property
    def __class__(self):
        raise RuntimeError

LOUD = [Loud()]

@pytest.mark.parametrize("x", [0, 1])
def test_double(x):
    assert double(x) == 2 * x

def test_triple():
    assert triple() == 3

def test_add():
    assert adder(2)(3) == 5

def test_size():
    assert SIZE == 3

def test_program():
    command = [sys.executable, "-c", "import parts; print(parts.double(2))"]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "4\\n"

def test_lazy():
    import more
    assert more.half(4) == 2
"""
#: Line, what is there, what the mutant has, the only test that runs, and what kills it.
CASES = [
    (6, "2 * x", "3 * x", "double", "test_parts.py::test_double[1]"),
    (6, "2 * x", "x * 2", "double", ""),
    (6, "2 * x", "3 * x", "triple", ""),
    (6, "2 * x", "3 * x", "program", "test_parts.py::test_program"),
    (6, "2 * x", "__import__('os')._exit(5)", "double", "exit status 5"),
    (6, "2 * x", "__import__('time').sleep(60)", "double", "exit status 1"),
    (10, "return 3", "return 4", "triple", "test_parts.py::test_triple"),
    (14, "x + n", "x - n", "add", "test_parts.py::test_add"),
    (14, "x + n", "x", "add", "test_parts.py::test_add"),  # another closure
    (3, "SIZE = 3", "SIZE = 4", "size", "test_parts.py::test_size"),
    (3, "SIZE = 3", "SIZE = 4", "double", ""),
    (3, "SIZE = 3", "SIZE = 1 / 0", "double", "exit status 4"),
]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder with a package and its tests, of which no process has imported anything."""
    monkeypatch.setattr("trials.ROOT", tmp_path)
    monkeypatch.setattr("trials.OPTIONS", ("-q", "-p", "no:cacheprovider"))
    monkeypatch.setattr("trials.LIMIT", (
        "-x", "-o", "faulthandler_timeout=3", "-o", "faulthandler_exit_on_timeout=true"
    ))  # fmt: skip
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "more.py").write_text("def half(x):\n    return x / 2\n")
    (tmp_path / "test_parts.py").write_text(TESTS)
    return tmp_path


@pytest.mark.parametrize("jobs", [1, 3])
def test_the_first_test_that_fails_is_named(package, jobs):
    file = package / "parts.py"
    trials = [
        Trial(str(number), file, line, PARTS.replace(old, new), [f"test_parts.py::test_{test}"])
        for number, (line, old, new, test, _) in enumerate(CASES)
    ]
    half = (package / "more.py").read_text()
    lazy = half.replace("/", "*")
    trials.append(Trial("lazy", package / "more.py", 2, lazy, ["test_parts.py::test_lazy"]))
    both = ["test_parts.py::test_size", "test_parts.py::test_double"]
    trials.append(Trial("both", file, 6, PARTS.replace("2 * x", "x"), both))
    expected = {str(number): case[-1] for number, case in enumerate(CASES)}
    expected |= {"lazy": "test_parts.py::test_lazy", "both": "test_parts.py::test_double[1]"}
    assert dict(tried(trials, jobs)) == expected
    assert file.read_text() == PARTS
    assert (package / "more.py").read_text() == half


def test_lines_that_importing_runs_are_in_no_function(package):
    lines = [
        line
        for line in range(1, 16)
        if Trial("", package / "parts.py", line, PARTS, []).in_function
    ]
    assert lines == [6, 10, 13, 14, 15]
