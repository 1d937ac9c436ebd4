"""Defaults of training for one kind of model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The defaults of training for one kind of model."""

    rank: int = 4
    epochs: int
    learning_rate: float
    optimizer: str
    standardize: bool


#: Section 5.2, for the networks of the paper; and what works unchanged on any other model.
PAPER = Recipe(epochs=300, learning_rate=0.01, optimizer="sgd", standardize=False)


ANY_MODEL = Recipe(epochs=50, learning_rate=0.001, optimizer="adam", standardize=True)
