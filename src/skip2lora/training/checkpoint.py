"""Checkpoints of training by steps: what epochs have changed is kept, to go on from there.

A checkpoint is one file. It has all that an epoch changes: adapters or network, moments and steps
of the optimiser, the random state of the order of samples. A run that goes on from it ends with the
bits of one that was never stopped. It says of which run it is; no other goes on from it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.adapters.folder import Tapping
from skip2lora.arrays import Inputs
from skip2lora.backbones.base import Backbone
from skip2lora.data.lazy import LazySamples
from skip2lora.errors import ModelError, first_line
from skip2lora.files import read_tensors, to_bytes, write_bytes
from skip2lora.tasks.task import Goal
from skip2lora.training.jobs import CheckedSamples, Job
from skip2lora.training.options import Options
from skip2lora.training.watch import Checkpoint, Course

KIND = "checkpoint"
_VALUES = ("losses", "accuracies", "validation")


@dataclass(frozen=True, eq=False)
class _State:
    """What epochs changed of a trainer, after so many of them, the number ``best`` the best."""

    numbers: tuple[int, float, float]
    floats: NDArray[np.float32]
    n_done: int
    best: int


class Keeper:
    """Writes what a job has come to, now and then and when its block ends, by an error or not.

    ``run`` is what its result depends on, by name, as of :func:`run_of`. ``course`` is its course
    so far, as the file has it if there is one.

    Raises:
        FileError: the file cannot be read, or it is there and not asked for.
        ModelError: the file is damaged, or of another run.
    """

    def __init__(self, checkpoint: Checkpoint, run: Mapping[str, Any]) -> None:
        self._every, self._run, self._file = checkpoint.every, dict(run), checkpoint.prepare()
        self._job: Job | None = None
        self._newest: _State | None = None
        self._best: _State | None = None
        self._unwritten, self._written = False, time.monotonic()
        self.course = self._read() if self._file.exists() else Course()

    def begin(self, job: Job) -> Course:
        """Bring ``job`` to where the course so far ended."""
        self._job = job
        for state in (self._best, self._newest):
            if state is not None:
                self._restore(job, state)
                if state is self._best:
                    self.course.best_result = job.result()
        return self.course

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def keep(self) -> None:
        """Take the job as it is after an epoch, which the course has."""
        if self._job is None:
            raise RuntimeError("no job has begun")
        course, trainer = self.course, self._job.trainer
        floats = np.empty(trainer.state_floats, np.float32)
        state = _State(trainer.copy_state(floats), floats, len(course.losses), course.best)
        if course.validation and course.best == state.n_done - 1:
            self._best = state
        self._newest, self._unwritten = state, True
        if time.monotonic() - self._written >= self._every:
            self._write()

    def _write(self) -> None:
        """What is kept, unless it is there; a state that is not finite ends in an error anyway."""
        newest, best, course = self._newest, self._best, self.course
        if newest is None or not self._unwritten or not np.isfinite(newest.floats).all():
            return
        tensors = {"newest": newest.floats} | ({} if best is None else {"best": best.floats})
        values = {name: getattr(course, name)[: newest.n_done] for name in _VALUES}
        about = {
            "kind": KIND, "version": 1, "run": self._run, "numbers": newest.numbers, **values,
            "n_batches": course.n_batches, "best": newest.best,
        }  # fmt: skip
        write_bytes(self._file, to_bytes(tensors, about))
        self._unwritten, self._written = False, time.monotonic()

    def _read(self) -> Course:
        tensors, about = read_tensors(self._file, kind=KIND)
        self._check(about.get("run"))
        try:
            order, one, two = about["numbers"]
            course = Course()
            for name in _VALUES:
                getattr(course, name).extend(map(float, about[name]))
            course.n_batches, course.best = int(about["n_batches"]), int(about["best"])
            numbers = int(order), float(one), float(two)
            counts = len(course.losses), course.best
            self._newest = _State(numbers, tensors["newest"], *counts)
            if course.validation:
                self._best = _State(numbers, tensors["best"], *counts)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise self._damaged(error) from error
        return course

    def _restore(self, job: Job, state: _State) -> None:
        try:
            job.trainer.restore_state(state.numbers, state.floats)
        except (TypeError, ValueError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> ModelError:
        return ModelError(
            f"{self._file}: its description is damaged ({first_line(error)}), expected a "
            "checkpoint as it was written: remove it to begin anew"
        )

    def _check(self, then: Any) -> None:
        for name, now in self._run.items():
            was = then.get(name) if isinstance(then, dict) else None
            if was != now:
                what = f"other {name}" if name in _DIGESTS else f"{name} {was} in place of {now}"
                raise ModelError(
                    f"{self._file} is of another run, with {what}, expected the same: take another "
                    "folder, or remove it to begin anew"
                )


#: Of what a run depends on: what stands in a checkpoint as a digest.
_DIGESTS = ("model", "samples", "answers", "weights", "samples for validation")


def run_of(
    backbone: Backbone, part: CheckedSamples, options: Options, goal: Goal
) -> dict[str, Any]:
    """What the result of training by steps depends on, by name."""
    beside = part.validation
    tapping = f"{backbone.fingerprint} {Tapping.of(backbone).to_json()} {backbone.tap_widths}"
    return {
        "model": _digest(np.frombuffer(tapping.encode(), np.uint8)),
        "samples": _digest(part.x),
        "answers": _digest(part.y),
        "weights": "" if part.weight is None else _digest(part.weight),
        "samples for validation": "" if beside is None else _digest((beside.x, beside.y)),
        "task": goal.task.name,
        "outputs": goal.n_outputs or backbone.n_outputs,
        **asdict(options),
        "kernels": _core.kernels(),
    }


def _digest(of: Any) -> str:
    """SHA-256 of samples, of an array, or of several."""
    state = hashlib.sha256()
    for each in of if isinstance(of, tuple) else (of,):
        if isinstance(each, LazySamples):
            state.update(b"".join(each.digests()))
            continue
        for array in each.arrays.values() if isinstance(each, Inputs) else (each,):
            state.update(f"{array.dtype.str} {array.shape}".encode())
            state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()
