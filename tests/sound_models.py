"""Small networks that take sound, and recordings for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import soundfile
from onnx import TensorProto, helper, numpy_helper

RATE, WINDOW = 8000, 2000


def listener(
    path: Path, *, samples: int | str = WINDOW, axes: int = 1, dtype: int = TensorProto.FLOAT,
    classes: int = 2,
) -> Path:  # fmt: skip
    """A network of two convolutions over ``samples`` of sound, as ``path``."""
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> str:
        values = random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        constants.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    constants = [numpy_helper.from_array(np.array([0, 1, -1], np.int64), "row")]
    real = "x" if dtype == TensorProto.FLOAT else "real"
    cast = [] if real == "x" else [helper.make_node("Cast", ["x"], ["real"], to=TensorProto.FLOAT)]
    nodes = [
        *cast,
        helper.make_node("Reshape", [real, "row"], ["line"]),
        helper.make_node("Conv", ["line", weight("w1", 12, 1, 64)], ["a"], strides=[16]),
        helper.make_node("Abs", ["a"], ["b"]),
        helper.make_node("Conv", ["b", weight("w2", 12, 12, 5)], ["c"], strides=[3]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", weight("w3", 12, classes)], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    shape = ["n", *[1] * (axes - 1), samples]
    graph = helper.make_graph(
        nodes, "listener", [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", classes])],
        constants,
    )  # fmt: skip
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


def tone(hertz: float, seconds: float, *, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A tone in noise."""
    random, times = np.random.default_rng(seed), np.arange(round(rate * seconds)) / rate
    noise = 0.02 * random.normal(size=len(times))
    return (0.3 * np.sin(2 * np.pi * hertz * times) + noise).astype(np.float32)


def record(path: Path, sound: np.ndarray, *, rate: int = RATE, **options: str) -> Path:
    """``sound`` as a recording; its kind is as the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate, **options)
    return path


def tones(root: Path, n_each: int = 5, *, seed: int = 0) -> Path:
    """A folder of recordings by class, of different lengths: low tones and high ones."""
    for label, hertz in (("high", 1500), ("low", 300)):
        for number in range(n_each):
            own = seed + 10 * number + len(label)
            sound = tone(hertz * (1 + 0.02 * number), 0.3 + 0.1 * number, seed=own)
            record(root / label / f"{number}.wav", sound)
    return root
