"""Adapt a network in int8, as quantised for a device, to digits that come rotated.

A small CNN that knows upright digits is trained (PyTorch) and quantised by ONNX Runtime, on a
workstation. The int8 file is adapted as it is: it is neither dequantised nor trained.

    pip install 'skip2lora[onnx]' torch scikit-learn scipy
    python examples/int8_model.py
"""

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import torch
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from scipy.ndimage import rotate
    from sklearn.datasets import load_digits
    from torch import nn

    import skip2lora as s2
except ImportError as missing:
    packages = "'skip2lora[onnx]' torch scikit-learn scipy"
    raise SystemExit(f"{missing.name} is not installed: pip install {packages}") from None


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


def int8_model(net: nn.Module, seen: np.ndarray, folder: Path) -> Path:
    """The network as an int8 ONNX file, its ranges found on images that it has seen."""
    float32, int8 = folder / "float32.onnx", folder / "int8.onnx"
    logging.disable(logging.WARNING)  # the quantiser's advice on pre-processing
    with warnings.catch_warnings(action="ignore"):  # PyTorch's, that it has a newer exporter too
        torch.onnx.export(
            net, (torch.zeros(1, 1, 8, 8),), str(float32), dynamo=False,
            input_names=["image"], output_names=["logits"], dynamic_axes={"image": {0: "n"}},
        )  # fmt: skip
    quantize_static(float32, int8, Images(seen))
    return int8


def main() -> None:
    """Adapt to 300 rotated digits and test on 697 others."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).reshape(-1, 1, 8, 8).astype(np.float32)
    turned = rotate(x, 40, axes=(2, 3), reshape=False, order=1)
    with tempfile.TemporaryDirectory() as folder:
        model = s2.load(int8_model(trained(x[:800], y[:800]), x[:100], Path(folder)))
    adapted = s2.adapt(model, turned[800:1100], y[800:1100])
    before, after = (m.score(turned[1100:], y[1100:]) for m in (model, adapted))
    print(
        f"300 rotated digits; of {len(y) - 1100} others the int8 model is right on {before:.1%} "
        f"before and on {after:.1%} after adapting"
    )


if __name__ == "__main__":
    main()
