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


def test_annotations_and_docstrings_are_no_change(mutate):
    same = mutate.program('def f(a: int | None) -> int:\n    "it"\n    b: int = a\n    return b')
    other = 'def f(a: int - None) -> str:\n    "that"\n    b: float = a\n    return b'
    assert mutate.program(other) == same
    assert mutate.program(other.replace("= a", "= -a")) != same
    assert mutate.program("def f(") is None


def test_the_nearest_tests_come_first(mutate):
    own, near, others = mutate.steps(mutate.PACKAGE / "tasks" / "labels.py")
    assert [file.name for file in own] == ["test_labels.py"]
    assert [folder.name for folder in near] == ["tasks", "conformance", "cli"]
    names = {each.name for each in others}
    assert {"test_sklearn.py", "backbones", "properties"} <= names
    assert not names & {"tasks", "examples", "docs", "conftest.py"}


@pytest.mark.parametrize("failing", [0, 1, 2, None])
def test_the_first_failing_step_kills_and_the_file_is_put_back(
    mutate, failing, monkeypatch, tmp_path
):
    monkeypatch.setattr(mutate, "PACKAGE", tmp_path)
    file = tmp_path / "methods.py"
    file.write_bytes(b"a = 1\r\n")
    texts = []

    def kills(tests):
        texts.append(file.read_text())
        return len(texts) - 1 == failing

    monkeypatch.setattr(mutate, "kills", kills)
    mutant = mutate.Mutant(mutate.Place(file, "core/X", 0, 1), "a = 2\n", "")
    assert mutate.tried(mutant) == failing
    assert set(texts) == {"a = 2\n"}
    assert len(texts) == (3 if failing is None else failing + 1)
    assert file.read_bytes() == b"a = 1\r\n"


def test_the_file_is_put_back_after_an_interrupt(mutate, monkeypatch, tmp_path):
    monkeypatch.setattr(mutate, "PACKAGE", tmp_path)
    file = tmp_path / "methods.py"
    file.write_text("a = 1\n")

    def stop(tests):
        raise KeyboardInterrupt

    monkeypatch.setattr(mutate, "kills", stop)
    with pytest.raises(KeyboardInterrupt):
        mutate.tried(mutate.Mutant(mutate.Place(file, "core/X", 0, 1), "a = 2\n", ""))
    assert file.read_text() == "a = 1\n"


def test_mutants_are_the_same_for_a_seed(mutate):
    pytest.importorskip("cosmic_ray", reason="needs cosmic-ray")
    taken = [[next(mutate.mutants(seed)).key for _ in range(2)] for seed in (0, 0, 1)]
    assert taken[0] == taken[1] != taken[2]
