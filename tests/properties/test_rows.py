"""A sample's outputs have the same bits alone, in any batch, and at any place in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import skip2lora as s2

POOL = 1100  # more than every chunk the program cuts samples into
WIDTHS = ([9, 16, 5, 3], [33, 7, 2], [4, 17, 31, 1, 20], [70, 200, 9], [5, 3])


@pytest.fixture(scope="module", params=[*range(len(WIDTHS)), "adapted", "lora-all"])
def outputs(
    request: pytest.FixtureRequest, make_model: Any, make_samples: Any
) -> tuple[np.ndarray, Callable[[np.ndarray], list[np.ndarray]]]:
    """Samples, and what gives their outputs; the taps too for a network."""
    if isinstance(request.param, int):
        widths = WIDTHS[request.param]
        model = make_model(widths)

        def whole(x: np.ndarray) -> list[np.ndarray]:
            made = model.forward(x)
            return [model.logits(x), made.base_logits, *made.taps]

        return make_samples(POOL, widths[0])[0], whole
    method = "skip2-lora" if request.param == "adapted" else "lora-all"
    x, y = make_samples(POOL, 9)
    adapted = s2.adapt(make_model(WIDTHS[0]), x[:50], y[:50], method=method, epochs=3)
    return x, lambda x: [adapted.logits(x), adapted.predict_proba(x)]


def test_batches_of_1_to_70(outputs: Any) -> None:
    x, call = outputs
    expected = call(x)
    for size in range(1, 71):
        start = (37 * size) % (POOL - size)
        for found, every in zip(call(x[start : start + size]), expected, strict=True):
            assert found.tobytes() == every[start : start + size].tobytes(), size


@given(data=st.data())
def test_any_rows_in_any_order(outputs: Any, data: st.DataObject) -> None:
    x, call = outputs
    places = data.draw(st.lists(st.integers(0, POOL - 1), min_size=1, max_size=70))
    for found, every in zip(call(x[places]), call(x), strict=True):
        assert found.tobytes() == every[places].tobytes()


def test_chunks_of_the_whole(outputs: Any) -> None:
    x, call = outputs
    expected = call(x)
    for size in (63, 64, 65, 255, 256, 257, 1023, 1024, 1025):
        for found, every in zip(call(x[-size:]), expected, strict=True):
            assert found.tobytes() == every[-size:].tobytes(), size
