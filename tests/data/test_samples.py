"""Samples and their labels."""

from __future__ import annotations

import numpy as np
import pytest

from skip2lora.data.samples import Samples
from skip2lora.errors import DataError


def test_labels_where_they_are_needed() -> None:
    x, y = np.zeros((2, 3), np.float32), np.array([0, 1])
    assert Samples(x, y).labels is y
    with pytest.raises(DataError, match="the samples have no labels, expected one each"):
        _ = Samples(x).labels
