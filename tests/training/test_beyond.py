"""Rows that stay in a folder while adapters are trained on them: the same bits."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from filed import in_a_file
from skip2lora import _core
from skip2lora.adapt import adapt_and_measure
from skip2lora.adapters import store
from skip2lora.adapters.cached import rows_kept_in
from skip2lora.data.spooled import SpooledArray
from skip2lora.limits import VARIABLE
from skip2lora.training import beyond
from skip2lora.training.beyond import Blocks

WIDTHS, N = [9, 16, 5, 3], 61
STEPS: dict[str, Any] = {"solver": "steps", "epochs": 3, "batch_size": 7, "learning_rate": 0.02}


def bytes_of(adapted: Any) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in adapted.adapters.tensors().items()}


@pytest.mark.parametrize(
    "given",
    [
        {}, {"cache_samples": 20}, {"cache_samples": 0}, {"validation": 0.2},
        {"cache_samples": 20, "cache_policy": "lru"}, {"standardize": True},
        {"cache_dtype": "int8"}, {"method": "lora-last"}, {"solver": "exact", "penalty": 0.1},
    ],
    ids=str,
)  # fmt: skip
def test_samples_in_a_file_give_the_same_bits_and_are_never_read_at_once(
    given: dict[str, Any], backbone: Any, make_samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = make_samples(600, 9)
    options = {"method": "skip2-lora"} | given
    if "solver" not in given:
        steps = {name: value for name, value in STEPS.items() if name != "solver"}
        options = {"standardize": False} | steps | options
    expected = s2.adapt(backbone, x, y, **options)
    counts: list[int] = []
    own = SpooledArray.read
    monkeypatch.setattr(
        SpooledArray, "read", lambda self, places: counts.append(len(places)) or own(self, places)
    )
    adapted = s2.adapt(backbone, in_a_file(x), y, **options)
    assert bytes_of(adapted) == bytes_of(expected)
    assert adapted.history.loss == expected.history.loss
    assert adapted.history.n_forwards == expected.history.n_forwards
    stays = backbone.first_tap_is_input and options["method"] == "skip2-lora"
    rounded = "cache_dtype" in given  # but not the samples themselves
    assert max(counts) == 600 if stays and rounded else max(counts) <= 256


@pytest.fixture
def folder(tmp_path: Path) -> s2.CacheFolder:
    return s2.CacheFolder(tmp_path / "cache")


@pytest.fixture(params=["blocks", "rows"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Narrow rows, all of a test in one pair of blocks, or wide ones."""
    if request.param == "rows":
        monkeypatch.setattr(beyond, "NARROW", 0)
    return str(request.param)


@pytest.mark.parametrize(
    "given",
    [
        {}, {"standardize": True}, {"standardize": False},
        {"standardize": False, "validation": 0.2},
        {"validation": 0.2, "patience": 2}, {"optimizer": "adam", "schedule": "cosine"},
        {"method": "lora-last"}, {"keep_outputs": False}, {"class_weight": "balanced"},
    ],
    ids=str,
)  # fmt: skip
def test_the_same_bits_as_in_memory(
    given: dict[str, Any], way: str, backbone: Any, make_samples: Any, folder: s2.CacheFolder
) -> None:
    x, y = make_samples(N, 9)
    options = {"method": "skip2-lora", **{k: v for k, v in STEPS.items() if k != "solver"}, **given}
    full, fit = adapt_and_measure(backbone, x, y, **options)
    n_held = round(N * given.get("validation", 0))
    for number, capacity in enumerate((0, 20, 1)):
        kept, of_kept = adapt_and_measure(
            backbone, x, y, cache=folder, cache_samples=capacity, **options
        )
        assert bytes_of(kept) == bytes_of(full)
        assert kept.history.loss == pytest.approx(full.history.loss, rel=1e-12)
        assert kept.history.validation_loss == full.history.validation_loss
        assert of_kept == fit
        assert kept.history.n_forwards == (0 if number else N)
        use, n_rows = kept.history.cache, (N - n_held) * len(full.history.loss)
        assert (use.capacity, use.on_disk) == (capacity, True)
        assert use.hits + use.misses == use.forwards_saved == n_rows
        assert use.misses >= n_rows - capacity * len(full.history.loss)
        if capacity == 0:
            assert kept.cache_bytes == 0
            assert use.misses == n_rows


def test_numbers_to_learn(
    way: str, make_model: Any, make_samples: Any, folder: s2.CacheFolder
) -> None:
    x, _ = make_samples(N, 9)
    y = x[:, :3] * [1, 2, 3]
    options = STEPS | {"task": "regression", "sample_weight": np.arange(1.0, N + 1)}
    model = make_model(WIDTHS)
    full = s2.adapt(model, x, y, **options)
    kept = s2.adapt(model, x, y, cache=folder, cache_samples=10, **options)
    assert bytes_of(kept) == bytes_of(full)
    assert kept.fit == full.fit


@pytest.mark.parametrize("policy", ["fifo", "lru"])
def test_policies(policy: str, make_model: Any, make_samples: Any, folder: s2.CacheFolder) -> None:
    (x, y), model = make_samples(N, 9), make_model(WIDTHS)
    full = s2.adapt(model, x, y, **STEPS)
    kept = s2.adapt(model, x, y, cache=folder, cache_samples=9, cache_policy=policy, **STEPS)
    assert bytes_of(kept) == bytes_of(full)
    assert kept.history.n_forwards == N


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beyond, "BLOCK", 9)  # so 7, of batches of 7
    monkeypatch.setattr(store, "_MOST_OPEN", 2)


def in_small_shards(folder: s2.CacheFolder, model: Any, x: Any) -> None:
    for at in range(0, len(x), 5):
        with rows_kept_in(folder, model) as (_, filling):
            filling.rows(x[at : at + 5])


@pytest.mark.usefixtures("small_blocks")
def test_blocks_of_rows_in_memory_give_the_same_bits(
    make_model: Any, make_samples: Any, folder: s2.CacheFolder
) -> None:
    (x, y), model = make_samples(N, 9), make_model(WIDTHS)
    in_small_shards(folder, model, x)
    full = s2.adapt(model, x, y, **STEPS)
    several = [
        s2.adapt(model, x, y, cache=folder, cache_samples=size, **STEPS) for size in (0, 30, N - 1)
    ]
    assert len(list(folder.path.glob("*.npy"))) == 13
    for one in several:
        assert bytes_of(one) == bytes_of(several[0])
        assert one.history.loss == several[0].history.loss
        assert one.history.n_batches == full.history.n_batches  # no short ones but the last
    assert several[1].history.cache.misses == 3 * 31
    assert bytes_of(several[0]) != bytes_of(full)  # another order, as the documentation says
    assert several[0].history.loss[-1] == pytest.approx(full.history.loss[-1], rel=0.2)
    other = s2.adapt(model, x, y, cache=folder, cache_samples=0, seed=1, **STEPS)
    assert bytes_of(other) != bytes_of(several[0])


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows are read from a folder, each time."""
    counts: list[int] = []
    read = store.Places.read
    monkeypatch.setattr(
        store.Places, "read", lambda self, out: counts.append(len(self)) or read(self, out)
    )
    return counts


@pytest.mark.parametrize("given", [{}, {"method": "lora-last"}, {"keep_outputs": False}], ids=str)
@pytest.mark.usefixtures("small_blocks")
def test_scaling_needs_no_pass_where_files_have_the_statistics(
    given: dict[str, Any], backbone: Any, make_samples: Any, folder: s2.CacheFolder,
    rows_read: list[int], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    x, y = make_samples(N, 9)
    x = x + np.float32(3)
    options = {k: v for k, v in STEPS.items() if k != "solver"}
    options |= {"method": "skip2-lora", "standardize": True, "cache": folder} | given
    in_small_shards(folder, backbone, x)

    def adapted(capacity: int, order: Any = slice(None), **more: Any) -> Any:
        rows_read.clear()
        return s2.adapt(backbone, x[order], y[order], cache_samples=capacity, **options | more)

    one = adapted(0)
    measuring = sum(rows_read) - 3 * N  # once more for that
    assert measuring in (0, N)
    assert bytes_of(adapted(20)) == bytes_of(one)
    with monkeypatch.context() as patched:
        patched.setattr(store.Places, "moments", lambda _: None)
        other = adapted(0)
        assert sum(rows_read) == 4 * N + measuring
    for name, array in one.adapters.tensors().items():
        np.testing.assert_allclose(array, other.adapters.tensors()[name], rtol=1e-4, atol=1e-5)
    assert one.history.loss == pytest.approx(other.history.loss, rel=1e-6)
    for passes in (
        {"order": slice(0, N - 2)},  # some of a file
        {"order": np.r_[0:N, 0]},  # one twice
        {"sample_weight": np.arange(1.0, N + 1)},
    ):
        adapted(0, **passes)
        count = len(x[passes.get("order", slice(None))])
        assert sum(rows_read) == 4 * count + (count if measuring else 0)


@pytest.mark.usefixtures("small_blocks")
def test_a_run_that_goes_on_has_the_same_bits(
    make_model: Any, make_samples: Any, folder: s2.CacheFolder, tmp_path: Path
) -> None:
    (x, y), model = make_samples(N, 9), make_model(WIDTHS)
    options = STEPS | {"cache": folder, "cache_samples": 0}
    whole = s2.adapt(model, x, y, **options)
    checkpoint = s2.Checkpoint(tmp_path / "run", every=0)

    def stop(report: s2.EpochReport) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        s2.adapt(model, x, y, checkpoint=checkpoint, callback=stop, **options)
    assert bytes_of(s2.adapt(model, x, y, checkpoint=checkpoint, **options)) == bytes_of(whole)


@pytest.mark.parametrize(
    ("n_samples", "batch_size"), [(61, 7), (14, 7), (13, 7), (7, 7), (60, 20), (61, 1), (9, 9)]
)
@pytest.mark.usefixtures("small_blocks")
def test_pairs_of_blocks(n_samples: int, batch_size: int) -> None:
    places: Any = range(n_samples)
    blocks = Blocks(None, None, places, None, batch_size)  # type: ignore[arg-type]
    size = max(1, 9 // batch_size) * batch_size
    orders = set()
    for seed in range(8):
        pairs = [*blocks.pairs(seed)]
        assert all(len(pair) == 2 for pair in pairs[:-1])
        ends = [(block.start, block.stop) for pair in pairs for block in pair]
        starts, stops = zip(*sorted(ends), strict=True)
        assert [*starts, n_samples] == [0, *stops]  # each sample once
        assert all(start == size * number for number, start in enumerate(starts))
        assert n_samples - starts[-1] < 2 * size
        assert [sorted(pair, key=lambda block: block.start) for pair in pairs] == pairs
        orders.add(tuple(ends))
    assert (len(orders) > 1) == (n_samples >= 3 * size)  # at random


@pytest.mark.usefixtures("small_blocks")
def test_what_comes_next_is_announced(
    way: str,
    make_model: Any,
    make_samples: Any,
    folder: s2.CacheFolder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (x, y), model, heard = make_samples(N, 9), make_model(WIDTHS), []
    monkeypatch.setattr(store.Places, "announce", lambda of: heard.append(len(of)))
    options = STEPS | {"epochs": 1, "cache": folder}
    s2.adapt(model, x, y, cache_samples=0, **options)
    if way == "rows":
        assert heard == [7] * 8 + [5]
    else:
        assert sum(heard) in range(N - 19, N - 13)  # all but the first pair
    heard.clear()
    s2.adapt(model, x, y, cache_samples=N - 1, **options)
    assert sum(heard) <= 1


def test_the_system_is_asked_for_rows(
    make_model: Any, make_samples: Any, folder: s2.CacheFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (x, y), asked = make_samples(N, 9), []
    monkeypatch.setattr(beyond, "NARROW", 0)
    monkeypatch.setattr(store, "announce", lambda _, *of: asked.append(of))
    adapted = s2.adapt(make_model(WIDTHS), x, y, cache=folder, cache_samples=0, **STEPS)
    row = 4 * (16 * 4)  # taps of 9, 16 and 5 floats and 3 logits, each padded
    places = sorted(
        place
        for offset, size in asked
        for place in range((offset - 128) // row, (offset - 128 + size) // row)
    )
    assert places == sorted([*range(N)] * 3)
    assert all((offset - 128) % row == size % row == 0 for offset, size in asked)
    assert adapted.history.n_forwards == N


def test_errors_of_an_announcement_end_the_epoch() -> None:
    layout = _core.RowLayout((4,), 3, False)
    adapter = _core.SkipAdapter(layout, 2)
    adapter.init(0)
    trainer = _core.SkipTrainer(adapter, 4, _core.Optimizer(_core.SGD), 0)
    none, calls = np.zeros((0, layout.row_stride), np.float32), itertools.count()

    def announce(samples: Any) -> None:
        if len(samples) < 4:
            raise LookupError

    source = _core.RowSource(
        layout, none, np.zeros(0, np.uint8), lambda *_: print(next(calls)), announce=announce
    )
    with pytest.raises(LookupError):
        trainer.epoch(np.zeros((14, 1), np.float32), np.zeros(14, np.int32), source, 0.1)
    assert next(calls) == 1  # of the batch before that announcement alone


@pytest.mark.parametrize("kind", ["samples", "training"])
def test_more_rows_than_memory_stay_where_they_are(
    kind: str,
    make_samples: Any,
    folder: s2.CacheFolder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (x, y), model = make_samples(N, 9), NumpyBackbone(WIDTHS, first_tap_is_input=False)
    options = STEPS | {"validation": 0.2 if kind == "samples" else 0.0, "standardize": True}
    full = s2.adapt(model, x, y, cache=folder, **options)
    assert not full.history.cache.on_disk
    monkeypatch.setenv(VARIABLE, str(4 * 64 * (N - 1)))
    kept = s2.adapt(model, x, y, cache=folder, **options)
    assert (kept.history.cache.on_disk, kept.history.cache.capacity) == (True, min(
        N - 1, kept.history.cache.n_samples
    ))  # fmt: skip
    assert bytes_of(kept) == bytes_of(full)


def test_exact_fits_need_all_rows(
    make_samples: Any, folder: s2.CacheFolder, monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    (x, y), model = make_samples(N, 9), NumpyBackbone(WIDTHS, first_tap_is_input=False)
    monkeypatch.setenv(VARIABLE, str(4 * 64 * N))
    message = refused(s2.DataError, s2.adapt, model, x, y, cache=folder)
    assert "61 samples of" in message
    assert "solver='steps'" in message
    assert model.n_forwards == 0


def test_projected_rows(make_samples: Any, folder: s2.CacheFolder) -> None:
    (x, y), model = make_samples(N, 9), NumpyBackbone(WIDTHS, first_tap_is_input=False)
    options = STEPS | {"projection": 2}
    full = s2.adapt(model, x, y, **options)
    kept = s2.adapt(model, x, y, cache=folder, cache_samples=0, **options)
    assert bytes_of(kept) == bytes_of(full)
    assert not kept.history.cache.on_disk
    assert kept.history.n_forwards == N


def test_progress_is_told_once(make_samples: Any, folder: s2.CacheFolder) -> None:
    (x, y), model = make_samples(N, 9), NumpyBackbone(WIDTHS, first_tap_is_input=False)
    told: list[tuple[int, int]] = []
    s2.adapt(
        model, x, y, cache=folder, cache_samples=0, progress=lambda *of: told.append(of), **STEPS
    )
    assert told == [(N, N)]


def test_some_samples_are_new_and_some_equal(
    make_samples: Any, folder: s2.CacheFolder, make_model: Any
) -> None:
    (x, y), model = make_samples(700, 9), make_model(WIDTHS)
    x[5], x[650] = x[300], x[2]
    s2.adapt(model, x[100:400], y[100:400], cache=folder, **STEPS)
    options = STEPS | {"epochs": 1}
    kept = s2.adapt(model, x, y, cache=folder, cache_samples=0, **options)
    assert kept.history.n_forwards == 399 - 1  # x[5] was there, x[650] is computed with x[2]
    assert bytes_of(kept) == bytes_of(s2.adapt(model, x, y, **options))
