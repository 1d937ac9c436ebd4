"""Tries mutants on tests, each in a fork that has the libraries, and mostly the tests, imported.

The file of the package is never written. Where importing does not run the changed line, all tests
are collected once, and a fork gives the functions of the module their changed code. Else the fork
imports package and tests itself. A program that a test starts reads the mutant through the
environment.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import gc
import json
import os
import signal
import sys
import tempfile
import traceback
import types
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest
from watch import OPTIONS, ROOT, in_functions

TIMEOUT_S = 3600  # of all tests of a mutant
TEST_TIMEOUT_S = 120  # of one test: a mutant that makes it hang is killed by it
LIMIT = ("-x", "-o", f"faulthandler_timeout={TEST_TIMEOUT_S}",
         "-o", "faulthandler_exit_on_timeout=true")  # fmt: skip
FRESH = "fresh"  # no test, but the answer that the code of live functions does not suffice
#: What a started program runs first, through PYTHONPATH: the changed module, in place of the file.
SITE = """\
import importlib.machinery, os, pathlib
def install(file, text):
    usual = importlib.machinery.SourceFileLoader.get_code
    def get_code(self, name):
        return compile(text, file, "exec") if self.path == file else usual(self, name)
    importlib.machinery.SourceFileLoader.get_code = get_code
if "MUTANT_FILE" in os.environ:
    install(os.environ["MUTANT_FILE"], pathlib.Path(os.environ["MUTANT_TEXT"]).read_text("utf-8"))
"""


class Trial(NamedTuple):
    """A changed module, and the tests to try it on, in their order."""

    name: str
    file: Path
    line: int
    text: str
    tests: list[str]

    @property
    def in_function(self) -> bool:
        """Whether a call, not importing, runs the line."""
        return self.line in in_functions(ast.parse(self.file.read_text(encoding="utf-8")))


class Runner:
    """A plugin of pytest: forks of a session try one mutant each; none where it is in a fork."""

    def __init__(self, trials: list[Trial] | None, jobs: int, say: Callable[[str, str], None]):
        self.trials, self.jobs, self.say = trials, jobs, say
        self.failed = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Try all mutants."""
        if self.trials is None:
            return None
        items = defaultdict(list)
        for item in session.items:
            items[item.nodeid.partition("[")[0]].append(item)

        def run(trial: Trial) -> str:
            self.trials = None
            session.items = [item for test in trial.tests for item in items[test]]
            if not exchange(trial):
                return FRESH
            with contextlib.suppress(session.Failed):
                session.config.hook.pytest_runtestloop(session=session)
            return self.failed

        for name, killer in forked(self.trials, run, self.jobs):
            self.say(name, killer)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the name of the first test that fails."""
        if report.failed and not self.failed:
            self.failed = report.nodeid


def exchange(trial: Trial) -> bool:
    """Give live functions of the module their changed code; False where that is not possible.

    Types are asked for themselves: objects of libraries may warn where isinstance looks at them.
    """
    lives = [each for each in gc.get_objects()
             if type(each) is types.FunctionType
             and each.__code__.co_filename == str(trial.file)]  # fmt: skip
    modules = (getattr(each, "__file__", None) for each in [*sys.modules.values()])
    if str(trial.file) not in modules:  # a test imports it
        return True
    codes = dict(functions(compile(trial.text, str(trial.file), "exec")))
    changed = False
    for live in lives:
        code = codes.get((live.__code__.co_qualname, live.__code__.co_firstlineno))
        if code is None or len(code.co_freevars) != len(live.__code__.co_freevars):
            return False
        changed |= code != live.__code__
        live.__code__ = code
    for each in gc.get_objects():
        if type(each) is functools._lru_cache_wrapper:
            each.cache_clear()
    return changed


def functions(code: types.CodeType) -> Iterator[tuple[tuple[str, int], types.CodeType]]:
    """All code in code, by name and line."""
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield (each.co_qualname, each.co_firstlineno), each
            yield from functions(each)


def fresh(trial: Trial) -> str:
    """Run pytest on the tests, which import the package."""
    runner = Runner(None, 1, lambda *_: None)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as words:  # more than a command may have
        words.write("\n".join(trial.tests))
        words.flush()
        status = pytest.main([*OPTIONS, *LIMIT, f"@{words.name}"], plugins=[runner])
    return runner.failed or ("" if status == 0 else f"exit status {int(status)}")


def forked(
    trials: list[Trial], run: Callable[[Trial], str], jobs: int
) -> Iterator[tuple[str, str]]:
    """Name and what kills it, with so many forks at a time."""
    pending, running = list(trials), dict[int, tuple[str, Path]]()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(SITE, encoding="utf-8")
        while pending or running:
            while pending and len(running) < jobs:
                trial = pending.pop(0)
                prefix = Path(folder) / str(len(pending))
                child = os.fork()
                if child == 0:
                    work(trial, run, prefix)
                running[child] = trial.name, prefix
            child, status = os.wait()
            name, prefix = running.pop(child)
            answer = prefix.with_suffix(".answer")
            ended = f"exit status {os.waitstatus_to_exitcode(status)}"
            yield name, answer.read_text("utf-8") if answer.exists() else ended


def work(trial: Trial, run: Callable[[Trial], str], prefix: Path) -> NoReturn:
    """Run in a fork that reads the mutant, also in the programs that it starts."""
    signal.alarm(TIMEOUT_S)
    text = prefix.with_suffix(".py")
    text.write_text(trial.text, encoding="utf-8")
    os.environ |= {"MUTANT_FILE": str(trial.file), "MUTANT_TEXT": str(text)}
    os.environ["PYTHONPATH"] = str(prefix.parent)
    exec(SITE, {})  # noqa: S102
    answer = prefix.with_suffix(".answer")
    as_pytest(lambda: answer.write_text(run(trial), encoding="utf-8"))


def as_pytest(run: Callable[[], object]) -> NoReturn:
    """Run without output in a fork, and wait for no threads: those of libraries were not forked."""
    try:
        with Path(os.devnull).open("w") as output:
            os.dup2(output.fileno(), 1)
        os.chdir(ROOT)
        sys.path[0], sys.argv[:] = str(ROOT), ["pytest"]
        run()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(9)


def collected(trials: list[Trial], jobs: int) -> Iterator[tuple[str, str]]:
    """Name and what kills it, of those that can be tried with all their tests collected once."""
    files = sorted({test.partition("::")[0] for trial in trials for test in trial.tests})
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(writing, "w", buffering=1) as answers:

            def say(name: str, killer: str) -> None:
                answers.write(json.dumps([name, killer]) + "\n")

            as_pytest(lambda: pytest.main([*OPTIONS, *LIMIT, *files], [Runner(trials, jobs, say)]))
    os.close(writing)
    with os.fdopen(reading) as answers:
        for answer in answers:
            name, killer = json.loads(answer)
            if killer != FRESH:
                yield name, killer
    os.waitpid(child, 0)


def tried(trials: list[Trial], jobs: int) -> Iterator[tuple[str, str]]:
    """Name, and the test that fails or why none could end; nothing where all pass."""
    pending = {trial.name: trial for trial in trials}
    for name, killer in collected([each for each in trials if each.in_function], jobs):
        del pending[name]
        yield name, killer
    yield from forked(list(pending.values()), fresh, jobs)
