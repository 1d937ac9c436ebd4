"""Defaults of training."""

from __future__ import annotations

import pytest

from skip2lora import MLP
from skip2lora.backbones.recipe import ANY_MODEL, PAPER, Recipe


def test_the_papers_is_section_5_2() -> None:
    assert Recipe(epochs=300, learning_rate=0.01, optimizer="sgd", standardize=False) == PAPER
    assert PAPER.rank == 4
    assert MLP.create([3, 2]).recipe is PAPER


def test_any_other_model_is_trained_on_scaled_taps() -> None:
    """Taps of any scale: Adam and standardized taps; the paper's stay as they are."""
    assert ANY_MODEL.standardize
    assert not PAPER.standardize
    assert (ANY_MODEL.optimizer, ANY_MODEL.rank) == ("adam", PAPER.rank)
    with pytest.raises(TypeError):
        Recipe(300, 0.01, "sgd", False)  # fields have names
