"""How good a result is on the samples that it was trained with, from what training computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapters.adapters import Result
from skip2lora.tasks.measures import Measures, measured
from skip2lora.tasks.task import Task, predictions_of
from skip2lora.training.jobs import CheckedSamples, Job


@dataclass(frozen=True)
class Fit:
    """The base model and the adapted one, measured on the same ``n_measured`` samples.

    These are the samples held out where there are any (``held_out``), else those trained on.
    ``before`` is None where the base model has no such outputs: new classes, or outputs that are
    learned anew. ``on_all`` is the adapted model on all samples, trained on and held out.
    """

    before: Measures | None
    after: Measures
    on_all: Measures
    held_out: bool
    n_measured: int


def measure_fit(
    job: Job,
    result: Result,
    task: Task,
    part: CheckedSamples,
    held: CheckedSamples | None,
    *,
    names: Sequence[str],
    with_base: bool,
) -> Fit:
    """Measure ``result`` of ``job`` by its rows; ``names`` are those of the outputs."""

    def on(outputs: NDArray[np.float32], answers: NDArray[Any]) -> Measures:
        return measured(task, predictions_of(task, outputs), answers, names)

    measured_on = part if held is None else held
    outputs = job.outputs(result, held_out=held is not None, with_base=with_base)
    after = on_all = on(outputs.adapted, measured_on.y)
    if held is not None:
        others = job.outputs(result, held_out=False, with_base=False).adapted
        on_all = on(np.concatenate([others, outputs.adapted]), np.concatenate([part.y, held.y]))
    before = None if outputs.base is None else on(outputs.base, measured_on.y)
    return Fit(before, after, on_all, held is not None, len(measured_on.y))
