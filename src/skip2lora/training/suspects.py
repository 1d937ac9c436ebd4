"""Suspects: labels that answers held out contradict, and which may be wrong."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skip2lora.errors import SuspectLabelsWarning, warn
from skip2lora.files import write_file
from skip2lora.tasks.task import softmax

#: A label of a lower probability is most likely wrong, or the sample is unlike all others.
UNLIKELY = 0.1
# Below this share of unlikely labels nothing is said: some are in every set of samples.
_SHARE, _FEW = 0.05, 3


@dataclass(frozen=True)
class Suspect:
    """A sample whose label is not what the others say of it.

    ``row`` counts the samples as they were passed, from 0. ``label`` is its label and ``answer``
    the class of the largest probability where the sample is held out; both by their names.
    ``probability`` is that of the answer, ``label_probability`` that of the label, 0 to 1.
    """

    row: int
    label: str
    answer: str
    probability: float
    label_probability: float


def suspects_in(
    logits: NDArray[np.float32],
    labels: NDArray[np.int32],
    names: Sequence[str],
    rows: NDArray[np.int64] | None = None,
) -> tuple[Suspect, ...]:
    """Those among samples with held-out ``logits``, (samples, n_outputs), the surest first.

    Samples that were never held out have NaN. ``rows`` are their numbers, by default their places.
    """
    judged = np.flatnonzero(~np.isnan(logits).any(axis=1))
    shares = softmax(logits[judged].astype(np.float64))
    own = shares[np.arange(len(judged)), labels[judged]]
    answers = shares.argmax(axis=1)
    against = np.flatnonzero(answers != labels[judged])
    against = against[np.argsort(own[against], kind="stable")]
    return tuple(
        Suspect(
            int(judged[at] if rows is None else rows[judged[at]]), names[labels[judged[at]]],
            names[answers[at]], float(shares[at].max()), float(own[at]),
        )
        for at in against
    )  # fmt: skip


def write_suspects(
    path: str | os.PathLike[str],
    suspects: Sequence[Suspect],
    files: Sequence[str] | None = None,
    rows: NDArray[np.int64] | None = None,
) -> None:
    """Write a ``.csv`` with a row for each; ``files`` are the names of all samples, if any.

    ``rows``, (samples,), are the numbers that samples have in their file, where some were left out.

    Raises:
        FileError: the system refused; ``path`` is as it was.
    """

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            known = [] if files is None else ["file"]
            writer.writerow(["row", *known, *(of.name for of in fields(Suspect)[1:])])
            for each in suspects:
                row = each.row if rows is None else int(rows[each.row])
                name = [] if files is None else [files[row]]
                writer.writerow([row, *name, *astuple(each)[1:]])

    write_file(path, write)


def warn_of_suspects(suspects: Sequence[Suspect], n_samples: int) -> None:
    """Say that labels look wrong, where many are unlikely."""
    unlikely = [each for each in suspects if each.label_probability < UNLIKELY]
    if len(unlikely) < _FEW or len(unlikely) <= _SHARE * n_samples:
        return
    first = unlikely[0]
    warn(
        f"{len(suspects):,} of {n_samples:,} labels are contradicted by answers held out, "
        f"{len(unlikely):,} of them with a probability below {UNLIKELY:.0%} for the label (row "
        f"{first.row}, from 0: {first.label}, answered {first.answer}), expected few: correct "
        "those that suspects=True lists, unless the task is that hard",
        SuspectLabelsWarning,
    )
