"""A network that knows the activities of 21 persons meets another: HAR, one person left out a seed.

The data is that of `skip2lora dataset har`, in the folder that SKIP2LORA_DATA names or beside the
repository. Its windows of 2.56 s overlap by half within a recording: samples to adapt to are the
first of a person's first recording of each activity, the tests are from the other recordings.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from models import About, Job
from models.training import trained
from skip2lora.datasets.har import N_CLASSES, N_FEATURES, Windows, read_windows

SECONDS, STEP, WIDTH, EPOCHS = 2.56, 1.28, 96, 20
BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"
ABOUT = About(
    "activities, 3 s a class", "motion",
    "561-96-96-6, trained here on 21 persons of the set HAR, other ones for each seed (PyTorch)",
    "its labels for the person that was left out: 2 windows of one recording each (3.8 s); tests "
    "are from that person's other recordings, 143 to 209 windows a person",
)  # fmt: skip


@functools.cache
def windows() -> Windows:
    return read_windows(Path(os.environ.get("SKIP2LORA_DATA", BESIDE)) / "har")


@functools.cache
def person_left_out(seed: int) -> int:
    persons = np.unique(windows().subject)
    return int(np.random.default_rng(0).permutation(persons)[seed])


@functools.cache
def network(person: int) -> Any:
    """The network that has not met ``person``."""
    known = windows().subject != person

    def build() -> nn.Module:
        layers: list[nn.Module] = []
        for wide in (N_FEATURES, WIDTH):
            layers += [nn.Linear(wide, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(WIDTH, N_CLASSES))

    return trained(build, windows().x[known], windows().y[known], epochs=EPOCHS)


def left_out(seed: int, seconds: float) -> Job:
    """As few windows of each activity as cover the ``seconds``."""
    person = person_left_out(seed)
    rows = np.flatnonzero(windows().subject == person)
    x, y = windows().x[rows], windows().y[rows]
    recordings = np.split(np.arange(len(y)), np.flatnonzero(np.diff(y)) + 1)
    n_windows = 1 + int(np.ceil((seconds - SECONDS) / STEP))
    field, tests, met = [], [], set()
    for recording in recordings:
        activity = int(y[recording[0]])
        if activity in met:
            tests.append(recording)
        else:
            field.append(recording[:n_windows])
        met.add(activity)
    train, test = np.concatenate(field), np.concatenate(tests)
    return Job(network(person), x[train], y[train], x[test], y[test])


def make(seed: int) -> Job:
    return left_out(seed, 3)
