"""A backbone of another runtime: plain NumPy, which counts what it computes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from skip2lora.backbones.base import Backbone, Taps
from skip2lora.backbones.inputs import InputSpec
from skip2lora.backbones.recipe import PAPER


class NumpyBackbone(Backbone):
    """Fully connected layers and ReLU: what is required of a backbone, and how wide a sample is.

    With ``first_tap_is_input`` the first tap is the sample. Without, it is the sample scaled by
    this backbone, one feature dropped: neither its values nor its width are those of the sample.
    """

    recipe = PAPER
    runtime = f"numpy {np.__version__}"  # which a class has that is known to be the same each time

    def __init__(self, widths: Sequence[int], *, first_tap_is_input: bool, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.first_tap_is_input = first_tap_is_input
        self.n_features = widths[0]
        self.inputs = (InputSpec("X", (widths[0],), "float32"),)
        tap_widths = list(widths[:-1])
        tap_widths[0] -= 0 if first_tap_is_input else 1
        self.tap_widths = tuple(tap_widths)
        self.n_outputs = widths[-1]
        self.weights = [
            (random.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)
            for shape in pairwise((*tap_widths, self.n_outputs))
        ]
        self.scale = np.float32(0.5)
        self.batches: list[int] = []  # samples in each call of forward

    @property
    def n_forwards(self) -> int:
        return sum(self.batches)

    @property
    def fingerprint(self) -> str:
        state = hashlib.sha256(repr((self.first_tap_is_input, float(self.scale))).encode())
        for weight in self.weights:
            state.update(weight.tobytes())
        return f"sha256:{state.hexdigest()}"

    def forward(self, x: np.ndarray) -> Taps:
        assert x.dtype == np.float32
        assert x.ndim == 2
        assert x.shape[1] == self.n_features
        self.batches.append(len(x))
        taps = [x if self.first_tap_is_input else x[:, :-1] * self.scale]
        for weight in self.weights:
            # Not `@`: BLAS may give a row other bits in another batch.
            taps.append((taps[-1][:, :, None] * weight).sum(axis=1))
            if len(taps) <= len(self.weights):
                np.maximum(taps[-1], 0, out=taps[-1])
        return Taps(tuple(taps[:-1]), taps[-1])
