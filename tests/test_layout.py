"""Tests lie as the package does: a file for each module, and no file without one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "src" / "skip2lora"
#: Folders of tests that are of no one module.
ACROSS = {
    "bench", "conformance", "conventions", "docs", "examples", "hostile", "integrations", "kernels",
    "properties", "real", "tools", "web",
}  # fmt: skip
#: Files of that kind beside the packages: this one, and those that walk the whole package.
ALONE = {"test_layout.py", "test_names.py", "test_walk.py"}
#: Modules without a test file of their name, and why.
UNTESTED = {
    "__main__": "one call; tests/cli/test_init.py starts it",
}


def name_of(module: Path) -> str:
    """``backbones/onnx/anatomy``; a package's ``__init__`` is its ``init``."""
    inside = module.relative_to(PACKAGE).with_suffix("")
    return (inside.parent / inside.name.replace("__init__", "init")).as_posix()


MODULES = {name_of(module) for module in PACKAGE.rglob("*.py")} | {"core"}  # the compiled one
PACKAGES = sorted(PACKAGE.rglob("__init__.py"))
FILES = sorted(
    file.relative_to(TESTS)
    for file in TESTS.rglob("test_*.py")
    if file.relative_to(TESTS).parts[0] not in ACROSS and file.name not in ALONE
)


def module_of(file: Path) -> str | None:
    """The module that ``test_<module>.py`` or ``test_<module>_<behaviour>.py`` is of."""
    words = file.stem.removeprefix("test_").split("_")
    names = ((file.parent / "_".join(words[:n])).as_posix() for n in range(len(words), 0, -1))
    return next((name for name in names if name in MODULES), None)


def test_the_package_was_walked() -> None:
    assert {"adapt", "backbones/onnx/anatomy", "cli/init", "cli/adapt"} <= MODULES
    assert len(FILES) > 50


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_of_tests_has_its_module(file: Path) -> None:
    assert module_of(file) is not None, f"tests/{file} is of no module, expected test_<module>.py"


def test_a_module_has_its_file_of_tests() -> None:
    tested = {module_of(file) for file in FILES}
    needed = {name for name in MODULES if name.rpartition("/")[2] != "init"} - set(UNTESTED)
    assert sorted(needed - tested) == [], "expected tests/<package>/test_<module>.py for each"
    assert sorted(set(UNTESTED) & tested) == [], "tested by now: take it off the list"
    assert set(UNTESTED) <= MODULES


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_a_package_says_what_lives_in_it(package: Path) -> None:
    text = ast.get_docstring(ast.parse(package.read_text(encoding="utf-8"))) or ""
    sentences = re.findall(r"(?:\.|::)(?=\s|$)", text)
    assert 2 <= len(sentences) <= 4, text
