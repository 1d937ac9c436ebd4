"""From a recording to milliwatts and joules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.power.recording import Phase, Recording, Series

Array = NDArray[np.float64]
#: A counter's difference over its time, for a person: joules to mW, processor seconds to percent.
_RATES = {"energy": ("mW", 1000.0), "cpu_time": ("%", 100.0)}


@dataclass(frozen=True)
class Energy:
    """Joules of ``covered_s`` seconds; a gap of the sensor is not covered."""

    joules: float
    covered_s: float
    n_samples: int

    @property
    def mean_mw(self) -> float:
        """Mean power over what is covered."""
        return 1000 * self.joules / self.covered_s


def shown_unit(series: Series) -> str:
    """Unit of :func:`points`."""
    sensor = series.sensor
    return _RATES[sensor.quantity][0] if sensor.is_counter else sensor.unit


def points(series: Series, interval_s: float) -> tuple[Array, Array]:
    """Times in seconds and values, both (points,), to look at; NaN where there is a gap.

    A counter's value is its mean rate since the point before; readings closer than half an
    interval are merged, as their small differences would be noise.
    """
    times, values = _arrays(series)
    if not series.sensor.is_counter:
        return times, values
    factor = _RATES[series.sensor.quantity][1]
    places = [0] if len(times) else []
    for at in range(1, len(times)):
        if times[at] - times[places[-1]] >= interval_s / 2:
            places.append(at)
    times, values = times[places], values[places]
    return times[1:], factor * np.diff(values) / np.diff(times)


def energy_of(series: Series, phase: Phase) -> Energy | None:
    """Energy of a phase from a sensor of power or energy; None where it was never read.

    A counter tells it exactly, by its readings at the start and the end. Power is integrated by
    trapezoids, cut at the start and the end of the phase.
    """
    times, values = _arrays(series)
    good = np.isfinite(values)
    start, end = phase.start_s, phase.end_s
    n_samples = int(np.sum(good & (times >= start) & (times <= end)))
    if series.sensor.is_counter:
        times, values = times[good], values[good]
        if not len(times):
            return None
        first, last = max(start, times[0]), min(end, times[-1])
        joules, covered = float(np.diff(np.interp([first, last], times, values))[0]), last - first
    else:
        joules, covered = _trapezoids(times, values, start, end)
    return Energy(joules, float(covered), n_samples) if covered > 0 else None


def _trapezoids(times: Array, values: Array, start: float, end: float) -> tuple[float, float]:
    """Joules and seconds of the pieces between neighbouring readings, both good, in the phase."""
    left, right = times[:-1], times[1:]
    a, b = np.maximum(left, start), np.minimum(right, end)
    used = np.isfinite(values[:-1]) & np.isfinite(values[1:]) & (b > a)
    left, right, a, b = left[used], right[used], a[used], b[used]
    low, high = values[:-1][used], values[1:][used]
    slope = (high - low) / (right - left)
    middle = low + slope * ((a + b) / 2 - left)  # the mean of a straight line over its piece
    return float(np.sum(middle * (b - a))) / 1000, float(np.sum(b - a))


def in_phase(series: Series, phase: Phase, interval_s: float) -> Array:
    """Values of :func:`points` that belong to a phase, at least those at its start and end."""
    times, values = points(series, interval_s)
    if series.sensor.is_counter:  # a rate belongs to the time before its point
        inside = (times > phase.start_s) & (times <= phase.end_s + interval_s)
    else:
        inside = (times >= phase.start_s) & (times <= phase.end_s)
        last_before = np.searchsorted(times, phase.start_s, side="right") - 1
        first_after = np.searchsorted(times, phase.end_s)
        inside[np.clip([last_before, first_after], 0, len(times) - 1)] = True
    chosen: Array = values[inside & np.isfinite(values)]
    return chosen


def summarise(recording: Recording, run: str, *, idle: str | None = None) -> dict[str, Any]:
    """Plain numbers of the phase ``run``; what is unknown is None.

    ``energy_j`` is that of the first sensor that measures power (``source``), for ``covered_ms``;
    ``energy_above_idle_j`` is what is more than the mean power of the phase ``idle``.
    """
    phases = {phase.name: phase for phase in recording.phases}
    phase = phases[run]
    facts: dict[str, Any] = {
        "source": None, "duration_ms": 1000 * phase.duration_s, "mean_mw": None, "peak_mw": None,
        "energy_j": None, "covered_ms": None, "n_samples": 0, "idle_mw": None,
        "energy_above_idle_j": None, "interval_ms": 1000 * recording.interval_s,
        "sensors": [_described(recording, series, phase) for series in recording.series.values()],
        "failures": list(recording.failures),
    }  # fmt: skip
    source = source_of(recording)
    if source is None:
        return facts
    facts["source"] = source.sensor.name
    used = energy_of(source, phase)
    if used is None:
        return facts
    values = in_phase(source, phase, recording.interval_s)
    facts |= {
        "mean_mw": used.mean_mw, "energy_j": used.joules, "covered_ms": 1000 * used.covered_s,
        "n_samples": used.n_samples,
        "peak_mw": float(max(values.max(initial=-np.inf), used.mean_mw)),
    }  # fmt: skip
    before = energy_of(source, phases[idle]) if idle in phases else None
    if before is not None:
        above = used.joules - before.mean_mw / 1000 * used.covered_s
        facts |= {"idle_mw": before.mean_mw, "energy_above_idle_j": above}
    return facts


def source_of(recording: Recording) -> Series | None:
    """The first sensor of power or energy."""
    return next(
        (s for s in recording.series.values() if s.sensor.quantity in ("power", "energy")), None
    )


def _described(recording: Recording, series: Series, phase: Phase) -> dict[str, Any]:
    values = in_phase(series, phase, recording.interval_s)
    mean = float(values.mean()) if len(values) else None
    if series.sensor.is_counter and (whole := energy_of(series, phase)) is not None:
        mean = _RATES[series.sensor.quantity][1] * whole.joules / whole.covered_s  # exact
        values = np.append(values, mean)
    summary: dict[str, Any] = {
        "name": series.sensor.name,
        "quantity": series.sensor.quantity,
        "unit": shown_unit(series),
    }
    if mean is None:
        return summary | {"min": None, "mean": None, "max": None}
    return summary | {"min": float(values.min()), "mean": mean, "max": float(values.max())}


def _arrays(series: Series) -> tuple[Array, Array]:
    """Times and values read so far: a recording that still runs may be in between the two."""
    n_read = min(len(series.times_s), len(series.values))
    return np.array(series.times_s[:n_read]), np.array(series.values[:n_read])
