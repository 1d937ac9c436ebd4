"""Labels are int64, which NumPy counts on 64-bit systems alone: elsewhere it raises TypeError."""

from __future__ import annotations

import ast
from pathlib import Path

import skip2lora

ROOT = Path(skip2lora.__file__).parent
PLACES = {"places", "moved"}  # of that type where they are given a name


def test_only_numbers_of_the_size_of_a_pointer_are_counted() -> None:
    calls = [
        (file.name, node.args[0])
        for file in sorted(ROOT.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.bincount"
    ]
    assert len(calls) > 9
    for name, counted in calls:
        spelled = ast.unparse(counted)
        known = spelled.split("[")[0] in PLACES
        assert known or spelled.endswith(".astype(np.intp)"), f"{name}: {spelled}"
