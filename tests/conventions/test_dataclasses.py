"""State is in dataclasses that do not change; two collect what they read, and are used up."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import skip2lora
from package_modules import members

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


def dataclasses() -> Iterator[tuple[str, Any, str]]:
    """Name, parameters, and bases and annotations of each one."""
    for each in members():
        parameters = vars(each).get("__dataclass_params__")
        if parameters is not None:
            bases = [base.__name__ for base in each.__bases__]  # type: ignore[union-attr]
            annotations = vars(each).get("__annotations__", {}).values()
            yield each.__name__, parameters, " ".join([*bases, *map(str, annotations)])


def test_dataclasses_are_frozen() -> None:
    assert {name for name, parameters, _ in dataclasses() if not parameters.frozen} == COLLECTING


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
        (name, parameters.eq)
        for name, parameters, annotations in dataclasses()
        if as_one & set(re.findall(r"\w+", annotations))
    ]
    assert len(holding) > 60
    assert {name for name, compares in holding if compares} == COMPARED


def test_only_what_options_may_be_called_is_given_by_place_alone() -> None:
    """``/`` hides the name of an argument, which every caller may use; two take any keyword."""
    hidden = {
        part.name for part in parts() if isinstance(part, ast.FunctionDef) and part.args.posonlyargs
    }
    assert hidden == {"command", "resolve_options"}
