"""Scaled taps: adapters learned on them, folded into the taps as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.adapters.rows import RowFormat
from skip2lora.training.skip_job import Scaling

WIDTHS = [9, 16, 5, 3]


@pytest.fixture(params=["MLP", "NumPy"])
def backbone(request: pytest.FixtureRequest, make_model: Any) -> Any:
    if request.param == "MLP":
        return make_model(WIDTHS)
    return NumpyBackbone(WIDTHS, first_tap_is_input=False)


@pytest.fixture
def samples(make_samples: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_samples(60, 9)
    return x * np.float32(5) + np.arange(9, dtype=np.float32) * 3, y.astype(np.int32)


def test_unfold_is_the_reverse_of_fold(backbone: Any, samples: Any) -> None:
    x, _ = samples
    rows = RowFormat.of(backbone, copy_input=True)
    made = rows.empty(60)
    rows.compute(backbone, x, made)
    scaling = Scaling.of(rows, [made], x[:, :3] * 50)
    random = np.random.default_rng(0)
    a = tuple(random.normal(size=(w, 2)).astype(np.float32) for w in rows.tap_widths)
    b = tuple(random.normal(size=(2, 3)).astype(np.float32) for _ in a)
    adapters = SkipAdapters(a, b, 0, np.float32([1, 2, 3]))
    again = scaling.unfold(scaling.fold(adapters)).tensors()
    for name, array in adapters.tensors().items():
        np.testing.assert_allclose(again[name], array, rtol=1e-4, atol=1e-4, err_msg=name)
