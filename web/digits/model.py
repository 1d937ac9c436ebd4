"""The model of the page beside this file: a small network of scikit-learn for its 8 x 8 digits.

Writes digits.onnx; tapped.onnx, the same with its taps as outputs; and lab.json, three samples of
each digit, by which adapting keeps what the model knows:

    python web/digits/model.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from skip2lora.backbones.onnx import prepare


def digits() -> onnx.ModelProto:
    """64 numbers from 0 to 16 to ten logits, by way of 64 and 32."""
    x, y = load_digits(return_X_y=True)
    network = MLPClassifier((64, 32), max_iter=60, early_stopping=True, random_state=0).fit(x, y)
    nodes, tensors, at = [], [], "x"
    layers = list(zip(network.coefs_, network.intercepts_, strict=True))
    for number, (weight, bias) in enumerate(layers):
        for name, array in ((f"w{number}", weight), (f"b{number}", bias)):
            tensors.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
        last = number + 1 == len(layers)
        out = "logits" if last else f"z{number}"
        nodes.append(onnx.helper.make_node("Gemm", [at, f"w{number}", f"b{number}"], [out]))
        if not last:
            at = f"h{number}"
            nodes.append(onnx.helper.make_node("Relu", [out], [at]))
    kind = onnx.TensorProto.FLOAT
    ends = [
        [onnx.helper.make_tensor_value_info(name, kind, ["n", width])]
        for name, width in (("x", 64), ("logits", 10))
    ]
    graph = onnx.helper.make_graph(nodes, "digits", *ends, tensors)
    opset = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)


def write(folder: Path) -> None:
    """All three files."""
    onnx.save(digits(), folder / "digits.onnx")
    prepare(folder / "digits.onnx", folder / "tapped.onnx")
    x, y = load_digits(return_X_y=True)
    lab = np.concatenate([np.flatnonzero(y == digit)[:3] for digit in range(10)])
    text = json.dumps({"x": x[lab].astype(int).tolist(), "y": y[lab].tolist()})
    (folder / "lab.json").write_text(text)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
