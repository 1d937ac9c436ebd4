"""Trials: one seed of one task, in parts that are kept on disk, so that a stopped run goes on.

Each part is a function of task, data and seed that returns plain numbers. Its result is a small
JSON file under ``OUT/trials``; a file of another version is refused, never mixed in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from skip2lora.adapt import adapt
from skip2lora.adapted import AdaptedModel
from skip2lora.backbones.mlp import MLP
from skip2lora.datasets import Split
from skip2lora.errors import MissingExtraError, ModelError
from skip2lora.files import WRITTEN, make_folder, write_bytes
from skip2lora.limits import check_file
from skip2lora.methods import METHODS
from skip2lora.paper.protocol import (
    BATCH_SIZE,
    LEARNING_RATE,
    RANK,
    RECIPES,
    TASKS,
    load_split,
    new_network,
    pretrained,
)
from skip2lora.system import n_cores
from skip2lora.training.loop import EpochReport
from skip2lora.training.pretraining import pretrain

VERSION = 1
TUNED = "skip2-lora (tuned)"
_VALIDATION = 0.2

Numbers = dict[str, Any]


@lru_cache(maxsize=1)
def _split(task: str, data: Path) -> Split:
    return load_split(task, data)


@lru_cache(maxsize=1)
def _pretrained(task: str, data: Path, seed: int) -> MLP:
    """Several parts of one trial start from the same network."""
    return pretrained(_split(task, data), TASKS[task], seed)


def before_after(task: str, data: Path, seed: int) -> Numbers:
    """Table 3: the pre-trained network, and one trained on the fine-tune samples alone."""
    split = _split(task, data)
    scratch = pretrain(
        new_network(split, seed), split.finetune.x, split.finetune.labels,
        epochs=TASKS[task].scratch_epochs, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE,
        seed=seed, standardize=False,
    )  # fmt: skip
    test = (split.test.x, split.test.labels)
    return {"before": _pretrained(task, data, seed).score(*test), "after": scratch.score(*test)}


def methods(task: str, data: Path, seed: int) -> Numbers:
    """Table 4: the eight methods by SGD."""
    return {name: _score(task, data, seed, method=name) for name in METHODS}


def tuned(task: str, data: Path, seed: int) -> Numbers:
    """Table 4's extra row: the recipe with the smallest loss on held-out fine-tune samples.

    In each trial the recipe is chosen without a look at the test samples; then all fine-tune
    samples train with it for the task's epochs. ``best_epoch`` is that of the held-out loss, told
    and not used.
    """
    best: tuple[float, int, Numbers] | None = None
    for recipe in RECIPES:
        tried = _fit(task, data, seed, validation=_VALIDATION, **recipe)
        history = tried.history
        if history is None:
            raise RuntimeError("adapt gave no history")
        loss = min(history.validation_loss)
        if best is None or loss < best[0]:
            best = (loss, history.best_epoch, recipe)
    if best is None:
        raise RuntimeError("there is no recipe")
    _, epoch, recipe = best
    accuracy = _score(task, data, seed, **recipe)
    return {TUNED: accuracy, "recipe": recipe, "best_epoch": epoch}


def curve(task: str, data: Path, seed: int) -> Numbers:
    """Figure 3: test accuracy of Skip2-LoRA after each epoch."""
    split, model = _split(task, data), _pretrained(task, data, seed)
    accuracy: list[float] = []

    def follow(report: EpochReport) -> None:
        now = AdaptedModel(model, report.result(), "skip2-lora")
        accuracy.append(now.score(split.test.x, split.test.labels))

    done = _fit(task, data, seed, callback=follow)
    timing = done.timing
    if timing is None:
        raise RuntimeError("adapt gave no timing")
    per_epoch = timing.training_ms / TASKS[task].epochs
    return {
        "accuracy": accuracy,
        "cache_fill_ms": timing.cache_fill_ms,
        "training_ms_an_epoch": per_epoch,
    }


def tinytl(task: str, data: Path, seed: int, norm: Literal["gn", "bn"]) -> Numbers:
    """Table 5: TinyTL with group norm or batch norm, and its learning curve."""
    try:
        import torch

        from skip2lora.paper.tinytl import PRETRAIN_EPOCHS, run_trial
    except ImportError as error:
        raise MissingExtraError(
            "TinyTL needs PyTorch: pip install 'skip2lora[paper]', or leave table 5 out"
        ) from error
    torch.set_num_threads(1)  # trials run side by side
    done = run_trial(
        _split(task, data), norm=norm, seed=seed, pretrain_epochs=PRETRAIN_EPOCHS[task]
    )
    return {**done._asdict(), "curve": [epoch._asdict() for epoch in done.curve]}


def _fit(task: str, data: Path, seed: int, **options: Any) -> AdaptedModel:
    split = _split(task, data)
    defaults = {"rank": RANK, "batch_size": BATCH_SIZE, "learning_rate": LEARNING_RATE}
    return adapt(
        _pretrained(task, data, seed), split.finetune.x, split.finetune.labels,
        seed=seed, **{"epochs": TASKS[task].epochs, **defaults, **options},
    )  # fmt: skip


def _score(task: str, data: Path, seed: int, **options: Any) -> float:
    test = _split(task, data).test
    return _fit(task, data, seed, **options).score(test.x, test.labels)


PARTS: dict[str, Callable[[str, Path, int], Numbers]] = {
    "before-after": before_after,
    "methods": methods,
    "tuned": tuned,
    "curve": curve,
    "tinytl-gn": partial(tinytl, norm="gn"),
    "tinytl-bn": partial(tinytl, norm="bn"),
}


def trial_file(out: Path, part: str, task: str, seed: int) -> Path:
    """Where the numbers of a part are kept."""
    return out / "trials" / f"{task}-{part}-{seed}.json"


def read_trial(file: Path) -> Numbers:
    """What was kept.

    Raises:
        ModelError: the file is damaged or of another version.
    """
    try:
        check_file(file, "a trial")
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{file} cannot be read ({error}), expected a trial: remove it to run it again"
        ) from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise ModelError(
            f"{file} is of another version, expected {VERSION} as it is not mixed with new trials: "
            "choose another folder or remove this one"
        )
    numbers = content.get("numbers")
    if not isinstance(numbers, dict):
        raise ModelError(f"{file} holds no numbers, expected a trial: remove it to run it again")
    return numbers


def _run_one(out: Path, part: str, task: str, data: Path, seed: int) -> None:
    numbers = PARTS[part](task, data, seed)
    text = json.dumps({"version": VERSION, "numbers": numbers}, indent=1)
    write_bytes(trial_file(out, part, task, seed), text.encode())


Job = tuple[str, str, int]  # part, task, seed


def run_trials(
    out: Path, data: Path, jobs: Iterable[Job], *, workers: int | None = None
) -> Iterator[Job]:
    """Run what is not there yet, side by side on all cores; yields each job when it is done.

    Raises:
        FileError, DataError: the data cannot be read.
        ModelError: a kept trial is damaged or of another version.
    """
    make_folder(out / "trials")
    missing = []
    for job in jobs:
        if trial_file(out, *job).exists():
            read_trial(trial_file(out, *job))
            yield job
        else:
            missing.append(job)
    if not missing:
        return
    count = min(workers or n_cores(), len(missing))
    # spawn: a fork of a process with a progress bar copies the locks of its threads
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        running = {
            pool.submit(_run_one, out, part, task, data, seed): (part, task, seed)
            for part, task, seed in missing
        }
        try:
            for done in as_completed(running):
                done.result()
                WRITTEN.append(trial_file(out, *running[done]))  # by another process
                yield running[done]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
