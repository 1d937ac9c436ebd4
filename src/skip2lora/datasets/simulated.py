"""SIMULATED spectra of a cooling fan, for trying things out without data or a network.

Nothing here was measured. An accelerometer on a 12 cm fan is imitated as amplitude spectra of 256
bins, 0 to 255 Hz, like those of the recorded fans in :mod:`skip2lora.datasets.fan`. The fan runs at
2,500, 2,000 and 1,500 rpm, then stops; it is sound, or damaged: a blade is chipped, which
unbalances it (the line at the rotation frequency grows) and makes its five blades unequal (side
lines one rotation away from the blade frequency).

The rooms differ in what differs in life:

* the silent room has a soft stand, which passes low frequencies and swallows high ones;
* beside the ventilation fan the monitored fan is bolted to a sheet-metal bracket, which passes the
  high frequencies too. The ventilation fan adds its own rotation and blade lines, which wander a
  little, and rumble, strongest at low frequencies.

So what told sound from damaged in the silent room, the low lines, is partly drowned, the level of
everything has moved, and there is new evidence at high frequencies. ``finetune`` and ``test`` are
two recordings: gain, noise and the ventilation fan's speed differ between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skip2lora.datasets import Split
from skip2lora.errors import ParameterError
from skip2lora.samples import Samples

CLASS_NAMES = ("stop", "normal", "damaged")
N_FEATURES = 256
RPM = (2500, 2000, 1500, 0)
N_BLADES = 5

# Order of the rotation, amplitude of a sound fan, of a damaged one: unbalance, then the blade line
# and its neighbours, which stand for blades that are no longer equal.
_LINES = (
    (1, 1.0, 2.0),
    (2, 0.5, 0.6),
    (N_BLADES - 1, 1.2, 3.6),
    (N_BLADES, 4.2, 3.6),
    (N_BLADES + 1, 1.2, 3.6),
)
_HZ = np.arange(N_FEATURES, dtype=np.float64)
_VENTILATION_BLADES = 4
_LINE_WIDTH_HZ = 0.7  # of the window of the Fourier transform


@dataclass(frozen=True)
class _Room:
    """Surroundings of one recording."""

    corner_hz: float  # where the mounting begins to swallow
    gain: float
    noise: float  # of the sensor, per bin
    ventilation: float = 0.0  # amplitude of its rotation line
    ventilation_hz: float = 24.0
    rumble: float = 0.0  # broad-band, below 90 Hz


def make_task(*, seed: int = 0, n_per_split: int = 470) -> Split:
    """Pre-training samples of the silent room, fine-tuning and test samples of the noisy one.

    Each part has ``n_per_split`` samples of 256 features; labels 0 stop, 1 normal, 2 damaged.

    Raises:
        ParameterError: fewer than 8 samples a part, or a negative seed.
    """
    if n_per_split < 8 or seed < 0:
        raise ParameterError(
            f"got n_per_split {n_per_split} and seed {seed}, expected at least 8 and 0"
        )
    random = np.random.Generator(np.random.PCG64(seed))
    silent = _Room(corner_hz=40.0, gain=1.0, noise=0.010)
    noisy = [
        _Room(
            corner_hz=400.0,
            gain=0.8 * random.uniform(0.93, 1.07),
            noise=0.012 * random.uniform(0.9, 1.1),
            ventilation=0.45 * random.uniform(0.9, 1.1),
            ventilation_hz=random.uniform(23.6, 24.4),
            rumble=0.13 * random.uniform(0.9, 1.1),
        )
        for _ in range(2)
    ]
    return Split(*(_recording(random, room, n_per_split) for room in (silent, *noisy)))


def _recording(random: np.random.Generator, room: _Room, n_samples: int) -> Samples:
    """Half of the samples with the sound fan, half with the damaged one, speeds in turn."""
    labels = np.repeat((1, 2), (n_samples - n_samples // 2, n_samples // 2))
    speeds = np.concatenate([np.arange(n) * len(RPM) // n for n in np.bincount(labels)[1:]])
    rpm = np.array(RPM)[speeds]
    spectrum = _fan(random, rpm / 60.0, labels == 2) / np.sqrt(1.0 + (_HZ / room.corner_hz) ** 4)
    if room.ventilation:
        spectrum += _ventilation(random, room, n_samples)
    shape = (n_samples, N_FEATURES)
    floor = room.noise + room.rumble / (1.0 + (_HZ / 90.0) ** 4)
    spectrum += floor * (random.standard_normal(shape) + 1j * random.standard_normal(shape))
    amplitude = np.minimum(np.abs(spectrum) * room.gain, 1.0)
    y = np.where(rpm == 0, 0, labels)
    names = tuple(f"{hertz} Hz" for hertz in range(N_FEATURES))
    return Samples(amplitude.astype(np.float32), y.astype(np.int64), CLASS_NAMES, names)


def _fan(
    random: np.random.Generator, rotation_hz: NDArray[np.float64], damaged: NDArray[np.bool_]
) -> NDArray[np.complex128]:
    """Lines at the rotation frequency, its double, the blade frequency and beside it."""
    n_samples = len(rotation_hz)
    # Forces grow with the square of the speed; the fan wanders around its speed.
    force = 0.5 * (rotation_hz / 41.7) ** 2
    actual_hz = rotation_hz * (1.0 + 0.002 * random.standard_normal(n_samples))
    spectrum = np.zeros((n_samples, N_FEATURES), np.complex128)
    for order, sound, broken in _LINES:
        level = np.where(damaged, broken, sound) * np.exp(0.25 * random.standard_normal(n_samples))
        spectrum += _line(random, order * actual_hz, force * level)
    return spectrum


def _ventilation(
    random: np.random.Generator, room: _Room, n_samples: int
) -> NDArray[np.complex128]:
    """Rotation line of the ventilation fan, its double and its blade line; the speed wanders."""
    wander = np.cumsum(0.03 * random.standard_normal(n_samples))
    speed_hz = room.ventilation_hz + 0.5 * np.tanh(wander)
    spectrum = np.zeros((n_samples, N_FEATURES), np.complex128)
    for order, share in ((1, 1.0), (2, 0.5), (_VENTILATION_BLADES, 0.6)):
        level = room.ventilation * share * np.exp(0.15 * random.standard_normal(n_samples))
        spectrum += _line(random, order * speed_hz, level)
    return spectrum


def _line(
    random: np.random.Generator, hertz: NDArray[np.float64], level: NDArray[np.float64]
) -> NDArray[np.complex128]:
    """One spectral line a sample, at any phase, widened by the window of the transform."""
    phase = np.exp(2j * np.pi * random.random(len(hertz)))
    distance = (_HZ - hertz[:, None]) / _LINE_WIDTH_HZ
    line: NDArray[np.complex128] = (phase * level)[:, None] * np.exp(-0.5 * distance**2)
    return line
