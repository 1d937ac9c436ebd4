"""The package as it is imported: its classes and functions."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from types import FunctionType

import pytest

import skip2lora
from skip2lora.errors import MissingExtraError


@cache
def members() -> list[type | FunctionType]:
    """Those of every module outside cli/, each once; a test skips that cannot import one."""
    own = []
    for module in pkgutil.walk_packages(skip2lora.__path__, "skip2lora."):
        if not module.name.startswith(("skip2lora.cli", "skip2lora.__main__")):
            try:
                content = vars(importlib.import_module(module.name))
            except (ImportError, MissingExtraError) as error:
                pytest.skip(f"needs every extra: {error}")
            own += [each for each in content.values() if _is_of(each, module.name)]
    return own


def _is_of(each: object, module: str) -> bool:
    is_own = isinstance(each, type | FunctionType) and each.__module__ == module
    return is_own and not getattr(each, "_is_protocol", False)


def files() -> dict[str, Path]:
    """Those of all modules outside cli/, by the name of the module within the package."""
    package = Path(skip2lora.__file__).parent
    paths = [file.relative_to(package).with_suffix("") for file in sorted(package.rglob("*.py"))]
    return {
        ".".join(path.parts).removesuffix("__init__").removesuffix("."): package / f"{path}.py"
        for path in paths
        if path.parts[0] != "cli"
    }


def is_number(value: object) -> bool:
    """And no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)
