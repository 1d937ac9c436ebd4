"""Networks of maps and of sequences adapt in the folder that gcc builds as in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx_models as nets
import skip2lora as s2
from c_folders import make, predicted, ran, rows_of
from chain_models import Chain, sequences
from skip2lora.export.c import export_c

EPOCHS, LEARNING_RATE = 40, 0.2


def digits(path: Path) -> tuple[s2.Backbone, np.ndarray, np.ndarray]:
    """Images of handwritten digits, and a network of random weights for them."""
    datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn")
    images, labels = datasets.load_digits(return_X_y=True)
    chain = Chain(seed=0)
    chain.conv((8, 1, 3, 3), pads=[1, 1, 1, 1])
    chain.norm(8)
    chain.then("Relu")
    chain.conv((8, 1, 3, 3), group=8, pads=[1, 1, 1, 1])
    chain.then("HardSwish")
    chain.then("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    chain.conv((16, 8, 1, 1))
    chain.then("Relu")
    chain.then("Flatten")
    chain.dense(16 * 4 * 4, 10)
    x = (images[:500] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    return s2.load(nets.save(chain.model((1, 8, 8), 10), path)), x, labels[:500]


def tones(path: Path) -> tuple[s2.Backbone, np.ndarray, np.ndarray]:
    """Windows of several channels whose class is a frequency, and a GRU of random weights."""
    proto, shape = sequences(seed=1, kind="GRU", last="gather")
    random = np.random.default_rng(0)
    y = random.integers(0, 4, 400)
    steps = np.arange(shape[0])[None, :, None]
    phase = random.uniform(0, 0.5, size=(400, 1, shape[1]))
    x = np.sin((1 + y[:, None, None]) * (steps / 2 + phase))
    x = x + random.normal(size=x.shape) / 5
    return s2.load(nets.save(proto, path)), x.astype(np.float32), y


@pytest.mark.parametrize("task", [digits, tones])
@pytest.mark.parametrize("rows", ["float32", "int8"])
def test_it_learns_what_python_learns(task, rows: str, tmp_path: Path, monkeypatch) -> None:
    """Each sample passes through the network once; rows of int8 learn nearly the same."""
    monkeypatch.setenv("SKIP2_KERNELS", "scalar")
    model, x, y = task(tmp_path / "m.onnx")
    half = len(x) // 2
    out = tmp_path / "out"
    options = {"epochs": EPOCHS, "learning_rate": LEARNING_RATE}
    done = export_c(model, out, samples=x[:20], blob=True, cache_dtype=rows, **options)
    assert done.agreement == 1.0
    expected = s2.adapt(model, x[:half], y[:half], recipe="paper", **options)
    flat = x.reshape(len(x), -1)
    said = ran(make(out), "adapters.bin", given=rows_of(flat[:half], y[:half]), cwd=out)
    assert said.startswith(f"{half} samples, 0 rejected")
    given = rows_of(flat[half:], y[half:])
    classes, logits = predicted(ran(out / "example", "--predict", "adapters.bin", given=given,
                                    cwd=out))  # fmt: skip
    right = expected.predict(x[half:])
    accuracy = float(np.mean(right == y[half:]))
    assert accuracy > 0.6, accuracy
    alike = np.mean(np.array(classes) == right.astype(str))
    if rows == "float32":
        assert alike == 1.0
        np.testing.assert_allclose(logits, expected.logits(x[half:]), rtol=1e-3, atol=1e-3)
    else:
        assert alike > 0.95
