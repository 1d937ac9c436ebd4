"""Which tests run which lines of the package, as one run of the tests under coverage.py showed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, TESTS = ROOT / "src" / "skip2lora", ROOT / "tests"
LEFT_OUT = ("examples", "docs", "tools", "typing", "bench", "web")
CONVENTIONS = "tests/conventions/"  # they look at what importing makes, as flags of dataclasses
OPTIONS = ("-q", "-p", "no:cacheprovider", "--graphs", "20")


class Watch(NamedTuple):
    """What the tests ran; a test is written file::function, whatever its cases."""

    by_line: dict[str, dict[int, set[str]]]  # tests that run a line of a module of the package
    seconds: dict[str, float]  # of each test, all its cases together


def record(folder: Path, jobs: int = 1) -> None:
    """Run the tests, so many folders at a time, and keep which lines each runs.

    Goes on where it stopped. Tests that fail watch nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = {each.name: [each] for each in sorted(TESTS.iterdir())
             if each.name not in LEFT_OUT and any(each.glob("test_*.py"))}  # fmt: skip
    parts["alone"] = sorted(TESTS.glob("test_*.py"))
    words = ["--cov=skip2lora", "--cov-context=test", "--cov-report=", "-o", "junit_family=xunit1"]

    def run(name: str) -> None:
        lines, cases = (folder / f"{name}.{kind}" for kind in ("coverage", "xml"))
        if cases.exists():
            return
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "pytest", *OPTIONS, *words,
             f"--junitxml={cases.with_suffix('.part')}", *map(str, parts[name])],
            cwd=ROOT, env=os.environ | {"COVERAGE_FILE": str(lines)}, check=False,
        )  # fmt: skip
        if done.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            raise RuntimeError(f"tests of {name} ended with exit status {done.returncode}")
        cases.with_suffix(".part").rename(cases)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, sorted(parts, key=lambda name: -len(list(_files(parts[name]))))))


def _files(tests: Sequence[Path]) -> Iterator[Path]:
    for each in tests:
        yield from each.rglob("test_*.py") if each.is_dir() else [each]


def recorded(folder: Path) -> Watch:
    """What the folder says. A line that a fixture runs is watched by all tests of that file."""
    from coverage import CoverageData

    seconds: dict[str, float] = defaultdict(float)
    by_file, failed = defaultdict(set), set()
    by_line: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for cases in sorted(folder.glob("*.xml")):
        for case in ElementTree.parse(cases).iter("testcase"):  # noqa: S314
            test = f"{case.get('file')}::{str(case.get('name')).partition('[')[0]}"
            if case.find("failure") is not None or case.find("error") is not None:
                failed.add(test)
            seconds[test] += float(case.get("time", 0))
            by_file[case.get("file")].add(test)
        data = CoverageData(str(cases.with_suffix(".coverage")))
        data.read()
        for name in data.measured_files():
            lines = by_line[Path(name).relative_to(PACKAGE).as_posix()]
            for line, contexts in data.contexts_by_lineno(name).items():
                for context in filter(None, contexts):
                    test, _, phase = re.sub(r"\[.*\]", "", context).rpartition("|")
                    lines[line] |= {test} if phase == "run" else by_file[test.partition("::")[0]]
    return Watch(by_line, {test: each for test, each in seconds.items() if test not in failed})


def in_functions(tree: ast.Module) -> set[int]:
    """The lines that calls run: importing runs none of them."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for line in range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1)
    }


def watching(file: Path, place: int, watch: Watch) -> list[str]:
    """The tests that run the line's statement, or the least around it that any test runs.

    What importing runs counts for none: the test that happens to import a module first runs it.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inside = in_functions(tree)
    around = [(1, sys.maxsize)]
    for node in ast.walk(tree):  # from outside to inside
        if not isinstance(node, ast.stmt):
            continue
        first, last = node.lineno, node.end_lineno or node.lineno
        body = getattr(node, "body", None)
        if first <= place <= last:
            around.append((first, last))
            if body and place < body[0].lineno and not isinstance(node, ast.FunctionDef):
                around.append((first, body[0].lineno - 1))
    by_line = watch.by_line.get(file.relative_to(PACKAGE).as_posix(), {})
    for first, last in reversed(around):
        lines = (line for line in inside if first <= line <= last)
        tests = set().union(*(by_line.get(line, ()) for line in lines))
        if tests:
            break
    else:
        tests = set(watch.seconds)
    if place not in inside:  # a constant may be all that a test reads
        begin = (own_tests(file), CONVENTIONS)
        tests |= {test for test in watch.seconds if test.startswith(begin)}
    return in_order(tests, file, watch)


def own_tests(module: Path) -> str:
    """What tests of the module's own name begin with."""
    folder = TESTS.relative_to(ROOT) / module.relative_to(PACKAGE).parent
    return f"{folder.as_posix()}/test_{module.stem.strip('_')}"


def own_files(module: Path) -> list[str]:
    """Test files of the module's own name."""
    files = ROOT.glob(f"{own_tests(module)}*.py")
    return sorted(file.relative_to(ROOT).as_posix() for file in files)


def in_order(tests: set[str], module: Path, watch: Watch) -> list[str]:
    """Tests of the module's own name and conventions, then file for file; shorter ones first."""
    by_file = defaultdict(list)
    for test in sorted(tests & watch.seconds.keys()):
        by_file[test.partition("::")[0]].append(test)
    first = (own_tests(module), CONVENTIONS)

    def price(file: str) -> tuple[bool, float]:
        return not file.startswith(first), sum(watch.seconds[test] for test in by_file[file])

    return [test for file in sorted(by_file, key=price) for test in by_file[file]]
