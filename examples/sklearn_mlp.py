"""Adapt a scikit-learn MLPClassifier, deployed as ONNX, to digits that come rotated.

The network knows upright digits. scikit-learn and skl2onnx make the file; what follows needs ONNX
Runtime alone.

    pip install 'skip2lora[onnx]' scikit-learn skl2onnx scipy
    python examples/sklearn_mlp.py
"""

import tempfile
from pathlib import Path

try:
    import numpy as np
    from scipy.ndimage import rotate
    from skl2onnx import to_onnx
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    import skip2lora as s2
except ImportError as missing:
    packages = "'skip2lora[onnx]' scikit-learn skl2onnx scipy"
    raise SystemExit(f"{missing.name} is not installed: pip install {packages}") from None


def main() -> None:
    """Adapt to 300 rotated digits and test on 697 others."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    mlp = MLPClassifier((96, 96), max_iter=300, random_state=0).fit(x[:800], y[:800])
    turned = rotate(x.reshape(-1, 8, 8), 40, axes=(1, 2), reshape=False, order=1).reshape(-1, 64)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mlp.onnx"
        # Probabilities as an array; the labels are not needed.
        onnx = to_onnx(mlp, x[:1], options={"zipmap": False})
        while onnx.graph.output[0].name != "probabilities":
            del onnx.graph.output[0]
        file.write_bytes(onnx.SerializeToString())
        model = s2.load(file)
    adapted = s2.adapt(model, turned[800:1100], y[800:1100])
    before, after = (m.score(turned[1100:], y[1100:]) for m in (model, adapted))
    print(
        f"300 rotated digits; of {len(y) - 1100} others the MLP is right on {before:.1%} before "
        f"and on {after:.1%} after adapting"
    )


if __name__ == "__main__":
    main()
