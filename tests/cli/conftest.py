"""A folder with small files of every kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from desk import NAMES, Answer, blobs


@pytest.fixture
def desk(type_in: Callable[..., Answer], tmp_path: Path) -> Path:
    """The folder, holding lab.npz, field.npz, a trained model and an adapter for it."""
    for name, seed, shift in (("lab", 0, 0.0), ("field", 1, 3.0), ("test", 2, 3.0)):
        x, y = blobs(seed, shift=shift)
        np.savez(tmp_path / f"{name}.npz", X=x, y=y, class_names=np.array(NAMES))
    made = type_in(
        "pretrain", "lab.npz", "--hidden", "16,16", "--epochs", 30, "-o", "model.safetensors"
    )
    assert made.code == 0, made.err
    made = type_in("adapt", "model.safetensors", "field.npz", "--epochs", 60, "-o", "adapter")
    assert made.code == 0, made.err
    return tmp_path


@pytest.fixture
def cnn(tmp_path: Path) -> str:
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    from onnx_models import cnn

    onnx.save(cnn(), tmp_path / "cnn.onnx")
    return "cnn.onnx"


@pytest.fixture
def base(type_in: Callable[..., Answer], tmp_path: Path) -> Path:
    """A folder with field.npz, base.onnx and an adapter for it."""
    pytest.importorskip("onnx", reason="needs onnx")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    import onnx_models as nets

    x, y = blobs(1, shift=3.0)
    np.savez(tmp_path / "field.npz", X=x, y=y)
    nets.save(nets.mlp([x.shape[1], 16, 8, int(y.max()) + 1]), tmp_path / "base.onnx")
    made = type_in("adapt", "base.onnx", "field.npz", "--epochs", 3, "-o", "adapter")
    assert made.code == 0, made.err
    return tmp_path
