"""Quantise a network to int8 with ONNX Runtime and adapt the int8 model as it is.

Needs: pip install 'skip2lora[onnx]' scikit-learn scipy torch (PyTorch only to make the model).
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from scipy.ndimage import rotate
from sklearn.datasets import load_digits
from torch import nn

import skip2lora as s2


class Images(CalibrationDataReader):  # type: ignore[misc]
    """Images that the quantiser finds the ranges of activations with."""

    def __init__(self, x: np.ndarray) -> None:
        self.batches = iter([{"image": x}])

    def get_next(self) -> Any:
        """The next batch, or None."""
        return next(self.batches, None)


def trained(x: np.ndarray, y: np.ndarray) -> nn.Module:
    """A small CNN that knows upright digits."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(400):
        rows = torch.randint(len(x), (32,))
        loss = nn.functional.cross_entropy(net(torch.tensor(x)[rows]), torch.tensor(y)[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def main() -> tuple[float, float]:
    """Accuracy on rotated digits before and after adapting."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).reshape(-1, 1, 8, 8).astype(np.float32)
    turned = rotate(x, 40, axes=(2, 3), reshape=False, order=1)
    with tempfile.TemporaryDirectory() as folder:
        float32, int8 = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        torch.onnx.export(
            trained(x[:800], y[:800]), (torch.zeros(1, 1, 8, 8),), str(float32), dynamo=False,
            input_names=["image"], output_names=["logits"], dynamic_axes={"image": {0: "n"}},
        )  # fmt: skip
        quantize_static(float32, int8, Images(x[:100]))
        model = s2.load(int8)
        adapted = s2.adapt(model, turned[800:1100], y[800:1100])
        before, after = (m.score(turned[1100:], y[1100:]) for m in (model, adapted))
    print(f"rotated digits: {before:.1%} before, {after:.1%} after adapting the int8 model")
    return before, after


if __name__ == "__main__":
    main()
