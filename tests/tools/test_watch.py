"""tools/watch.py: which tests watch a line."""

from __future__ import annotations

import pytest
from watch import Watch, record, recorded, watching

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
def watched(monkeypatch, tmp_path):
    """A module of a package, and a Watch of lines that tests run."""
    monkeypatch.setattr("watch.PACKAGE", tmp_path)
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
        "tests/conventions/test_flags.py::flags": 0.1,
        "tests/tasks/test_parts.py::area": 9.0,
        "tests/tasks/test_parts.py::size": 0.0,
    }
    return file, Watch({"tasks/parts.py": lines}, seconds)


A, AREA = ["tests/a.py::large", "tests/a.py::small"], ["tests/tasks/test_parts.py::area"]
OWN = [*AREA, "tests/tasks/test_parts.py::size"]  # of which one reads a constant alone
FLAGS = ["tests/conventions/test_flags.py::flags"]


@pytest.mark.parametrize(
    ("line", "tests"),
    [
        (8, A[:1]),
        (10, A[1:]),  # the second line of a statement
        (6, A),  # the second of a condition, not what depends on it
        (4, [*FLAGS, *OWN, *A]),  # a default, which importing sets: the function
        (13, [*FLAGS, *OWN, "tests/b.py::area"]),  # a field: the class
        (1, [*FLAGS, *OWN, "tests/b.py::area", *A]),  # a constant: the module, its own tests first
    ],
)
def test_the_tests_of_a_statement_are_those_that_run_it(watched, line, tests):
    file, watch = watched
    assert watching(file, line, watch) == tests


def test_all_tests_watch_what_none_runs(watched):
    file, watch = watched
    tests = watching(file, 8, watch._replace(by_line={}))
    assert sorted(tests) == sorted(watch.seconds)


def test_a_recording_is_read(monkeypatch, tmp_path):
    coverage = pytest.importorskip("coverage", reason="needs coverage")
    monkeypatch.setattr("watch.PACKAGE", tmp_path)
    data = coverage.CoverageData(str(tmp_path / "alone.coverage"))
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
    wrong = '<testcase file="tests/a.py" name="three[{}]" time="1"><{}/></testcase>'
    rows = [case.format(*each) for each in cases]
    rows += [wrong.format(*each) for each in (("a", "failure"), ("b", "error"), ("c", "skipped"))]
    (tmp_path / "alone.xml").write_text(f"<a>{''.join(rows)}</a>")
    watch = recorded(tmp_path)
    assert watch.seconds == {"tests/a.py::one": 3, "tests/a.py::two": 4}
    one, two = {"tests/a.py::one"}, {"tests/a.py::two"}
    three = {"tests/a.py::three"}  # which is chosen nowhere, as it takes no time that is known
    assert watch.by_line == {"tasks/parts.py": {2: one, 3: one, 4: one | two | three}}
    file = tmp_path / "tasks" / "parts.py"
    file.parent.mkdir()
    file.write_text("def f():\n    a = 1\n    b = 2\n    c = 3\n")
    assert watching(file, 4, watch) == ["tests/a.py::one", "tests/a.py::two"]


def test_parts_that_were_recorded_are_not_again(monkeypatch, tmp_path):
    """A part is a folder with tests, or all files that lie in none."""
    pytest.importorskip("pytest_cov", reason="needs pytest-cov")
    monkeypatch.setattr("watch.ROOT", tmp_path)
    monkeypatch.setattr("watch.TESTS", tmp_path / "tests")
    monkeypatch.setattr("watch.OPTIONS", ("-q", "-p", "no:cacheprovider"))
    (tmp_path / "tests" / "data").mkdir(parents=True)
    (tmp_path / "tests" / "docs").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    text = "from skip2lora.power import ina219\ndef test_it():\n    assert ina219.signed(2) == 2\n"
    for name in ("data/test_one.py", "test_two.py", "docs/test_three.py"):
        (tmp_path / "tests" / name).write_text(text)
    (tmp_path / "tests" / "test_four.py").write_text("def test_it():\n    assert 0\n")
    folder = tmp_path / "map"
    record(folder, jobs=2)
    assert sorted(file.stem for file in folder.glob("*.xml")) == ["alone", "data"]
    (folder / "data.xml").write_text("<a/>")
    record(folder)
    assert (folder / "data.xml").read_text() == "<a/>"
    (tmp_path / "tests" / "data" / "conftest.py").write_text("1 / 0")
    (folder / "data.xml").unlink()
    with pytest.raises(RuntimeError, match="tests of data ended with exit status 4"):
        record(folder)
    (folder / "data.xml").write_text("<a/>")
    (folder / "data.xml").unlink()
    watch = recorded(folder)
    assert list(watch.seconds) == ["tests/test_two.py::test_it"]
    assert list(watch.by_line["power/ina219.py"].values()) == [{"tests/test_two.py::test_it"}]
