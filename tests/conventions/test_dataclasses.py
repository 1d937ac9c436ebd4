"""State is in dataclasses that do not change; two collect what they read, and are used up."""

from __future__ import annotations

import ast
from pathlib import Path

import skip2lora

ROOT = Path(skip2lora.__file__).parent
COLLECTING = {"Found", "Series"}


def test_dataclasses_are_frozen() -> None:
    changing = {
        part.name
        for file in sorted(ROOT.rglob("*.py"))
        for part in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(part, ast.ClassDef)
        for decorator in map(ast.unparse, part.decorator_list)
        if decorator.startswith("dataclass") and "frozen=True" not in decorator
    }
    assert changing == COLLECTING
