"""tools/mutate.py: which mutants count, which tests watch a module, and that files are put back."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "mutate.py"


@pytest.fixture
def mutate(monkeypatch):
    spec = importlib.util.spec_from_file_location("mutate", TOOL)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mutate", module)
    spec.loader.exec_module(module)
    return module


def test_annotations_docstrings_and_guards_are_no_change(mutate):
    text = 'def f(a: {}) -> int:\n    "{}"\n    b: int = a\n    return zip(b, a, strict={})'
    same = mutate.program(text.format("int | None", "it", True))
    other = text.format("int - None", "that", False)
    assert mutate.program(other) == same
    assert mutate.program(other.replace("= a", "= -a")) != same
    assert mutate.program("def f(") is None


MODULE = """\
SIZE = 3

def double(x,
           by=2):
    if x > (
        SIZE
    ):
        return x * by
    return (x +
            0)

class Part:
    width = 4

    def area(self):
        return self.width
"""


@pytest.fixture
def watched(mutate, monkeypatch, tmp_path):
    """A module of a package, and a Watch of lines that tests run."""
    monkeypatch.setattr(mutate, "PACKAGE", tmp_path)
    file = tmp_path / "tasks" / "parts.py"
    file.parent.mkdir()
    file.write_text(MODULE)
    lines = {
        1: {"tests/b.py::imports"},
        3: {"tests/b.py::imports"},
        5: {"tests/a.py::large", "tests/a.py::small"},
        8: {"tests/a.py::large"},
        9: {"tests/a.py::small"},
        16: {"tests/tasks/test_parts.py::area", "tests/b.py::area"},
    }
    seconds = {
        "tests/a.py::large": 1.0,
        "tests/a.py::small": 2.0,
        "tests/b.py::area": 0.5,
        "tests/b.py::imports": 0.0,
        "tests/conventions/test_names.py::nouns": 0.0,
        "tests/tasks/test_parts.py::area": 9.0,
        "tests/tasks/test_parts.py::size": 0.0,
    }
    return file, mutate.Watch({"tasks/parts.py": lines}, seconds)


A, AREA = ["tests/a.py::large", "tests/a.py::small"], ["tests/tasks/test_parts.py::area"]
OWN = [*AREA, "tests/tasks/test_parts.py::size"]  # of which one reads a constant alone
RULES = "tests/conventions/test_names.py::nouns"


@pytest.mark.parametrize(
    ("line", "tests"),
    [
        (8, A[:1]),
        (10, A[1:]),  # the second line of a statement
        (6, A),  # the second of a condition, not what depends on it
        (4, [*OWN, RULES, *A]),  # a default, which importing sets: the function
        (13, [*OWN, RULES, "tests/b.py::area"]),  # a field: the class
        (1, [*OWN, RULES, "tests/b.py::area", *A]),  # a constant: the module, its own tests first
    ],
)
def test_the_tests_of_a_statement_are_those_that_run_it(mutate, watched, line, tests):
    file, watch = watched
    assert mutate.watching(mutate.Place(file, "core/X", 0, line), watch) == tests


def test_all_tests_watch_what_none_runs(mutate, watched):
    file, watch = watched
    tests = mutate.watching(mutate.Place(file, "core/X", 0, 8), watch._replace(by_line={}))
    assert sorted(tests) == sorted(watch.seconds)


def test_a_recording_is_read(mutate, monkeypatch, tmp_path):
    coverage = pytest.importorskip("coverage", reason="needs coverage")
    monkeypatch.setattr(mutate, "PACKAGE", tmp_path)
    data = coverage.CoverageData(str(tmp_path / "lines.coverage"))
    for context, line in [
        ("", 1),
        ("tests/a.py::one[x::y|z]|run", 2),
        ("tests/a.py::one[b]|run", 3),
        ("tests/a.py::two|setup", 4),
    ]:
        data.set_context(context)
        data.add_lines({str(tmp_path / "tasks" / "parts.py"): [line]})
    data.write()
    cases = [("one[x::y|z]", 1), ("one[b]", 2), ("two", 4)]
    case = '<testcase file="tests/a.py" name="{}" time="{}"/>'
    (tmp_path / "tests.xml").write_text(f"<a>{''.join(case.format(*each) for each in cases)}</a>")
    watch = mutate.recorded(tmp_path)
    assert watch.seconds == {"tests/a.py::one": 3, "tests/a.py::two": 4}
    one, two = {"tests/a.py::one"}, {"tests/a.py::two"}
    assert watch.by_line == {"tasks/parts.py": {1: set(), 2: one, 3: one, 4: one | two}}


@pytest.mark.parametrize(
    ("body", "killer"),
    [
        ("assert True", None),
        ("assert False", "{file}::test_it"),
        ("raise SystemExit(3)", "{file}::test_it"),
        ("import os; os._exit(9)", "exit status 9"),
        ("import time; time.sleep(60)", "exit status 1"),
    ],
)
def test_the_first_test_that_fails_is_named(mutate, monkeypatch, tmp_path, body, killer):
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    monkeypatch.setattr(mutate, "OPTIONS", ("-q", "-p", "no:cacheprovider"))
    monkeypatch.setattr(mutate, "TEST_TIMEOUT_S", 1)
    (tmp_path / "test_some.py").write_text(f"def test_it():\n    {body}\n")
    expected = killer and killer.format(file="test_some.py")
    assert mutate.killer(["test_some.py::test_it"]) == expected


def test_few_files_are_read_at_once_and_no_more_tests_than_asked(mutate):
    tests = [f"tests/{file}.py::{name}" for file in range(9) for name in "ab"]
    watch = mutate.Watch({}, dict.fromkeys(tests, 1.0))
    steps = list(mutate.steps(tests, watch, mutate.math.inf))
    assert [len(step) for step in steps] == [2, 8, 8]
    assert [test for step in steps for test in step] == tests
    steps = mutate.steps(tests, watch, 4.5)
    assert [test for step in steps for test in step] == tests[:4]
    assert list(mutate.steps(tests, watch, 0.5)) == [tests[:1]]


@pytest.mark.parametrize("killer", ["tests/a.py::large", None])
def test_the_file_is_put_back(mutate, watched, killer, monkeypatch):
    file, watch = watched
    file.write_bytes(b"a = 1\r\n")

    ran = []

    def run(tests):
        ran.extend(tests)
        assert file.read_text() == "a = 2\n"
        return killer

    monkeypatch.setattr(mutate, "killer", run)
    mutant = mutate.Mutant(mutate.Place(file, "core/X", 0, 1), "a = 2\n", "")
    assert mutate.tried(mutant, watch, 99) == killer
    everything = mutate.in_order(set(watch.seconds), file, watch)
    assert ran == (everything[:2] if killer else everything)  # those of the first file
    assert file.read_bytes() == b"a = 1\r\n"


def test_the_file_is_put_back_after_an_interrupt(mutate, watched, monkeypatch):
    file, watch = watched

    def stop(tests):
        raise KeyboardInterrupt

    monkeypatch.setattr(mutate, "killer", stop)
    with pytest.raises(KeyboardInterrupt):
        mutate.tried(mutate.Mutant(mutate.Place(file, "core/X", 0, 1), "a = 2\n", ""), watch, 99)
    assert file.read_text() == MODULE


def test_mutants_are_the_same_for_a_seed(mutate):
    pytest.importorskip("cosmic_ray", reason="needs cosmic-ray")
    taken = [[next(mutate.mutants(seed, ["power/*"])).key for _ in range(2)] for seed in (0, 0, 1)]
    assert taken[0] == taken[1] != taken[2]


def test_modules_can_be_chosen(mutate):
    pytest.importorskip("cosmic_ray", reason="needs cosmic-ray")
    files = {place.file.name for each in mutate.places(["power/*", "arrays.py"]) for place in each}
    assert "arrays.py" in files
    assert files - {"arrays.py"} <= {file.name for file in (mutate.PACKAGE / "power").iterdir()}


def test_exceptions_of_modules_are_left_out(mutate, monkeypatch, tmp_path):
    """What cosmic-ray cannot change ends nothing."""
    pytest.importorskip("cosmic_ray", reason="needs cosmic-ray")
    monkeypatch.setattr(mutate, "PACKAGE", tmp_path)
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    text = "try:\n    it()\nexcept (zlib.error, ValueError):\n    raise\n"
    (tmp_path / "parts.py").write_text(text)
    of = list(mutate.mutants(0, ["*"]))
    assert all(mutant.place.operator.endswith("ExceptionReplacer") for mutant in of)
    assert not any("CosmicRay" in mutant.text.partition(",")[0] for mutant in of)
