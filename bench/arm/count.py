"""Instructions a batch and a prediction on ARM, counted; cycles of a Cortex-A53, estimated.

Builds the core as it ships (-O3) for aarch64 and ARMv7, and as firmware does for a Cortex-M4F, runs
`arm_step` under QEMU for two numbers of steps, and divides the difference of the instructions
executed by that of the steps. Counts are exact and repeat; they are not time.

Cycles are an estimate, for aarch64 alone (llvm-mca has no 32-bit model of the Cortex-A53): each
block of instructions that QEMU executed is given to llvm-mca as the body of a loop, and its cycles
a round are multiplied by its executions a batch. That takes every load to hit the first cache and
every branch to be predicted, and lets no two different blocks overlap.

    python3 bench/arm/count.py [--json]
"""

from __future__ import annotations

import argparse
import bisect
import json
import re
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import size

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "core" / "build" / "arm"
NETS = {"fan": "256-96-96-3", "har": "561-96-96-6"}
METHODS = ("skip2-lora", "lora-all", "predict")  # a batch of each, a sample
STEPS = (10, 30)  # multiples of the five batches arm_step goes round
ITERATIONS = 100  # of a block in llvm-mca
PAGE_BYTES = 4096


@dataclass(frozen=True)
class Machine:
    prefix: str  # of the tool chain
    qemu: str  # with the processor, by which the C library chooses its memcpy
    tables: tuple[str, ...] = ("scalar", "neon")
    level: str = ""  # of optimisation, where there is no operating system

    @property
    def gcc(self) -> str:
        return f"{self.prefix}-gcc"


MACHINES = {
    "aarch64": Machine("aarch64-linux-gnu", "qemu-aarch64 -cpu cortex-a53"),
    "armv7": Machine("arm-linux-gnueabihf", "qemu-arm"),
    **{
        f"cortex-m4f {level}": Machine(
            "arm-none-eabi",
            "qemu-system-arm -M mps2-an386 -nographic -monitor none -serial none "
            "-semihosting-config enable=on,target=native",
            ("scalar",),
            level,
        )
        for level in size.LEVELS
    },
}


def run(*words: object) -> str:
    done = subprocess.run(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def program_of(name: str) -> Path:
    return BUILD / name.replace(" ", "") / "arm_step"


def build(name: str) -> None:
    machine, program = MACHINES[name], program_of(name)
    if machine.level:
        program.parent.mkdir(parents=True, exist_ok=True)
        run(machine.gcc, machine.level, *size.FLAGS, "-std=gnu11", f"-I{ROOT}/core/include",
            ROOT / "bench/arm/arm_step.c", size.BOARD / "start.c", *size.compiled(machine.level),
            "-T", size.BOARD / "m4f.ld", "-nostartfiles", "--specs=rdimon.specs",
            "-Wl,--gc-sections", "-lm", "-dumpdir", f"{program.parent}/",
            "-o", program)  # fmt: skip
        return
    folder = f"build/arm/{name}"
    run("make", "--silent", "-C", ROOT / "core", f"CC={machine.gcc}", f"AR={machine.prefix}-ar",
        f"BUILD={folder}")  # fmt: skip
    run(machine.gcc, "-O2", "-std=c11", "-Wall", "-Wextra", f"-I{ROOT}/core/include",
        ROOT / "bench/arm/arm_step.c", BUILD / name / "libskip2.a", "-lm", "-static",
        "-o", program)  # fmt: skip


def build_plugin() -> Path:
    plugin = BUILD / "block_counts.so"
    run("gcc", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", ROOT / "bench/arm/block_counts.c",
        "-o", plugin)  # fmt: skip
    return plugin


# ---- counts --------------------------------------------------------------------------------------

Block = tuple[int, int]  # address, instructions
SYMBOL = re.compile(r"([0-9a-f]+) [tTwW] ([^$\s]\S*)$")  # of code


def executions(machine: Machine, plugin: Path, program: Path, *words: object) -> dict[Block, int]:
    out = BUILD / "blocks.txt"
    started = [program, *words]
    if machine.level:  # the command line of a board
        started = ["-kernel", program, "-append", " ".join(map(str, words))]
    run(*machine.qemu.split(), "-plugin", f"{plugin},out={out}", *started)
    counts: dict[Block, int] = defaultdict(int)
    for line in out.read_text().splitlines():
        address, instructions, times = line.split()
        counts[int(address, 16), int(instructions)] += int(times)
    return counts


def batch_blocks(machine: Machine, plugin: Path, program: Path, *words: str) -> dict[Block, float]:
    """Executions a batch of every block."""
    few, many = (executions(machine, plugin, program, *words, steps) for steps in STEPS)
    per_batch = {
        block: (times - few.get(block, 0)) / (STEPS[1] - STEPS[0]) for block, times in many.items()
    }
    return {block: times for block, times in per_batch.items() if times}


def by_function(machine: Machine, program: Path, blocks: dict[Block, float]) -> dict[str, int]:
    symbols = []
    for line in run(f"{machine.prefix}-nm", "--defined-only", program).splitlines():
        if found := SYMBOL.match(line):
            symbols.append((int(found[1], 16) & ~1, found[2]))  # bit 0: Thumb
    symbols.sort()
    addresses = [address for address, _ in symbols]
    totals: dict[str, float] = defaultdict(float)
    for (address, instructions), times in blocks.items():
        totals[symbols[bisect.bisect(addresses, address) - 1][1]] += instructions * times
    return {name: round(total) for name, total in sorted(totals.items(), key=lambda of: -of[1])}


# ---- estimated cycles ----------------------------------------------------------------------------

LISTED = re.compile(r"^\s*([0-9a-f]+):\s+(\S.*)$")
BRANCH = re.compile(r"(b|b\.\w+|br|cbn?z|tbn?z)(?=\s)")


def disassembly(program: Path) -> dict[int, str]:
    """Instructions of an aarch64 program, by address, as llvm-mca reads them."""
    listing = {}
    for line in run("llvm-objdump-14", "-d", "--no-show-raw-insn", program).splitlines():
        if found := LISTED.match(line):
            # "b.ne 0x4005c0 <name+0x30>": where a branch goes does not matter here
            code = re.sub(r"0x[0-9a-f]+ <.*>", "#0", found[2])
            # llvm-mca takes 100 cycles for a call; what is called is a block of its own here
            for call, jump in (("bl", "b"), ("blr", "br"), ("ret", "br\tx30")):
                code = re.sub(rf"^{call}(?=\s|$)", jump, code)
            listing[int(found[1], 16)] = code
    return listing


def join_at_pages(listing: dict[int, str], blocks: dict[Block, float]) -> dict[Block, float]:
    """QEMU cuts a block at a page's end; joined again, a loop across it is one loop."""
    joined = dict(blocks)
    for (address, instructions), times in blocks.items():
        end = address + 4 * instructions
        rest = next((block for block in blocks if block[0] == end), None)
        if rest and end % PAGE_BYTES == 0 and not BRANCH.match(listing[end - 4]):
            del joined[address, instructions]
            joined[address, instructions + rest[1]] = times
            joined[rest] -= times
    return {block: times for block, times in joined.items() if times > 0}


def block_cycles(listing: dict[int, str], blocks: dict[Block, float]) -> dict[Block, float]:
    """Cycles a round of each block, repeated, on a Cortex-A53."""
    source = []
    for number, (address, instructions) in enumerate(blocks):
        code = [listing[address + 4 * i] for i in range(instructions)]
        source += [f"# LLVM-MCA-BEGIN b{number}", *code, f"# LLVM-MCA-END b{number}"]
    path = BUILD / "blocks.s"
    path.write_text("\n".join([*source, ""]))
    told = run("llvm-mca-14", "-mtriple=aarch64-linux-gnu", "-mcpu=cortex-a53", "-json",
               f"-iterations={ITERATIONS}", path)  # fmt: skip
    cycles = {
        region["Name"]: region["SummaryView"]["TotalCycles"] / ITERATIONS
        for region in json.loads(told)["CodeRegions"]
    }
    return {block: cycles[f"b{number}"] for number, block in enumerate(blocks)}


def estimate(program: Path, blocks: dict[Block, float]) -> int:
    listing = disassembly(program)
    joined = join_at_pages(listing, blocks)
    cycles = block_cycles(listing, joined)
    return round(sum(cycles[block] * times for block, times in joined.items()))


# ---- the report ----------------------------------------------------------------------------------


def measure(name: str, kernels: str, net: str, method: str, plugin: Path) -> dict[str, object]:
    machine, program = MACHINES[name], program_of(name)
    blocks = batch_blocks(machine, plugin, program, kernels, net, method)
    counted = sum(instructions * times for (_, instructions), times in blocks.items())
    result: dict[str, object] = {
        "machine": name,
        "kernels": kernels,
        "net": NETS[net],
        "method": method,
        "instructions": round(counted),
        "instructions_by_function": by_function(machine, program, blocks),
    }
    if name == "aarch64":
        result["estimated_cortex_a53_cycles"] = estimate(program, blocks)
    return result


def commit() -> str:
    found = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def first_line(*words: str) -> str:
    return run(*words).splitlines()[0]


def report(results: dict[str, object], rows: list[dict[str, object]]) -> None:
    print(f"commit {results['commit']}; {results['qemu']}; {', '.join(results['compilers'])}")
    print("instructions a batch of 20 and a prediction of one sample, rank 4, counted under QEMU;")
    print("in brackets cycles of a Cortex-A53 as estimated by llvm-mca: not measured on a device")
    for net in NETS.values():
        print(f"\n{net:<24}{METHODS[0]:>24}{METHODS[1]:>26}   ratio{METHODS[2]:>22}")
        for name, machine in MACHINES.items():
            for kernels in machine.tables:
                line = [
                    r
                    for r in rows
                    if (r["machine"], r["kernels"], r["net"]) == (name, kernels, net)
                ]
                counts = [r["instructions"] for r in line]
                cells = [
                    f"{r['instructions']:,}"
                    + (f" ({c:,})" if (c := r.get("estimated_cortex_a53_cycles")) else "")
                    for r in line
                ]
                print(
                    f"{name:<15}{kernels:<9}{cells[0]:>24}{cells[1]:>26}"
                    f"{counts[1] / counts[0]:8.1f}{cells[2]:>22}"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for name in MACHINES:
        build(name)
    plugin = build_plugin()
    rows = [
        measure(name, kernels, net, method, plugin)
        for net in NETS
        for name, machine in MACHINES.items()
        for kernels in machine.tables
        for method in METHODS
    ]
    results = {
        "commit": commit(),
        "qemu": first_line("qemu-aarch64", "--version"),
        "llvm_mca": first_line("llvm-mca-14", "--version"),
        "compilers": sorted(
            {first_line(machine.gcc, "--version") for machine in MACHINES.values()}
        ),
        "batch_size": 20,
        "rank": 4,
        "steps": STEPS,
        "rows": rows,
    }
    if arguments.json:
        print(json.dumps(results))
        return
    report(results, rows)


if __name__ == "__main__":
    main()
