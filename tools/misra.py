"""Deviations of the C core from MISRA-C:2012 beside those that docs/misra.md lists: `make misra`.

Runs the addon of cppcheck over core/src, and fails where a rule is broken that the page does not
list, or where it lists one that is no longer broken. ``--write`` puts today's numbers of places
into the page.

    python3 tools/misra.py [--write]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "misra.md"
FOUND = re.compile(r"^(\S+:\d+):.*\[misra-c2012-([\d.]+)\]$", re.MULTILINE)
LISTED = re.compile(r"^\| (\d+\.\d+) \| ([a-z]+) \| (\d+) \|", re.MULTILINE)


def places(output: str) -> Counter[str]:
    """Lines that break each rule; a header counts once, whatever includes it."""
    return Counter(rule for _, rule in set(FOUND.findall(output)))


def faults(counts: Counter[str], page: str) -> list[str]:
    """What the page does not say as it is."""
    listed = {rule for rule, _, _ in LISTED.findall(page)}
    return [
        f"rule {rule} is broken in {counts[rule]} places and docs/misra.md does not list it: "
        "mend the code, or say why not"
        for rule in sorted(set(counts) - listed)
    ] + [
        f"docs/misra.md lists rule {rule}, which nothing breaks: take it out"
        for rule in sorted(listed - set(counts))
    ]


def renewed(counts: Counter[str], page: str) -> str:
    """The page with these numbers."""
    return LISTED.sub(lambda of: f"| {of[1]} | {of[2]} | {counts[of[1]]} |", page)


def analysed() -> str:
    """What cppcheck says, of a copy: it leaves files beside the sources."""
    with tempfile.TemporaryDirectory() as folder:
        copied = ["cp", "-r", f"{ROOT}/core/src", f"{ROOT}/core/include", folder]
        subprocess.run(copied, check=True)  # noqa: S603
        words = ["cppcheck", "--quiet", "--std=c99", "--addon=misra", "--max-configs=32"]
        words += ["--template={file}:{line}: {message} [{id}]", "-Iinclude", "-Isrc", "src"]
        done = subprocess.run(  # noqa: S603
            words, cwd=folder, stderr=subprocess.PIPE, text=True, check=True
        )
    return done.stderr


def main() -> int:
    """Print the numbers and what is wrong; 1 where something is."""
    parser = argparse.ArgumentParser(description="Deviations from MISRA-C:2012.")
    parser.add_argument("--write", action="store_true", help="put the numbers into docs/misra.md")
    write = parser.parse_args().write
    counts, page = places(analysed()), PAGE.read_text(encoding="utf-8")
    if write:
        page = renewed(counts, page)
        PAGE.write_text(page, encoding="utf-8")
    wrong = faults(counts, page)
    total = f"{sum(counts.values())} places break {len(counts)} rules"
    sys.stdout.write("\n".join([total, *wrong, ""]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
