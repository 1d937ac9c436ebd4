"""How a trial of the paper is run: data, epochs and recipes (section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skip2lora.backbones.mlp import MLP
from skip2lora.datasets import Split, fan, har
from skip2lora.errors import FileError, ParameterError
from skip2lora.training.pretraining import pretrain

RANK, BATCH_SIZE, LEARNING_RATE, HIDDEN = 4, 20, 0.01, (96, 96)
_FAN_FOLDERS = ("cooling-fan", ".")
_HAR_PLACES = ("har", "har/har.npz", "har.npz", "UCI HAR Dataset", "UCI HAR Dataset.zip")


@dataclass(frozen=True)
class Experiment:
    """Epochs of section 5.2: pre-training, training from scratch ("After"), fine-tuning."""

    name: str
    pretrain_epochs: int
    scratch_epochs: int
    epochs: int


TASKS = {
    task.name: task
    for task in (
        Experiment("damage1", 100, 400, 300),
        Experiment("damage2", 100, 400, 300),
        Experiment("har", 300, 900, 600),
    )
}

#: Recipes that `skip2-lora (tuned)` chooses from, on a validation part of the fine-tune data.
RECIPES: tuple[dict[str, Any], ...] = (
    {"optimizer": "sgd", "learning_rate": 0.01, "schedule": "constant"},
    {"optimizer": "adam", "learning_rate": 0.001, "schedule": "constant"},
    {"optimizer": "adam", "learning_rate": 0.001, "schedule": "cosine"},
    {"optimizer": "adamw", "learning_rate": 0.001, "schedule": "cosine", "weight_decay": 0.1},
)


def load_split(task: str, data: Path) -> Split:
    """The task's data out of the folder ``data``.

    Raises:
        FileError: a recording or file is missing.
        DataError: one is damaged.
    """
    if task == "har":
        for place in _HAR_PLACES:
            if (data / place).exists():
                return har.load_task(data / place)
        raise FileError(
            f"{data} holds no HAR data, expected one of {', '.join(_HAR_PLACES)} in it: "
            "name the folder with data="
        )
    if task not in TASKS:
        raise ParameterError(f"task is {task!r}, expected one of {', '.join(TASKS)}: choose one")
    folder = next((data / name for name in _FAN_FOLDERS if (data / name).is_dir()), data)
    return fan.load_task(task, folder)


def new_network(split: Split, seed: int) -> MLP:
    """The paper's network with random weights: 256-96-96-3 or 561-96-96-6."""
    names = split.pretrain.class_names or ()
    widths = [split.pretrain.x.shape[1], *HIDDEN, len(names)]
    return MLP.create(widths, seed=seed, class_names=names)


def pretrained(split: Split, experiment: Experiment, seed: int) -> MLP:
    """Step (1) of section 5.2: trained on the pre-train samples."""
    return pretrain(
        new_network(split, seed), split.pretrain.x, split.pretrain.labels,
        epochs=experiment.pretrain_epochs, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE,
        seed=seed, standardize=False,
    )  # fmt: skip
