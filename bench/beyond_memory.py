"""Rows that are larger than memory: read from a folder while adapters are trained on them.

    python bench/beyond_memory.py [--samples 1000000] [--epochs 3] [--limit 700] [--json]

256-96-96-3 with scaled taps, so rows of 448 floats and the base logits (or other --widths), and X
in a file that is mapped into memory. Each way runs in a process of its own: rows in memory; rows in
a mapped file, by nothing but the system's paging; rows in a CacheFolder beside cache_samples=0.
RssAnon is the most anonymous memory of that process (Linux), looked at every 10 ms. With --limit MB
a way runs in a memory cgroup (version 1) of so much, page cache included, where the system lets us
make one. Files lie in --folder, by default a temporary one: about 6 KB a sample.
"""

from __future__ import annotations

import one_thread  # noqa: F401, first

# isort: split
import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import skip2lora as s2
from skip2lora.adapters.rows import RowFormat

WIDTHS = [256, 96, 96, 3]
CHUNK = 20_000  # samples that are made at a time
LEAST_BYTES = 1 << 26  # of rows that are mapped
WAYS = ("memory", "mapped", "folder")


def make(folder: Path, n_samples: int, widths: list[int]) -> None:
    """X, a chunk at a time, and labels that follow from it."""
    if (folder / "y.npy").exists():
        return
    random = np.random.default_rng(0)
    shape = (n_samples, widths[0])
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, shape)
    direction = random.standard_normal((widths[0], widths[-1]), dtype=np.float32)
    y = np.empty(n_samples, np.int32)
    for at in range(0, n_samples, CHUNK):
        some = x[at : at + CHUNK]
        random.standard_normal(out=some, dtype=np.float32)
        y[at : at + CHUNK] = (some @ direction).argmax(axis=1)
    x.flush()
    np.save(folder / "y.npy", y)


def anonymous_mb() -> float:
    """What this process has that is in no file."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.partition("RssAnon:")[2].split()[0]) / 1024


class Watch(threading.Thread):
    """The most anonymous memory so far."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0.0

    def run(self) -> None:
        while True:
            self.most = max(self.most, anonymous_mb())
            time.sleep(0.01)


def map_rows(folder: Path) -> None:
    """Let rows of many samples lie in a mapped file."""
    in_memory = RowFormat.empty

    def empty(of: RowFormat, n_rows: int) -> Any:
        if n_rows * of.row_bytes < LEAST_BYTES:
            return in_memory(of, n_rows)
        shape = (n_rows, of.layout.row_stride)
        return np.asarray(np.memmap(folder / "rows.bin", np.float32, "w+", shape=shape))

    RowFormat.empty = empty  # type: ignore[method-assign]


def run(way: str, folder: Path, epochs: int, widths: list[int]) -> dict[str, Any]:
    """One way, in this process."""
    watch = Watch()
    watch.start()
    x, y = np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy")
    given: dict[str, Any] = {}
    if way == "folder":
        given = {"cache": s2.CacheFolder(folder / "rows"), "cache_samples": 0}
    elif way == "mapped":
        map_rows(folder)
    ends, cpu = [], []

    def ended(report: s2.EpochReport) -> None:
        ends.append(time.perf_counter())
        cpu.append(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))

    model = s2.MLP.create(widths)
    began = time.perf_counter()
    adapted = s2.adapt(
        model, x, y, solver="steps", epochs=epochs, standardize=True, callback=ended, **given
    )
    assert adapted.history is not None
    return {
        "way": way, "epoch_seconds": np.diff(ends).tolist(), "epoch_cpu": np.diff(cpu).tolist(),
        "first_epoch_after": ends[0] - began, "rss_anon_mb": watch.most,
        "loss": adapted.history.loss, "n_forwards": adapted.history.n_forwards,
    }  # fmt: skip


def limited(megabytes: int) -> Path:
    """A memory cgroup of that size below our own, for a process to enter."""
    own = Path("/proc/self/cgroup").read_text(encoding="ascii").partition(":memory:")[2]
    group = Path("/sys/fs/cgroup/memory", own.split()[0].lstrip("/"), f"beyond-{os.getpid()}")
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(megabytes << 20))
    return group


def evict(folder: Path) -> None:
    """Leave nothing of these files in the page cache, where others pay for it."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def apart(way: str, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One way, in a process of its own; what it says, or how it ended."""
    group = limited(given.limit) if given.limit else None
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
    command += ["--epochs", str(given.epochs), "--samples", str(given.samples)]
    command += ["--widths", *map(str, given.widths)]
    if group is not None:
        evict(folder)
        enter = f'echo $$ > {group}/cgroup.procs && exec "$@"'
        command = ["sh", "-c", enter, "sh", *command]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, timeout=given.timeout, check=False
        )
        if done.returncode:
            return {"way": way, "ended": f"exit status {done.returncode}"}
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return {"way": way, "ended": f"not done after {given.timeout} s"}
    finally:
        if group is not None:
            with suppress(OSError):
                group.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--limit", type=int, default=0, help="MB of a memory cgroup")
    parser.add_argument("--timeout", type=int, default=600, help="seconds of a way")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--way", choices=WAYS, action="append")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.folder is not None and given.way and len(given.way) == 1 and not given.limit:
        make(given.folder, given.samples, given.widths)
        print(json.dumps(run(given.way[0], given.folder, given.epochs, given.widths)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        make(folder, given.samples, given.widths)
        results = [apart(way, given, folder) for way in given.way or WAYS]
    if given.json:
        print(json.dumps(results))
        return
    for of in results:
        if "ended" in of:
            print(f"{of['way']:8} {of['ended']}")
            continue
        print(
            f"{of['way']:8} {np.median(of['epoch_seconds']):6.2f} s an epoch "
            f"({np.median(of['epoch_cpu']):.2f} CPU), the first ends after "
            f"{of['first_epoch_after']:.1f} s, RssAnon {of['rss_anon_mb']:.0f} MB"
        )


if __name__ == "__main__":
    main()
