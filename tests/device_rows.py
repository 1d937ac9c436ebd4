"""Rows that the C core computes of a network on a device, beside those of the package."""

from __future__ import annotations

import numpy as np

import skip2lora as s2
from skip2lora import _core
from skip2lora.export.c_network import network_of


def off_by(
    model: s2.Backbone, shape: tuple[int, ...], *, weights: str = "float32", n_samples: int = 5
) -> float:
    """How far a tap or logit in C is from the model's, of the largest number of that tap."""
    x = np.random.default_rng(0).normal(size=(n_samples, *shape)).astype(np.float32)
    network = network_of(model)
    ends = np.cumsum(network.tap_widths)
    rows = np.empty((n_samples, ends[-1] + network.n_outputs), np.float32)
    content = network.to_bytes(weights=weights)
    device = _core.Device(content, 1, 0, 1, False, 1, 0.01, 0, "scalar")
    device.rows(x.reshape(n_samples, -1).copy(), rows)
    taps = model.forward(model.check(x))
    expected = (*taps.taps, taps.base_logits)
    return max(
        float(np.abs(one - other).max() / np.abs(other).max())
        for one, other in zip(np.split(rows, ends, axis=1), expected, strict=True)
    )
