"""Fail where code that uses the package does not pass a type checker: `make check` runs this.

pyright (basic) and mypy (--strict) read the Python of README.md and docs/ that the tests run, the
examples, and tests/typing/, with the package as if installed: in a folder of packages, typed by its
`py.typed`. A line that ends in `# wrong` must be complained about by both, any other by neither.
Other packages than NumPy are `Any`, as they are to users who lack them or their types; so the
result does not depend on what is installed.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "types"
#: Modules that both checkers know.
KNOWN = {*sys.stdlib_module_names, "numpy", "reader", "skip2lora"}
STUB = "from typing import Any\n\ndef __getattr__(name: str) -> Any: ...\n"
MYPY = """[mypy]
strict = True
[mypy-{}]
follow_imports = skip
follow_imports_for_stubs = True
ignore_missing_imports = True
"""
#: What a page calls the reader's own.
READER = {
    "X": "np.ndarray", "y": "np.ndarray", "X_more": "np.ndarray", "y_more": "np.ndarray",
    "model": "s2.Backbone", "module": "torch.nn.Module",
}  # fmt: skip
#: Functions that a page shows need no annotations.
RELAXED = "# mypy: allow-untyped-defs, allow-untyped-calls"
BLOCK = re.compile(r"(<!-- skip: next [^\n]*-->\n)?^```python\n(.*?)^```$", re.M | re.S)
#: Where an error is, file and line, and what it says.
Error = tuple[str, int, str]


def page_code(text: str) -> str:
    """The Python blocks of a page that are run, each line at its place, and what they need."""
    code = [""] * (text.count("\n") + 1)
    for block in BLOCK.finditer(text):
        skipped, lines = block.groups()
        if not skipped:
            start = text.count("\n", 0, block.start(2))
            code[start : start + lines.count("\n")] = lines.splitlines()
    if not any(code):
        return ""
    names = [node for node in ast.walk(ast.parse("\n".join(code))) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    missing = sorted({node.id for node in names if node.id in READER} - bound)
    code[:2] = [f"from reader import {', '.join(missing)}" if missing else "", RELAXED]
    return "\n".join(code)


def imported(source: str) -> set[str]:
    """Modules that a file imports, by their full names."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module)
    return modules


def write_stubs(folder: Path, modules: Iterable[str]) -> None:
    """Each module, and the packages it is in, as one that has anything."""
    for module in modules:
        package = folder
        for part in module.split("."):
            package /= part
            package.mkdir(parents=True, exist_ok=True)
            (package / "__init__.pyi").write_text(STUB)


def prepare(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Write all that the checkers read; where each file of ``code`` comes from."""
    code, packages, stubs = (folder / name for name in ("code", "packages", "stubs"))
    for part in (code, packages, stubs):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    shutil.copytree(ROOT / "src", packages, dirs_exist_ok=True)
    sources: dict[str, str] = {}
    for file in files:
        text = file.read_text(encoding="utf-8")
        checked = page_code(text) if file.suffix == ".md" else text
        if checked:
            path = os.path.relpath(file, ROOT)
            name = re.sub(r"\W+", "_", path) + ".py"
            (code / name).write_text(checked, encoding="utf-8")
            sources[name] = path
    names = "\n".join(f"{name}: {kind}" for name, kind in READER.items())
    reader = f"import numpy as np\nimport skip2lora as s2\nimport torch\n\n{names}\n"
    (stubs / "reader.pyi").write_text(reader, encoding="utf-8")
    every = [*code.glob("*.py"), *packages.rglob("*.py"), stubs / "reader.pyi"]
    modules = set().union(*(imported(file.read_text(encoding="utf-8")) for file in every))
    others = {module for module in modules if module.partition(".")[0] not in KNOWN}
    write_stubs(stubs, others)
    # mypy would look for `torch.nn` where PyTorch is installed, even though `torch` is a stub.
    patterns = ",".join(sorted({f"{module.partition('.')[0]}.*" for module in others}))
    (folder / "mypy.ini").write_text(MYPY.format(patterns), encoding="utf-8")
    pyright = {"include": ["code"], "stubPath": "stubs", "typeCheckingMode": "basic"}
    (folder / "pyrightconfig.json").write_text(json.dumps(pyright), encoding="utf-8")
    return sources


def run(folder: Path, *command: str) -> str:
    """What a checker prints; the package lies where installed ones do."""
    paths = {"PYTHONPATH": str(folder / "packages"), "MYPYPATH": str(folder / "stubs")}
    done = subprocess.run(  # noqa: S603, the commands are below
        [sys.executable, "-m", *command],
        cwd=folder, env=os.environ | paths, text=True, capture_output=True,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise SystemExit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def pyright_errors(folder: Path) -> list[Error]:
    """What pyright finds in ``code``."""
    said = json.loads(run(folder, "pyright", "--pythonpath", sys.executable, "--outputjson"))
    return [
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1, each["message"])
        for each in said["generalDiagnostics"]
        if each["severity"] == "error"
    ]


def mypy_errors(folder: Path) -> list[Error]:
    """What mypy finds in ``code``."""
    options = ["--output=json", "--python-executable", sys.executable]
    said = [json.loads(line) for line in run(folder, "mypy", *options, "code").splitlines()]
    return [
        (Path(each["file"]).name, each["line"], each["message"])
        for each in said
        if each["severity"] == "error"
    ]


def flaws(folder: Path, files: Iterable[Path]) -> list[str]:
    """Errors where none should be, and lines that are wrong without one."""
    sources = prepare(folder, files)
    texts = {
        name: (folder / "code" / name).read_text(encoding="utf-8").splitlines() for name in sources
    }
    wrong = {
        (name, number)
        for name, lines in texts.items()
        for number, line in enumerate(lines, 1)
        if line.endswith("# wrong")
    }
    unexpected: list[str] = []
    for checker, errors in (("pyright", pyright_errors(folder)), ("mypy", mypy_errors(folder))):
        unexpected += [
            f"{sources.get(name, name)}:{line}: {checker}: {message}"
            for name, line, message in errors
            if (name, line) not in wrong
        ]
        unseen = wrong - {(name, line) for name, line, _ in errors}
        unexpected += [
            f"{sources[name]}:{line}: {checker} sees no error, expected one: "
            "are the types of what is called too wide?"
            for name, line in sorted(unseen)
        ]
    return unexpected


def main() -> int:
    """Print every flaw; 1 where there is one."""
    files = [
        file
        for pattern in ("README.md", "docs/*.md", "examples/*.py", "tests/typing/*.py")
        for file in sorted(ROOT.glob(pattern))
    ]
    every = flaws(FOLDER, files)
    sys.stdout.writelines(f"{flaw}\n" for flaw in every)
    return 1 if every else 0


if __name__ == "__main__":
    sys.exit(main())
