"""TinyTL on ProxylessNAS-Mobile: structure, what trains, a small task, determinism."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed (extra 'paper')")

import torch

from skip2lora.data.samples import Samples
from skip2lora.datasets import Split
from skip2lora.errors import DataError, DivergedError, ParameterError
from skip2lora.paper import tinytl

N_CLASSES = 3


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_task(n_features: int = 256, n_rows: int = 60, shift: float = 0.5) -> Split:
    """Three classes with a bump at their own place; the new surroundings are offset."""
    rng = np.random.default_rng(0)

    def part(offset: float) -> Samples:
        y = np.arange(n_rows) % N_CLASSES
        x = 0.1 * rng.random((n_rows, n_features)) + offset
        for row, label in enumerate(y):
            x[row, 20 + 60 * label : 50 + 60 * label] += 1.0
        return Samples(x.astype(np.float32), y.astype(np.int64))

    return Split(part(0.0), part(shift), part(shift))


def trial(split: Split, **changes: object) -> tinytl.TinyTLResult:
    options = {"norm": "bn", "seed": 3, "pretrain_epochs": 1, "finetune_epochs": 1}
    return tinytl.run_trial(split, **(options | changes))


@pytest.mark.parametrize(
    ("n_features", "side"), [(1, 8), (64, 8), (65, 16), (256, 16), (257, 24), (561, 24), (577, 32)]
)
def test_vectors_become_padded_squares(n_features, side):
    x = np.arange(2 * n_features, dtype=np.float32).reshape(2, n_features) + 1
    images = tinytl.reshape_vectors(x)
    assert images.shape == (2, 1, side, side)
    flat = images.reshape(2, -1).numpy()
    np.testing.assert_array_equal(flat[:, :n_features], x)
    assert not flat[:, n_features:].any()


@pytest.mark.parametrize("norm", ["gn", "bn"])
def test_only_biases_lite_residuals_and_classifier_train(norm, monkeypatch):
    """The frozen parameters keep their bytes through fine-tuning; all others move."""
    networks, snapshots = [], []
    make, freeze = tinytl.tinytl_network, tinytl.freeze_for_tinytl

    def made(*arguments, **options):
        networks.append(make(*arguments, **options))
        return networks[0]

    def frozen(network):
        snapshots.append({n: p.detach().clone() for n, p in network.named_parameters()})
        freeze(network)

    monkeypatch.setattr(tinytl, "tinytl_network", made)
    monkeypatch.setattr(tinytl, "freeze_for_tinytl", frozen)
    result = trial(small_task(), norm=norm)
    kept, moved = set(), set()
    for name, parameter in networks[0].named_parameters():
        same = parameter.detach().numpy().tobytes() == snapshots[0][name].numpy().tobytes()
        (kept if same else moved).add(name)
    assert all(name.endswith((".weight", "lite.final_norm.bias")) for name in kept)
    assert not any(".lite." in name and name.endswith(".weight") for name in kept)
    allowed = re.compile(r".*\.bias|blocks\.\d+\.lite\..*|classifier\.weight")
    assert all(allowed.fullmatch(name) for name in moved)
    assert not any(name.endswith("lite.final_norm.bias") for name in moved)
    trainable = sum(networks[0].get_parameter(name).numel() for name in moved)
    assert trainable == result.n_trainable < result.n_parameters


# The running statistics of batch norm take some 50 batches to follow the new surroundings.
@pytest.mark.parametrize(("norm", "finetune_epochs"), [("gn", 5), ("bn", 12)])
def test_learns_a_small_task(norm, finetune_epochs):
    calls = []
    result = trial(
        small_task(),
        norm=norm,
        pretrain_epochs=4,
        finetune_epochs=finetune_epochs,
        batch_size=10,
        callback=lambda *call: calls.append(call),
    )
    assert result.accuracy > 0.9
    assert [call[:2] for call in calls] == [
        *(("pretrain", epoch) for epoch in range(1, 5)),
        *(("finetune", epoch) for epoch in range(1, finetune_epochs + 1)),
    ]
    assert calls[-1][2] < calls[4][2]


def test_same_seed_same_result_and_global_generator_untouched():
    split = small_task(n_rows=41)  # the last batch has one row
    torch.manual_seed(11)
    state = torch.get_rng_state()
    losses: list[list[float]] = []
    results = []
    for seed in (3, 3, 4):
        losses.append([])
        results.append(trial(split, seed=seed, callback=lambda *call: losses[-1].append(call[2])))
        assert torch.equal(torch.get_rng_state(), state)
        torch.rand(1)  # what the caller drew before must not matter
        state = torch.get_rng_state()
    assert results[0] == results[1]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "ln"}, "norm is 'ln'"),
        ({"pretrain_epochs": 0}, "pretrain_epochs is 0"),
        ({"finetune_epochs": 0}, "finetune_epochs is 0"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_options_are_named(changes, message):
    with pytest.raises(ParameterError, match=message):
        trial(small_task(), **changes)


def test_parts_of_different_width_are_refused():
    with pytest.raises(DataError, match="561 features, expected 256"):
        trial(small_task()._replace(test=small_task(561).test))


def test_divergence_is_named():
    split = small_task(n_rows=6)
    split.pretrain.x[0, 0] = np.nan
    with pytest.raises(DivergedError, match="loss is nan in epoch 1"):
        trial(split)
