"""Derived taps as nodes of an ONNX graph."""

from __future__ import annotations

import numpy as np

from skip2lora.backbones.derived import LOG_CENTRED, LOGITS, DerivedTap
from skip2lora.backbones.onnx.anatomy import Anatomy
from skip2lora.backbones.onnx.rows import Builder, add_logits


def add_derived(builder: Builder, tap: DerivedTap, anatomy: Anatomy, output: str) -> str:
    """The rows of a derived tap, (samples, width) float32; ``anatomy`` is that of the model."""
    if tap.kind == LOGITS:
        if anatomy.head is None:
            raise RuntimeError("a model without logits has no tap of them")
        return add_logits(builder, anatomy.head.logits, output, anatomy.columns)
    sample = builder.graph.inputs[0].name  # a row of numbers, or it would have been refused
    log = builder.made("log")
    if log is None:
        positive = builder.node("Relu", [sample], "log.positive")
        shift = builder.constant("log.shift", np.array(tap.shift, np.float32))
        log = builder.node("Log", [builder.node("Add", [positive, shift], "log.shifted")], "log")
    if tap.kind != LOG_CENTRED:
        return log
    mean = builder.reshape(builder.mean(log, [1], f"{output}.mean"), [-1, 1], f"{output}.means")
    return builder.node("Sub", [log, mean], output)
