"""A Skip-Cache with few entries: how many fit, what they save, and that no bit depends on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapt import adapt_and_measure
from skip2lora.adapters.rows import POLICIES, RowFormat, SkipCache
from skip2lora.backbones.recipe import PAPER
from skip2lora.errors import ParameterError
from skip2lora.methods import METHODS
from skip2lora.training.budget import capacity_of, check_cache
from skip2lora.training.options import resolve_options

WIDTHS, N = (8, 6, 5, 3), 40
STEPS: dict[str, Any] = {"method": "skip2-lora", "epochs": 5, "batch_size": 7}
Refused = Callable[..., str]


@pytest.fixture
def backbone() -> NumpyBackbone:
    return NumpyBackbone(WIDTHS, first_tap_is_input=True)


def bytes_of(adapted: Any) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in adapted.adapters.tensors().items()}


@pytest.mark.parametrize("scaled", [False, True], ids=["taps as they are", "scaled taps"])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("few", [{}, {"projection": 4}], ids=["whole", "projected"])
def test_a_bounded_cache_changes_no_bit(
    few: dict[str, Any], policy: str, scaled: bool, backbone: NumpyBackbone, make_samples: Any
) -> None:
    x, y = make_samples(N)
    options = STEPS | {"standardize": scaled, "validation": 0.25} | few
    full = s2.adapt(backbone, x, y, **options)
    n_trained, n_held = 30, 10
    for size in (0, 1, 11, 29, 30, 99):
        computed = backbone.n_forwards
        adapted = s2.adapt(backbone, x, y, **options, cache_samples=size, cache_policy=policy)
        assert bytes_of(adapted) == bytes_of(full)
        assert adapted.history.loss == full.history.loss
        assert adapted.history.validation_loss == full.history.validation_loss
        use = adapted.history.cache
        assert (use.policy, use.capacity) == (policy, min(size, n_trained))
        assert use.hits + use.misses == 5 * n_trained
        statistics = n_trained if scaled else 0  # need all rows once, which then are there
        assert adapted.history.n_forwards == use.misses + n_held + statistics
        if adapted.fit is None:  # nothing but training computed rows
            assert backbone.n_forwards - computed == adapted.history.n_forwards
        if policy == "pin":  # pinned + unpinned x epochs
            once = 0 if scaled else use.capacity
            assert use.misses == once + (n_trained - use.capacity) * 5


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("scaled", [False, True])
def test_rows_that_a_projection_was_found_from_count_in_a_limit(
    scaled: bool, policy: str, backbone: NumpyBackbone, make_samples: Any
) -> None:
    """All samples are its first part, and stay no longer than their first look-up."""
    x, y = make_samples(N)
    options = STEPS | {"standardize": scaled, "projection": 4}
    full = s2.adapt(backbone, x, y, **options)
    for size in (1500, 4096):
        adapted = s2.adapt(backbone, x, y, **options, cache_size=size, cache_policy=policy)
        assert bytes_of(adapted) == bytes_of(full)
        assert 0 < adapted.history.cache.capacity < N
        assert adapted.cache_bytes + adapted.cache_overhead_bytes <= size


@pytest.mark.parametrize("policy", POLICIES)
def test_results_are_measured_on_all_samples(
    policy: str, backbone: NumpyBackbone, make_samples: Any
) -> None:
    """Rows in the cache, wherever they lie, and the others computed once more."""
    x, y = make_samples(N)
    full, of_all = adapt_and_measure(backbone, x, y, **STEPS)
    before = backbone.n_forwards
    some, fit = adapt_and_measure(backbone, x, y, **STEPS, cache_samples=13, cache_policy=policy)
    assert fit.on_all.overall == of_all.on_all.overall
    assert fit.before.overall == of_all.before.overall
    assert backbone.n_forwards - before == some.history.n_forwards + N - 13
    assert bytes_of(full) == bytes_of(some)


def test_pinned_rows_save_most(backbone: NumpyBackbone, make_samples: Any) -> None:
    """In a fresh order an epoch a row is looked up again before it goes only by chance."""
    x, y = make_samples(N)
    hits = {
        policy: s2.adapt(
            backbone, x, y, **STEPS | {"epochs": 50}, cache_samples=20, cache_policy=policy
        ).history.cache.hits
        for policy in POLICIES
    }
    assert hits["pin"] == 49 * 20
    assert max(hits["lru"], hits["fifo"]) < 0.8 * hits["pin"]


# --- bytes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("n_held", [0, 4])
def test_a_size_holds_all_that_is_counted(
    policy: str, n_held: int, backbone: NumpyBackbone, refused: Refused
) -> None:
    rows = RowFormat.of(backbone)

    def capacity_for(n_bytes: int) -> int:
        options = resolve_options(
            PAPER, WIDTHS[:-1], N, cache_size=n_bytes, cache_policy=policy, method="skip2-lora"
        )
        return capacity_of(options, rows, N, n_held)

    message = refused(ParameterError, capacity_for, 1)
    least = int(message.partition("expected ")[2].split()[0])
    assert capacity_for(least) == 1
    assert "cache_size is" in refused(ParameterError, capacity_for, least - 1)
    for n_bytes in range(least, 60 * (rows.row_bytes + 1), 97):
        capacity = capacity_for(n_bytes)
        sizes = [
            sum(SkipCache.of(rows, N, count, policy).n_bytes) + n_held * (rows.row_bytes + 1)
            for count in (capacity, min(N, capacity + 1))
        ]
        assert sizes[0] <= n_bytes
        assert sizes[1] > n_bytes or capacity == N
    assert capacity == N


def test_a_size_in_words(make_samples: Any, backbone: NumpyBackbone) -> None:
    x, y = make_samples(N)
    some = s2.adapt(backbone, x, y, **STEPS, cache_size="4KiB")
    same = s2.adapt(backbone, x, y, **STEPS, cache_size=4096)
    assert some.history.cache == same.history.cache
    assert some.cache_bytes + some.cache_overhead_bytes <= 4096
    assert 4096 - some.cache_bytes - some.cache_overhead_bytes < 193
    none = s2.adapt(backbone, x, y, **STEPS, cache_size=0)
    assert (none.history.cache.capacity, none.cache_bytes) == (0, 0)


# --- what does not go together ---------------------------------------------------------------


def test_cache_where_it_is_valid(refused: Refused) -> None:
    for name, method in METHODS.items():
        assert check_cache(method, {}) is (name == "skip2-lora")
        assert check_cache(method, {"cache": False}) is False
        for asked in ({"cache": True}, {"cache_samples": 3}, {"cache_size": 3}):
            if method.freezes_below:
                assert check_cache(method, asked) is True
            else:
                message = refused(ParameterError, check_cache, method, asked)
                assert f"{name} updates" in message
                assert "obsolete (section 4.2)" in message


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"cache_samples": -1}, "cache_samples is -1, expected a whole number from 0"),
        ({"cache_samples": 2.5}, "cache_samples is 2.5, expected a whole number from 0"),
        ({"cache_size": -1}, "cache_size is -1, expected a whole number from 0"),
        ({"cache_size": "lots"}, "cache_size is 'lots', expected bytes such as 65536, 64KiB"),
        ({"cache_size": "9"}, "cache_size is 9 bytes, expected 193 or more for one row"),
        (
            {"cache_size": 400, "validation": 0.25},
            "cache_size is 400 bytes, expected 2123 or more for one row beside 10 rows held out",
        ),
        ({"cache_samples": 3, "cache_policy": "mru"}, "cache_policy is 'mru', expected one of pin"),
        ({"cache_policy": "lru"}, "cache_policy is lru for a cache of all rows, expected a limit"),
        ({"cache_samples": 3, "cache_size": 999}, "cache_samples is 3 beside cache_size 999"),
        ({"cache_samples": 3, "cache": False}, "cache_samples is 3 with cache off, expected one"),
        ({"cache_samples": 3, "recipe": "auto"}, "cache_samples is 3 with recipe='auto'"),
        ({"cache_size": 3, "solver": "exact"}, "cache_size is 3 beside solver='exact'"),
        ({"cache_samples": 3, "suspects": True}, "cache_samples is 3 beside old samples or"),
    ],
    ids=str,
)  # fmt: skip
def test_refused(
    asked: dict[str, Any], said: str, backbone: NumpyBackbone, make_samples: Any, refused: Refused
) -> None:
    x, y = make_samples(N)
    message = refused(ParameterError, s2.adapt, backbone, x, y, **asked)
    assert said in message
    assert backbone.n_forwards == 0


def test_a_limit_beside_old_samples(
    backbone: NumpyBackbone, make_samples: Any, refused: Refused
) -> None:
    x, y = make_samples(N)
    message = refused(ParameterError, s2.adapt, backbone, x, y, keep=(x[:9], y[:9]), cache_size=999)
    assert "cache_size is 999 beside old samples or suspects, which need" in message
    assert "pass keep=False" in message


def test_nothing_is_counted_where_there_are_no_rows(make_samples: Any, make_model: Any) -> None:
    x, y = make_samples(N)
    model = make_model(WIDTHS)
    assert s2.adapt(model, x, y, method="lora-all", epochs=1).history.cache is None
    assert s2.adapt(model, x, y).history.cache is None  # solved exactly
    last = s2.adapt(
        model, x, y, method="ft-last", epochs=3, cache_samples=9, cache_policy="lru"
    ).history
    assert last.cache.hits == 3 * N - last.n_forwards > 0
    whole = s2.adapt(model, x, y, method="ft-last", epochs=3)
    assert np.array_equal(whole.history.loss, last.loss)
