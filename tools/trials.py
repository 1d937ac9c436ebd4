"""Tries mutants on tests, each in a fork that has the libraries, and mostly the tests, imported.

The file of the package is never written. Where importing does not run the changed line, all tests
are collected once, and a fork gives the functions of the module their changed code. Else the fork
imports package and tests itself. A program that a test starts reads the mutant through the
environment, and a test that reads the source reads the mutant's.
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
from typing import Any, NamedTuple, NoReturn

import pytest
from watch import OPTIONS, ROOT, in_functions

TIMEOUT_S = 3600  # of all tests of a mutant
TEST_TIMEOUT_S = 120  # of one test: a mutant that makes it hang is killed by it
LIMIT = ("-x", "-o", f"faulthandler_timeout={TEST_TIMEOUT_S}",
         "-o", "faulthandler_exit_on_timeout=true")  # fmt: skip
FRESH = "fresh"  # why there is no answer: the code of live functions does not suffice
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


class Verdict(NamedTuple):
    """What kills a mutant: nothing where all its tests pass.

    Where the tests ended before any failed, the killer is the one that ran, and ``ended`` says how.
    Without a killer it says why the mutant could not be tried.
    """

    name: str
    killer: str = ""
    ended: str = ""


class Watcher:
    """A plugin of pytest: what fails, and in a file, for what outlives the process, what runs."""

    def __init__(self, running: Path):
        self.running, self.failed = running, list[str]()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Say which test runs."""
        self.running.write_text(nodeid, encoding="utf-8")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the name of a test that fails."""
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep the name of a file that cannot be imported."""
        if report.failed:
            self.failed.append(report.nodeid)


class Runner:
    """A plugin of pytest: forks of its session, which has the tests of all, try one mutant each."""

    def __init__(self, trials: list[Trial], jobs: int, say: Callable[[Verdict], None]):
        self.trials, self.jobs, self.say = trials, jobs, say
        self.forked = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Try all mutants."""
        if self.forked:
            return None
        items = session.items

        def run(trial: Trial, running: Path) -> Verdict:
            self.forked = True
            session.items = chosen(items, trial.tests)
            if not session.items:
                return Verdict(trial.name, ended="no such tests")
            if not exchange(trial):
                return Verdict(trial.name, ended=FRESH)
            watcher = Watcher(running)
            session.config.pluginmanager.register(watcher)
            with contextlib.suppress(session.Failed):
                session.config.hook.pytest_runtestloop(session=session)
            return Verdict(trial.name, "".join(watcher.failed[:1]))

        for verdict in forked(self.trials, run, self.jobs):
            self.say(verdict)
        return True


class Chooser:
    """A plugin of pytest: of what the files have, the tests of a trial in their order."""

    def __init__(self, tests: list[str]):
        self.tests = tests

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave only these."""
        items[:] = chosen(items, self.tests)


def chosen(items: list[pytest.Item], tests: list[str]) -> list[pytest.Item]:
    """The items of tests, in their order: a case, all of a function or all of a file each."""
    named = defaultdict(list)
    for item in items:
        for name in {item.nodeid, item.nodeid.partition("[")[0], item.nodeid.partition("::")[0]}:
            named[name].append(item)
    return [item for test in tests for item in named.get(test, ())]


def files_of(trials: list[Trial]) -> list[str]:
    """Where the tests are, but for files that are no more."""
    files = {test.partition("::")[0] for trial in trials for test in trial.tests}
    return sorted(file for file in files if (ROOT / file).exists())


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


def fresh(trial: Trial, running: Path, to_the_end: bool = False) -> Verdict:
    """Run pytest on the tests, which import the package."""
    watcher = Watcher(running)
    plugins = [watcher, Chooser(trial.tests)]
    limit = LIMIT[1:] if to_the_end else LIMIT
    status = pytest.main([*OPTIONS, *limit, *files_of([trial])], plugins=plugins)
    if status == 0 or watcher.failed:
        return Verdict(trial.name, "\n".join(watcher.failed))
    return Verdict(trial.name, ended=f"exit status {int(status)}")


def forked(
    trials: list[Trial], run: Callable[[Trial, Path], Verdict], jobs: int
) -> Iterator[Verdict]:
    """What so many forks at a time say."""
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
            answer, test = prefix.with_suffix(".answer"), prefix.with_suffix(".test")
            if answer.exists():
                yield Verdict(*json.loads(answer.read_text("utf-8")))
            else:
                killer = test.read_text("utf-8") if test.exists() else ""
                yield Verdict(name, killer, f"exit status {os.waitstatus_to_exitcode(status)}")


def work(trial: Trial, run: Callable[[Trial, Path], Verdict], prefix: Path) -> NoReturn:
    """Run in a fork that reads the mutant, also in the programs that it starts."""
    signal.alarm(TIMEOUT_S)
    text = prefix.with_suffix(".py")
    text.write_text(trial.text, encoding="utf-8")
    os.environ |= {"MUTANT_FILE": str(trial.file), "MUTANT_TEXT": str(text)}
    os.environ["PYTHONPATH"] = str(prefix.parent)
    exec(SITE, {})  # noqa: S102
    usual = Path.read_text

    def read_text(path: Path, *words: Any, **options: Any) -> str:
        return trial.text if path == trial.file else usual(path, *words, **options)

    Path.read_text = read_text  # type: ignore[method-assign]

    def answer() -> None:
        verdict = json.dumps(run(trial, prefix.with_suffix(".test")))
        prefix.with_suffix(".answer").write_text(verdict, encoding="utf-8")

    as_pytest(answer)


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


def collected(trials: list[Trial], jobs: int) -> Iterator[Verdict]:
    """Of those that can be tried with all their tests collected once."""
    if not trials:
        return
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(writing, "w", buffering=1) as answers:
            runner = Runner(trials, jobs, lambda verdict: print(json.dumps(verdict), file=answers))
            as_pytest(lambda: pytest.main([*OPTIONS, *LIMIT, *files_of(trials)], [runner]))
    os.close(writing)
    with os.fdopen(reading) as answers:
        for answer in answers:
            verdict = Verdict(*json.loads(answer))
            if not verdict.ended:
                yield verdict
    os.waitpid(child, 0)


def tried(trials: list[Trial], jobs: int) -> Iterator[Verdict]:
    """What each comes to.

    Where the tests ended before one failed they run again, alone. What ends again is killed by that
    where the tests pass on the package as it is, and was not tried else.
    """
    pending, again = {trial.name: trial for trial in trials}, list[Trial]()
    for verdict in collected([each for each in trials if each.in_function], jobs):
        del pending[verdict.name]
        yield verdict
    for verdict in forked(list(pending.values()), fresh, jobs):
        if verdict.ended:
            again.append(pending[verdict.name])
        else:
            yield verdict
    for trial in again:
        as_it_is = trial._replace(text=trial.file.read_text(encoding="utf-8"))
        verdict, usual = forked([trial, as_it_is], fresh, jobs=1)
        if verdict.ended and usual.killer == usual.ended == "":
            verdict = Verdict(trial.name, f"{verdict.killer or 'imports'}: {verdict.ended}")
        yield verdict


def failing(file: Path, tests: list[str]) -> list[str]:
    """Those that fail on the package as it is, of which file is one; all, if they end."""
    trial = Trial("", file, 0, file.read_text(encoding="utf-8"), tests)
    [verdict] = forked([trial], functools.partial(fresh, to_the_end=True), jobs=1)
    return tests if verdict.ended else sorted(set(verdict.killer.splitlines()))
