"""A SIMULATED fan task: nothing here was measured. For trying things out where no data is at hand.

What an accelerometer on the frame of a 12 cm cooling fan might give, as amplitude spectra of one
second: 0..255 Hz in steps of 1 Hz, scaled so that the sensor's range ends at 1. The fan stands
still, is normal or is damaged, and runs at 2500, 2000 and 1500 rpm before it stops.

A running fan gives lines at the multiples (orders) of its rotation, 7 of them being the blades'
passage, and a broad noise of the air. Damage is a chipped blade: the lost mass puts the rotor out
of balance (order 1 grows), the blades no longer pass alike (orders 6 and 8, to both sides of the
blades' passage, grow), and the torn edge stirs the air (more noise above 130 Hz).

Pre-training data come from a silent room. Fine-tuning and test data are two recordings of the same
two fans beside a ventilation fan, where

* its air shakes the wall, which drowns what lies below 200 Hz in noise that comes in gusts,
* its own lines appear, and wander as its speed does,
* the sensor sits on another mount: half the gain, and resonances at other frequencies.

So the silent room's model goes wrong on what was there (the mount) and on what was not (the
ventilation), and the upper fifth of the spectrum, which it had little need of, now tells most.
The two recordings differ in gain, resonances, both speeds and noise by as much as a sensor put back
the next day would, so that a test on one after fine-tuning on the other is honest.

The levels are chosen so that a small network does well at home, badly after the move, and can learn
again: an accuracy reached here says nothing about a true fan. All is louder, against the sensor's
range, than in the recordings of the ``fan`` module: strong lines and gusts reach its end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skip2lora.data.samples import LabelledSamples
from skip2lora.datasets import Split
from skip2lora.errors import ParameterError

CLASS_NAMES = ("stop", "normal", "damaged")
STOP, NORMAL, DAMAGED = range(3)
N_FEATURES = 256
SPEEDS_RPM = (2500, 2000, 1500, 0)

_HERTZ = np.arange(N_FEATURES, dtype=np.float64)
_ORDERS = np.arange(1, 11)
# Amplitude of each order in the silent room at 2500 rpm, and by how much damage multiplies it.
_LINES = 5.4 * np.array([0.6, 0.5, 0.25, 0.45, 0.15, 0.12, 0.7, 0.35, 0.12, 0.12])
_DAMAGE = np.array([3.0, 1.3, 1.1, 1.0, 1.2, 4.0, 0.9, 4.0, 1.5, 1.0])
_AIR_NOISE = 0.15
_TORN_EDGE = 4.0
_SENSOR_NOISE = 0.017
_WALL_NOISE = 0.37
_WALL_LIMIT_HZ = 200.0
_VENTILATION_LINES = 1.2 * np.array([1.0, 0.55, 0.35, 0.3, 0.2, 0.6, 0.15, 0.15])
_VENTILATION_HZ = 24.2  # 1450 rpm, a common motor at 50 Hz mains


@dataclass(frozen=True)
class _Room:
    """What is the same for all moments of a recording."""

    gain: float
    resonances_hz: tuple[float, ...]
    ventilation_hz: float | None = None  # its speed, turns a second; None without ventilation
    wall_noise: float = 0.0
    speed: float = 1.0  # of the fan, as a part of its nominal speed


_SILENT = _Room(gain=1.0, resonances_hz=(40.0, 90.0))
_VENTILATED_GAIN = 0.5
_VENTILATED_RESONANCES_HZ = (35.0, 185.0, 230.0)


def make_task(seed: int = 0, n_per_split: int = 470) -> Split:
    """Return simulated pre-training, fine-tuning and test samples, (``n_per_split``, 256) each.

    The first half of each part is a recording of the normal fan, the rest one of the damaged fan;
    each runs a quarter of its time at each speed and stands still in the last quarter. Labels: 0
    stop, 1 normal, 2 damaged. Equal arguments give equal samples.

    Raises:
        ParameterError: a negative ``seed``, or fewer than 8 samples a part.
    """
    if seed < 0:
        raise ParameterError(
            f"got seed {seed}, expected 0 or more: pass a number that is not negative"
        )
    if n_per_split < 8:
        raise ParameterError(
            f"got n_per_split {n_per_split}, expected 8 or more, two fans at four speeds: "
            "choose more"
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    # No two fans are alike, not even undamaged ones.
    normal = _LINES * np.exp(0.1 * rng.standard_normal(_ORDERS.size))
    damaged = normal * _DAMAGE * np.exp(0.1 * rng.standard_normal(_ORDERS.size))
    rooms = (_SILENT, _ventilated_room(rng), _ventilated_room(rng))
    return Split(*(_record(room, normal, damaged, n_per_split, rng) for room in rooms))


def _ventilated_room(rng: np.random.Generator) -> _Room:
    def about(value: float, spread: float) -> float:
        return value * (1 + spread * rng.uniform(-1, 1))

    return _Room(
        gain=about(_VENTILATED_GAIN, 0.08),
        resonances_hz=tuple(about(hertz, 0.01) for hertz in _VENTILATED_RESONANCES_HZ),
        ventilation_hz=about(_VENTILATION_HZ, 0.006),
        wall_noise=about(_WALL_NOISE, 0.08),
        speed=about(1.0, 0.001),
    )


def _record(
    room: _Room,
    normal: NDArray[np.float64],
    damaged: NDArray[np.float64],
    n_samples: int,
    rng: np.random.Generator,
) -> LabelledSamples:
    """Return one part: the two fans, one after the other. The lines are (orders,)."""
    n_normal = (n_samples + 1) // 2
    spectra, labels = [], []
    for running, lines, n_moments in (
        (NORMAL, normal, n_normal),
        (DAMAGED, damaged, n_samples - n_normal),
    ):
        turn = np.arange(n_moments) * len(SPEEDS_RPM) // n_moments
        rpm = np.array(SPEEDS_RPM, np.float64)[turn]
        torn = _TORN_EDGE if running == DAMAGED else 0.0
        heard = _fan(lines, torn, rpm * room.speed, rng) * _mount(room.resonances_hz) * room.gain
        heard += _surroundings(room, n_moments, rng)
        amplitude = np.minimum(np.abs(heard), 1.0)  # the end of the sensor's range
        amplitude[:, 0] = 0.0  # the spectrum is taken of the vibration without its mean
        spectra.append(amplitude.astype(np.float32))
        labels.append(np.where(rpm > 0, running, STOP))
    return LabelledSamples(
        x=np.concatenate(spectra),
        y=np.concatenate(labels).astype(np.int64),
        class_names=CLASS_NAMES,
        feature_names=tuple(f"{hertz} Hz" for hertz in range(N_FEATURES)),
    )


def _fan(
    lines: NDArray[np.float64],
    torn: float,
    rpm: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.complex128]:
    """Return what the fan does to its frame: (moments, 256), complex as phases differ."""
    n_moments = rpm.size
    relative = rpm[:, None] / SPEEDS_RPM[0]
    # Between the square law of a free rotor out of balance and a stiff frame; 0 at rest.
    strength = relative**1.2 * lines * np.exp(0.1 * rng.standard_normal((n_moments, lines.size)))
    turns_hz = rpm / 60 * (1 + 0.001 * rng.standard_normal(n_moments))
    spectrum = np.zeros((n_moments, N_FEATURES), np.complex128)
    # The speed drifts within the second too: a line is smeared, the more the higher its order.
    for _ in range(3):
        drift = 1 + 0.003 * rng.uniform(-1, 1, strength.shape)
        spectrum += _lines(turns_hz[:, None] * _ORDERS * drift, strength, rng)
    air = 1 + 60 / (_HERTZ + 20)
    air *= 1 + torn / (1 + np.exp((130 - _HERTZ) / 15))
    return spectrum + _AIR_NOISE * relative**2 * air * _noise(n_moments, rng)


def _surroundings(room: _Room, n_moments: int, rng: np.random.Generator) -> NDArray[np.complex128]:
    """Return what the sensor hears without the fan: (moments, 256)."""
    spectrum = _SENSOR_NOISE * _noise(n_moments, rng)
    if room.ventilation_hz is None:
        return spectrum
    # A wall is heavy: it hardly follows the air above its limit.
    wall = room.wall_noise / (1 + (_HERTZ / _WALL_LIMIT_HZ) ** 10)
    gusts = np.exp(0.2 * rng.standard_normal((n_moments, 1)))
    spectrum += gusts * wall * _noise(n_moments, rng)
    turns_hz = room.ventilation_hz + np.cumsum(0.03 * rng.standard_normal(n_moments))
    multiples = np.arange(1, _VENTILATION_LINES.size + 1)
    strength = _VENTILATION_LINES * np.exp(0.15 * rng.standard_normal((n_moments, multiples.size)))
    return spectrum + _lines(turns_hz[:, None] * multiples, strength, rng)


def _mount(resonances_hz: tuple[float, ...]) -> NDArray[np.float64]:
    """Return how much of each frequency reaches the sensor through its mount: (256,)."""
    passed = np.full(N_FEATURES, 0.5)
    for resonance in resonances_hz:
        ratio = _HERTZ / resonance
        # A damped spring and mass (quality 5), quieted far above its resonance.
        peak = 0.5 / np.sqrt((1 - ratio**2) ** 2 + (ratio / 5) ** 2)
        passed += peak * ratio**2 / (1 + ratio**2)
    return passed * _HERTZ**2 / (_HERTZ**2 + 10.0**2)  # and it swings along below 10 Hz


def _noise(n_moments: int, rng: np.random.Generator) -> NDArray[np.complex128]:
    shape = (n_moments, N_FEATURES)
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def _lines(
    hertz: NDArray[np.float64], strength: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.complex128]:
    """Return the spectra of sines, seen through a Hann window of one second: (moments, 256).

    ``hertz`` and ``strength`` are (moments, lines); the phase of each line is random.
    """
    spectrum = np.zeros((len(hertz), N_FEATURES), np.complex128)
    sines = strength * np.exp(2j * np.pi * rng.random(hertz.shape))
    nearest = np.rint(hertz).astype(np.int64)
    row = np.broadcast_to(np.arange(len(hertz))[:, None], hertz.shape)
    for offset in range(-2, 3):  # the window spreads a line over two places to each side
        place = nearest + offset
        away = place - hertz
        seen = np.sinc(away) + 0.5 * np.sinc(away - 1) + 0.5 * np.sinc(away + 1)
        inside = (place >= 0) & (place < N_FEATURES)
        np.add.at(spectrum, (row[inside], place[inside]), (sines * seen)[inside])
    return spectrum
