"""Both sides of the comparison adapt the same module, and PEFT starts from its outputs."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: make test TEST_GROUPS='test torch'")

import torch

import any_module
import skip2lora as s2


@pytest.fixture(params=any_module.NETWORKS)
def case(request):
    with torch.random.fork_rng(devices=[]):
        yield any_module.made(request.param, 8)


def test_sixteen_taps_of_at_most_1024(case):
    module, x, _ = case
    widths = s2.TorchBackbone(module, example=x).tap_widths
    assert len(widths) == 16
    assert max(widths) == 1024


def test_peft_starts_without_an_effect_and_trains_adapters_alone(case):
    pytest.importorskip("peft", reason="PEFT is not installed: make bench")
    module, x, y = case
    logits = s2.TorchBackbone(module).logits(x)
    kept = {id(value): value.clone() for value in (*module.parameters(), *module.buffers())}
    frozen = [*module.parameters(), *module.buffers()]
    network = any_module.peft_network(module).eval()
    np.testing.assert_allclose(
        network(torch.from_numpy(x)).detach().numpy(), logits, rtol=1e-4, atol=1e-5
    )
    trained = {name for name, each in network.named_parameters() if each.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    any_module.peft_side(network.unload(), x, y).run()
    assert all(torch.equal(value, kept[id(value)]) for value in frozen)
