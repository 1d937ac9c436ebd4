"""A small CNN that knows upright digits; its digits come rotated by 40 degrees, with noise."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from scipy.ndimage import rotate
from sklearn.datasets import load_digits
from torch import nn

from models import About, Job, job
from models.training import trained

N_PRETRAIN, DEGREES, NOISE = 800, 40, 0.1
ABOUT = About(
    "small CNN", "image", "3 convolutions, trained here on 800 upright 8x8 digits (PyTorch)",
    "the same digits, other samples, rotated by 40 degrees with noise",
)  # fmt: skip


@functools.cache
def network() -> tuple[Any, np.ndarray, np.ndarray]:
    """The trained network, and the samples it has not seen: upright (n, 1, 8, 8) and labels."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).reshape(-1, 1, 8, 8).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order], y[order]

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
        )  # fmt: skip

    net = trained(build, x[:N_PRETRAIN], y[:N_PRETRAIN], epochs=60)
    return net, x[N_PRETRAIN:], y[N_PRETRAIN:]


def drifted(x: np.ndarray) -> np.ndarray:
    """The digits as the field shows them."""
    turned = rotate(x, DEGREES, axes=(2, 3), reshape=False, order=1)
    return (turned + np.random.default_rng(1).normal(0, NOISE, x.shape)).astype(np.float32)


def make(seed: int) -> Job:
    net, x, y = network()
    return job(net, drifted(x), y, n_field=300, n_test=600, seed=seed)
