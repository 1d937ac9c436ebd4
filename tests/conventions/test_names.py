"""Names that say what is behind them, read from the syntax tree."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import skip2lora

ROOT = Path(skip2lora.__file__).parent
#: Participles that say how a thing came about and not what it is: a reader cannot search for them.
EMPTY = {"found", "told", "kept", "made"}


def bound(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and name of whatever is bound: variables, arguments, fields, aliases."""
    names = []
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                names.append((node.lineno, name))
            case ast.ExceptHandler(name=str() as name) | ast.alias(asname=str() as name):
                names.append((node.lineno, name))
            case ast.MatchAs(name=str() as name) | ast.MatchStar(name=str() as name):
                names.append((node.lineno, name))
    return names


def files() -> list[str]:
    return sorted(str(file.relative_to(ROOT)) for file in ROOT.rglob("*.py"))


@pytest.mark.parametrize("file", files())
def test_a_noun_says_what_a_variable_is(file):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert [(line, name) for line, name in bound(tree) if name in EMPTY] == []


@pytest.mark.parametrize(
    "source",
    [
        "found = 1",
        "found: int = 1",
        "a, (found, b) = c",
        "for found in a: pass",
        "[found for found in a]",
        "with a as found: pass",
        "if found := a(): pass",
        "def f(found): pass",
        "def f(*, found=1): pass",
        "lambda found: 1",
        "class A:\n    found: int",
        "try: pass\nexcept E as found: pass",
        "import a as found",
        "match a:\n    case [found, *b]: pass",
    ],
)
def test_every_way_to_bind_a_name_is_seen(source):
    assert "found" in [name for _, name in bound(ast.parse(source))]


def test_use_is_no_binding():
    assert bound(ast.parse("a.found = f(found=found) + b['found']")) == []
