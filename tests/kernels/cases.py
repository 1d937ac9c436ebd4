"""Sizes, random numbers, methods, and the tolerance."""

from functools import lru_cache

import numpy as np

COUNTS = (*range(1, 10), 20, 33)
WIDTHS = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 33, 96, 561)
OUTPUTS = (2, 3, 6, 17, 32, 33)  # up to 32 go through samples in lanes
RANKS = (*range(1, 10), 16, 64)
FC_TYPES = ("y", "ywbx", "ywb", "ybx", "yb", "yx")  # Table 1, upper half
LORA_TYPES = ("ywx", "yw")  # Table 1, lower half

# Of the sum of the absolute values of an element's terms. Rounding k terms in float32 costs about
# sqrt(k) 2^-24, for the 561 of the widest sum 1.4e-6; a term that is missing, doubled or another's
# costs about 1 / k, 1.8e-3. 1e-5 lies well between the two.
TOLERANCE = 1e-5


@lru_cache(maxsize=4096)
def normal(*seed_then_shape, scale=1.0):
    """float32, so that the core and the oracle start from the same numbers; read-only."""
    seed, *shape = seed_then_shape
    array = (scale * np.random.default_rng([seed, *shape]).normal(size=shape)).astype(np.float32)
    array.flags.writeable = False
    return array


def half(*sizes):
    """Of all combinations of three sizes, every other: any two of them still meet."""
    indices = np.indices([len(of_one) for of_one in sizes]).sum(axis=0) % 2 == 0
    return [
        tuple(of_one[at] for of_one, at in zip(sizes, place, strict=True))
        for place in np.argwhere(indices)
    ]


def assert_close(got, want, magnitude, what="", tolerance=TOLERANCE):
    """Each element within the tolerance times its magnitude. NaN is close to nothing."""
    got, want, magnitude = np.broadcast_arrays(np.float64(got), want, magnitude)
    off = np.abs(got - want)
    close = off <= tolerance * magnitude
    if not close.all():
        place = tuple(int(i) for i in np.argwhere(~close)[0])
        raise AssertionError(
            f"{what}: {np.count_nonzero(~close)} of {close.size} elements differ, first {place}: "
            f"{got[place]:.9g}, oracle {want[place]:.9g}, magnitude {magnitude[place]:.3g}"
        )


def absolutes(*arrays):
    return [np.abs(array) for array in arrays]
