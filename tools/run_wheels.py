"""Runs the wheels for ARM as a board would, under QEMU: `make test-wheels`.

    python tools/run_wheels.py [aarch64] [armv7]

Debian's Python for each processor, and Debian's numpy, get the wheel of build/wheels by pip, which
may compile nothing. Then the main job runs there: pretrain, adapt, evaluate, predict, export. What
the board predicts with its adapter, this machine predicts too.
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
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import debian_python
from wheels import PLACE, TARGETS

#: Apart from this, what numpy needs of Debian comes along.
PACKAGES = ["python3-numpy", "python3-pip", "python3-venv"]
EMULATORS = {"aarch64": "qemu-aarch64", "armv7": "qemu-arm"}
JOB = """
dataset simulated -o data
pretrain data/pretrain.npz --hidden 16,16 --epochs 10 -o model.safetensors --json
adapt model.safetensors data/finetune.npz -o adapter --recipe paper --epochs 100 --json
evaluate model.safetensors data/test.npz --json
evaluate model.safetensors data/test.npz --adapter adapter --json
predict model.safetensors data/test.npz --adapter adapter -o predictions.csv --json
export model.safetensors --adapter adapter --to c -o board --json
"""
TOLERANCE = 1e-5


class Board:
    """A Python of another processor, and an environment there with the wheel."""

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
        self._python = root / "usr" / "bin" / f"python{version}"
        self._tag = f"cp{version.replace('.', '')}-{TARGETS[name].tag}"
        self.folder = PLACE / "boards" / name

    def run(self, *words: str) -> str:
        """What a module of Python there prints, or an end that says what failed."""
        one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": ""}
        done = subprocess.run(  # noqa: S603
            [*self._emulator, str(self._python), "-m", *words],
            cwd=self.folder,
            env={**os.environ, **one},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(words)}: ended with {done.returncode}\n{done.stderr}")
        return done.stdout

    def install(self) -> None:
        """An environment with the wheel and nothing compiled."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.run("venv", "--system-site-packages", "--without-pip", "env")
        self._python = self.folder / "env" / "bin" / self._python.name
        (wheel,) = PLACE.glob(f"*-{self._tag}.whl")
        self.run("pip", "install", "--quiet", "--only-binary", ":all:", str(wheel))


def job(board: Board) -> Mapping[str, float]:
    """Run the main job, check what each step says, and give the seconds that each took."""
    seconds: dict[str, float] = defaultdict(float)
    answers = []
    for line in JOB.strip().splitlines():
        start = time.monotonic()
        answers.append(board.run("skip2lora", *line.split()))
        seconds[line.split()[0]] += time.monotonic() - start
    before, after = (json.loads(each)["accuracy"] for each in answers[3:5])
    if not after > before:
        raise SystemExit(f"accuracy {after} after adaptation, expected more than {before} before")
    if not (board.folder / "board" / "Makefile").is_file():
        raise SystemExit("export wrote no board/Makefile")
    return seconds


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
            raise SystemExit(f"row {number} is {there} on the board, but {own} here")
    return len(here_rows)


def main() -> int:
    """Run on the boards that the words name, or on all."""
    parser = argparse.ArgumentParser(description="Run wheels for ARM under QEMU.")
    parser.add_argument("boards", nargs="*", choices=[*EMULATORS, []], metavar="|".join(EMULATORS))
    names = parser.parse_args().boards or list(EMULATORS)
    commands = ["apt-get", "dpkg-deb", *(EMULATORS[name] for name in names)]
    if packages := debian_python.missing(commands):
        needed = " ".join(packages)
        sys.stderr.write(f"missing on this system: {needed}; sudo apt install {needed}\n")
        return 2
    for name in names:
        board = Board(name)
        board.install()
        times = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in job(board).items())
        print(f"{name}: {times}; {compare(board.folder)} predictions as here")
    return 0


if __name__ == "__main__":
    sys.exit(main())
