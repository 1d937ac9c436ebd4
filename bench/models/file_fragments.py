"""Magika, which tells a file's type from its bytes, own labels, on pieces out of the middle."""

from __future__ import annotations

import functools
import json
import random
import sysconfig
from pathlib import Path

import numpy as np

from models import PACKAGES, About, Job, job, package

PIECE, EDGE, SMALLEST, OF_EACH, FILLER = 512, 1024, 3000, 120, 256
SUFFIXES = {
    ".py": "python", ".h": "c", ".js": "javascript", ".json": "json", ".md": "markdown",
    ".html": "html", ".css": "css", ".so": "elf", ".png": "png", ".gz": "gzip",
    ".pyc": "pythonbytecode", ".rst": "rst", ".xml": "xml", ".pl": "perl", ".ts": "typescript",
    ".flac": "flac", ".f90": "fortran", ".svg": "svg", ".ttf": "ttf",
}  # fmt: skip
ABOUT = About(
    "Magika", "bytes", "Google's file type classifier with 214 types (ONNX as shipped)",
    "its labels on pieces of 512 bytes from the middle of this machine's files, without head or "
    "end, as found when files are recovered",
)  # fmt: skip


def tokens(data: bytes) -> list[int]:
    """Head and end of a file as the model takes them: 2 x 1,024 bytes, filled up with 256."""
    head, end = data[:4096].lstrip()[:EDGE], data[-4096:].rstrip()[-EDGE:]
    return [*head, *[FILLER] * (2 * EDGE - len(head) - len(end)), *end]


def files() -> dict[str, list[Path]]:
    """Files by type, of the installed Python, its packages and this machine's documentation."""
    paths = sysconfig.get_paths()
    roots = {Path(paths["purelib"]), Path(paths["stdlib"]), Path("/usr/share"), Path("/usr/include")}
    found: dict[str, list[Path]] = {label: [] for label in SUFFIXES.values()}
    for root in sorted(roots | {PACKAGES}):
        for file in sorted(root.rglob("*.*")):
            label = SUFFIXES.get(file.suffix)
            if label and not file.is_symlink() and file.is_file():
                found[label].append(file)
    return found


@functools.cache
def samples() -> tuple[np.ndarray, np.ndarray]:
    """Tokens (n, 2048) and labels of pieces."""
    folder = package("magika") / "magika" / "models" / "standard_v3_3"
    labels = json.loads((folder / "config.min.json").read_text())["target_labels_space"]
    order = random.Random(0)  # noqa: S311
    x, y = [], []
    for label, all_files in files().items():
        large = [file for file in all_files if file.stat().st_size >= SMALLEST]
        if len(large) < OF_EACH:
            continue
        for file in order.sample(large, OF_EACH):
            data = file.read_bytes()
            start = order.randrange(PIECE, len(data) - PIECE)
            x.append(tokens(data[start : start + PIECE]))
            y.append(labels.index(label))
    return np.array(x, np.int32), np.array(y)


def make(seed: int) -> Job:
    x, y = samples()
    model = package("magika") / "magika" / "models" / "standard_v3_3" / "model.onnx"
    return job(model, x, y, n_field=500, n_test=600, seed=seed)
