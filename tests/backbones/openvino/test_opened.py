"""Models that were read: once, whatever is tapped, and of which size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import openvino_models as nets
from skip2lora.backbones.openvino import opened as opened_module
from skip2lora.backbones.openvino.opened import open_model
from skip2lora.errors import ParameterError

Refused = Callable[..., str]


def images() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(6, 3, 14, 14)).astype(np.float32)


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read = opened_module.read_model
    monkeypatch.setattr(opened_module, "read_model", lambda path: reads.append(path) or read(path))
    load: Any = nets.loader(tmp_path)
    backbone = load(nets.cnn(size=-1), class_names=("a", "b", "c", "d"), size=(14, 14))
    backbone.with_taps([0]).with_taps(None, grid=2).logits(images())
    assert len(reads) == 1


def test_the_fingerprint_is_that_of_the_file(tmp_path: Path) -> None:
    """Whatever size its images are fixed to."""
    path = nets.save(nets.cnn(size=-1), tmp_path / "m.xml")
    free, fixed = open_model(path, None), open_model(path, (20, 20))
    assert free.fingerprint == fixed.fingerprint
    assert (free.inputs[0].shape, free.size) == ((3, None, None), None)
    assert (fixed.inputs[0].shape, fixed.size) == ((3, 20, 20), (20, 20))


def test_a_size_counts_where_it_is_open(tmp_path: Path, refused: Refused) -> None:
    path = nets.save(nets.cnn(), tmp_path / "m.xml")
    assert open_model(path, (20, 20), if_open=True).size is None
    assert "20x20" in refused(ParameterError, open_model, path, (20, 20))
