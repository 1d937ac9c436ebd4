"""Fail where a file or a function of the sources outgrew its limit: `make check` runs this.

A file has at most 400 lines, a function at most 50 in its body, docstring, comments and blank lines
not counted, and at most 8 parameters, unless each is a documented keyword of a public call.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

MOST_LINES, MOST_BODY, MOST_PARAMETERS = 400, 50, 8
ROOT = Path(__file__).resolve().parents[1]
SUFFIXES = {".py", ".pyi", ".c", ".h", ".cpp", ".hpp"}
#: Public calls whose every parameter is a documented keyword.
PUBLIC = {
    "src/skip2lora/adapt.py:adapt",
    "src/skip2lora/backbones/torch/backbone.py:__init__",
    "src/skip2lora/export/c.py:export_c",
    "src/skip2lora/plan.py:plan",
    "src/skip2lora/estimators.py:__init__",
    "src/skip2lora/serve/service.py:__init__",
    "src/skip2lora/training/pretraining.py:pretrain",
}
_SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(source: str) -> set[int]:
    """Numbers of the lines that have more than a comment."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _SKIPPED:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines


def body_lines(function: Function, code: set[int]) -> int:
    """Lines of code in the body, without the docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return len(code & set(range(body[0].lineno, (function.end_lineno or 0) + 1))) if body else 0


def n_parameters(function: Function) -> int:
    """Parameters that a caller passes: not self or cls, and one for all of ``**options``."""
    of = function.args
    names = [each.arg for each in (*of.posonlyargs, *of.args, *of.kwonlyargs)]
    own = names[:1] in (["self"], ["cls"])
    return len(names) - own + (of.vararg is not None) + (of.kwarg is not None)


def flaws(path: str, source: str) -> Iterator[str]:
    """What is too large in one file, a line each."""
    n_lines = len(source.splitlines())
    if n_lines > MOST_LINES:
        yield f"{path}: {n_lines} lines, expected at most {MOST_LINES}: split it"
    if not path.endswith(".py"):
        return
    code = code_lines(source)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, Function):
            continue
        place, length, count = f"{path}:{node.lineno}", body_lines(node, code), n_parameters(node)
        if length > MOST_BODY:
            yield f"{place}: {node.name} has {length} lines, expected at most {MOST_BODY}: split it"
        if count > MOST_PARAMETERS and f"{path}:{node.name}" not in PUBLIC:
            yield (
                f"{place}: {node.name} has {count} parameters, expected at most "
                f"{MOST_PARAMETERS}: group them"
            )


def main() -> int:
    """Print every flaw; 1 where there is one."""
    files = [
        file
        for folder in ("src", "core/src", "core/include", "bindings")
        for file in sorted((ROOT / folder).rglob("*"))
        if file.suffix in SUFFIXES
    ]
    all_flaws = [
        flaw
        for file in files
        for flaw in flaws(file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8"))
    ]
    sys.stdout.writelines(f"{flaw}\n" for flaw in all_flaws)
    return 1 if all_flaws else 0


if __name__ == "__main__":
    sys.exit(main())
