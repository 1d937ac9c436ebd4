"""What the tests of the command line share: small data, answers, digests of a folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

N_FEATURES = 12
NAMES = ("stop", "normal", "damaged")


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def blobs(seed: int, *, n_samples: int = 60, shift: float = 0.0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(5).standard_normal((3, N_FEATURES)) * 2
    y = np.arange(n_samples) % 3
    x = centres[y] + random.standard_normal((n_samples, N_FEATURES)) * 0.5
    x[:, ::2] += shift
    return x.astype(np.float32), y


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def refused(answer: Answer, *parts: str) -> None:
    """One line on standard error that says these parts, and exit code 2."""
    assert answer.code == 2, answer
    assert answer.out == ""
    assert answer.err.count("\n") == 1, answer.err
    assert answer.err.startswith("skip2lora: ")
    for part in parts:
        assert part in answer.err, answer.err
