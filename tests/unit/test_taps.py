from __future__ import annotations

import numpy as np
import pytest

from skip2lora.backbones.taps import Tap, averaging, rows_of


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("places", [(9, 8), (7, 4), (130, 131), (1, 90000)])
def test_maps_of_any_size(places: tuple[int, int], channels_last: bool) -> None:
    """Small maps and large ones, which are averaged in another way; one by one and together."""
    channels, grid = 17, (min(4, places[0]), min(3, places[1]))
    values = np.random.default_rng(0).normal(size=(2, channels, *places)).astype(np.float32)
    rows, columns = (averaging(n, kept) for n, kept in zip(places, grid, strict=True))
    want = np.einsum("ncij,gi,hj->ncgh", values.astype(np.float64), rows, columns)
    shape = (*places, channels) if channels_last else (channels, *places)
    tap = Tap("layer", "tensor", "map", shape, channels_last, grid)
    given = np.moveaxis(values, 1, -1).copy() if channels_last else values
    made = rows_of(tap, given)
    assert made.shape == (2, tap.width)
    np.testing.assert_allclose(made, want.reshape(2, -1), rtol=0, atol=2e-6)
    assert rows_of(tap, given[1:])[0].tobytes() == made[1].tobytes()
