"""Flash, RAM and stack of the C core on a Cortex-M4F, by what the Skip-Cache keeps: `make size`.

Builds core/tests/m4f/firmware.c with arm-none-eabi-gcc for 256-96-96-3, rank 4 and 470 samples,
runs it under QEMU, and prints bytes:

    flash   code and tables, without the weights
    ram     all that is written but the cache and the stack
    cache   rows, and with float32 the samples beside them
    stack   the bytes that a run wrote; in brackets a bound from the call graph, in which a call
            through a pointer is that of the deepest function that it may mean, and a function of
            the C library takes LIBRARY bytes

Fails where a figure is above bench/arm/budget.json (--write makes the figures, rounded up, the
budget), where the stack is not bounded, or where the core calls more of the C library than ALLOWED.

    python3 bench/arm/size.py [--write]
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "core"
BOARD = CORE / "tests" / "m4f"
BUDGET = ROOT / "bench" / "arm" / "budget.json"
BUILD = CORE / "build" / "size"
#: How rows are kept, and how many numbers of each tap, 0: all.
CACHES = {
    "float32": ("S2_ROWS_FLOAT32", 0),
    "float16": ("S2_ROWS_FLOAT16", 0),
    "int8": ("S2_ROWS_INT8", 0),
    "projected": ("S2_ROWS_FLOAT32", 4),
}
WIDTHS = (256, 96, 96, 3)
LEVELS = ("-Os", "-O2")
FLAGS = [
    "-mcpu=cortex-m4",
    "-mthumb",
    "-mfloat-abi=hard",
    "-mfpu=fpv4-sp-d16",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-ffunction-sections",
    "-fdata-sections",
    "-fcallgraph-info=su",
    *("-DS2_WITHOUT_DERIVED", "-DS2_WITHOUT_MAPS", "-DS2_WITHOUT_ACTIVATIONS"),
    *("-DS2_WITHOUT_RECURRENT", "-DS2_WITHOUT_SLOTS", "-DS2_WITHOUT_TARGETS"),
    *("-DS2_WITHOUT_CODES", "-DS2_WITHOUT_PEAK"),
]
LIBRARY = 96
#: What device.c gives to train.c, and to adapter.c.
CALLBACK, READER = "/device.c:step", "s2_device_read"
#: Of the C library and of what gcc puts in place of operators; no heap, no input or output.
ALLOWED = re.compile(r"mem(cpy|set|move|cmp|chr)|sqrtf?|__aeabi_\w+")
Figures = dict[str, int]


def run(*words: object) -> str:
    done = subprocess.run(
        [str(word) for word in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{words[0]} failed:\n{done.stdout}")
    return done.stdout


def network(projection: int) -> bytes:
    """A block as docs/c-blob.md has it, with zeros for weights."""
    layers = list(itertools.pairwise(WIDTHS))
    records, n_floats = b"", 0
    for n_in, n_out in layers:
        hidden = n_out != WIDTHS[-1]
        records += struct.pack("<4I", 1, 3 if hidden else 0, n_in, n_out)
        n_floats += n_in * n_out + n_out * (5 if hidden else 1)
    if projection:
        n_floats += sum(width * (1 + projection) for width in WIDTHS[:-1])
    taps = struct.pack(f"<{len(layers)}I", *WIDTHS[:-1])
    body = taps + records + bytes(4 * n_floats)
    start = b"SPM2" + struct.pack("<2I", 1, 64 + len(body))
    shapes = struct.pack("<7I", WIDTHS[0], WIDTHS[-1], len(layers), len(layers), projection, 0, 0)
    rest = shapes + struct.pack("<f", 1e-5) + bytes(16) + body
    return start + struct.pack("<I", zlib.crc32(rest, zlib.crc32(start))) + rest


def compiled(level: str) -> list[Path]:
    """The core's objects, each with its call graph beside it."""
    folder = BUILD / level.lstrip("-")
    folder.mkdir(parents=True, exist_ok=True)
    objects = []
    for source in sorted((CORE / "src").glob("*.c")):
        objects.append(folder / f"{source.stem}.o")
        run("arm-none-eabi-gcc", level, *FLAGS, "-std=c99", f"-I{CORE}/include", "-c", source,
            "-o", objects[-1])  # fmt: skip
    return objects


def unwanted(objects: list[Path]) -> list[str]:
    """Functions outside of the core that it calls and should not."""
    lines = run("arm-none-eabi-nm", "--format=posix", *objects).splitlines()
    words = [line.split() for line in lines if len(line.split()) >= 2]
    own = {name for name, kind, *_ in words if kind in "TRDBV"}
    return sorted({n for n, kind, *_ in words if kind == "U"} - own - _allowed(words))


def _allowed(words: list[list[str]]) -> set[str]:
    return {name for name, *_ in words if ALLOWED.fullmatch(name)}


NODE = re.compile(r'node: \{ title: "([^"]+)" label: "[^"]*?(\d+) bytes \(([^)]*)\)')
EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')


def stack_bound(graphs: list[Path], root: str) -> int:
    """Bytes of the deepest chain of calls below ``root``, its own frame not counted."""
    frames: dict[str, int] = {}
    calls: dict[str, set[str]] = {}
    for graph in graphs:
        text = graph.read_text()
        for title, size, kind in NODE.findall(text):
            if "static" not in kind and "bounded" not in kind:
                sys.exit(f"{title} has a stack frame without a bound: {kind}")
            frames[title] = int(size)
        for source, target in EDGE.findall(text):
            calls.setdefault(source, set()).add(target)
    kernels = {title for title in frames if "kernels_scalar.c:" in title or title == READER}
    callbacks = {title for title in frames if title.endswith(CALLBACK)}
    layers = {title for title in frames if "model_dense.c:" in title}
    depths: dict[str, int] = {}

    def targets(title: str) -> set[str]:
        # train.c calls what device.c gave it, a network its layers, all others call kernels, or
        # read rows
        indirect = callbacks if "s2_train_epoch" in title or "train.c:" in title else kernels
        indirect = layers if "s2_model_" in title or "model_f" in title else indirect
        own = calls.get(title, set())
        return (own - {"__indirect_call"}) | (indirect if "__indirect_call" in own else set())

    def depth(title: str, above: tuple[str, ...]) -> int:
        if title in above:
            sys.exit(f"the stack has no bound: {' > '.join([*above, title])}")
        if title not in frames:
            return LIBRARY
        if title not in depths:
            below = (depth(each, (*above, title)) for each in targets(title))
            depths[title] = frames[title] + max(below, default=0)
        return depths[title]

    return depth(root, ()) - frames[root]


def measured(level: str, cache: str, objects: list[Path]) -> Figures:
    """Figures of one firmware, by their names."""
    program = BUILD / level.lstrip("-") / f"{cache}.elf"
    firmware, (rows, projection) = program.with_suffix(".o"), CACHES[cache]
    program.with_suffix(".bin").write_bytes(network(projection))
    blob = program.with_suffix(".S")
    blob.write_text(
        '.section .weights, "a"\n.balign 4\n.global blob, blob_end\n'
        f'blob: .incbin "{program.with_suffix(".bin")}"\nblob_end:\n'
    )
    run("arm-none-eabi-gcc", level, *FLAGS, "-std=gnu99", "-Wall", "-Wextra", f"-DCACHE={rows}",
        f"-I{CORE}/include", "-c", BOARD / "firmware.c", "-o", firmware)  # fmt: skip
    run("arm-none-eabi-gcc", level, *FLAGS, "-std=gnu99", "-DBOARD_ALONE", firmware, blob,
        BOARD / "start.c", *objects, "-T", BOARD / "m4f.ld", "-nostartfiles",
        "--specs=nano.specs", "-Wl,--gc-sections", "-lm", "-o", program)  # fmt: skip
    sections = dict(
        re.findall(r"^(\.\S+)\s+(\d+)", run("arm-none-eabi-size", "-A", program), re.MULTILINE)
    )
    printed = dict(line.split() for line in run("sh", BOARD / "run.sh", program).splitlines())
    graphs = [each.with_suffix(".ci") for each in (*objects, firmware)]
    return {
        "flash": sum(int(sections.get(name, 0)) for name in (".text", ".data", ".ARM.exidx")),
        **{name: int(value) for name, value in printed.items()},
        "bound": stack_bound(graphs, "main"),
    }


def rounded(figures: dict[str, Figures]) -> dict[str, Figures]:
    """Figures rounded up, so that a few bytes more need no new budget."""
    return {
        name: {
            figure: -(-size // unit) * unit
            for figure, size in of.items()
            for unit in (512 if figure in ("flash", "ram") else 64,)
        }
        for name, of in figures.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="make these figures the budget")
    write = parser.parse_args().write
    figures: dict[str, Figures] = {}
    faults = []
    print("Cortex-M4F, bytes" + " " * 9 + "flash     ram    cache  stack (bound)")
    for level in LEVELS:
        objects = compiled(level)
        faults += [
            f"the core calls {name}: no heap, no input or output" for name in unwanted(objects)
        ]
        for cache in CACHES:
            of = figures[f"{cache} {level}"] = measured(level, cache, objects)
            print(
                f"{cache + ' ' + level:<23}{of['flash']:8,}{of['ram']:8,}{of['cache']:9,}"
                f"{of['stack']:7,} ({of['bound']:,})"
            )
            if of["stack"] > of["bound"]:
                faults.append(f"{cache} {level}: a stack of {of['stack']} bytes is above its bound")
    if write:
        BUDGET.write_text(json.dumps(rounded(figures), indent=4) + "\n")
    budget: dict[str, Figures] = json.loads(BUDGET.read_text())
    for name, of in figures.items():
        faults += [
            f"{name}: {figure} takes {size:,} bytes, the budget is {budget[name][figure]:,}: "
            "make it smaller, or say why not and run bench/arm/size.py --write"
            for figure, size in of.items()
            if size > budget[name][figure]
        ]
    print("\n".join(faults) or "all within bench/arm/budget.json")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
