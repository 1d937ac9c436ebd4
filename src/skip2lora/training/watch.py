"""A training run as it goes: its course, who follows it, and where it is kept meanwhile.

None of it changes the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skip2lora.adapters.adapters import Result
from skip2lora.arrays import real
from skip2lora.errors import FileError
from skip2lora.files import make_folder

FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """Where a run is kept, so that one that was stopped goes on and ends with the same bits.

    ``path`` is a folder, made where it is missing. What training by steps has come to is written
    there after an epoch if ``every`` seconds have passed (0: after each epoch), when the run is
    stopped, and at its end. With ``resume`` a run goes on from what is there, a finished one gives
    its result, and where there is nothing it begins. Without, what is there is refused.

    Raises:
        ParameterError: ``every`` is out of range.
    """

    path: str | os.PathLike[str]
    every: float = 1.0
    resume: bool = True

    def __post_init__(self) -> None:
        real("every", self.every, 0.0, 1e9, "of seconds, from 0 to 1e9")

    def prepare(self) -> Path:
        """Make the folder; the file of the checkpoint in it, which may be there.

        Raises:
            FileError: it is there, and not to go on from, or the system refused.
        """
        file = make_folder(self.path) / FILE
        if file.exists() and not self.resume:
            raise FileError(
                f"{file} is there already, of a run that was stopped or is done, expected none: "
                "pass resume=True to go on from it, or remove it"
            )
        return file


@dataclass(frozen=True, eq=False)
class EpochReport:
    """What a callback is told after each epoch.

    ``loss`` and ``accuracy`` (0 to 1) are means over the samples as they were seen in training;
    ``validation_loss`` is None without a validation part. ``result()`` makes a copy of what is
    being trained as it is now.
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    validation_loss: float | None
    result: Callable[[], Any]


Callback = Callable[[EpochReport], None]


@dataclass(frozen=True, eq=False)
class Watch:
    """``callback`` is told of each epoch, ``checkpoint`` says where epochs by steps are kept."""

    callback: Callback | None = None
    checkpoint: Checkpoint | None = None


NOBODY = Watch()


class Course:
    """Training by steps so far: one value an epoch.

    ``best_result`` is the one that did best on samples held out, after the epoch ``best``, from 0.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.accuracies: list[float] = []
        self.validation: list[float] = []
        self.n_batches = self.best = 0
        self.best_result: Result | None = None

    def is_best(self, validation_loss: float) -> bool:
        """Whether no epoch before had a loss as small as this one's, which is noted."""
        best = not self.validation or validation_loss < self.validation[self.best]
        self.best = len(self.validation) if best else self.best
        self.validation.append(validation_loss)
        return best
