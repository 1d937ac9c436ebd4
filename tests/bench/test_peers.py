"""The other side of the comparison is the same network and learns the same adapters."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: make test TEST_GROUPS='test torch'")

import torch

import harness
import peers
import skip2lora as s2

NET = harness.Net((12, 8, 6, 3), 45, 10)


@pytest.fixture
def model():
    x, y = harness.random_data(NET)
    return s2.pretrain(s2.MLP.create(NET.widths), x, y, epochs=3)


def test_the_torch_network_gives_the_same_outputs(model):
    x, _ = harness.random_data(NET)
    network = peers.torch_network(model, lambda linear: linear).eval()
    np.testing.assert_allclose(
        network(torch.from_numpy(x)).detach().numpy(), model.logits(x), rtol=1e-4, atol=1e-5
    )
    assert not [name for name, of in network.named_parameters() if of.requires_grad]


def test_adapters_start_without_an_effect_and_are_all_that_trains(model):
    x, _ = harness.random_data(NET)
    samples = torch.from_numpy(x)
    plain = peers.torch_network(model, lambda linear: linear).eval()
    wrapped = peers.torch_network(model, peers.LoRALinear).eval()
    assert torch.equal(plain(samples), wrapped(samples))
    trained = {name.rpartition(".")[2] for name, p in wrapped.named_parameters() if p.requires_grad}
    assert trained == {"a", "b"}


def test_skip_adapters_on_taps(model):
    x, _ = harness.random_data(NET)
    skip = peers.SkipNet(model)
    taps, base = skip.taps(torch.from_numpy(x))
    made = model.forward(x)
    for tap, ours in zip(taps, made.taps, strict=True):
        np.testing.assert_allclose(tap.numpy(), ours, rtol=1e-4, atol=1e-5)
    torch.nn.init.ones_(skip.b[1])
    added = (skip.add(taps, base) - base).detach().numpy()
    expected = made.taps[1] @ skip.a[1].detach().numpy() @ np.ones((harness.RANK, 3))
    np.testing.assert_allclose(added, expected, rtol=1e-3, atol=1e-4)


def test_peft_trains_one_adapter_a_layer_and_nothing_else(model):
    pytest.importorskip("peft", reason="PEFT is not installed: make bench")
    x, _ = harness.random_data(NET)
    network = peers.peft_network(model).eval()
    trained = [p.numel() for p in network.parameters() if p.requires_grad]
    assert sum(trained) == harness.RANK * (12 + 8 + 8 + 6 + 6 + 3)
    outputs = network(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(outputs, model.logits(x), rtol=1e-4, atol=1e-5)


def test_torch_sides_have_as_many_batches(model):
    pytest.importorskip("peft", reason="PEFT is not installed: make bench")
    x, y = harness.random_data(NET)
    sides = peers.torch_sides(model, x, y)
    assert {side.units for side in sides.values()} == {3}
    for side in sides.values():
        side.run()


def test_a_side_trains(model):
    x, y = harness.random_data(NET, seed=3)
    skip = peers.SkipNet(model)
    taps, base = skip.taps(torch.from_numpy(x))
    labels = torch.from_numpy(y.astype(np.int64))
    side = peers.torch_epochs(
        lambda index: skip.add([tap[index] for tap in taps], base[index]), skip.parameters(), labels
    )

    def loss():
        return torch.nn.functional.cross_entropy(skip.add(taps, base), labels).item()

    before = loss()
    for _ in range(300):  # from any start, which is PyTorch's
        side.run()
    assert loss() < before - 0.2


def test_our_sides_have_as_many_batches(model):
    x, y = harness.random_data(NET)
    sides = peers.our_sides(model, x, y)
    assert list(sides) == ["lora-all", "skip-lora", "skip2-lora"]
    for side in sides.values():
        assert side.run().n_batches == side.units == 3
