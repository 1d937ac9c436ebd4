"""Watching for change while several threads predict: samples are told by their numbers for good."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from skip2lora.serve.drift import DriftDetector, DriftState

#: What is going on: normal samples are being collected, new ones compared, a change was noticed.
LEARNING, WATCHING, CHANGED = "learning", "watching", "changed"


class Watching:
    """Looks at the last tap, which the frozen model computes anyway.

    ``learn`` is how many samples tell what is normal, ``seed`` which of them are kept.

    Raises:
        ParameterError: ``learn`` is less than 200.
    """

    def __init__(self, width: int, learn: int, seed: int = 0) -> None:
        self._detector = DriftDetector((width,), learn=learn, seed=seed)
        self._learn = learn
        self._lock = threading.Lock()
        self._first = 1  # the number of the sample that the detector counts as 0

    @property
    def state(self) -> DriftState:
        """As it is now; ``since`` and ``alarm_at`` are numbers of samples."""
        with self._lock:
            state, first = self._detector.state, self._first
        since, at = (None if of is None else of + first for of in (state.since, state.alarm_at))
        return replace(state, since=since, alarm_at=at)

    def add(self, taps: NDArray[np.float32], first: int) -> str | None:
        """Look at taps, (samples, width), of samples numbered from ``first`` on.

        Gives the phase which begins by these, None where none does.
        """
        with self._lock:
            before = self._detector.phase
            self._first = first - self._detector.n_samples
            self._detector.add([taps])
            phase = self._detector.phase
            return phase if phase != before else None

    def renew(self) -> None:
        """Learn anew what is normal."""
        with self._lock:
            self._detector.new_reference(self._learn)

    def to_bytes(self) -> bytes:
        """All of it, to go on from."""
        with self._lock:
            return json.dumps(self._first).encode() + b"\n" + self._detector.to_bytes()

    def restore(self, content: bytes) -> None:
        """Go on from what :meth:`to_bytes` gave.

        Raises:
            DataError: it is damaged, or of taps of another width.
        """
        first, _, detector = content.partition(b"\n")
        restored = DriftDetector.from_bytes(detector)
        with self._lock:
            self._detector, self._first = restored, int(first) if first.isdigit() else 1
