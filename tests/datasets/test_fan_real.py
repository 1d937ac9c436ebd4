"""The real recordings of fans, where they are."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skip2lora.datasets import fan

REAL = (
    Path(os.environ.get("SKIP2LORA_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
    / "cooling-fan"
)
real = pytest.mark.skipif(
    not REAL.is_dir(), reason="the fan recordings are not there: set SKIP2LORA_DATA"
)
PARTS = ("noisy_1", "noisy_2", "silentA_1", "silentA_2")
STOPS = {
    "normal": (177, 178, 177, 179),
    "damage1": (178, 178, 177, 178),
    "damage2": (179, 180, 177, 178),
}


@real
@pytest.mark.parametrize("kind", STOPS)
def test_real_stops(kind: str) -> None:
    for part, expected in zip(PARTS, STOPS[kind], strict=True):
        found = fan.find_stop(fan.read_recording(REAL / f"12cm_hmlo_{kind}_{part}.zip"))
        assert abs(found - expected) <= 1, (kind, part)


@real
@pytest.mark.parametrize("name", ["damage1", "damage2"])
def test_real_task(name: Any) -> None:
    for part in fan.load_task(name, REAL):
        assert part.x.shape == (470, 256)
        assert part.y is not None
        assert np.abs(np.bincount(part.y) - [113, 178, 179]).max() <= 4
        assert 0.05 < part.x.mean() < 0.5
        assert (part.x[:, 0] == 0).all()  # no constant acceleration in the spectra


@real
def test_real_checksums() -> None:
    for name, digest in fan.SHA256.items():
        file = REAL / f"{fan.RECORDINGS}{name}.zip"
        assert hashlib.sha256(file.read_bytes()).hexdigest() == digest
