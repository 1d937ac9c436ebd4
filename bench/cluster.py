"""What a Dask cluster adds to a fill: CPU seconds of client, scheduler and workers.

    python bench/cluster.py [--samples 16384] [--workers 2] [--rounds 5] [--json]

A small CNN (3 x 32 x 32) and random images, in an uncompressed .npz. In each round a cluster is
started on this machine, without a dashboard, and three fills of an empty folder follow: `skip2lora
fill` alone, with `--engine` on workers that have done nothing yet, and once more on the same. CPU
seconds are those of the kernel, user and system: of the client from its start to its end, of the
scheduler and the workers what they grew by meanwhile. Starting the cluster is not counted. `idle`
is what scheduler and workers take in a second without work. Medians of all rounds, with the
smallest and the largest. Needs skip2lora[cluster,onnx].
"""

from __future__ import annotations

from harness import spread  # isort: skip  # first: one thread

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

TICKS = os.sysconf("SC_CLK_TCK")
HERE = "127.0.0.1"


def write_model(path: Path) -> None:
    """Two convolutions, a mean over the image, ten classes."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    shapes = {"w0": (32, 3, 3, 3), "w1": (64, 32, 3, 3), "w2": (64, 10)}
    weights = [
        numpy_helper.from_array((0.1 * random.standard_normal(shape)).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    strided = {"pads": [1, 1, 1, 1], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], **strided),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], **strided),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("GlobalAveragePool", ["r1"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w2"], ["y"]),
    ]
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 32, 32])
    outputs = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph(nodes, "small", [images], [outputs], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)


def seconds_of(process: subprocess.Popen[bytes]) -> float:
    """CPU seconds that a process and its ended children have taken, in ticks of the kernel."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


class Cluster:
    """A scheduler and workers, and the CPU seconds that each kind has taken."""

    def __init__(self, folder: Path, n_workers: int) -> None:
        about = folder / "scheduler.json"
        self.scheduler = self._start("dask_scheduler", "--port", 0, "--scheduler-file", about)
        while not (about.exists() and about.read_text()):
            time.sleep(0.05)
        self.address = json.loads(about.read_text())["address"]
        own = ("--nthreads", 1, "--no-nanny", "--local-directory", folder)
        self.workers = [self._start("dask_worker", self.address, *own) for _ in range(n_workers)]

    def _start(self, module: str, *words: object) -> subprocess.Popen[bytes]:
        words = (*words, "--host", HERE, "--no-dashboard")
        command = [sys.executable, "-m", f"distributed.cli.{module}", *map(str, words)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def seconds(self) -> dict[str, float]:
        """Of the scheduler, and of all workers."""
        return {
            "scheduler": seconds_of(self.scheduler),
            "workers": sum(map(seconds_of, self.workers)),
        }

    def wait(self) -> None:
        """Until all workers are there, and nothing is imported any more."""
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(len(self.workers))
        time.sleep(2)

    def idle(self) -> float:
        """CPU seconds a second, without work."""
        before, began = sum(self.seconds().values()), time.monotonic()
        time.sleep(5)
        return (sum(self.seconds().values()) - before) / (time.monotonic() - began)

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@contextmanager
def cluster_in(folder: Path, n_workers: int) -> Iterator[Cluster]:
    cluster = Cluster(folder, n_workers)
    try:
        cluster.wait()
        yield cluster
    finally:
        cluster.stop()


def fill(folder: Path, into: str, *options: str) -> tuple[float, str]:
    """CPU seconds of `skip2lora fill`, and the digest of all rows."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["fill", "model.onnx", "data.npz", "--cache-dir", into, "--json", *options]
    done = subprocess.run(
        [sys.executable, "-m", "skip2lora", *command],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"fill into {into} ended with {done.returncode}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took, json.loads(done.stdout)["digest"]


def a_round(folder: Path, number: int, n_workers: int) -> dict[str, float]:
    plain, digest = fill(folder, f"plain-{number}")
    took = {"plain": plain}
    scratch = folder / f"cluster-{number}"
    scratch.mkdir()
    with cluster_in(scratch, n_workers) as cluster:
        took["idle"] = cluster.idle()
        for name in ("first", "again"):
            before = cluster.seconds()
            client, on_cluster = fill(
                folder, f"{name}-{number}", "--engine", cluster.address.replace("tcp", "dask")
            )
            if on_cluster != digest:
                raise SystemExit(f"{name}: rows are {on_cluster}, expected {digest}")
            parts = {kind: now - before[kind] for kind, now in cluster.seconds().items()}
            parts["client"] = client
            took |= {f"{name}, {kind}": seconds for kind, seconds in parts.items()}
            took[f"{name}, in all"] = sum(parts.values())
            took[f"{name}, surplus"] = sum(parts.values()) - plain
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=16_384)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model.onnx")
        random = np.random.default_rng(0)
        images = random.standard_normal((asked.samples, 3, 32, 32), dtype=np.float32)
        np.savez(folder / "data.npz", X=images, y=np.arange(asked.samples) % 10)
        rounds = [a_round(folder, number, asked.workers) for number in range(asked.rounds)]
    seconds = {name: spread([each[name] for each in rounds], digits=3) for name in rounds[0]}
    if asked.json:
        print(json.dumps({**vars(asked), "cpu_seconds": seconds}))
        return
    for name, of in seconds.items():
        print(f"{name:20} {of['median']:6.2f}  ({of['smallest']:.2f} to {of['largest']:.2f})")


if __name__ == "__main__":
    main()
