"""tools/trials.py: which test kills a mutant, wherever it is, and that no file is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from trials import Trial

TOOLS = Path(__file__).parents[2] / "tools"

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
from pathlib import Path

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

def test_source():
    assert "SIZE = 3" in Path("parts.py").absolute().read_text()

def test_program():
    command = [sys.executable, "-c", "import parts; print(parts.double(2))"]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "4\\n"

def test_ending():
    os._exit(3)

def test_failing():
    assert double(2) == 5

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
    (
        6,
        "2 * x",
        "__import__('os')._exit(5)",
        "double",
        "test_parts.py::test_double[0]: exit status 5",
    ),
    (
        6,
        "2 * x",
        "__import__('time').sleep(60)",
        "double",
        "test_parts.py::test_double[0]: exit status 1",
    ),
    (10, "return 3", "return 4", "triple", "test_parts.py::test_triple"),
    (14, "x + n", "x - n", "add", "test_parts.py::test_add"),
    (14, "x + n", "x", "add", "test_parts.py::test_add"),  # another closure
    (3, "SIZE = 3", "SIZE = 4", "size", "test_parts.py::test_size"),
    (3, "SIZE = 3", "SIZE = 4", "double", ""),
    (3, "SIZE = 3", "SIZE = 4", "source", "test_parts.py::test_source"),
    (3, "SIZE = 3", "SIZE = 1 / 0", "double", "test_parts.py"),
    (3, "SIZE = 3", "__import__('os')._exit(5)", "double", "imports: exit status 5"),
    (6, "2 * x", "3 * x", "renamed", None),  # no test to try it on
    (3, "SIZE = 3", "SIZE = 4", "renamed", None),
    (6, "2 * x", "3 * x", "ending", None),  # the test ends with or without the mutant
]


#: Forks of a process that has run anything with threads could wait for these for ever.
ALONE = """\
import json, pathlib, sys
sys.path.insert(0, sys.argv[1])
import trials
trials.ROOT, trials.OPTIONS = pathlib.Path.cwd(), ("-q", "-p", "no:cacheprovider")
limit = ["faulthandler_timeout=5", "faulthandler_exit_on_timeout=true"]
trials.LIMIT = ("-x", "-o", limit[0], "-o", limit[1])
given, given_tests = json.load(sys.stdin)
given = [trials.Trial(each[0], pathlib.Path(each[1]), *each[2:]) for each in given]
tried = {each.name: each for each in trials.tried(given, jobs=3)}
failing = [trials.failing(pathlib.Path("parts.py").resolve(), tests) for tests in given_tests]
print(json.dumps([tried, failing]))
"""


@pytest.fixture
def package(tmp_path):
    """A folder with a package and its tests."""
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "more.py").write_text("def half(x):\n    return x / 2\n")
    (tmp_path / "test_parts.py").write_text(TESTS)
    return tmp_path


@pytest.fixture
def asked(package):
    """What becomes of mutants, and which of some tests fail without any."""

    def ask(given, tests):
        ran = subprocess.run(
            [sys.executable, "-c", ALONE, str(TOOLS)], input=json.dumps([given, tests]),
            capture_output=True, text=True, cwd=package, check=False, timeout=600,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    return ask


def test_the_first_test_that_fails_is_named(package, asked):
    """And what could not be tried is told from what survives."""
    file, lazy = str(package / "parts.py"), str(package / "more.py")
    given = [
        (str(number), file, line, PARTS.replace(old, new), [f"test_parts.py::test_{test}"])
        for number, (line, old, new, test, _) in enumerate(CASES)
    ]
    half = (package / "more.py").read_text()
    given.append(("lazy", lazy, 2, half.replace("/", "*"), ["test_parts.py::test_lazy"]))
    three = PARTS.replace("2 * x", "x")
    both = ["test_parts.py::test_size", "test_none.py::test_no", "test_parts.py::test_double"]
    given.append(("both", file, 6, three, both))
    given.append(("file", file, 6, three, ["test_parts.py"]))
    expected = {str(number): case[-1] for number, case in enumerate(CASES)}
    expected |= {"lazy": "test_parts.py::test_lazy", "both": "test_parts.py::test_double[1]"}
    expected["file"] = "test_parts.py::test_double[1]"
    verdicts, _ = asked(given, [])
    assert {
        name: None if ended else killer for name, killer, ended in verdicts.values()
    } == expected
    assert (package / "parts.py").read_text() == PARTS
    assert (package / "more.py").read_text() == half


def test_tests_that_fail_without_a_mutant_are_told(asked):
    name = "test_parts.py::test_{}".format
    some = [name(each) for each in ("double[1]", "failing", "size", "failing")]
    _, failing = asked([], [some, some[:1], [name("size"), name("ending")]])
    assert failing == [[name("failing")], [], [name("size"), name("ending")]]


def test_lines_that_importing_runs_are_in_no_function(package):
    lines = [
        line
        for line in range(1, 16)
        if Trial("", package / "parts.py", line, PARTS, []).in_function
    ]
    assert lines == [6, 10, 13, 14, 15]
