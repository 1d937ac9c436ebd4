"""Runs wheels where they are for: for ARM under QEMU, for Windows under Wine: `make test-wheels`.

    python tools/run_wheels.py [aarch64] [armv7] [windows]

Debian's Python for each processor, and Debian's numpy, get the wheel of build/wheels by pip, which
may compile nothing; Python of Windows gets it with the numpy of PyPI for it. Then the main job runs
there: pretrain, adapt, adapt again, evaluate, predict, export. What is predicted there with its
adapter, this machine predicts too. On Windows a service is started as well, asked over HTTP, killed
and started again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import debian_python
import numpy as np
import windows_python
from wheels import PLACE, TARGETS

#: Apart from this, what numpy needs of Debian comes along.
PACKAGES = ["python3-numpy", "python3-pip", "python3-venv"]
EMULATORS = {"aarch64": "qemu-aarch64", "armv7": "qemu-arm", "windows": "wine64"}
#: Newer ones of numpy ask Wine for what it lacks; click needs colorama on Windows alone; the rest
#: is what `serve` needs there, which pip would look up for this system.
WINDOWS_PACKAGES = [
    "numpy==1.26.4", "colorama", "starlette", "uvicorn", "httptools", "prometheus-client", "orjson",
]  # fmt: skip
SERVE = "serve model.safetensors --store store --port 0 --json"
JOB = """
dataset simulated -o data
pretrain data/pretrain.npz --hidden 16,16 --epochs 10 -o model.safetensors --json
adapt model.safetensors data/finetune.npz -o adapter --recipe paper --epochs 100 --json
adapt model.safetensors data/finetune.npz -o adapter --recipe paper --epochs 100 --json --force
evaluate model.safetensors data/test.npz --json
evaluate model.safetensors data/test.npz --adapter adapter --json
predict model.safetensors data/test.npz --adapter adapter -o predictions.csv --json
export model.safetensors --adapter adapter --to c -o board --json
"""
TOLERANCE = 1e-5
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Board:
    """A Python of another machine in ``words``, and a folder there for its work."""

    lacks: tuple[str, ...] = ()  # commands that this machine runs in its place
    serves = False  # whether it has what `serve` needs

    def __init__(self, name: str, words: list[str], environment: Mapping[str, str]) -> None:
        self.folder = PLACE / "boards" / name
        self._words, self._environment = words, environment
        version = f"cp3{sys.version_info.minor}"
        self._wheels = f"*-{version}-{TARGETS[name].tag}.whl"

    def run(self, *words: str) -> str:
        """What a module of Python there prints, or an end that says what failed."""
        if words[1:2] and words[1] in self.lacks:
            return _output([sys.executable, "-m", *words], self.folder, {})
        return _output([*self._words, "-m", *words], self.folder, self._environment)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A module of Python there, running, whose output can be read."""
        return subprocess.Popen(  # noqa: S603
            [*self._words, "-m", *words],
            cwd=self.folder,
            env={**os.environ, **_ONE_THREAD, **self._environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def install(self) -> None:
        """An environment with the wheel and nothing compiled."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (wheel,) = PLACE.glob(self._wheels)
        self._install(str(wheel))

    def _install(self, wheel: str) -> None:
        raise NotImplementedError


class Debian(Board):
    """Debian's Python of another processor, under QEMU."""

    def __init__(self, name: str) -> None:
        version, debian = f"3.{sys.version_info.minor}", TARGETS[name].debian
        root = PLACE / "debian" / f"python-{version}-{debian}"
        if not root.exists():
            folder = PLACE / "debian" / f"apt-{version}-{debian}"
            archive = debian_python.Archive(debian, folder, debian_python.release())
            archive.unpack(PACKAGES, root)
        libraries = root / "usr" / "lib" / TARGETS[name].python
        # Debian's links of alternatives are made at installation, so their folders are named here.
        paths = f"LD_LIBRARY_PATH={libraries / 'blas'}:{libraries / 'lapack'}"
        self._emulator = [EMULATORS[name], "-L", str(root), "-E", paths]
        python = root / "usr" / "bin" / f"python{version}"
        super().__init__(name, [*self._emulator, str(python)], {"PYTHONPATH": ""})

    def _install(self, wheel: str) -> None:
        self.run("venv", "--system-site-packages", "--without-pip", "env")
        python = self.folder / "env" / "bin" / Path(self._words[-1]).name
        self._words = [*self._emulator, str(python)]
        self.run("pip", "install", "--quiet", "--only-binary", ":all:", wheel)


class Wine(Board):
    """Python of Windows under Wine, whose C library lacks what makes the simulated data."""

    lacks = ("dataset",)
    serves = True

    def __init__(self, name: str) -> None:
        python = windows_python.tree(PLACE / "windows") / "python.exe"
        wine = debian_python.program(EMULATORS[name]) or EMULATORS[name]
        environment = {
            "WINEPREFIX": str(PLACE / "windows" / "prefix"),
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "mscoree,mshtml=",  # which it would ask to install
        }
        super().__init__(name, [wine, str(python)], environment)
        self._environment = environment | {"PYTHONPATH": windows_path(self.folder / "site")}

    def _install(self, wheel: str) -> None:
        words = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        words += ["--target", str(self.folder / "site"), "--platform", TARGETS["windows"].tag]
        words += ["--only-binary", ":all:", wheel, *WINDOWS_PACKAGES]
        _output(words, self.folder, {})


def windows_path(path: Path) -> str:
    """A path of this machine as Wine gives it to a program."""
    return "Z:" + str(path).replace("/", "\\")


def _output(words: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(  # noqa: S603
        words,
        cwd=folder,
        env={**os.environ, **_ONE_THREAD, **environment},
        input="",  # a pipe: Python of Windows ends under Wine with another
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: ended with {done.returncode}\n{done.stderr}")
    return done.stdout


def job(board: Board) -> Mapping[str, float]:
    """Run the main job, check what each step says, and give the seconds that each took."""
    seconds: dict[str, float] = defaultdict(float)
    answers = []
    for line in JOB.strip().splitlines():
        start = time.monotonic()
        answers.append(board.run("skip2lora", *line.split()))
        seconds[line.split()[0]] += time.monotonic() - start
    before, after = (json.loads(each)["accuracy"] for each in answers[4:6])
    if not after > before:
        raise SystemExit(f"accuracy {after} after adaptation, expected more than {before} before")
    if not (board.folder / "board" / "Makefile").is_file():
        raise SystemExit("export wrote no board/Makefile")
    return seconds


def serve(board: Board) -> int:
    """Ask a service there, let none have its store beside it, kill it, and find all in the next.

    Returns how many predictions were those of ``predict``.
    """
    words = ["skip2lora", *SERVE.split()]
    board.run("skip2lora", "predict", "model.safetensors", "data/test.npz", "-o", "served.csv")
    rows = list(csv.DictReader((board.folder / "served.csv").read_text("utf-8").splitlines()))[:20]
    service = board.start(*words)
    try:
        url = _url(service)
        samples = np.load(board.folder / "data" / "test.npz")["X"][: len(rows)]
        answers = _asked(url, "/api/predict", {"rows": samples.tolist()})["samples"]
        expected = [row.get("name") or row["prediction"] for row in rows]  # a class by its name
        wrong = [k for k, answer in enumerate(expected) if answers[k]["answer"] != answer]
        if wrong:
            raise SystemExit(f"the service says {answers[wrong[0]]}, but predict {rows[wrong[0]]}")
        beside = board.start(*words)
        said = beside.communicate()[0]
        if beside.returncode != 2 or "in use by another process" not in said:
            raise SystemExit(
                f"a second service of one store ended with {beside.returncode}: {said}"
            )
        _written(url, len(rows))
    finally:
        service.kill()
        service.communicate()
    again = board.start(*words)
    try:
        _written(_url(again), len(rows))
    finally:
        again.kill()
        again.communicate()
    return len(rows)


def _url(service: subprocess.Popen[str]) -> str:
    """What a service says once it answers."""
    lines: list[str] = []
    for line in service.stdout or ():
        lines.append(line)
        if line.startswith("{"):
            return str(json.loads(line)["url"])
    raise SystemExit(f"the service ended: {''.join(lines)}")


def _asked(url: str, path: str, content: object = None) -> Any:
    data = None if content is None else json.dumps(content).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url + path, data, headers)  # noqa: S310 - its own
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.load(answer)


def _written(url: str, n_samples: int) -> None:
    """Wait until a service keeps so many samples."""
    for _ in range(100):
        status = _asked(url, "/api/status")
        if status["n_samples"] == n_samples:
            return
        time.sleep(0.1)
    raise SystemExit(f"the service keeps {status['n_samples']} samples, expected {n_samples}")


def compare(folder: Path) -> int:
    """Predict here with what was learned there; the number of samples, alike in all numbers."""
    words = ["predict", "model.safetensors", "data/test.npz", "--adapter", "adapter"]
    words += ["-o", "here.csv", "--force"]
    here = [sys.executable, "-m", "skip2lora", *words]
    subprocess.run(here, cwd=folder, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    there_rows, here_rows = (
        list(csv.DictReader((folder / name).read_text(encoding="utf-8").splitlines()))
        for name in ("predictions.csv", "here.csv")
    )
    for number, (there, own) in enumerate(zip(there_rows, here_rows, strict=True)):
        if there["prediction"] != own["prediction"] or any(
            abs(float(there[key]) - float(own[key])) > TOLERANCE
            for key in own
            if key.startswith("p_")
        ):
            raise SystemExit(f"row {number} is {there} there, but {own} here")
    return len(here_rows)


def main() -> int:
    """Run on the boards that the words name, or on all."""
    parser = argparse.ArgumentParser(description="Run wheels under QEMU and Wine.")
    parser.add_argument("boards", nargs="*", choices=[*EMULATORS, []], metavar="|".join(EMULATORS))
    names = parser.parse_args().boards or list(EMULATORS)
    commands = ["apt-get", "dpkg-deb", *(EMULATORS[name] for name in names)]
    if packages := debian_python.missing(commands):
        needed = " ".join(packages)
        sys.stderr.write(f"missing on this system: {needed}; sudo apt install {needed}\n")
        return 2
    for name in names:
        board = Wine(name) if name == "windows" else Debian(name)
        board.install()
        times = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in job(board).items())
        print(f"{name}: {times}; {compare(board.folder)} predictions as here")
        if board.serves:
            print(f"{name}: {serve(board)} answers of a service are those of predict")
    return 0


if __name__ == "__main__":
    sys.exit(main())
