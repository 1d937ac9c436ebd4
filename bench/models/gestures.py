"""A small CNN that tells five users by how they pick up a remote control; five others are new.

PickupGestureWiimoteZ: acceleration on one axis, 29 to 361 values a gesture, 10 gestures a user.
"""

from __future__ import annotations

import numpy as np

from models import About, Job, of_each, series

NAME, PARTS, LENGTH, N_FIELD = "PickupGestureWiimoteZ", ("TRAIN", "TEST"), 361, 5
ABOUT = About(
    "gestures", "time series",
    "3 convolutions, trained here to tell 5 users of the set PickupGestureWiimoteZ by 50 gestures "
    "(PyTorch)",
    "5 new classes instead: its other users, 5 gestures each, and 5 others each to test on",
)  # fmt: skip


def make(seed: int) -> Job:
    parts = (series.strangers(NAME, part, LENGTH) for part in PARTS)
    x, y = (np.concatenate(of) for of in zip(*parts, strict=True))
    field, test = of_each(y, N_FIELD, N_FIELD, seed)
    net = series.network(NAME, PARTS, LENGTH, 9, 2)
    return Job(net, x[field], y[field], x[test], y[test], keep_outputs=False)
