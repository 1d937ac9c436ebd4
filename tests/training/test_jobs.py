"""What each method trains, updates and leaves alone, by name."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.adapters.adapters import LayerAdapters, SkipAdapters, TunedNetwork
from skip2lora.methods import METHODS

WIDTHS = (8, 7, 6, 3)
WEIGHTS = {f"layers.{k}.weight" for k in range(3)}
BIASES = {f"layers.{k}.bias" for k in range(3)}
NORMS = {f"layers.{k}.{name}" for k in range(2) for name in ("gamma", "beta")}
STATISTICS = {f"layers.{k}.{name}" for k in range(2) for name in ("mean", "var")}
# A hidden bias before batch statistics has gradient 0 (the batch mean takes it out): it may move by
# rounding, or not at all.
VOID = {"layers.0.bias", "layers.1.bias"}
#: method: (kind of result, trained tensors of the network, updated statistics, adapters)
EXPECTED: dict[str, tuple[type, set[str], set[str], set[str]]] = {
    "ft-all": (TunedNetwork, WEIGHTS | BIASES | NORMS, STATISTICS, set()),
    "ft-last": (TunedNetwork, {"layers.2.weight", "layers.2.bias"}, set(), set()),
    "ft-bias": (TunedNetwork, BIASES, STATISTICS, set()),
    "ft-all-lora": (TunedNetwork, WEIGHTS | BIASES | NORMS, STATISTICS, set()),
    "lora-all": (
        LayerAdapters, set(), STATISTICS,
        {f"layers.{k}.{name}" for k in range(3) for name in ("lora_a", "lora_b")},
    ),
    "lora-last": (SkipAdapters, set(), set(), {"taps.2.lora_a", "taps.2.lora_b"}),
    "skip-lora": (
        SkipAdapters, set(), set(),
        {f"taps.{k}.{name}" for k in range(3) for name in ("lora_a", "lora_b")},
    ),
    "skip2-lora": (
        SkipAdapters, set(), set(),
        {f"taps.{k}.{name}" for k in range(3) for name in ("lora_a", "lora_b")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_by_name(method: str, make_model: Any, make_samples: Any) -> None:
    kind, trained, updated, adapters = EXPECTED[method]
    model = make_model(WIDTHS)
    before = {name: array.tobytes() for name, array in model.tensors().items()}
    x, y = make_samples(60)
    adapted = s2.adapt(model, x, y, method=method, rank=2, epochs=5)
    assert {name: array.tobytes() for name, array in model.tensors().items()} == before
    assert type(adapted.adapters) is kind
    after = adapted.adapters.tensors()
    assert {name for name in after if "lora" in name} == adapters
    # Of LoRA-All the whole network can be looked at; skip adapters leave none to look at.
    whole = adapted.adapters.model.tensors() if kind is LayerAdapters else after
    network = {name: array for name, array in whole.items() if name in before}
    changed = {name for name, array in network.items() if array.tobytes() != before[name]}
    assert trained | updated >= changed >= (trained | updated) - VOID
    if kind is not SkipAdapters:
        assert set(network) == set(before)
    sizes = {name: array.size for name, array in (after | network).items()}
    assert adapted.trainable_parameters == sum(
        sizes[name] for name in trained | adapters
    ) + _merged(method, model)


def _merged(method: str, model: s2.MLP) -> int:
    """Adapter parameters that were trained and then merged into the weights."""
    if method != "ft-all-lora":
        return 0
    return sum(2 * (n_in + n_out) for n_in, n_out in pairwise(WIDTHS))


@pytest.mark.parametrize("method", ["ft-last", "lora-last", "skip-lora", "skip2-lora"])
def test_cache_changes_the_time_alone(method: str, make_model: Any, make_samples: Any) -> None:
    model, (x, y) = make_model(WIDTHS), make_samples(50)
    options: dict[str, Any] = {"method": method, "rank": 2, "epochs": 4}
    cached = s2.adapt(model, x, y, cache=True, **options)
    plain = s2.adapt(model, x, y, cache=False, **options)
    assert (cached.history.n_forwards, plain.history.n_forwards) == (50, 200)
    assert cached.cache_bytes > plain.cache_bytes == 0
    mine, theirs = cached.adapters.tensors(), plain.adapters.tensors()
    assert {k: v.tobytes() for k, v in mine.items()} == {k: v.tobytes() for k, v in theirs.items()}


@pytest.mark.parametrize("method", ["ft-all", "ft-last", "ft-bias", "ft-all-lora"])
def test_changed_network_is_saved_as_a_model(
    method: str, make_model: Any, make_samples: Any, tmp_path: Any
) -> None:
    x, y = make_samples(50)
    adapted = s2.adapt(make_model(WIDTHS), x, y, method=method, rank=2, epochs=3)
    adapted.save(tmp_path / "m")
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["model.safetensors"]
    back = s2.load(tmp_path / "m")
    np.testing.assert_array_equal(back.logits(x), adapted.logits(x))
