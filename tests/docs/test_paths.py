"""The map is the land: files and layers that pages name are there, under those names."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "skip2lora"
MAP = ROOT / "docs" / "architecture.md"
LAYOUT = ROOT / "docs" / "decisions" / "0001-layout.md"
GUIDE = ROOT / "CONTRIBUTING.md"
#: The first two are made by bench/, the last names folders of a download.
ABOUT_OTHERS = {"any-model.md", "performance.md", "paper.md"}
DOCS = sorted(page for page in ROOT.glob("docs/**/*.md") if page.name not in ABOUT_OTHERS)
PAGES = [page for page in (GUIDE, *DOCS) if page != LAYOUT]
#: Modules that the first plan had, and which the layout's note therefore names.
MERGED = {"checks.py"}
FILE = re.compile(r"`([\w.-]+(?:/[\w.-]+)*(?:/|\.(?:c|cpp|h|hpp|md|py|pyi|toml)))`")


def absent(page: Path) -> list[str]:
    """Files and folders in backticks that are not there.

    A path starts at the root of the repository or of the package, or in the folder that was named
    last. What has NAME in it, or lies in ``build/``, is made by the reader.
    """
    folder, names = ROOT, []
    for name in FILE.findall(page.read_text()):
        if "NAME" in name or name.startswith("build/"):
            continue
        place = next(
            (root / name for root in (ROOT, PACKAGE, folder) if (root / name).exists()), None
        )
        if place is None:
            names.append(name)
        else:
            folder = place if place.is_dir() else place.parent
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    assert absent(page) == []


def test_files_that_the_layout_names_are_there_or_were_merged() -> None:
    assert set(absent(LAYOUT)) == MERGED


def test_what_counts_as_a_file() -> None:
    text = "`a/b.py`, `cli/`, `_core.pyi`, `model.onnx`, `tests/docs`, `X`, `s2.load`, `a b.py`"
    assert FILE.findall(text) == ["a/b.py", "cli/", "_core.pyi"]
    assert all(len(FILE.findall(page.read_text())) > 10 for page in (GUIDE, MAP))


def test_every_floor_is_on_the_map() -> None:
    rows = re.findall(r"^\| (`.*?) \|", MAP.read_text(), re.MULTILINE)
    floors = {name.strip("/") for row in rows for name in re.findall(r"`([\w/.]+)`", row)}
    parts = {part.name for part in PACKAGE.iterdir() if part.suffix == ".py" or part.is_dir()}
    assert parts - {"__init__.py", "__main__.py", "__pycache__"} <= floors


def test_the_layers_of_the_note_are_those_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(each["layers"] for each in contracts["contracts"] if each["type"] == "layers")
    checked = [set(re.findall(r"skip2lora\.(\w+)", layer)) for layer in reversed(layers)]
    chain = re.search(r"^    errors\b.*?\n\n", LAYOUT.read_text(), re.MULTILINE | re.DOTALL)
    assert chain is not None
    assert [set(re.findall(r"\w+", floor)) for floor in chain[0].split("<")] == checked
    assert f"{len(checked)} layers" in LAYOUT.read_text()
