"""A Dask cluster on loopback, in processes of its own, and tasks that end their worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skip2lora import engine
from skip2lora.cli import fill

TESTS = Path(__file__).parent


@dataclass
class Cluster:
    """A scheduler without workers, until :meth:`add` starts some."""

    folder: Path
    address: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        about = self.folder / "scheduler.json"
        self._run("dask_scheduler", "--port", 0, "--no-show", "--scheduler-file", about)
        while not about.exists() or not about.read_text():
            time.sleep(0.02)
        self.address = json.loads(about.read_text())["address"]

    def add(self, n_workers: int) -> None:
        for _ in range(n_workers):
            self._run(
                "dask_worker", self.address, "--nthreads", 1, "--no-nanny", "--local-directory",
                self.folder,
            )  # fmt: skip

    def _run(self, module: str, *words: object) -> None:
        paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
        log = (self.folder / "log").open("ab")
        command = [sys.executable, "-m", f"distributed.cli.{module}", *map(str, words)]
        with log:
            process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--no-dashboard"], stdout=log, stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        self.processes.append(process)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()

    @property
    def engine(self) -> str:
        return self.address.replace("tcp://", "dask://")


def die_once(marker: Path, number: int) -> None:
    """End this process as the system does that is out of memory, the first time it is asked."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    marker.write_text(str(number))
    os.kill(os.getpid(), signal.SIGKILL)


def fill_and_die(marker: Path, opened: Any, shard: tuple[int, int]) -> Any:
    """As the command does on a worker; in the middle of shard 3 the first worker dies."""

    def progress(done: int, total: int) -> None:
        if shard[0] == 3 and done < total:
            die_once(marker, done)

    return fill._fill(opened, shard, progress=progress)


def open_number(number: int) -> list[int]:
    if number < 0:
        raise ValueError("no number below 0")
    return [number, os.getpid(), time.monotonic_ns()]


def add(opened: list[int], task: int) -> tuple[int, int, int]:
    """The sum, and where and when the number was opened."""
    return opened[0] + task, *opened[1:]  # type: ignore[return-value]


def n_opened() -> int:
    return len(engine._OPENED)


def always_die(opened: Sequence[int], task: int) -> None:
    del opened, task
    os.kill(os.getpid(), signal.SIGKILL)
