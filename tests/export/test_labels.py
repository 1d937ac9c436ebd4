"""Ends that say what is predicted, and those that say how likely it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from skip2lora.backbones.ends import End
from skip2lora.export.labels import decides
from skip2lora.tasks.task import softmax


@pytest.mark.parametrize(
    ("ending", "says", "whether"),
    [
        ("softmax", lambda z: z.argmax(axis=1), True),
        ("sigmoid", lambda z: z > 0, True),
        ("sigmoid", lambda z: (z > 0).astype(np.float32), True),
        ("softmax", softmax, False),
        ("sigmoid", lambda z: 1 / (1 + np.exp(-z)), False),
        ("softmax", lambda z: np.rint(255 * softmax(z)) / 255, False),  # rounded to a few levels
        ("labels", None, True),
        ("logits", None, False),
    ],
)
def test_what_decides(ending: str, says: Callable[[Any], Any] | None, whether: bool) -> None:
    assert decides(End("logits", ending, says=says)) is whether
