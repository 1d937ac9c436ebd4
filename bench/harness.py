"""What the scripts share: rounds in turn, spreads, the machine, and one way to run and print.

Import this before NumPy and PyTorch, so that they start with one thread.
"""

from __future__ import annotations

import one_thread  # noqa: F401

# isort: split
import argparse
import contextlib
import io
import json
import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import skip2lora as s2
from skip2lora import _core, cli
from skip2lora.backbones.recipe import PAPER
from skip2lora.datasets import Split, fan, simulated
from skip2lora.machine import cpu_name
from skip2lora.training.options import Options, resolve_options

ROOT = Path(__file__).resolve().parents[1]
RANK, BATCH, RATE = 4, 20, 0.01


def options(method: str = "skip2-lora") -> Options:
    """Of one epoch on a network of the paper."""
    return resolve_options(
        PAPER, [BATCH], BATCH, method=method, rank=RANK, epochs=1, learning_rate=RATE
    )


@dataclass(frozen=True)
class Net:
    """One of the paper's two networks with the size of its fine-tuning."""

    widths: tuple[int, ...]
    n_samples: int
    epochs: int

    @property
    def name(self) -> str:
        return "-".join(map(str, self.widths))

    @property
    def n_batches(self) -> int:
        return -(-self.n_samples // BATCH)


NETS = (Net((256, 96, 96, 3), 470, 300), Net((561, 96, 96, 6), 1048, 600))


def random_data(net: Net, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Samples (n_samples, features) with a class each that can be learned, and labels."""
    random = np.random.default_rng(seed)
    y = random.integers(0, net.widths[-1], net.n_samples, dtype=np.int32)
    centres = random.standard_normal((net.widths[-1], net.widths[0]), dtype=np.float32)
    x = 0.3 * centres[y] + random.standard_normal((net.n_samples, net.widths[0]), dtype=np.float32)
    return x.astype(np.float32), y


def task(data: Path | None, seed: int) -> tuple[str, Split]:
    """The recorded fans (Damage1) where their folder is given, else the simulated ones."""
    if data is None:
        return "simulated fan", simulated.make_task(seed=seed)
    inner = data / "cooling-fan"
    folder = inner if inner.is_dir() else data
    return "recorded fan, Damage1", fan.load_task("damage1", source=folder)


def pretrained(split: Split, seed: int, *, quick: bool = False) -> s2.MLP:
    """256-96-96-3 trained before the move, as in the paper."""
    fresh = s2.MLP.create(NETS[0].widths, seed=seed)
    part = split.pretrain
    return s2.pretrain(
        fresh, part.x, part.labels, epochs=5 if quick else 100, seed=seed, standardize=False
    )


# ---- timing ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """Something to time: ``run`` does ``units`` units of work (batches, rows, calls)."""

    run: Callable[[], object]
    units: int = 1


def in_turn(sides: Mapping[str, Side], *, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds a unit of each side in each round: A B C, A B C, ...

    A warm-up run of each side finds how many runs last ``seconds``; it is not counted.
    """
    runs = {name: _runs_for(side, seconds) for name, side in sides.items()}
    took: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            took[name].append(_seconds(side, runs[name]) / (runs[name] * side.units))
    return took


def _runs_for(side: Side, seconds: float) -> int:
    side.run()
    runs = 1
    while (took := _seconds(side, runs)) < seconds / 2:
        runs = max(runs + 1, int(runs * min(10.0, 0.7 * seconds / max(took, 1e-9))))
    return max(1, round(runs * seconds / took))


def _seconds(side: Side, runs: int) -> float:
    start = time.perf_counter()
    for _ in range(runs):
        side.run()
    return time.perf_counter() - start


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 5) -> dict[str, float]:
    """Median, smallest and largest; so many significant digits are kept."""
    scaled = [scale * value for value in values]
    kept = (statistics.median(scaled), min(scaled), max(scaled))
    names = ("median", "smallest", "largest")
    return {name: float(f"{v:.{digits}g}") for name, v in zip(names, kept, strict=True)}


def ratios(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
    """Spread of slow over fast, round by round."""
    return spread([a / b for a, b in zip(slow, fast, strict=True)], digits=4)


def shown(of: Mapping[str, float], unit: str = "") -> str:
    """A spread for a person."""
    unit = f" {unit}" if unit else ""
    median, *ends = (_short(of[name]) for name in ("median", "smallest", "largest"))
    return f"{median}{unit} ({ends[0]} to {ends[1]})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def target(what: str, value: float, limit: float, *, at_least: bool = True) -> dict[str, Any]:
    """A number that somebody counts on: what was measured, and what was asked for."""
    met = value >= limit if at_least else value <= limit
    return {
        "what": what, "measured": float(f"{value:.4g}"), "limit": limit,
        "at_least": at_least, "met": met,
    }  # fmt: skip


# ---- machine -----------------------------------------------------------------------------------


def command(*words: str) -> dict[str, Any]:
    """What a command line says as JSON."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        status = cli.run([*words, "--json"])
    if status:
        raise SystemExit(f"skip2lora {' '.join(words)} ended with {status}")
    facts: dict[str, Any] = json.loads(printed.getvalue())
    return facts


_FLAGS = ("sse4_2", "avx", "fma", "avx2", "avx512f", "avx512vl", "avx512_vnni", "neon", "asimd")


def environment() -> dict[str, Any]:
    """The machine, how the core was compiled, and the commit."""
    return {
        "cpu": cpu_name(),
        "cpu_flags": _cpu_flags(),
        "kernels": _core.kernels(),
        "compiler": _compiler(),
        "flags": _compile_flags(),
        "huge_pages": _first_line(Path("/sys/kernel/mm/transparent_hugepage/enabled")),
        "commit": _commit(),
        "load": round(os.getloadavg()[0], 2),
    }


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return "unknown"


def _cpu_flags() -> list[str]:
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return []
    return [flag for flag in _FLAGS if flag in words]


def _build_file(name: str) -> str:
    """A file of the newest build of the extension; empty if there is none."""
    found = sorted(ROOT.glob(f"build/*/{name}"), key=lambda path: path.stat().st_mtime)
    return found[-1].read_text(encoding="utf-8") if found else ""


def _compile_flags() -> dict[str, str]:
    """What each kernel table was compiled with, by its source file."""
    edges = re.findall(
        r"^build \S+\.o: \S+ \S*/core/src/(kernels_\w+\.c)\b.*\n((?:  .*\n)*)",
        _build_file("build.ninja"),
        re.MULTILINE,
    )
    told = {source: re.search(r"^  FLAGS = (.*)$", body, re.MULTILINE) for source, body in edges}
    return {source: found[1].strip() for source, found in told.items() if found}


def _compiler() -> str:
    for line in _build_file("CMakeCache.txt").splitlines():
        if line.startswith("CMAKE_C_COMPILER:"):
            return _output(line.partition("=")[2], "--version").partition("\n")[0]
    return "unknown"


def _commit() -> str:
    """Short hash, with a mark if what is measured differs from it."""
    commit = _output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    places = ("core", "bindings", "src", "CMakeLists.txt")
    changed = _output("git", "-C", str(ROOT), "status", "--porcelain", "--", *places)
    return f"{commit or 'unknown'}{'-changed' if changed else ''}"


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def blas() -> dict[str, Any]:
    """The BLAS behind NumPy and its threads."""
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))  # loads it
    for found in threadpool_info():
        if found["user_api"] == "blas" and "numpy" in found["filepath"]:
            names = ("internal_api", "version", "architecture")
            name = " ".join(str(found[key]) for key in names if found.get(key))
            return {"name": name, "threads": found["num_threads"]}
    return {"name": "unknown", "threads": 1}


# ---- running -----------------------------------------------------------------------------------


def run(
    description: str | None,
    measure: Callable[[argparse.Namespace], dict[str, Any]],
    lines: Callable[[dict[str, Any]], list[str]],
) -> None:
    """Parse, measure, print: ``--json`` for a machine, ``--quick`` for a look without meaning."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="short and small: numbers are noise")
    parser.add_argument("--data", type=Path, help="folder with the fan recordings, or cooling-fan/")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds is {arguments.rounds}, expected 1 or more")
    machine = environment()
    try:
        result = {"environment": machine, "rounds": arguments.rounds, **measure(arguments)}
    except s2.Skip2LoraError as error:
        parser.error(str(error))
    if arguments.quick:
        result["quick"] = True
    if arguments.json:
        print(json.dumps(result))
        return
    print("\n".join([*_heading(result), *lines(result), *_judged(result)]))


def _judged(result: Mapping[str, Any]) -> list[str]:
    return [
        f"{'met   ' if of['met'] else 'MISSED'} {of['what']}: {_short(of['measured'])}, target "
        f"{'at least' if of['at_least'] else 'at most'} {of['limit']:g}"
        for of in result.get("targets", ())
    ]


def _heading(result: Mapping[str, Any]) -> list[str]:
    of = result["environment"]
    return [
        f"{of['cpu']}, {of['kernels']} kernels, commit {of['commit']}, load {of['load']}",
        f"median of {result['rounds']} rounds (smallest to largest), in turn, one thread each",
    ]
