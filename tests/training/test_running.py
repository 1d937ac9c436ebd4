"""What stands in for a model while it is adapted: rows are kept, and progress is told of all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.data.lazy import LazySamples
from skip2lora.training.running import folder_of

Make = Callable[..., Any]


def test_progress_counts_rows_that_are_there_too(tmp_path: Path, make_samples: Make) -> None:
    x, y = make_samples(70, 12)
    model = NumpyBackbone([12, 8, 3], first_tap_is_input=False)
    more: dict[str, Any] = {"keep": (x[:20], y[:20]), "validation_data": (x[20:30], y[20:30])}
    seen: list[tuple[int, int]] = []
    for n_forwards in (70, 0):
        seen.clear()
        adapted = s2.adapt(
            model, x[30:], y[30:], cache=s2.CacheFolder(tmp_path), **more,
            progress=lambda *of: seen.append(of),
        )  # fmt: skip
        assert seen[-1] == (70, 70)
        assert [done for done, _ in seen] == sorted({done for done, _ in seen})
        assert adapted.history is not None
        assert adapted.history.n_forwards == n_forwards
        assert adapted.backbone.base is model


class Counted:
    """Samples in an array that are counted as they are read."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.n_read = array, 0
        self.shape, self.dtype = array.shape, array.dtype

    def read(self, places: np.ndarray) -> np.ndarray:
        self.n_read += len(places)
        return self.array[places]

    def digests(self, places: np.ndarray, known: object = None) -> list[bytes]:
        return [int(place).to_bytes(32, "little") for place in places]


def test_of_a_full_cache_no_sample_is_read(tmp_path: Path, make_samples: Make) -> None:
    x, y = make_samples(600, 12)
    model = NumpyBackbone([12, 8, 3], first_tap_is_input=False)
    source = Counted(x)
    for n_read in (600, 0):
        before = source.n_read
        samples: Any = LazySamples.of(source)
        s2.adapt(model, samples, y, cache=s2.CacheFolder(tmp_path))
        assert source.n_read - before <= n_read + 1  # the first is looked at, whether it fits
    assert model.n_forwards == 600


@pytest.mark.parametrize("method", ["ft-all", "lora-all", "ft-last"])
def test_a_folder_is_for_skip_adapters(method: str, tmp_path: Path, refused: Make) -> None:
    options = {"cache": s2.CacheFolder(tmp_path), "method": method}
    assert "use skip2-lora" in refused(s2.ParameterError, folder_of, options)
    for cache in (None, True, False):
        assert folder_of({**options, "cache": cache}) == (None, {**options, "cache": cache})
    folder, rest = folder_of({**options, "method": "lora-last"})
    assert folder is options["cache"]
    assert rest == {"method": "lora-last", "cache": None}
