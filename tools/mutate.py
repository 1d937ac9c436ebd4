"""Do the tests notice? Changes the package in one place after the other and runs them.

    python tools/mutate.py [--sample N] [--seed N] [--only PATTERN ...] [--seconds S] [--jobs N]
                           [--out FILE] [--map FOLDER | --own]

Takes N random places outside cli/ and at each one random operator of cosmic-ray (a comparison, an
operator, a number, a condition, ... is another), and runs the tests that watch the place on the
package changed so, in memory: no file of it is written. Changes of annotations, of docstrings and
of the guard ``strict`` of ``zip`` alone are left out, and so is what Python warns of itself, such
as ``is`` beside a number. The first test that fails kills the mutant, and so does one that does
not end. The tests that killed run once more on the package as it is: what one kills that fails
there was not tried, and neither was a mutant whose tests cannot be run.

Which tests watch a place is recorded once in FOLDER, by a run of all but examples and
documentation under coverage.py, so many folders of tests at a time as jobs: those that run the
changed statement, or, where only an import runs it, the function, class or module around it. Tests
of the module's own name run first, and beside them the conventions where importing runs the line,
then the file whose tests take least time, and so on. What a command runs in a process of its own is
changed too, but not recorded: a survivor may be noticed by such a test. Record again, into another
folder, after a change of the package.

A mutant that survives is printed with its diff, and is one of two: it behaves as the original
does, which only a person can tell, or a test is missing. A line a mutant is added to FILE; mutants
in it are not tried again, so that a stopped run goes on, but for those that were not tried.

With --own nothing is recorded, and only tests of the module's own name run: some seconds a mutant.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import fnmatch
import importlib
import itertools
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from trials import Trial, Verdict, failing, tried
from watch import PACKAGE, ROOT, Watch, own_files, record, recorded, watching

#: What tests import and pytest does not rewrite: imported once.
LIBRARIES = ("onnx", "onnxruntime", "openvino", "sklearn.linear_model", "torch")


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
    """What it does, but for annotations, docstrings and guards; None where Python objects."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", SyntaxWarning)
            compile(source, "", "exec")
    except SyntaxError:
        return None
    tree = ast.parse(source)
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


def trial(mutant: Mutant, watch: Watch | None, most_seconds: float) -> Trial:
    """The mutant with the tests that watch it, or else those of the module's name.

    No more than take so long, but for the first.
    """
    file, line = mutant.place.file, mutant.place.line
    if watch is None:
        return Trial(mutant.key, file, line, mutant.text, own_files(file))
    tests = watching(file, line, watch)
    took = np.cumsum([watch.seconds[test] for test in tests])
    tests = tests[: max(1, int(np.searchsorted(took, most_seconds)))]
    return Trial(mutant.key, file, line, mutant.text, tests)


def known(file: Path) -> dict[str, Verdict]:
    """What became of the mutants that were tried before."""
    if not file.exists():
        return {}
    entries = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {entry["mutant"]: Verdict(entry["mutant"], entry["killed_by"] or "", entry["untried"])
            for entry in entries}  # fmt: skip


def outcome(verdict: Verdict) -> str:
    """In words."""
    return f"not tried: {verdict.ended}" if verdict.ended else (
        "killed" if verdict.killer else "SURVIVED")  # fmt: skip


def checked(verdicts: dict[str, Verdict], sample: dict[str, Mutant]) -> dict[str, Verdict]:
    """Those again, not tried where what killed fails on the package as it is."""
    killers = sorted(
        {each.killer.partition(": exit status")[0] for each in verdicts.values()} - {""}
    )
    if not killers:
        return verdicts
    wrong = set(failing(next(iter(sample.values())).place.file, killers))
    return {name: Verdict(name, ended=f"{each.killer} fails without it")
            if each.killer in wrong else each for name, each in verdicts.items()}  # fmt: skip


def options() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sample", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default: 0)")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN",
                        help="modules, such as training/*.py (default: all)")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=math.inf, metavar="S",
                        help="most of tests a mutant, as recorded (default: all)")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time (default: 1)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutants.jsonl")
    parser.add_argument("--map", type=Path, default=ROOT / "build" / "mutants-map")
    parser.add_argument("--own", action="store_true", help="tests of the module's own name alone")
    return parser.parse_args()


def main() -> None:
    """Try mutants, and say which survive."""
    asked, watch = options(), None
    if not asked.own:
        record(asked.map, asked.jobs)
        watch = recorded(asked.map)
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    before = known(asked.out)
    sample = {each.key: each for each in itertools.islice(
        mutants(asked.seed, asked.only), asked.sample)}  # fmt: skip
    untried = [trial(each, watch, asked.seconds) for key, each in sample.items()
               if key not in before or before[key].ended]  # fmt: skip
    for number, verdict in enumerate(tried(untried, asked.jobs), start=1):
        print(f"{number:4} {outcome(verdict)}  {verdict.name}", flush=True)
        entry = {"mutant": verdict.name, "killed_by": verdict.killer or None,
                 "untried": verdict.ended, "diff": sample[verdict.name].diff}  # fmt: skip
        with asked.out.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
    after = known(asked.out)
    verdicts = checked({key: after[key] for key in sample}, sample)
    for key, verdict in verdicts.items():
        if not verdict.killer:
            print(f"\n{key}: {outcome(verdict)}\n{sample[key].diff}")
    n_untried = sum(bool(each.ended) for each in verdicts.values())
    n_killed = sum(bool(each.killer and not each.ended) for each in verdicts.values())
    print(f"\n{n_killed} of {len(sample)} killed, {n_untried} not tried (seed {asked.seed})")


if __name__ == "__main__":
    main()
