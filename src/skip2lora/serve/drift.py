"""Whether the data changed, without labels: from what the frozen network computes anyway.

A row is as novel as it is far from the fifth nearest row of a reference that was taken at the place
itself. Its ranks among rows of the same operating state, and among all, are p-values, and bets
against both are added up to the Shiryaev-Roberts statistic (core/include/skip2_novelty.h). It tells
that the data changed, never how often the model is wrong: docs/drift.md.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.arrays import real, whole
from skip2lora.errors import DataError, Skip2LoraError, first_line
from skip2lora.files import BAD_ZIP
from skip2lora.serve.reference import Reference, Watched

#: Rows of a reference, at most and at least.
ROWS, LEAST = 300, 200
#: Columns that are compared: 300 rows of so many take about 2.5 MB.
MOST_COLUMNS = 2048
LIMIT = 1e5
#: Shares of novel samples from which on data is called changed, and strongly.
CHANGED, STRONG = 0.15, 0.7
_FEW = 10  # samples: their share says little

Phase = Literal["learning", "watching", "changed"]
Severity = Literal["none", "changed", "strong"]


@dataclass(frozen=True)
class DriftState:
    """What is known of a change. Samples are counted from 0, in the order in which they came.

    ``statistic`` reaches ``limit`` at an ``alarm``, which stays: by sample ``alarm_at``, for a
    change that began about sample ``since``. Before an alarm ``since`` is where evidence begins
    that is not an alarm yet, None without any. ``novel`` is the share of the last 50 samples with a
    p-value below .05, and ``severity`` a rank by it: "none" below .15, "strong" above .7. It says
    nothing of accuracy. While "learning", ``n_learned`` of ``learn`` samples were seen.
    """

    phase: Phase
    statistic: float
    limit: float
    alarm: bool
    since: int | None
    alarm_at: int | None
    severity: Severity
    novel: float
    n_samples: int
    n_learned: int
    learn: int
    n_reference: int
    n_modes: int


class DriftDetector:
    """Learns what is usual from the first samples, then watches. One call at a time.

    Args:
        tap_widths: of the model, as its ``tap_widths``.
        learn: how many samples the reference is taken from: they should cover all that the place
            does when all is well, such as every speed of a fan. 300 of them are kept, by chance.
        limit: of the statistic: on average at most one false alarm in so many samples.
        most_columns: of the taps; where they have more, the first ones are not watched.
        seed: which samples are kept, and where the search for operating states starts.

    Raises:
        ParameterError: a number out of range.
    """

    def __init__(
        self,
        tap_widths: Sequence[int],
        *,
        learn: int = ROWS,
        limit: float = LIMIT,
        most_columns: int = MOST_COLUMNS,
        seed: int = 0,
    ) -> None:
        self._learn = whole("learn", learn, LEAST)
        self._limit = real("limit", limit, 1, 1e300, "from 1")
        self._seed = whole("seed", seed, 0)
        self._most = whole("most_columns", most_columns, 1)
        widths = [whole("tap_widths", width, 1) for width in tap_widths]
        whole("the number of taps", len(widths), 1)
        self._watched = Watched.of(widths, self._most, self._seed)
        self._n_samples = self._n_learned = self._n_references = self._start = 0
        self._kept = np.empty((ROWS, sum(self._watched.parts)), np.float32)
        self._reference: Reference | None = None
        self._novelty: _core.Novelty | None = None
        self._change = _core.Change(self._limit)

    def add(self, taps: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        """Learn from samples, or watch them: (n,) p-values, NaN of those that were learned from.

        They are those among rows of the same state.
        ``taps`` are those of the frozen model, ``model.forward(x).taps``: each (n, width), float32.

        Raises:
            DataError: taps of another model, or a number that is not finite; none was added.
        """
        rows = self._watched.rows(taps)
        p = np.full(len(rows), np.nan)
        n = 0
        if self._novelty is None:
            n = min(len(rows), self._learn - self._n_learned)
            self._keep(rows[:n])
            if self._n_learned == self._learn:
                self.finish_learning()
        if self._novelty is not None and n < len(rows):
            p_all, novelty = np.empty((2, len(rows) - n))
            self._novelty.judge(rows[n:], p[n:], p_all, novelty)
            self._change.add(p[n:], p_all)
            self._n_samples += len(rows) - n
        return p

    def _keep(self, rows: NDArray[np.float32]) -> None:
        """A sample by chance of all that were learned from (reservoir sampling, Vitter 1985)."""
        bits = np.random.PCG64([self._seed, self._n_references])
        random = np.random.Generator(bits.advance(self._n_learned))  # one draw a sample
        for row, draw in zip(rows, random.random(len(rows)), strict=True):
            place = self._n_learned
            if place >= ROWS:
                place = int(draw * (place + 1))
            if place < ROWS:
                self._kept[place] = row
            self._n_learned += 1
        self._n_samples += len(rows)

    def finish_learning(self) -> None:
        """Watch from now on, by what was learned so far.

        Raises:
            DataError: it is watching already, or there are fewer than 200 samples.
        """
        if self._novelty is not None:
            raise DataError("it is watching, expected a detector that learns: call new_reference()")
        n = min(self._n_learned, ROWS)
        if n < LEAST:
            raise DataError(f"learned from {n} samples, expected {LEAST} or more: wait for them")
        self._watch(Reference.of(self._kept[:n].copy(), self._watched.parts, self._seed))
        self.dismiss()

    def _watch(self, reference: Reference) -> None:
        self._reference, self._novelty = reference, reference.opened()

    def dismiss(self) -> None:
        """Begin to watch anew with the same reference: what was seen was no change."""
        self._change = _core.Change(self._limit)
        self._start = self._n_samples

    def new_reference(self, learn: int | None = None) -> None:
        """Learn anew, from the samples that come, what is usual: after a change that stays.

        Raises:
            ParameterError: ``learn``, by default as before, is less than 200.
        """
        self._learn = self._learn if learn is None else whole("learn", learn, LEAST)
        self._n_references += 1
        self._n_learned = 0
        self._reference = self._novelty = None
        self.dismiss()

    @property
    def n_samples(self) -> int:
        """Samples that were added."""
        return self._n_samples

    @property
    def phase(self) -> Phase:
        """As in the state."""
        if self._reference is None:
            return "learning"
        return "changed" if self._change.state[2] else "watching"

    @property
    def state(self) -> DriftState:
        """What is known now."""
        n_rows, since, alarm, _, statistic, _ = self._change.state
        share = self._change.share
        severity: Severity = "strong" if share > STRONG else "changed"
        of = self._reference
        return DriftState(
            phase=self.phase,
            statistic=statistic,
            limit=self._limit,
            alarm=alarm > 0,
            since=self._start + since - 1 if since else None,
            alarm_at=self._start + alarm - 1 if alarm else None,
            severity="none" if n_rows < _FEW or share < CHANGED else severity,
            novel=share,
            n_samples=self._n_samples,
            n_learned=self._n_learned,
            learn=self._learn,
            n_reference=0 if of is None else len(of.rows),
            n_modes=0 if of is None else len(of.centres),
        )

    def to_bytes(self) -> bytes:
        """All of it as a file ``.npz``, to go on from later with the same results."""
        counts = (self._n_samples, self._n_learned, self._n_references, self._start)
        about = {
            "tap_widths": self._watched.widths, "learn": self._learn, "limit": self._limit,
            "most_columns": self._most, "seed": self._seed,
            "counts": counts, "change": self._change.state,
        }  # fmt: skip
        arrays = {"kept": self._kept[: min(self._n_learned, ROWS)]}
        if self._reference is not None:
            arrays = dict(vars(self._reference))
        file = io.BytesIO()
        np.savez(file, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """What :meth:`to_bytes` gave.

        Raises:
            DataError: it is damaged.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as opened:
                arrays = {name: opened[name] for name in opened.files}
            return cls._restored(json.loads(str(arrays.pop("about"))), arrays)
        except (*BAD_ZIP, Skip2LoraError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"what is usual cannot be read ({first_line(error)}), expected what to_bytes() "
                "gave: learn it anew"
            ) from error

    @classmethod
    def _restored(cls, about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        named = {name: about[name] for name in ("learn", "limit", "most_columns", "seed")}
        detector = cls(about["tap_widths"], **named)
        counts = [whole("a count", count, 0) for count in about["counts"]]
        detector._n_samples, detector._n_learned, detector._n_references, detector._start = counts
        if "kept" in arrays:
            detector._kept[: min(detector._n_learned, ROWS)] = arrays["kept"]
        else:
            if arrays["rows"].shape[1] != detector._kept.shape[1]:
                raise ValueError("its rows have another width")
            detector._watch(Reference(**arrays))
        change = about["change"]
        detector._change = _core.Change(detector._limit, tuple(change))
        return detector
