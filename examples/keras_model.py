"""Adapt a Keras network, exported to ONNX by Keras itself, to digits that come rotated.

Needs: pip install 'skip2lora[onnx]' scikit-learn scipy keras torch onnxscript
"""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
from scipy.ndimage import rotate
from sklearn.datasets import load_digits

import skip2lora as s2


def main() -> tuple[float, float]:
    """Accuracy on rotated digits before and after adapting."""
    keras.utils.set_random_seed(0)
    x, y = load_digits(return_X_y=True)
    x = (x / 16).reshape(-1, 8, 8, 1).astype(np.float32)
    net = keras.Sequential([
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ])  # fmt: skip
    net.compile("adam", "sparse_categorical_crossentropy")
    net.fit(x[:800], y[:800], epochs=15, batch_size=32, verbose=0)
    turned = rotate(x, 40, axes=(1, 2), reshape=False, order=1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "keras.onnx"
        net.export(file, format="onnx", verbose=False)
        model = s2.load(file)
        adapted = s2.adapt(model, turned[800:1100], y[800:1100])
    before, after = (m.score(turned[1100:], y[1100:]) for m in (model, adapted))
    print(f"rotated digits: {before:.1%} before, {after:.1%} after")
    return before, after


if __name__ == "__main__":
    main()
