"""State is in dataclasses that do not change; two collect what they read, and are used up."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import skip2lora

ROOT = Path(skip2lora.__file__).parent
COLLECTING = {"Found", "Series"}
COMPARED = {"Fit"}  # by its measures; what it holds of single samples may be left out


@cache
def parts() -> list[ast.ClassDef | ast.FunctionDef]:
    """Classes and functions of all modules."""
    return [
        part
        for file in sorted(ROOT.rglob("*.py"))
        for part in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(part, ast.ClassDef | ast.FunctionDef)
    ]


def dataclasses() -> Iterator[tuple[str, str, str]]:
    """Name, decorator, bases and annotations of each one."""
    for part in parts():
        for decorator in map(ast.unparse, part.decorator_list):
            if isinstance(part, ast.ClassDef) and decorator.startswith("dataclass"):
                yield (
                    part.name,
                    decorator,
                    " ".join([*map(ast.unparse, part.bases), *_annotations(part)]),
                )


def _annotations(part: ast.ClassDef) -> list[str]:
    return [ast.unparse(of.annotation) for of in part.body if isinstance(of, ast.AnnAssign)]


def test_dataclasses_are_frozen() -> None:
    changing = {name for name, decorator, _ in dataclasses() if "frozen=True" not in decorator}
    assert changing == COLLECTING


def _as_one() -> set[str]:
    """Names of what is the same only if it is one: arrays, and classes without ``==``.

    A name of several classes counts where it does of all of them.
    """
    of_name: dict[str, list[bool]] = {"Path": [False]}  # as that of the standard library has it
    for part in parts():
        if isinstance(part, ast.ClassDef):
            decorators = " ".join(map(ast.unparse, part.decorator_list))
            alone = "eq=False" in decorators if "dataclass" in decorators else not part.bases
            compares = any(getattr(of, "name", "") == "__eq__" for of in part.body)
            of_name.setdefault(part.name, []).append(alone and not compares)
    return {"NDArray", "Array", "_core"} | {name for name, alone in of_name.items() if all(alone)}


def test_those_of_arrays_are_the_same_only_if_they_are_one() -> None:
    """Arrays have no truth for ``==`` to give: two that are compared would raise, or not be one.

    So it is with what holds such an object, or extends its class.
    """
    as_one = _as_one()
    holding = [
        (name, decorator)
        for name, decorator, annotations in dataclasses()
        if as_one & set(re.findall(r"\w+", annotations))
    ]
    assert len(holding) > 60
    assert {name for name, decorator in holding if "eq=False" not in decorator} == COMPARED


def test_only_what_options_may_be_called_is_given_by_place_alone() -> None:
    """``/`` hides the name of an argument, which every caller may use; two take any keyword."""
    hidden = {
        part.name for part in parts() if isinstance(part, ast.FunctionDef) and part.args.posonlyargs
    }
    assert hidden == {"command", "resolve_options"}
