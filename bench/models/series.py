"""Time series of the archives that come with aeon, and a small CNN that learns from some persons.

Classes of both sets are persons. The network tells apart the first five; the others are new to it.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
from torch import nn

from models import package
from models.training import trained

KNOWN, EPOCHS = 5, 60


@functools.cache
def read(name: str, part: str, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Series (n, channels, length), ended by zeros where they are shorter, and persons from 0."""
    file = package("aeon") / "aeon" / "datasets" / "data" / name / f"{name}_{part}.ts"
    lines = [line for line in file.read_text().splitlines() if line and line[0] not in "#@"]
    x, y = None, np.empty(len(lines), np.int64)
    for sample, line in enumerate(lines):
        *channels, label = line.split(":")
        y[sample] = int(label) - 1
        x = np.zeros((len(lines), len(channels), length), np.float32) if x is None else x
        for channel, values in enumerate(channels):
            series = np.array(values.split(","), np.float32)
            x[sample, channel, : len(series)] = series
    if x is None:
        raise ValueError(f"{file} has no series")
    return x, y


@functools.cache
def network(name: str, parts: tuple[str, ...], length: int, kernel: int, stride: int) -> Any:
    """Three convolutions and a linear layer that know the first five persons of the ``parts``."""
    read_parts = [read(name, part, length) for part in parts]
    x, y = (np.concatenate(of) for of in zip(*read_parts, strict=True))
    known = y < KNOWN

    def build() -> nn.Module:
        widths, layers = (x.shape[1], 16, 32, 32), []
        for wide, next_wide in itertools.pairwise(widths):
            layers += [nn.Conv1d(wide, next_wide, kernel, stride), nn.ReLU()]
        return nn.Sequential(
            *layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(widths[-1], KNOWN)
        )

    return trained(build, x[known], y[known], epochs=EPOCHS)


def strangers(name: str, part: str, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Series of the persons that the network does not know, and their names."""
    x, y = read(name, part, length)
    return x[y >= KNOWN], np.array([f"person {person + 1}" for person in y[y >= KNOWN]])
