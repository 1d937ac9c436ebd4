"""Adapt a Keras network, exported to ONNX by Keras itself, to digits that come rotated.

The network knows upright digits and ends in a softmax, which is recognised. Keras is needed to make
the file; what follows needs ONNX Runtime alone.

    pip install 'skip2lora[onnx]' keras torch onnxscript scikit-learn scipy
    python examples/keras_model.py
"""

import os
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

try:
    import keras
    import numpy as np
    import onnxscript  # noqa: F401 - Keras's exporter needs it
    import torch  # noqa: F401 - what Keras computes with here
    from scipy.ndimage import rotate
    from sklearn.datasets import load_digits

    import skip2lora as s2
except ImportError as missing:
    packages = "'skip2lora[onnx]' keras torch onnxscript scikit-learn scipy"
    raise SystemExit(f"{missing.name} is not installed: pip install {packages}") from None


def main() -> None:
    """Adapt to 300 rotated digits and test on 697 others."""
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
        with warnings.catch_warnings(action="ignore"):  # of a tracer that sees one size of input
            net.export(file, format="onnx", verbose=False)
        model = s2.load(file)
    adapted = s2.adapt(model, turned[800:1100], y[800:1100])
    before, after = (m.score(turned[1100:], y[1100:]) for m in (model, adapted))
    print(
        f"300 rotated digits; of {len(y) - 1100} others the network is right on {before:.1%} "
        f"before and on {after:.1%} after adapting"
    )


if __name__ == "__main__":
    main()
