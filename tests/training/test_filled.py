"""A cache that many fill: each its part, and all together what one process computes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapters.rows import RowFormat
from skip2lora.data.lazy import LazySamples
from skip2lora.training.filled import part_of_shard
from training.test_running import Counted

Make = Callable[..., Any]


def numpy_model() -> NumpyBackbone:
    return NumpyBackbone([12, 8, 3], first_tap_is_input=False)


@pytest.mark.parametrize("n_samples", [0, 1, 7, 600])
@pytest.mark.parametrize("n_shards", [1, 2, 7, 16])
@pytest.mark.parametrize("first", [0, 1])
def test_shards_are_neighbours_and_all(n_samples: int, n_shards: int, first: int) -> None:
    parts = [part_of_shard(n_samples, (first + at, n_shards)) for at in range(n_shards)]
    places = sorted(place for start, end in parts for place in range(start, end))
    assert places == list(range(n_samples))
    sizes = [end - start for start, end in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("shard", [(5, 4), (-1, 4), (0, 0), (0, 1_000_001)])
def test_a_shard_that_cannot_be(shard: tuple[int, int], tmp_path: Path) -> None:
    model = numpy_model()
    with pytest.raises(s2.ParameterError, match=f"shard is {shard[0]}/{shard[1]}, expected"):
        s2.fill(model, np.ones((4, 12)), s2.CacheFolder(tmp_path), shard=shard)


@pytest.mark.parametrize("shard", [("a", 5), (0.5, 4), 3, (1, 2, 3), None, (1, None)])
def test_a_shard_that_is_no_pair_of_numbers(shard: Any, tmp_path: Path) -> None:
    with pytest.raises(s2.ParameterError, match="expected two whole numbers"):
        s2.fill(numpy_model(), np.ones((4, 12)), s2.CacheFolder(tmp_path), shard=shard)


def test_the_digest_is_of_all_rows_in_order(tmp_path: Path, make_samples: Make) -> None:
    x, y = make_samples(600, 12)
    model = numpy_model()
    layout = RowFormat.of(model, copy_input=True)
    rows = layout.empty(600)
    layout.compute(model, x, rows)
    expected = hashlib.sha256(rows.tobytes()).hexdigest()
    before, seen = model.n_forwards, []
    for number, n_forwards in [(2, 200), (0, 200), (2, 0), (1, 200), (1, 0)]:
        seen.clear()
        filled = s2.fill(
            model, x, s2.CacheFolder(tmp_path), shard=(number, 3),
            progress=lambda *of: seen.append(of),
        )  # fmt: skip
        assert filled.n_forwards == n_forwards
        assert filled.n_samples == 600
        assert filled.digest == (expected if number == 1 else None)
        assert seen[-1] == (200, 200)
    assert model.n_forwards - before == 600
    assert s2.fill(model, x, s2.CacheFolder(tmp_path)) == s2.Filled(600, 0, expected)
    other = s2.fill(model, x[::-1], s2.CacheFolder(tmp_path))
    assert other.n_forwards == 0
    assert other.digest != expected
    adapted = s2.adapt(model, x, y, cache=s2.CacheFolder(tmp_path), epochs=1)
    assert adapted.history is not None
    assert adapted.history.n_forwards == 0


def test_no_sample_of_another_shard_is_read(
    tmp_path: Path, make_samples: Make, make_model: Make
) -> None:
    x, _ = make_samples(600, 12)
    for name, model in (
        ("a", numpy_model()),
        ("b", make_model([12, 8, 3])),
    ):
        cache = s2.CacheFolder(tmp_path / name)
        source = Counted(x)
        samples: Any = LazySamples.of(source)
        s2.fill(model, samples, cache, shard=(2, 3))
        assert 200 <= source.n_read <= 202 + 256, name  # the first, for its shape; look for others


def test_what_was_computed_before_a_stop_stays(tmp_path: Path, make_samples: Make) -> None:
    x, _ = make_samples(600, 12)
    model = numpy_model()

    def stop(done: int, _: int) -> None:
        if done > 256:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        s2.fill(model, x, s2.CacheFolder(tmp_path), progress=stop)
    assert s2.fill(model, x, s2.CacheFolder(tmp_path)).n_forwards == 600 - 512


def test_of_a_network_of_the_core_samples_are_read_by_parts(
    tmp_path: Path, make_samples: Make, make_model: Make
) -> None:
    x, _ = make_samples(300, 12)
    model = make_model([12, 8, 3])
    one = s2.fill(model, x, s2.CacheFolder(tmp_path))
    samples: Any = LazySamples.of(Counted(x))
    with pytest.raises(s2.DataError, match="X has 5 columns"):
        s2.fill(model, x[:, :5], s2.CacheFolder(tmp_path))
    assert s2.fill(model, samples, s2.CacheFolder(tmp_path / "b")).digest == one.digest


def test_rows_that_others_computed_meanwhile_are_seen(tmp_path: Path, make_samples: Make) -> None:
    x, _ = make_samples(600, 12)
    model = numpy_model()

    def others(done: int, total: int) -> None:
        if done == total:
            s2.fill(model, x, s2.CacheFolder(tmp_path), shard=(1, 2))

    assert s2.fill(model, x, s2.CacheFolder(tmp_path), shard=(0, 2), progress=others).digest
