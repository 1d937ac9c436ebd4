"""The types of the compiled core (_core.pyi) against the signatures that nanobind made."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import skip2lora
from skip2lora import _core

Arguments = list[tuple[str, bool]]  # name, whether there is a default

STUB = ast.parse((Path(skip2lora.__file__).parent / "_core.pyi").read_text())


def pieces(text: str) -> list[str]:
    """``text`` split at the commas that stand in no bracket or string."""
    parts, depth, quoted = [""], 0, False
    for letter in text:
        quoted ^= letter == "'"
        depth += 0 if quoted else (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def compiled(function: Any) -> Arguments:
    (signature,) = function.__nb_signature__  # one overload
    inside = signature[0].partition("(")[2].rpartition(")")[0]
    if ") -> " in signature[0]:
        inside = signature[0].partition("(")[2].rpartition(") -> ")[0]
    return [
        (part.partition(":")[0].partition("=")[0].strip(), "= \\" in part)
        for part in pieces(inside)
    ]


def written(function: ast.FunctionDef) -> Arguments:
    arguments = function.args
    assert not [*arguments.posonlyargs, *arguments.kwonlyargs]
    names = [argument.arg for argument in arguments.args]
    required = len(names) - len(arguments.defaults)
    return [(name, number >= required) for number, name in enumerate(names)]


def functions(body: list[ast.stmt]) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
CONSTANTS = {
    node.target.id
    for node in STUB.body
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
}


def test_the_stub_names_what_the_module_has() -> None:
    names = {name for name in vars(_core) if not name.startswith("_")}
    assert {*CLASSES, *CONSTANTS, *functions(STUB.body)} == names


@pytest.mark.parametrize("name", functions(STUB.body))
def test_arguments_of_functions(name: str) -> None:
    assert written(functions(STUB.body)[name]) == compiled(getattr(_core, name))


@pytest.mark.parametrize("name", CLASSES)
def test_members_of_classes(name: str) -> None:
    members = vars(getattr(_core, name))
    stub = functions(CLASSES[name].body)
    public = {member for member in members if not member.startswith("_")}
    assert {member for member in stub if not member.startswith("_")} == public
    for member, function in stub.items():
        if isinstance(members[member], property):
            assert [node.id for node in function.decorator_list] == ["property"]  # type: ignore[attr-defined]
        else:
            assert written(function) == compiled(members[member]), member
