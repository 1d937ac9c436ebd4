"""Lab sets: a few rows of the old domain that lie beside a model, so that adapting keeps it.

Rows are what the frozen layers computed, and not samples: of most models no sample leaves the lab.
The first tap of an ``MLP`` is the sample itself, which its rows hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora.adapters.folder import Tapping
from skip2lora.adapters.rows import RowFormat, SkipCache
from skip2lora.arrays import SamplesLike, whole
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.known_rows import KnownRows
from skip2lora.backbones.standins import over
from skip2lora.errors import ModelError, brief
from skip2lora.files import Tensors, read_tensors, take, to_bytes, write_bytes
from skip2lora.tasks.labels import encode
from skip2lora.tasks.task import TASKS, Encoded, Outputs, Task, task_for
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.kmeans import representatives
from skip2lora.training.loop import checked
from skip2lora.training.skip_job import Scaling

KIND = "lab set"
#: Of a class, drawn at random where there are more: k-means compares each with each.
_MOST = 256


@dataclass(frozen=True, eq=False)
class LabSet:
    """Rows of a few samples of the old domain, with their answers; made for one model.

    ``taps`` are those of the model, (samples, tap_width) each, by the names of their ``layers``,
    and ``base_logits`` (samples, n_outputs). ``answers`` are places of outputs, (samples,) int32,
    or targets, (samples, n_outputs) float32. ``tapping`` is how the model was tapped, ``path`` the
    file it was read from.
    """

    layers: tuple[str, ...]
    taps: tuple[NDArray[np.float32], ...]
    base_logits: NDArray[np.float32]
    answers: NDArray[Any]
    task: Task
    fingerprint: str
    tapping: Tapping
    path: Path | None = None

    def __repr__(self) -> str:
        return f"LabSet({len(self)} samples, {len(self.taps)} taps, {self.task.name})"

    def __len__(self) -> int:
        return len(self.answers)

    @classmethod
    def of(
        cls,
        model: Backbone,
        X: SamplesLike,
        y: ArrayLike | Encoded,
        count: int = 10,
        *,
        task: str | None = None,
        seed: int = 0,
    ) -> LabSet:
        """The lab set of ``count`` samples of each class in ``X`` and ``y``, as :meth:`choose`.

        Both are as :func:`skip2lora.adapt` takes them; labels are those of ``model``.

        Raises:
            DataError: samples or labels that do not fit the model.
            ModelError: as :meth:`choose`.
            ParameterError: ``count`` is below 1.
        """
        count, learned = whole("count", count, 1), task_for(model, task)
        samples = checked(model, X)
        answers = encode(learned, y, len(samples), Outputs.of(model, learned)).y
        return cls.choose(model.base, CheckedSamples(samples, answers), learned, count, seed=seed)

    @classmethod
    def choose(
        cls, model: Backbone, part: CheckedSamples, task: Task, count: int, *, seed: int = 0
    ) -> LabSet:
        """``count`` samples of each class of ``part``, or all of a class that has fewer.

        They are those nearest to the means that k-means finds among the scaled taps of a class; of
        a class of more than 256 samples among 256 of them. Where answers are numbers or several
        labels, so many samples are chosen for each of these.

        Raises:
            ModelError: the model gave other shapes than it announced, NaN or infinity.
        """
        random = np.random.Generator(np.random.PCG64(seed))
        pools = list(_pools(part.y, task, random))
        places = np.concatenate(pools)
        cache = SkipCache.of(RowFormat.of(model, copy_input=True), len(places))
        cache.fill(model, part.x[places])
        scaled = cache.floats.copy()
        Scaling.of(cache.format, [scaled]).apply(scaled)
        scaled = scaled[:, : cache.format.layout.logits_offset]
        per_class = count * (part.y.shape[1] if task.numeric_targets else 1)
        chosen, at = [], 0
        for pool in pools:
            own = scaled[at : at + len(pool)].astype(np.float64)
            chosen.append(at + representatives(own @ own.T, per_class, random))
            at += len(pool)
        rows = np.concatenate(chosen)
        known, layers = _known(cache.format).forward(cache.floats[rows]), model.taps
        taps = tuple(np.ascontiguousarray(tap) for tap in known.taps)
        return cls(
            tuple(tap.layer for tap in layers), taps, np.ascontiguousarray(known.base_logits),
            part.y[places[rows]], task, model.fingerprint, Tapping.of(model),
        )  # fmt: skip

    def rows_for(self, model: Backbone) -> tuple[Backbone, NDArray[np.float32]]:
        """What has these rows in the place of ``model``, which may be a stand-in, and its samples.

        Raises:
            ModelError: the lab set is of another model, or lacks a tap of this one.
        """
        base = model.base
        name = self.path or "the lab set"
        if base.fingerprint != self.fingerprint:
            raise ModelError(
                f"{name} is of the model {brief(self.fingerprint)}, got the model "
                f"{brief(base.fingerprint)}, expected the same: choose the lab set again, or leave "
                "it with keep=False"
            )
        row_format = RowFormat.of(base, copy_input=True)
        own = dict(zip(self.layers, self.taps, strict=True))
        tapping = replace(Tapping.of(base), taps=self.tapping.taps)
        for tap, width in zip(base.taps, base.tap_widths, strict=True):
            there = own.get(tap.layer)
            if there is None or there.shape[1] != width or tapping != self.tapping:
                raise ModelError(
                    f"{name} was made with other taps than those of the model, as that of "
                    f"{tap.layer}, {width} wide, expected the same: choose the lab set again, or "
                    "leave it with keep=False"
                )
        rows, known = row_format.empty(len(self)), _known(row_format)
        views = known.forward(rows)
        for tap, view in zip(base.taps, views.taps, strict=True):
            view[:] = own[tap.layer]
        views.base_logits[:] = self.base_logits
        return over(model, known), rows

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file of a lab set, whole or not at all.

        Raises:
            FileError: the system refused.
        """
        write_bytes(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """What :meth:`save` writes."""
        tensors = {f"taps.{number}": tap for number, tap in enumerate(self.taps)}
        tensors |= {"base_logits": self.base_logits, "answers": self.answers.astype(np.float32)}
        about = {
            "kind": KIND, "version": 1, "base_fingerprint": self.fingerprint,
            "task": self.task.name, "layers": list(self.layers), "tapping": self.tapping.to_json(),
        }  # fmt: skip
        return to_bytes(tensors, about)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> LabSet:
        """Read what :meth:`to_bytes` gave.

        Raises:
            FileError: missing or unreadable file.
            ModelError: damaged, or no lab set.
        """
        file = Path(path)
        tensors, about = read_tensors(file, kind=KIND)
        try:
            layers = tuple(map(str, about["layers"]))
            task, fingerprint = TASKS[str(about["task"])], str(about["base_fingerprint"])
            tapping = Tapping.from_json(about["tapping"])
            answers = tensors.pop("answers")
            taps, base_logits = _taken(file, tensors, len(layers), len(answers))
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise _damaged(file, error) from error
        if task.numeric_targets == (answers.ndim == 1) or tensors:
            raise _damaged(file, "other tensors than a lab set has")
        if not task.numeric_targets:
            n_classes = max(2, base_logits.shape[1])
            if not ((answers >= 0) & (answers < n_classes) & (answers % 1 == 0)).all():
                raise _damaged(file, "labels that the model does not have")
            answers = answers.astype(np.int32)
        return cls(layers, taps, base_logits, answers, task, fingerprint, tapping, file)


def _known(row_format: RowFormat) -> KnownRows:
    return KnownRows(row_format.tap_widths, row_format.n_outputs, row_format.layout)


def _taken(
    file: Path, tensors: Tensors, n_taps: int, n_samples: int
) -> tuple[tuple[NDArray[np.float32], ...], NDArray[np.float32]]:
    names = [*(f"taps.{number}" for number in range(n_taps)), "base_logits"]
    arrays = [take(file, tensors, name, (n_samples, tensors[name].shape[-1])) for name in names]
    return tuple(arrays[:-1]), arrays[-1]


def _damaged(file: Path, what: object) -> ModelError:
    return ModelError(
        f"{file}: its description is damaged ({what}), expected a lab set as it was written: "
        "copy it again"
    )


def _pools(
    answers: NDArray[Any], task: Task, random: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Places of the samples to choose from, class by class."""
    classes = np.zeros(len(answers)) if task.numeric_targets else answers
    for label in np.unique(classes):
        places = np.flatnonzero(classes == label)
        if len(places) > _MOST:
            places = np.sort(random.permutation(places)[:_MOST])
        yield places
