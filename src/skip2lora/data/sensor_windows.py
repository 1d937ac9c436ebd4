"""Windows of streams as a model takes them: cut and put into shape where needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.data.known import KnownDigests
from skip2lora.data.lazy import digests_of
from skip2lora.data.sensor_clock import resampled
from skip2lora.data.sensor_features import features_of
from skip2lora.data.sensor_options import Form, Sensors
from skip2lora.data.sensor_streams import Streams

_AT_ONCE = 64  # windows


@dataclass(frozen=True, eq=False)
class SensorWindows:
    """Windows of streams as samples, (samples, ...) as a model takes them.

    ``first`` and ``last`` are the rows that each is made of, ``start`` its first moment in seconds
    where they are resampled, and NaN where they are not.
    """

    streams: Streams
    sensors: Sensors
    form: Form
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    start: NDArray[np.float64]
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """(samples, ...)."""
        return (len(self.first), *self.form.shape)

    def read(self, places: NDArray[np.intp]) -> NDArray[Any]:
        """The windows at ``places``, (places, ...)."""
        x = np.empty((len(places), *self.form.shape), np.float32)
        for at in range(0, len(places), _AT_ONCE):  # features are smaller than what they are of
            x[at : at + _AT_ONCE] = self._read(places[at : at + _AT_ONCE])
        return x

    def _read(self, places: NDArray[np.intp]) -> NDArray[np.float32]:
        rows = int(self.sensors.window or 0)
        windows = np.empty((len(places), rows, self.streams.values.width), np.float32)
        for number, place in enumerate(places.tolist()):
            first, last = int(self.first[place]), int(self.last[place])
            values = self.streams.values.rows(first, last)
            if np.isfinite(self.start[place]):
                times = self.streams.times.rows(first, last)[:, 0]
                start, rate = float(self.start[place]), self.sensors.rate or 1.0
                values = resampled(times, values, start, rows, rate)
            windows[number] = values
        return shaped(windows, self.sensors, self.form)

    def digests(self, places: NDArray[np.intp], known: KnownDigests | None = None) -> list[bytes]:
        """SHA-256 of the numbers of each window."""
        del known
        return digests_of(self.read(places))


def shaped(windows: NDArray[np.float32], sensors: Sensors, form: Form) -> NDArray[np.float32]:
    """Windows (windows, rows, channels) as a model takes them: its order of axes, or features."""
    if sensors.features:
        windows = features_of(sensors.features, windows)
    elif form.axes == "ct":
        windows = windows.transpose(0, 2, 1)
    return np.ascontiguousarray(windows).reshape(len(windows), *form.shape)
