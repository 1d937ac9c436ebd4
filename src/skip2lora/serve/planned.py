"""What a service will take at its limits, before it runs: memory and disk, counted.

A small service of the model runs for a moment, over HTTP too, to see what the program itself takes
once all of it has been used (:mod:`skip2lora.serve.trial`). A few samples are written to a database
in memory, to see what each takes there. All else follows from the model and
:class:`~skip2lora.serve.limits.Limits`.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skip2lora.adapters.rows import FLOAT_BYTES
from skip2lora.backbones.base import Backbone, check_backbone
from skip2lora.backbones.noise import random_samples
from skip2lora.backbones.taps import SAMPLES_AT_ONCE
from skip2lora.errors import DataError
from skip2lora.limits import available_bytes
from skip2lora.serve import api, batching, mqtt, security, server
from skip2lora.serve.answering import Frozen
from skip2lora.serve.database import LOG_BYTES, tables
from skip2lora.serve.drift import MOST_COLUMNS, ROWS
from skip2lora.serve.events import RECENT
from skip2lora.serve.labels import check_task
from skip2lora.serve.learning import learned_on
from skip2lora.serve.limits import Limits
from skip2lora.serve.samples import SLACK, Sample, insert, size_of
from skip2lora.serve.store import PRUNED_EVERY
from skip2lora.serve.trial import N_SAMPLES, rehearse
from skip2lora.serve.unforked import unforked
from skip2lora.system import held_bytes
from skip2lora.tasks.task import TASKS, Goal
from skip2lora.training.lab_set import LabSet
from skip2lora.training.options import resolve_options
from skip2lora.training.rehearsal import Keep, find_lab_set
from skip2lora.training.room import Room

_DOUBLE_BYTES = 8
#: Of an event: in memory as an object, on the disk as text.
_EVENT_BYTES, _EVENT_TEXT = 1_000, 300
#: Of what a version answered to a sample that was held out: its number and a name, as text.
_ANSWER_BYTES = 32
#: Of what is remembered of a version.
_RECORD_TEXT = 400
#: Of a folder of a version, beside its numbers.
_FOLDER_BYTES = 8 << 10
# Two connections of SQLite have a cache each of so many bytes, by default.
_DATABASE_BYTES = 2 * (2_000 << 10)
_MEASURED_BYTES, _MOST_MEASURED = 1 << 22, 128  # of samples that are written to see what they take


@dataclass(frozen=True)
class ServiceDisk:
    """Bytes of the folder of a service at its limits.

    ``unlabelled_bytes`` and ``labelled_bytes`` are samples with their rows, ``log_bytes`` is the
    log that SQLite writes ahead with the largest write there can be. Labels stay when their samples
    go: each takes ``bytes_a_label``, and ``labels_bytes`` are those of the samples that are kept.
    """

    unlabelled_bytes: int
    labelled_bytes: int
    labels_bytes: int
    versions_bytes: int
    events_bytes: int
    log_bytes: int
    bytes_a_sample: int
    bytes_a_label: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return (
            self.unlabelled_bytes + self.labelled_bytes + self.labels_bytes + self.versions_bytes
            + self.events_bytes + self.log_bytes
        )  # fmt: skip


@dataclass(frozen=True)
class ServiceMemory:
    """Bytes of a service at its limits.

    ``process_bytes`` is this process with the model, after it has served for a moment, and
    ``learner_bytes`` what the one that waits to learn holds beside it.
    ``watching_bytes`` is the reference and what is computed of it, ``database_bytes`` the
    caches of SQLite, ``predicting_bytes`` a call of as many samples as are passed together,
    ``events_bytes`` the newest events. ``asking_bytes`` is a choice of samples to label and
    ``learning_bytes`` learning from as many labels as may be kept; they come in turn.
    ``waiting_bytes`` are samples that wait while the disk refuses them.
    """

    process_bytes: int
    learner_bytes: int
    watching_bytes: int
    database_bytes: int
    predicting_bytes: int
    events_bytes: int
    asking_bytes: int
    learning_bytes: int
    waiting_bytes: int

    @property
    def idle_bytes(self) -> int:
        """Between the times when it asks or learns."""
        return (
            self.process_bytes + self.learner_bytes + self.watching_bytes + self.database_bytes
            + self.predicting_bytes + self.events_bytes
        )  # fmt: skip

    @property
    def peak_bytes(self) -> int:
        """While it learns or asks."""
        return self.idle_bytes + max(self.asking_bytes, self.learning_bytes)

    @property
    def most_bytes(self) -> int:
        """While it learns and the disk refuses."""
        return self.peak_bytes + self.waiting_bytes


@dataclass(frozen=True)
class ServicePlan:
    """What :func:`plan_service` counted.

    ``n_unlabelled`` samples without a label are kept, fewer than the limit says where they are
    large. ``limit_bytes`` is what the process may have, ``n_labelled_that_fit`` how many labelled
    samples it can learn from in that, at most as many as the limit says.
    """

    limits: Limits
    n_unlabelled: int
    n_lab_rows: int
    disk: ServiceDisk
    memory: ServiceMemory
    limit_bytes: int
    n_labelled_that_fit: int

    @property
    def fits(self) -> bool:
        """Whether ``limit_bytes`` hold it."""
        return self.memory.most_bytes <= self.limit_bytes


def plan_service(
    model: Backbone,
    limits: Limits,
    *,
    lab_set: Keep | None = None,
    memory: int | None = None,
) -> ServicePlan:
    """What a service of ``model`` takes at its ``limits``.

    ``lab_set`` is as of :class:`~skip2lora.serve.service.Service`. ``memory`` is what the process
    may take at most, in bytes; by default what the machine has left, or the process may have.

    Raises:
        DataError: the model leaves the size of a sample open.
        FileError, ModelError: the lab set cannot be read.
        ParameterError: no service takes the model, or the lab set.
    """
    check_backbone(model)
    check_task(model)
    model.need_outputs(closed=True)
    keep = find_lab_set(model, lab_set)
    n_old = 0 if keep is None else len(keep if isinstance(keep, LabSet) else keep[-1])
    waiting, learned = rehearse(model, _some(model, N_SAMPLES))
    held = (held_bytes(), waiting, learned)
    counted = _Counted.of(model, limits, n_old, held)
    needs = counted.memory(limits.labelled)
    limit = available_bytes(held_bytes()) if memory is None else memory
    return ServicePlan(
        limits, counted.n_unlabelled, n_old, counted.disk(), needs, limit, counted.fitting(limit)
    )


def _some(model: Backbone, count: int) -> Any:
    """Samples of noise.

    Raises:
        DataError: the model leaves the size of a sample open.
    """
    some = random_samples(model, count)
    if some is None:
        raise DataError(
            "the model leaves the size of a sample open, expected one that is fixed: export it "
            "with fixed sizes"
        )
    return some


@dataclass(frozen=True, eq=False)
class _Counted:
    """``sample_bytes`` are those of a sample as the model takes it, ``kept_bytes`` with its row.

    ``held_bytes`` are those of the process, of the one that waits to learn, and of one that does.
    What is learned on has the taps of samples without negative numbers, which are more.
    """

    frozen: Frozen
    learns_on: Backbone
    limits: Limits
    n_old: int
    held_bytes: tuple[int, int, int]
    sample_bytes: int
    kept_bytes: int
    bytes_a_sample: int

    @classmethod
    def of(
        cls, model: Backbone, limits: Limits, n_old: int, held: tuple[int, int, int]
    ) -> _Counted:
        """After writing a few samples."""
        some = _some(model, 1)
        frozen, x = Frozen(model), None
        rows = np.abs(frozen.packed(frozen.rows(some)))
        of_rows = learned_on(frozen, frozen.unpacked(rows))
        if not model.first_tap_is_input and size_of(some) <= limits.sample_bytes:
            x = some
        of = Sample(1, 0.0, "http", x, np.zeros(frozen.width, np.float32), "a" * 12, 0.5, 0.5, 1)
        counted = cls(frozen, of_rows, limits, n_old, held, size_of(some), of.n_bytes, 0)
        return replace(counted, bytes_a_sample=_written(of))

    @property
    def n_unlabelled(self) -> int:
        return max(2, min(self.limits.unlabelled, self.limits.unlabelled_bytes // self.kept_bytes))

    @property
    def _n_beyond(self) -> int:
        """Unlabelled samples that are there before some are removed."""
        return min(SLACK, self.n_unlabelled) + PRUNED_EVERY

    def disk(self) -> ServiceDisk:
        limits, label = self.limits, _label_bytes()
        n_versions = limits.versions + 2  # the one in use, and the one before
        answers = _ANSWER_BYTES * limits.labelled
        numbers = FLOAT_BYTES * self._room(limits.labelled).n_parameters
        return ServiceDisk(
            (self.n_unlabelled + self._n_beyond) * self.bytes_a_sample,
            (limits.labelled + PRUNED_EVERY) * self.bytes_a_sample, limits.labelled * label,
            n_versions * (numbers + answers + _FOLDER_BYTES) + limits.records * _RECORD_TEXT,
            limits.events * _EVENT_TEXT,
            LOG_BYTES + limits.pending_bytes, self.bytes_a_sample, label,
        )  # fmt: skip

    def memory(self, n_labels: int) -> ServiceMemory:
        width, limits = self.frozen.width, self.limits
        columns = min(self.frozen.format.tap_widths[-1], MOST_COLUMNS)
        row, stride = FLOAT_BYTES * width, self.frozen.format.row_bytes
        reference = ROWS * columns * (3 * FLOAT_BYTES + 2 * _DOUBLE_BYTES)
        n_candidates = max(1, min(limits.candidates, limits.candidates_bytes // row))
        chosen = n_candidates * (2 * row + 2 * stride + 2 * _DOUBLE_BYTES * width)
        chosen += n_candidates**2 * _DOUBLE_BYTES + n_labels * row  # for classes that lack labels
        process, waiting, _ = self.held_bytes
        return ServiceMemory(
            process, waiting, reference, _DATABASE_BYTES,
            SAMPLES_AT_ONCE * (self.sample_bytes + 2 * stride + row), RECENT * _EVENT_BYTES,
            chosen, self._learning_bytes(n_labels), limits.pending_bytes,
        )  # fmt: skip

    def _learning_bytes(self, n_labels: int) -> int:
        """What learns, rows as they are read, and as many again, or all a candidate takes."""
        read = n_labels * FLOAT_BYTES * self.frozen.width
        adapting = self._room(n_labels + self.n_old).memory().adapting_bytes
        return self.held_bytes[2] + read + max(read, adapting)

    def _room(self, n_samples: int) -> Room:
        """Of learning a candidate from rows."""
        of, stride = self.learns_on, self.frozen.format.layout.row_stride
        options = resolve_options(of.recipe, of.tap_widths, n_samples, recipe="auto")
        goal = Goal(TASKS[self.frozen.task], None)
        return Room(of, n_samples, options, goal, FLOAT_BYTES * stride, stride, 0)

    def fitting(self, limit: int) -> int:
        """The most labelled samples that can be learned from in ``limit`` bytes."""
        fits, beyond = 0, self.limits.labelled + 1
        while beyond - fits > 1:
            middle = (fits + beyond) // 2
            fits, beyond = (middle, beyond) if self._holds(limit, middle) else (fits, middle)
        return fits

    def _holds(self, limit: int, n_labels: int) -> bool:
        with suppress(DataError):  # so many cannot be solved exactly
            return self.memory(n_labels).most_bytes <= limit
        return False


def _written(sample: Sample) -> int:
    """Bytes of the database that a sample takes."""
    count = max(4, min(_MOST_MEASURED, _MEASURED_BYTES // max(1, sample.n_bytes)))
    most = 1 + size_of(sample.x)

    def write(db: sqlite3.Connection, number: int) -> None:
        insert(db, [replace(sample, id=number)], most)

    return _bytes_each(write, count)


def _label_bytes() -> int:
    """Bytes of the database that a label takes."""

    def write(db: sqlite3.Connection, number: int) -> None:
        db.execute(
            "INSERT INTO labels (sample, answer, source, time) VALUES (?, ?, ?, ?)",
            (number, "a" * 12, "http", 1.0),
        )

    return _bytes_each(write, 1_000)


def _bytes_each(write: Any, count: int) -> int:
    """What each of ``count`` calls adds to a database, after as many before."""
    with unforked(), closing(sqlite3.connect(":memory:")) as db:
        tables(db)

        def pages(first: int) -> int:
            for number in range(first, first + count):
                write(db, number)
            return int(db.execute("PRAGMA page_count").fetchone()[0])

        before, page = pages(1), int(db.execute("PRAGMA page_size").fetchone()[0])
        return -(-(pages(count + 1) - before) * page // count)


def request_limits() -> dict[str, Any]:
    """Every other limit that a service has, by what it is of."""
    policy = security.policy_for("0.0.0.0", 0, "a token")  # noqa: S104
    return {
        "request_bytes": policy.most_bytes, "request_seconds": policy.seconds,
        "requests_per_second": policy.per_second, "wrong_tokens_a_minute": security.MOST_WRONG,
        "connections": server.MOST_CONNECTIONS, "samples_together": batching.MOST_TOGETHER,
        "labels_a_request": api.MOST_LABELS, "samples_a_request": api.MOST_SAMPLES,
        "mqtt_waiting": mqtt.MOST_WAITING, "mqtt_waiting_bytes": mqtt.MOST_WAITING_BYTES,
        "mqtt_bytes": mqtt.MOST_BYTES,
    }  # fmt: skip
