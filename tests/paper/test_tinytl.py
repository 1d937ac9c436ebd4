"""TinyTL on ProxylessNAS-Mobile: structure, what trains, a small task, determinism."""

from __future__ import annotations

import re
from typing import Any

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
    options = {"norm": "bn", "seed": 3, "pretrain_epochs": 1, "most_epochs": 1}
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
@pytest.mark.parametrize(("norm", "epochs"), [("gn", 5), ("bn", 24)])
def test_learns_a_small_task(norm, epochs):
    calls = []
    result = trial(
        small_task(),
        norm=norm,
        pretrain_epochs=4,
        most_epochs=epochs,
        batch_size=10,
        callback=lambda *call: calls.append(call),
    )
    assert result.accuracy > 0.9
    assert [call[:2] for call in calls] == [
        *(("pretrain", epoch) for epoch in range(1, 5)),
        *(("finetune", epoch) for epoch in range(1, epochs + 1)),
    ]
    assert min(call[2] for call in calls[5:]) < calls[4][2]


class Counter:
    """Stands for the network and its training: its weight counts epochs."""

    def __init__(self):
        self.network, self.weight, self.seen = self, 0, []

    def optimizer(self, rate):
        return rate

    def epoch(self, samples, rate):
        self.seen.append(samples)
        self.weight += 1
        return 0.0

    def state_dict(self):
        return {"weight": self.weight}

    def load_state_dict(self, state):
        self.weight = state["weight"]


def test_ends_when_held_out_samples_no_longer_improve(monkeypatch):
    """Four epochs without a lower loss: back to the best weights, and on at a lower rate."""
    losses = iter([5.0, 4.0, 3.0, 3.0, 3.5, 3.0, 9.0, 2.5, 2.6, 2.6, 2.6, 2.6, 7.0, 7.0, 7.0, 7.0])
    test = object()
    monkeypatch.setattr(
        tinytl, "_judge", lambda _, part: (0.0, 0.4) if part is test else (next(losses), 0.8)
    )
    counter = Counter()
    curve, best = tinytl._finetune(counter, ("trained", "held out"), test, 1000, None)
    assert [epoch.rate for epoch in curve] == [0.005] * 7 + [0.001] * 5 + [0.0002] * 4
    assert set(counter.seen) == {"trained"}
    assert best == 8
    assert counter.weight == 4  # three epochs, and the eighth from there
    assert [n for n, epoch in enumerate(curve, 1) if epoch.tested is not None] == [1, 2, 5, 10]


def test_runs_of_neighbours_are_held_out():
    split = small_task(n_rows=150)
    trained, held = tinytl._parts(split.finetune, 3)
    assert (len(trained.x), len(held.x)) == (120, 30)
    places = [int(np.flatnonzero((split.finetune.x == row).all(axis=1))[0]) for row in held.x]
    assert places == [place for place in range(150) if place // 6 % 5 == 3]
    assert not np.isin(held.x[:, 0], trained.x[:, 0]).any()
    other = tinytl._parts(split.finetune, 4)[1]
    assert not np.isin(held.x[:, 0], other.x[:, 0]).any()


def test_no_test_sample_decides():
    split = small_task()
    other = Samples(split.test.x[::-1].copy(), np.roll(split.test.labels, 1))
    curves = [
        [epoch._replace(tested=None) for epoch in trial(part, most_epochs=2).curve]
        for part in (split, split._replace(test=other))
    ]
    assert curves[0] == curves[1]


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
        ({"most_epochs": 0}, "most_epochs is 0"),
        ({"seed": -1}, "seed is -1, expected a whole number from 0 to 9223372036854775807"),
        ({"seed": 1 << 63}, "seed is 9223372036854775808, expected a whole number from 0"),
        ({"batch_size": 1}, "batch_size is 1"),
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
    with pytest.raises(DivergedError, match="loss is nan after an epoch"):
        trial(split)


def test_the_share_that_is_right() -> None:
    """Of answers above and below the label none counts."""
    logits = torch.eye(4)[[0, 3, 1, 1, 2]]

    class Fixed:
        eval = staticmethod(lambda: None)

        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            return logits[: len(images)]

    network: Any = Fixed()
    samples = Samples(np.zeros((5, 256), np.float32), np.array([0, 2, 2, 1, 1]))
    loss, share = tinytl._judge(network, samples)
    assert share == 2 / 5
    assert loss == pytest.approx(float(np.log(np.exp(1) + 3) - 2 / 5))
