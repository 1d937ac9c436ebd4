"""docs/refused.md has every refusal of a model or adapter: its words, as the code says them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "skip2lora"
SHORTEST = 15  # letters that say something; what is shorter only wraps another message
REFUSALS = ("ModelError", "MissingExtraError")
SOURCES = sorted(
    file
    for place in (
        "adapted.py",
        "bench.py",
        "files.py",
        "adapters",
        "backbones",
        "export",
        "training/lab_set.py",
    )
    for file in ([PACKAGE / place] if place.endswith(".py") else (PACKAGE / place).rglob("*.py"))
)


def words(node: ast.AST) -> str:
    """The text of a message, with what is filled in left out."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(words, parts))
        case ast.BinOp(left=left, right=right):
            return words(left) + words(right)
        case _:
            return "{}"


def refusals(file: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = ast.unparse(node.exc.func).rpartition(".")[2]
            text = "".join(map(words, node.exc.args)).strip()
            if name in REFUSALS and sum(map(str.isalpha, text)) >= SHORTEST:
                yield node.lineno, text


MESSAGES = {
    f"{file.relative_to(PACKAGE)}:{line}": text
    for file in SOURCES
    for line, text in refusals(file)
}  # fmt: skip
PHRASES = re.findall(r"`([^`\n]+)`", (ROOT / "docs" / "refused.md").read_text())


@pytest.mark.parametrize("place", MESSAGES)
def test_the_page_has_the_refusal(place: str) -> None:
    text = MESSAGES[place]
    assert any(len(phrase) >= 8 and phrase in text for phrase in PHRASES), (
        f'docs/refused.md has no words of "{text}": add a line with the reason and what to do'
    )


def test_no_line_of_the_page_is_left_over() -> None:
    code = "\n".join([*MESSAGES.values(), *(file.read_text() for file in SOURCES)])
    rows = re.findall(r"^\| (`.+?) \|", (ROOT / "docs" / "refused.md").read_text(), re.MULTILINE)
    said = [phrase for row in rows for phrase in re.findall(r"`([^`]+)`", row)]
    assert len(said) > 40
    assert [phrase for phrase in said if phrase not in code] == []
