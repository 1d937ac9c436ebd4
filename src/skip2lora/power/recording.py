"""Record sensors in a thread while something runs."""

from __future__ import annotations

import math
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from skip2lora.errors import ParameterError
from skip2lora.power.sensors import Sensor

DEFAULT_INTERVAL_S = 0.01
_SLOW = ("temperature", "clock")  # read every fifth time: they change slowly and take longer
_EVERY = 5


@dataclass
class Series:
    """Readings of one sensor: seconds of the clock, and values; NaN where it could not be read."""

    sensor: Sensor
    times_s: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))


@dataclass(frozen=True)
class Phase:
    """A named part of a recording, in seconds of its clock."""

    name: str
    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        """How long it took."""
        return self.end_s - self.start_s


class Recording:
    """Series by sensor name, and phases; made by :func:`record`.

    A sensor that cannot be read is named once in ``failures``, and its series has a gap there.
    """

    def __init__(
        self, sensors: Sequence[Sensor], *, interval_s: float, clock: Callable[[], float]
    ) -> None:
        self.interval_s = interval_s
        self.series = {sensor.name: Series(sensor) for sensor in sensors}
        self.phases: list[Phase] = []
        self.failures: list[str] = []
        self._clock = clock
        # Sensors have a lock each: a slow one must not hold up the counters at the end of a phase.
        self._locks = {sensor.name: threading.Lock() for sensor in sensors}
        self._failed: set[str] = set()
        self._n_sweeps = 0

    def sample(self) -> None:
        """Read the sensors whose turn it is."""
        slow = self._n_sweeps % _EVERY == 0
        self._n_sweeps += 1
        for series in self.series.values():
            if slow or series.sensor.quantity not in _SLOW:
                self._read(series)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Name what happens inside; every sensor is read at its start and at its end.

        Counters are read last at the start and first at the end: theirs is the energy of what
        happens inside and of little else.
        """
        order = sorted(self.series.values(), key=lambda series: series.sensor.is_counter)
        for series in order:
            self._read(series)
        start = self._clock()
        try:
            yield
        finally:
            end = self._clock()
            for series in reversed(order):
                self._read(series)
            self.phases.append(Phase(name, start, end))

    def _read(self, series: Series) -> None:
        name = series.sensor.name
        with self._locks[name]:
            before = self._clock()
            try:
                value = series.sensor.read()
            except OSError as error:
                value = math.nan
                if name not in self._failed:
                    self._failed.add(name)
                    self.failures.append(f"{name}: {error.strerror or error}: its series has a gap")
            # A reading over a slow bus belongs to the middle of the time it took.
            series.times_s.append((before + self._clock()) / 2)
            series.values.append(value)


@contextmanager
def record(
    sensors: Sequence[Sensor],
    *,
    interval_s: float = DEFAULT_INTERVAL_S,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Recording]:
    """Read ``sensors`` every ``interval_s`` seconds in a thread while the block runs.

    For example::

        with record(find_sensors().sensors) as recording:
            with recording.phase("adapt"):
                adapted = adapt(model, X, y)

    Sensors are closed at the end, also after Ctrl-C.

    Raises:
        ParameterError: the interval is not from 0.005 to 60 s.
    """
    if not 0.005 <= interval_s <= 60:
        raise ParameterError(
            f"interval_s is {interval_s:g}, expected 0.005 to 60 seconds: choose another"
        )
    recording = Recording(sensors, interval_s=interval_s, clock=clock)
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(interval_s):
            recording.sample()

    thread = threading.Thread(target=run, name="skip2lora-power", daemon=True)
    recording.sample()
    thread.start()
    try:
        yield recording
    finally:
        stop.set()
        thread.join()
        for sensor in sensors:
            sensor.close()
