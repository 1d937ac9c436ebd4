"""tools/mutate.py: which mutants count, and how much of the tests each is tried on."""

from __future__ import annotations

import json
import sys

import mutate
import pytest
from trials import Verdict
from watch import Watch


def test_annotations_docstrings_and_guards_are_no_change():
    text = 'def f(a: {}) -> int:\n    "{}"\n    b: int = a\n    return zip(b, a, strict={})'
    same = mutate.program(text.format("int | None", "it", True))
    other = text.format("int - None", "that", False)
    assert mutate.program(other) == same
    assert mutate.program(other.replace("= a", "= -a")) != same
    assert mutate.program("def f(") is None
    assert mutate.program("a = b is 'c'") is None  # what Python warns of


def test_no_more_tests_than_asked(tmp_path, monkeypatch):
    file = tmp_path / "parts.py"
    file.write_text("def f():\n    return 1\n")
    monkeypatch.setattr(mutate, "PACKAGE", tmp_path)
    tests = [f"tests/{name}.py::test" for name in "abcdefghi"]
    watch = Watch({"parts.py": {2: set(tests)}}, dict.fromkeys(tests, 1.0))
    monkeypatch.setattr("watch.PACKAGE", tmp_path)
    monkeypatch.setattr("watch.ROOT", tmp_path)
    (tmp_path / "tests").mkdir()
    for name in ("test_parts.py", "test_parts_more.py", "test_other.py"):
        (tmp_path / "tests" / name).touch()
    monkeypatch.setattr("watch.TESTS", tmp_path / "tests")
    mutant = mutate.Mutant(mutate.Place(file, "core/X", 0, 2), "text", "")
    own = mutate.trial(mutant, None, mutate.math.inf).tests
    assert own == ["tests/test_parts.py", "tests/test_parts_more.py"]
    for most, count in [(mutate.math.inf, 9), (4.5, 4), (0.5, 1)]:
        trial = mutate.trial(mutant, watch, most)
        assert trial == (mutant.key, file, 2, "text", tests[:count])


def test_a_stopped_run_goes_on(tmp_path, monkeypatch, capsys):
    """What FILE has is not tried again, and counts; what could not be tried is, and does not."""
    pytest.importorskip("cosmic_ray", reason="needs cosmic-ray")
    out, tried, faulty = tmp_path / "out.jsonl", [], []

    def survive(trials, jobs):
        tried.append([trial.name for trial in trials])
        yield from (Verdict(trial.name) for trial in trials)

    monkeypatch.setattr(mutate, "tried", survive)
    monkeypatch.setattr(mutate, "failing", lambda file, tests: [*faulty])
    monkeypatch.setattr(mutate, "LIBRARIES", ())
    monkeypatch.setattr(mutate, "record", lambda folder, jobs: None)
    monkeypatch.setattr(mutate, "recorded", lambda folder: Watch({}, {"tests/a.py::it": 1.0}))
    arguments = ["mutate.py", "--only", "power/ina219.py", "--out", str(out), "--sample"]

    def run(n):
        monkeypatch.setattr(sys, "argv", [*arguments, str(n)])
        mutate.main()
        return capsys.readouterr().out

    assert "0 of 3 killed, 0 not tried (seed 0)" in run(3)
    first, second, third = map(json.loads, out.read_text().splitlines())
    first["killed_by"] = "tests/a.py::it"
    second |= {"killed_by": "tests/a.py::other", "untried": "exit status 4"}
    out.write_text("".join(json.dumps(each) + "\n" for each in (first, second, third)))
    output = run(4)
    assert "1 of 4 killed, 0 not tried (seed 0)" in output
    assert output.count("+++ src/skip2lora/power/ina219.py") == 3
    assert [len(names) for names in tried] == [3, 2]
    assert tried[1][0] == second["mutant"]
    faulty.append("tests/a.py::it")
    output = run(4)
    assert "0 of 4 killed, 1 not tried (seed 0)" in output
    assert f"{first['mutant']}: not tried: tests/a.py::it fails without it" in output


def test_mutants_are_the_same_for_a_seed():
    pytest.importorskip("cosmic_ray", reason="needs cosmic-ray")
    taken = [[next(mutate.mutants(seed, ["power/*"])).key for _ in range(2)] for seed in (0, 0, 1)]
    assert taken[0] == taken[1] != taken[2]


def test_modules_can_be_chosen():
    pytest.importorskip("cosmic_ray", reason="needs cosmic-ray")
    files = {place.file.name for each in mutate.places(["power/*", "arrays.py"]) for place in each}
    assert "arrays.py" in files
    assert files - {"arrays.py"} <= {file.name for file in (mutate.PACKAGE / "power").iterdir()}


def test_exceptions_of_modules_are_left_out(monkeypatch, tmp_path):
    """What cosmic-ray cannot change ends nothing."""
    pytest.importorskip("cosmic_ray", reason="needs cosmic-ray")
    monkeypatch.setattr(mutate, "PACKAGE", tmp_path)
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    text = "try:\n    it()\nexcept (zlib.error, ValueError):\n    raise\n"
    (tmp_path / "parts.py").write_text(text)
    of = list(mutate.mutants(0, ["*"]))
    assert all(mutant.place.operator.endswith("ExceptionReplacer") for mutant in of)
    assert not any("CosmicRay" in mutant.text.partition(",")[0] for mutant in of)
