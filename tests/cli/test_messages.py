"""Keywords of the library become options, and the library itself names none."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import skip2lora
from skip2lora.cli.messages import shown, with_options

ROOT = Path(skip2lora.__file__).parent
BELOW_CLI = [
    path for path in sorted(ROOT.rglob("*.py")) if path.relative_to(ROOT).parts[0] != "cli"
]


@pytest.mark.parametrize(
    ("said", "options"),
    [
        ("name the columns with target=, or not", "name the columns with --target, or not"),
        ("learn with task='regression'", "learn with --task regression"),
        ("with task=multi-label or regression", "with --task multi-label or regression"),
        ("learn anew with keep_outputs=False", "learn anew with --no-keep-outputs"),
        ("or new_classes=True: stop", "or --new-classes: stop"),
        ("old ones with keep=, or keep=False", "old ones with --keep, or --no-lab-set"),
        ("add size=HEIGHTxWIDTH, such as size=224", "add --size HEIGHTxWIDTH, such as --size 224"),
        ("size= is 4x7", "--size is 4x7"),
        ("weigh samples with sample_weight=", "weigh samples with --weight"),
        ('weight= names "w"', '--weight names "w"'),
        ("class_weight= names the class 1", "--class-weight names the class 1"),
        ("leave groups= out, or group=who", "leave --group out, or --group who"),
        ("pass recipe='auto'", "pass --recipe auto"),
        ("a/force=True.npz has X=3", "a/force=True.npz has X=3"),
    ],
)
def test_keywords_become_options(said: str, options: str) -> None:
    assert with_options(said) == options


def test_names_from_a_file_do_not_command_a_terminal() -> None:
    said = "class \x1b[31mred\x07, a\u202eb and \udcff"
    assert shown(said) == r"class \x1b[31mred\x07, a\u202eb and \udcff"
    assert shown("größe 樱桃 \U0001f34c می\u200cخ") == "größe 樱桃 \U0001f34c می\u200cخ"
    assert shown("a\nb\t c\x00") == r"a b c\x00"


def test_a_message_is_no_longer_than_a_page() -> None:
    line = shown("first " + "a" * 1_000_000 + " last")
    assert (line[:6], line[-5:]) == ("first ", " last")
    assert len(line) < 2010


def _literals(tree: ast.AST) -> list[ast.Constant]:
    """Text but for docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    ]


@pytest.mark.parametrize("path", BELOW_CLI, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_library_names_no_option(path: Path) -> None:
    literals = _literals(ast.parse(path.read_text(encoding="utf-8")))
    assert [node.value for node in literals if re.search(r"(?<!-)--[a-z]", node.value)] == []
