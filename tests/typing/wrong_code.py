"""What users should not write: both checkers see every line so marked."""

from __future__ import annotations

import numpy as np

import skip2lora as s2
from skip2lora.plan import plan
from skip2lora.sklearn import Skip2LoRAClassifier

X, y = np.zeros((3, 4)), np.zeros(3)
model = s2.load("model.onnx")

s2.load(3)  # wrong
s2.load("model.onnx", size=224)  # wrong
s2.load("model.onnx", tap=2)  # wrong
s2.adapt("model.onnx", X, y)  # wrong
s2.adapt(model, X)  # wrong
s2.adapt(model, None, y)  # wrong
s2.adapt(model, 3 + X, None)  # wrong
s2.adapt(model, X, y, epoch=3)  # wrong
s2.adapt(model, X, y, epochs="3")  # wrong
s2.adapt(model, X, y).scores(X, y)  # wrong
s2.adapt(model, X, y).score(X)  # wrong
s2.adapt(model, X, y).history.losses  # wrong
s2.AdaptedModel.load(model, "adapter").timing.total_ms  # wrong
model.predict()  # wrong
model.taps[0].widths  # wrong
plan("model.onnx")  # wrong
plan(model, n_samples="many")  # wrong
Skip2LoRAClassifier("model.onnx")  # wrong
s2.TorchBackbones  # wrong
s2.TorchBackbone(X, batch="8")  # wrong
s2.Taps(3, 4)  # wrong
