"""A network without its own outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conformance.numpy_backbone import NumpyBackbone
from skip2lora.backbones.standins import Headless

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


def test_headless_has_the_taps_and_no_outputs(backbone: Any, samples: Any) -> None:
    x, _ = samples
    headless = Headless(backbone, 2)
    made, whole = headless.forward(headless.check(x)), backbone.forward(x)
    for tap, want in zip(made.taps, whole.taps, strict=True):
        assert tap.tobytes() == want.tobytes()
    assert made.base_logits.shape == (60, 2)
    assert not made.base_logits.any()
    assert headless.tap_widths == backbone.tap_widths
    assert headless.fingerprint not in (backbone.fingerprint, Headless(backbone, 3).fingerprint)
