"""README, CONTRIBUTING and pages: what they may weigh, and that every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
LINK = re.compile(r"\]\((?!https?://)([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Names of the headings of a page, as links to them are written."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 600
    assert max(map(len, README.splitlines())) <= 140


def test_the_readme_has_one_picture_that_is_light() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert pictures == ["docs/skip2lora.svg"]
    svg = (ROOT / pictures[0]).read_text()
    assert len(svg) < 12_000
    assert "<script" not in svg
    assert re.findall(r'(?:href|src)="(?!#)', svg) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{page.name} links to {link}, which is not there"
        assert not anchor or anchor in anchors(target), f"{page.name}: no heading for {link}"


def test_every_page_is_listed() -> None:
    """The site fails for one in no list; this holds the README's table and the index."""
    index = (ROOT / "docs" / "index.md").read_text()
    for page in ROOT.glob("docs/*.md"):
        name = page.stem
        assert name == "index" or name.startswith("add-a-") or f"\n{name}\n" in index
