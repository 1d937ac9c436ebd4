"""The one place where answers become what the core takes, for every task."""

from __future__ import annotations

from typing import Any

from skip2lora.errors import DataError
from skip2lora.tasks.answers import Answers, Encoded, Outputs, naming
from skip2lora.tasks.labels import encode_labels
from skip2lora.tasks.targets import ONE_COLUMN_AN_OUTPUT, encode_targets
from skip2lora.tasks.task import Task


def encode(
    task: Task,
    y: Any,
    n_samples: int,
    outputs: Outputs,
    *,
    new_outputs: bool = False,
    fix: str = ONE_COLUMN_AN_OUTPUT,
) -> Encoded:
    """Answers ``y`` of ``n_samples`` samples as ``outputs``, checked; what is encoded stays.

    ``new_outputs`` lets labels become outputs beside those there are, and columns any outputs;
    ``fix`` is what to do about targets of another shape.

    Raises:
        DataError: as :func:`~skip2lora.tasks.labels.encode_labels` and
            :func:`~skip2lora.tasks.targets.encode_targets`; after the name of the file, if any.
    """
    if isinstance(y, Encoded):
        if len(y.y) != n_samples:
            raise DataError(
                f"y has {len(y.y)} answers, expected {n_samples}, one a sample of X: "
                "pass the answers of these samples"
            )
        return y
    with naming(y.source if isinstance(y, Answers) else ""):
        if task.numeric_targets:
            outputs = Outputs() if new_outputs else outputs
            return encode_targets(task, y, n_samples, outputs, fix=fix)
        return encode_labels(y, n_samples, outputs, new_classes=new_outputs)
