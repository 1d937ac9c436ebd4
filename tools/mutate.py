"""Do the tests notice? Changes the package in one place after the other and runs them.

    python tools/mutate.py [--sample N] [--seed N] [--out FILE]

Takes N random places outside cli/ and at each one random operator of cosmic-ray (a comparison, an
operator, a number, a condition, ... is another), writes the file so, runs the tests and puts the
file back: also after Ctrl-C. Changes of annotations and docstrings alone are left out. Tests of
the module's own name run first, then those of its package and of all packages together, then all
others but for examples and documentation; the first that fails kills the mutant.

A mutant that survives is printed with its diff, and is one of two: it behaves as the original
does, which only a person can tell, or a test is missing. A line a mutant is added to FILE; mutants
in it are not tried again, so that a stopped run goes on.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, TESTS = ROOT / "src" / "skip2lora", ROOT / "tests"
TIMEOUT_S = 900  # of one step; a mutant that makes a test hang is killed by it
LEFT_OUT = ("examples", "docs", "tools", "typing", "conventions", "bench")


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


def places() -> list[list[Place]]:
    """All places that can be changed, those of the same words together."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    by_words: dict[tuple[Path, Any], list[Place]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        if "cli" in file.relative_to(PACKAGE).parts:
            continue
        nodes = list(ast_nodes(get_ast(file.read_text(encoding="utf-8"))))
        for name in operator_names():
            kind = get_operator(name)
            if kind.arguments():
                continue
            operator, occurrence = kind(), 0
            for node in nodes:
                for start, _ in operator.mutation_positions(node):
                    by_words.setdefault((file, start), []).append(
                        Place(file, name, occurrence, start[0])
                    )
                    occurrence += 1
    return list(by_words.values())


def mutants(seed: int) -> Iterator[Mutant]:
    """Random ones without end in sight, each another one, the same for a seed."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    random = np.random.default_rng(seed)
    everywhere = places()
    for at in random.permutation(len(everywhere)):
        here = everywhere[at]
        place = here[random.integers(len(here))]
        source = place.file.read_text(encoding="utf-8")
        text = mutate_code(source, get_operator(place.operator)(), place.occurrence)
        if text is None or program(text) in (None, program(source)):
            continue
        name = str(place.file.relative_to(ROOT))
        lines = difflib.unified_diff(source.splitlines(), text.splitlines(), name, name, n=1)
        yield Mutant(place, text, "\n".join(line.rstrip("\n") for line in lines))


def program(source: str) -> str | None:
    """What it does, without annotations and docstrings; None where it is no Python."""
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
    return ast.dump(tree)


def steps(file: Path) -> list[list[Path]]:
    """The tests that watch a module, those nearest to it first."""
    module = file.relative_to(PACKAGE).with_suffix("")
    folder, stem = TESTS / module.parent, module.name.strip("_")
    own = sorted(folder.glob(f"test_{stem}*.py"))
    near = [folder] if folder != TESTS else []
    near += [TESTS / "conformance", TESTS / "cli"]
    others = [
        each
        for each in sorted(TESTS.iterdir())
        if each.name not in LEFT_OUT and each not in (*own, *near)
        and ((each.is_dir() and any(each.rglob("test_*.py"))) or each.name.startswith("test_"))
    ]  # fmt: skip
    return [step for step in (own, near, others) if step]


def kills(tests: list[Path]) -> bool:
    """Whether one of the tests fails, or takes too long."""
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    words = ["-x", "-q", "-p", "no:cacheprovider", *map(str, tests)]
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "pytest", *words], cwd=ROOT, env=environment,
            capture_output=True, check=False, timeout=TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return True
    return done.returncode not in (0, 5)  # 5: there are none


def tried(mutant: Mutant) -> int | None:
    """The step whose tests kill it, from 0; None where none does. The file is put back."""
    file = mutant.place.file
    original = file.read_bytes()
    try:
        file.write_text(mutant.text, encoding="utf-8")
        killing = (at for at, tests in enumerate(steps(file)) if kills(tests))
        return next(killing, None)
    finally:
        file.write_bytes(original)


def main() -> None:
    """Try mutants, and say which survive."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sample", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default: 0)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutants.jsonl")
    asked = parser.parse_args()
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    known = {}
    if asked.out.exists():
        entries = map(json.loads, asked.out.read_text(encoding="utf-8").splitlines())
        known = {entry["mutant"]: entry for entry in entries}
    survivors = 0
    for number, mutant in zip(range(1, asked.sample + 1), mutants(asked.seed), strict=False):
        entry = known.get(mutant.key)
        if entry is None:
            entry = {"mutant": mutant.key, "killed_by_step": tried(mutant), "diff": mutant.diff}
            with asked.out.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")
        killed = entry["killed_by_step"] is not None
        survivors += not killed
        print(f"{number:4} {'killed' if killed else 'SURVIVED'}  {mutant.key}", flush=True)
        if not killed:
            print(mutant.diff, flush=True)
    print(f"{asked.sample - survivors} of {asked.sample} killed (seed {asked.seed})")


if __name__ == "__main__":
    main()
