"""Runs every script of this folder and writes results.json and docs/performance.md.

    python bench/run.py [PART ...] [--rounds 5] [--data DIR] [--quick]

Each part is a process of its own. Named parts replace those of an earlier results.json, the others
stay. --quick writes to build/bench/ instead: its numbers are noise. `arm` runs where cross
compilers and QEMU are installed, `compilers` where clang is; elsewhere an earlier result is kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import report
import text

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
PARTS = (
    "methods", "peers", "any_module", "finetuning", "exact", "primal", "fc", "memory", "growth",
    "footprint",
)  # fmt: skip
ARM = BENCH / "arm" / "count.py"
#: Of parts that need more than Python.
TOOLS = {
    "compilers": ("gcc", "clang", "make"),
    "arm": (
        "aarch64-linux-gnu-gcc", "arm-linux-gnueabihf-gcc", "arm-none-eabi-gcc", "qemu-aarch64",
        "qemu-arm", "qemu-system-arm",
    ),
}  # fmt: skip


def run_part(part: str, options: list[str]) -> dict[str, Any]:
    script = ARM if part == "arm" else BENCH / f"{part}.py"
    words = [sys.executable, str(script), "--json", *([] if part == "arm" else options)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: {part} failed with exit code {done.returncode}, see above")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def parts_here() -> list[str]:
    """Those whose tools are installed."""
    return [*PARTS, *(part for part, tools in TOOLS.items() if all(map(shutil.which, tools)))]


def read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = (*PARTS, *TOOLS)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(known))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.parts) - {*known})
    if unknown:
        parser.error(f"{unknown[0]} is no part, expected one of {', '.join(known)}")
    options = ["--rounds", str(arguments.rounds), *(["--quick"] if arguments.quick else [])]
    if arguments.data is not None:
        options += ["--data", str(arguments.data)]
    out = ROOT / "build" / "bench" if arguments.quick else BENCH
    docs = out if arguments.quick else ROOT / "docs"
    out.mkdir(parents=True, exist_ok=True)
    results = read(out / "results.json")
    for part in arguments.parts or parts_here():
        print(f"bench: {part}", file=sys.stderr, flush=True)
        results[part] = run_part(part, options)
        text.write_text(out / "results.json", text.compact(results))
    report.write(results, docs)
    print("\n".join(report.summary(results)))
    print(f"results: {out / 'results.json'}, page: {docs / report.PAGE}")


if __name__ == "__main__":
    main()
