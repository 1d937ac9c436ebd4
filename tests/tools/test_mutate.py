"""tools/mutate.py: which mutants count, and how much of the tests each is tried on."""

from __future__ import annotations

import json
import sys

import mutate
import pytest
from watch import Watch


def test_annotations_docstrings_and_guards_are_no_change():
    text = 'def f(a: {}) -> int:\n    "{}"\n    b: int = a\n    return zip(b, a, strict={})'
    same = mutate.program(text.format("int | None", "it", True))
    other = text.format("int - None", "that", False)
    assert mutate.program(other) == same
    assert mutate.program(other.replace("= a", "= -a")) != same
    assert mutate.program("def f(") is None


def test_no_more_tests_than_asked(tmp_path, monkeypatch):
    file = tmp_path / "parts.py"
    file.write_text("def f():\n    return 1\n")
    monkeypatch.setattr(mutate, "PACKAGE", tmp_path)
    tests = [f"tests/{name}.py::test" for name in "abcdefghi"]
    watch = Watch({"parts.py": {2: set(tests)}}, dict.fromkeys(tests, 1.0))
    monkeypatch.setattr("watch.PACKAGE", tmp_path)
    mutant = mutate.Mutant(mutate.Place(file, "core/X", 0, 2), "text", "")
    for most, count in [(mutate.math.inf, 9), (4.5, 4), (0.5, 1)]:
        trial = mutate.trial(mutant, watch, most)
        assert trial == (mutant.key, file, 2, "text", tests[:count])


def test_a_stopped_run_goes_on(tmp_path, monkeypatch, capsys):
    """What FILE has is not tried again, and counts."""
    pytest.importorskip("cosmic_ray", reason="needs cosmic-ray")
    out, tried = tmp_path / "out.jsonl", []

    def survive(trials, jobs):
        tried.append([trial.name for trial in trials])
        yield from ((trial.name, "") for trial in trials)

    monkeypatch.setattr(mutate, "tried", survive)
    monkeypatch.setattr(mutate, "LIBRARIES", ())
    monkeypatch.setattr(mutate, "record", lambda folder: None)
    monkeypatch.setattr(mutate, "recorded", lambda folder: Watch({}, {"tests/a.py::it": 1.0}))
    arguments = ["mutate.py", "--only", "power/ina219.py", "--out", str(out), "--sample"]
    monkeypatch.setattr(sys, "argv", [*arguments, "2"])
    mutate.main()
    assert "0 of 2 killed (seed 0)" in capsys.readouterr().out
    first = json.loads(out.read_text().splitlines()[0])
    out.write_text(json.dumps(first | {"killed_by": "tests/a.py::it"}) + "\n")
    monkeypatch.setattr(sys, "argv", [*arguments, "3"])
    mutate.main()
    output = capsys.readouterr().out
    assert "1 of 3 killed (seed 0)" in output
    assert output.count("+++ src/skip2lora/power/ina219.py") == 2
    assert [len(names) for names in tried] == [2, 2]
    assert first["mutant"] in tried[0]
    assert first["mutant"] not in tried[1]


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
