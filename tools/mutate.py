"""Do the tests notice? Changes the package in one place after the other and runs them.

    python tools/mutate.py [--sample N] [--seed N] [--only PATTERN ...] [--seconds S] [--out FILE]
                           [--map FOLDER]

Takes N random places outside cli/ and at each one random operator of cosmic-ray (a comparison, an
operator, a number, a condition, ... is another), writes the file so, runs the tests that watch the
place and puts the file back: also after Ctrl-C. Changes of annotations, of docstrings and of the
guard ``strict`` of ``zip`` alone are left out. The first test that fails kills the mutant.

Which tests watch a place is recorded once in FOLDER, by a run of all but examples and
documentation under coverage.py: those that run the changed statement, or, where only an import
runs it, the function, class or module around it, and for these the conventions of the source.
Tests of the module's own name run first, then the file whose tests take least time, and so on.
What a command runs in a process of its own is not recorded: a survivor may be noticed by such a
test. Record again after a change of the package.

A mutant that survives is printed with its diff, and is one of two: it behaves as the original
does, which only a person can tell, or a test is missing. A line a mutant is added to FILE; mutants
in it are not tried again, so that a stopped run goes on.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import fnmatch
import importlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, TESTS = ROOT / "src" / "skip2lora", ROOT / "tests"
TIMEOUT_S = 3600  # of all tests of a mutant
TEST_TIMEOUT_S = 120  # of one test: a mutant that makes it hang is killed by it
LEFT_OUT = ("examples", "docs", "tools", "typing", "bench")
CONVENTIONS = "tests/conventions/"  # they read the source
#: What tests import and pytest does not rewrite: imported once.
LIBRARIES = ("onnx", "onnxruntime", "openvino", "sklearn.linear_model", "torch")
OPTIONS = ("-q", "-p", "no:cacheprovider", "--graphs", "20")


class Place(NamedTuple):
    """Where an operator of cosmic-ray can be applied."""

    file: Path
    operator: str
    occurrence: int
    line: int


class Mutant(NamedTuple):
    """A changed file."""

    place: Place
    text: str
    diff: str

    @property
    def key(self) -> str:
        """What it is called in FILE."""
        place = self.place
        return f"{place.file.relative_to(PACKAGE)} {place.operator} {place.occurrence}"


class Watch(NamedTuple):
    """What one run of the tests showed; a test is written file::function, whatever its cases."""

    by_line: dict[str, dict[int, set[str]]]  # tests that run a line of a module of the package
    seconds: dict[str, float]  # of each test, all its cases together


def places(only: list[str]) -> list[list[Place]]:
    """All places that can be changed in modules named so, those of the same words together."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    by_words: dict[tuple[Path, Any], list[Place]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        if name.startswith("cli/") or not any(fnmatch.fnmatch(name, each) for each in only):
            continue
        nodes = list(ast_nodes(get_ast(file.read_text(encoding="utf-8"))))
        for operator_name in operator_names():
            kind = get_operator(operator_name)
            if kind.arguments():
                continue
            operator, occurrence = kind(), 0
            for node in nodes:
                for start, _ in operator.mutation_positions(node):
                    by_words.setdefault((file, start), []).append(
                        Place(file, operator_name, occurrence, start[0])
                    )
                    occurrence += 1
    return list(by_words.values())


def mutants(seed: int, only: list[str]) -> Iterator[Mutant]:
    """Random ones without end in sight, each another one, the same for a seed."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    random = np.random.default_rng(seed)
    everywhere = places(only)
    for at in random.permutation(len(everywhere)):
        here = everywhere[at]
        place = here[random.integers(len(here))]
        source = place.file.read_text(encoding="utf-8")
        try:
            text = mutate_code(source, get_operator(place.operator)(), place.occurrence)
        except AttributeError:  # cosmic-ray takes exceptions for names, which zlib.error is not
            continue
        if text is None or program(text) in (None, program(source)):
            continue
        name = str(place.file.relative_to(ROOT))
        lines = difflib.unified_diff(source.splitlines(), text.splitlines(), name, name, n=1)
        yield Mutant(place, text, "\n".join(line.rstrip("\n") for line in lines))


def program(source: str) -> str | None:
    """What it does, but for annotations, docstrings and guards; None where it is no Python."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef():
                node.returns = None
            case ast.arg() | ast.AnnAssign():
                node.annotation = ast.Constant(None)  # type: ignore[assignment]
            case ast.Expr(value=ast.Constant()):
                node.value = ast.Constant(None)
            case ast.Call(func=ast.Name("zip")):
                node.keywords = []
    return ast.dump(tree)


def run_tests(*words: str) -> tuple[int, str]:
    """Exit status and output of pytest in a fork, which need not import the libraries again."""
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            sys.stdout = sys.stderr = output
            signal.alarm(TIMEOUT_S)
            os.chdir(ROOT)
            sys.path[0], sys.argv[:] = str(ROOT), ["pytest"]
            status = -1
            try:
                status = int(pytest.main([*OPTIONS, *words]))
                sys.stdout.flush()
            finally:  # threads of the libraries were not forked: nothing may wait for them
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        return status, output.read()


def record(folder: Path) -> None:
    """Run all tests once, and keep in the folder which lines each of them runs."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = [
        str(each) for each in sorted(TESTS.iterdir())
        if each.name not in LEFT_OUT and (each.is_dir() or each.name.startswith("test_"))
    ]  # fmt: skip
    words = ["--cov=skip2lora", "--cov-context=test", "--cov-report=", "-o", "junit_family=xunit1"]
    subprocess.run(  # noqa: S603
        [sys.executable, "-m", "pytest", *OPTIONS, *words,
         f"--junitxml={folder / 'recording.xml'}", *everything],
        cwd=ROOT, env=os.environ | {"COVERAGE_FILE": str(folder / "recording.coverage")},
        check=True,
    )  # fmt: skip
    (folder / "recording.xml").rename(folder / "tests.xml")
    (folder / "recording.coverage").rename(folder / "lines.coverage")


def recorded(folder: Path) -> Watch:
    """What the folder says. A line that a fixture runs is watched by all tests of that file."""
    from coverage import CoverageData

    seconds: dict[str, float] = defaultdict(float)
    by_file = defaultdict(set)
    for case in ElementTree.parse(folder / "tests.xml").iter("testcase"):  # noqa: S314
        test = f"{case.get('file')}::{str(case.get('name')).partition('[')[0]}"
        seconds[test] += float(case.get("time", 0))
        by_file[case.get("file")].add(test)
    data = CoverageData(str(folder / "lines.coverage"))
    data.read()
    by_line: dict[str, dict[int, set[str]]] = {}
    for name in data.measured_files():
        lines = by_line.setdefault(Path(name).relative_to(PACKAGE).as_posix(), {})
        for line, contexts in data.contexts_by_lineno(name).items():
            tests = lines.setdefault(line, set())
            for context in filter(None, contexts):
                test, _, phase = re.sub(r"\[.*\]", "", context).rpartition("|")
                tests |= {test} if phase == "run" else by_file[test.partition("::")[0]]
    return Watch(by_line, dict(seconds))


def watching(place: Place, watch: Watch) -> list[str]:
    """The tests that run the statement, or the least of what is around it that any test runs.

    What importing runs counts for none: the test that happens to import a module first runs it.
    """
    tree = ast.parse(place.file.read_text(encoding="utf-8"))
    around, in_functions = [(1, sys.maxsize)], set[int]()
    for node in ast.walk(tree):  # from outside to inside
        if not isinstance(node, ast.stmt):
            continue
        first, last = node.lineno, node.end_lineno or node.lineno
        body = getattr(node, "body", None)
        if isinstance(node, ast.FunctionDef):
            in_functions |= set(range(node.body[0].lineno, last + 1))
        if first <= place.line <= last:
            around.append((first, last))
            if body and place.line < body[0].lineno and not isinstance(node, ast.FunctionDef):
                around.append((first, body[0].lineno - 1))
    by_line = watch.by_line.get(place.file.relative_to(PACKAGE).as_posix(), {})
    for first, last in reversed(around):
        lines = (line for line in in_functions if first <= line <= last)
        tests = set().union(*(by_line.get(line, ()) for line in lines))
        if tests:
            break
    else:
        tests = set(watch.seconds)
    if place.line not in in_functions:  # a constant may be all that a test reads
        begin = (own_tests(place.file), CONVENTIONS)
        tests |= {test for test in watch.seconds if test.startswith(begin)}
    return in_order(tests, place.file, watch)


def own_tests(module: Path) -> str:
    """What tests of the module's own name begin with."""
    folder = TESTS.relative_to(ROOT) / module.relative_to(PACKAGE).parent
    return f"{folder.as_posix()}/test_{module.stem.strip('_')}"


def in_order(tests: set[str], module: Path, watch: Watch) -> list[str]:
    """Tests of the module's own name, then file for file, that of the shortest time first."""
    by_file = defaultdict(list)
    for test in sorted(tests & watch.seconds.keys()):
        by_file[test.partition("::")[0]].append(test)
    own = own_tests(module)

    def price(file: str) -> tuple[bool, float]:
        return not file.startswith(own), sum(watch.seconds[test] for test in by_file[file])

    return [test for file in sorted(by_file, key=price) for test in by_file[file]]


def steps(tests: list[str], watch: Watch, most_seconds: float) -> Iterator[list[str]]:
    """Those of the first file, the next few, and so on: pytest reads all files before it runs.

    They end before the tests take longer in all, but for the first.
    """
    took = np.cumsum([watch.seconds[test] for test in tests])
    tests = tests[: max(1, int(np.searchsorted(took, most_seconds)))]
    files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    for first, last in pairwise((0, 1, 5, 25, len(files))):
        step = [test for test in tests if test.partition("::")[0] in files[first:last]]
        if step:
            yield step


def killer(tests: list[str]) -> str | None:
    """The first of the tests that fails, or why none could end; None where all pass."""
    limit = ["-o", f"faulthandler_timeout={TEST_TIMEOUT_S}"]
    limit += ["-o", "faulthandler_exit_on_timeout=true"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as words:  # more than a command may have
        words.write("\n".join(tests))
        words.flush()
        status, output = run_tests("-x", "-rfE", *limit, f"@{words.name}")
    if status == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    return failed[1] if failed else f"exit status {status}"


def tried(mutant: Mutant, watch: Watch, most_seconds: float) -> str | None:
    """What kills it; None where nothing does. The file is put back."""
    file = mutant.place.file
    tests = watching(mutant.place, watch)
    original = file.read_bytes()
    try:
        file.write_text(mutant.text, encoding="utf-8")
        return next(filter(None, map(killer, steps(tests, watch, most_seconds))), None)
    finally:
        file.write_bytes(original)


def main() -> None:
    """Try mutants, and say which survive."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sample", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default: 0)")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN",
                        help="modules, such as training/*.py (default: all)")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=math.inf, metavar="S",
                        help="most of tests a mutant, as recorded (default: all)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutants.jsonl")
    parser.add_argument("--map", type=Path, default=ROOT / "build" / "mutants-map")
    asked = parser.parse_args()
    if not (asked.map / "lines.coverage").exists():
        record(asked.map)
    watch = recorded(asked.map)
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    known = {}
    if asked.out.exists():
        entries = map(json.loads, asked.out.read_text(encoding="utf-8").splitlines())
        known = {entry["mutant"]: entry for entry in entries}
    survivors = 0
    for number, mutant in zip(
        range(1, asked.sample + 1), mutants(asked.seed, asked.only), strict=False
    ):
        entry = known.get(mutant.key)
        if entry is None:
            name = tried(mutant, watch, asked.seconds)
            entry = {"mutant": mutant.key, "killed_by": name, "diff": mutant.diff}
            with asked.out.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")
        killed = entry["killed_by"] is not None
        survivors += not killed
        print(f"{number:4} {'killed' if killed else 'SURVIVED'}  {mutant.key}", flush=True)
        if not killed:
            print(mutant.diff, flush=True)
    print(f"{asked.sample - survivors} of {asked.sample} killed (seed {asked.seed})")


if __name__ == "__main__":
    main()
