"""Numbers that windows of a stream stand for: of the rows of a window, their mean or the last."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skip2lora.data.sensor_clock import resampled
from skip2lora.data.sensor_options import TARGET_OF, Sensors
from skip2lora.data.sensor_streams import Streams


def targets_of(
    streams: Streams, sensors: Sensors, first: NDArray[np.int64], last: NDArray[np.int64],
    start: NDArray[np.float64],
) -> NDArray[np.float32]:  # fmt: skip
    """The number of each window, (windows, 1), as ``sensors.target_of`` says.

    ``first`` to ``last`` are the rows that a window is made of. Where ``start``, in seconds, is no
    NaN, it is resampled from there on as its channels are, and so are its targets.
    """
    numbers = np.empty((len(first), 1), np.float32)
    rows, rate = int(sensors.window or 0), sensors.rate or 1.0
    for place, (low, high) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        values = streams.targets.rows(low, high)
        if np.isfinite(start[place]):
            times = streams.times.rows(low, high)[:, 0]
            values = resampled(times, values, float(start[place]), rows, rate)
        mean = sensors.target_of == TARGET_OF[0]
        numbers[place] = values.mean(dtype=np.float64) if mean else values[-1]
    return numbers
