"""Derived taps as nodes of an ONNX graph."""

from __future__ import annotations

import numpy as np

from skip2lora.backbones.derived import LOG_CENTRED, LOGITS, POWERS, DerivedTap
from skip2lora.backbones.onnx.anatomy import Anatomy
from skip2lora.backbones.onnx.rows import Builder, add_logits


def add_derived(builder: Builder, tap: DerivedTap, anatomy: Anatomy, output: str) -> str:
    """The rows of a derived tap, (samples, width) float32; ``anatomy`` is that of the model."""
    if tap.kind == LOGITS:
        if anatomy.head is None:
            raise RuntimeError("a model without logits has no tap of them")
        return add_logits(builder, anatomy.head.logits, output, anatomy.columns)
    sample = builder.graph.inputs[0].name  # a row of numbers, or it would have been refused
    if tap.kind in POWERS:
        unit = _unit(builder, sample, tap.scale)
        power = unit
        for exponent in range(2, POWERS[tap.kind] + 1):
            title = output if exponent == POWERS[tap.kind] else f"{output}.power.{exponent}"
            power = builder.node("Mul", [power, unit], title)
        return power
    log = builder.made("log")
    if log is None:
        positive = builder.node("Relu", [sample], "log.positive")
        shift = builder.constant("log.shift", np.array(tap.shift, np.float32))
        log = builder.node("Log", [builder.node("Add", [positive, shift], "log.shifted")], "log")
    if tap.kind != LOG_CENTRED:
        return log
    mean = builder.reshape(builder.mean(log, [1], f"{output}.mean"), [-1, 1], f"{output}.means")
    return builder.node("Sub", [log, mean], output)


def _unit(builder: Builder, sample: str, scale: float) -> str:
    """The sample divided by ``scale``, between -1 and 1; Clip is another node in each opset."""
    unit = builder.made("unit")
    if unit is not None:
        return unit
    one = builder.constant("unit.one", np.array(1, np.float32))
    by = builder.constant("unit.scale", np.array(scale, np.float32))
    whole = builder.node("Div", [sample, by], "unit.whole")
    room = builder.node("Relu", [builder.node("Sub", [one, whole], "unit.room")], "unit.below")
    small = builder.node("Sub", [one, room], "unit.small")  # at most 1
    above = builder.node("Relu", [builder.node("Add", [small, one], "unit.up")], "unit.above")
    return builder.node("Sub", [above, one], "unit")
