"""The fused step as gcc and clang compile it, table by table.

    python bench/compilers.py [--rounds 5] [--quick] [--json]

The core is compiled by each with the flags of core/Makefile, and `arm/arm_step.c` runs batches on
cached rows, in turn. Times are those of the processor in programs, which others that run beside
hardly change; that of starting one is in them, below 1 %.
"""

from __future__ import annotations

import harness  # first: one thread

# isort: split
import subprocess
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

from harness import ROOT
from skip2lora import _core

COMPILERS = ("gcc", "clang")
NETS = {"fan": "256-96-96-3", "har": "561-96-96-6"}
BUILD = ROOT / "core" / "build" / "compilers"
STEPS = 300_000
#: clang 14 left accumulators in memory once, unseen, and took 3 to 5 times as long.
MOST_RATIO = 1.5


def program_of(compiler: str) -> Path:
    """`arm_step` with the core, both by ``compiler``."""
    folder = BUILD / compiler
    words = ["make", "--silent", "-j2", "-C", str(ROOT / "core"), f"CC={compiler}"]
    subprocess.run([*words, f"BUILD={folder}"], check=True)
    source, program = ROOT / "bench" / "arm" / "arm_step.c", folder / "arm_step"
    words = [compiler, "-O2", "-std=c11", f"-I{ROOT}/core/include", str(source)]
    subprocess.run([*words, str(folder / "libskip2.a"), "-lm", "-o", str(program)], check=True)
    return program


def run(program: Path, table: str, net: str, steps: int) -> str:
    """So many batches of Skip2-LoRA; what is learned in the end."""
    words = [str(program), table, net, "skip2-lora", str(steps)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def seconds(program: Path, table: str, net: str, steps: int) -> float:
    """A batch, of time on the processor."""
    before = getrusage(RUSAGE_CHILDREN).ru_utime
    run(program, table, net, steps)
    return (getrusage(RUSAGE_CHILDREN).ru_utime - before) / steps


def in_turn(
    programs: dict[str, Path], table: str, net: str, steps: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds a batch by compiler, each round; that both learn the same is looked at before."""
    ends = {run(program, table, net, 100) for program in programs.values()}
    if len(ends) > 1:
        raise SystemExit(f"compilers: they learn differently: {sorted(ends)}")
    took: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            took[name].append(seconds(program, table, net, steps))
    return took


def measure(arguments: Any) -> dict[str, Any]:
    programs = {compiler: program_of(compiler) for compiler in COMPILERS}
    rows = list[dict[str, Any]]()
    for net, widths in NETS.items():
        for table in _core.kernel_tables():
            most = STEPS // 20 if table == "scalar" else STEPS
            steps = most // 10 if arguments.quick else most
            took = in_turn(programs, table, net, steps, arguments.rounds)
            rows.append(
                {
                    "kernels": table,
                    "net": widths,
                    "us_a_batch": {name: harness.spread(of, 1e6) for name, of in took.items()},
                    "ratio": harness.ratios(took["clang"], took["gcc"]),
                }
            )
    return {
        "compilers": {name: version(name) for name in COMPILERS},
        "rows": rows,
        "targets": [
            harness.target(
                f"{row['net']}, {row['kernels']}: time of clang over gcc",
                row["ratio"]["median"],
                MOST_RATIO,
                at_least=False,
            )
            for row in rows
        ],
    }


def version(compiler: str) -> str:
    words = [compiler, "--version"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return done.stdout.partition("\n")[0]


def lines(result: dict[str, Any]) -> list[str]:
    made = [", ".join(result["compilers"].values()), "us a batch of Skip2-LoRA, rank 4:"]
    made += [
        f"{row['net']:<12} {row['kernels']:<10} "
        + "  ".join(f"{name} {harness.shown(us)}" for name, us in row["us_a_batch"].items())
        + f"  clang over gcc {harness.shown(row['ratio'])}"
        for row in result["rows"]
    ]
    return made


if __name__ == "__main__":
    harness.run(__doc__, measure, lines)
