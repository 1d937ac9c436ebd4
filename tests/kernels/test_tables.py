"""Kernel tables among themselves: each gives its own bits again, and all give the same training."""

import numpy as np
import pytest

from kernels.cases import assert_close, normal
from kernels.core_api import LAYER_TENSORS
from kernels.methods import METHODS, SKIP_LORA, make_params
from kernels.networks import Layout, Network, SkipAdapter

WIDTHS = (33, 25, 17, 6)
N_SAMPLES, BATCH, RANK, RATE = 73, 20, 4, 0.05


def samples():
    return normal(1, N_SAMPLES, WIDTHS[0]), np.arange(N_SAMPLES) % WIDTHS[-1]


def epoch():
    """Batches of an epoch; the last is short."""
    order = np.random.default_rng(2).permutation(N_SAMPLES)
    return np.split(order, range(BATCH, N_SAMPLES, BATCH))


def train_network(table, name):
    rows = METHODS[name].rows(len(WIDTHS) - 1)
    net = Network(table, make_params(WIDTHS, rows, RANK))
    x, labels = samples()
    losses = [net.step(rows, x[batch], labels[batch], RATE) for batch in epoch()]
    tensors = [layer[name] for layer in net.params for name in LAYER_TENSORS]
    return losses, [tensor for tensor in tensors if tensor is not None]


def train_adapters(table):
    rows = SKIP_LORA.rows(len(WIDTHS) - 1)
    params = make_params(WIDTHS, rows, RANK, lora_to_last=True)
    layout = Layout(table.core, WIDTHS[:-1], WIDTHS[-1])
    x, labels = samples()
    net = Network(table, [layer | {"lora_a": None, "lora_b": None} for layer in params])
    cached, adapter = net.forward(x, layout), SkipAdapter(table, layout, params)
    losses = [adapter.step(x[batch], cached[batch], labels[batch], RATE) for batch in epoch()]
    return losses, [*adapter.forward(x, cached), *sum(adapter.tensors(), ())]


TRAININGS = {"skip2-lora": train_adapters} | {
    name: lambda table, name=name: train_network(table, name) for name in METHODS
}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_table_gives_its_own_bits_again(table, name):
    losses, tensors = TRAININGS[name](table)
    same_losses, same_tensors = TRAININGS[name](table)
    assert losses == same_losses
    for tensor, same in zip(tensors, same_tensors, strict=True):
        assert tensor.tobytes() == same.tobytes()


@pytest.mark.parametrize("name", TRAININGS)
def test_an_epoch_is_that_of_the_scalar_table(table, core, name):
    losses, tensors = TRAININGS[name](table)
    scalar_losses, scalar_tensors = TRAININGS[name](type(table)(core, "scalar"))
    assert_close(losses, np.array(scalar_losses), 1, "losses")
    for tensor, other in zip(tensors, scalar_tensors, strict=True):
        assert_close(tensor, other, np.abs(other).max(), f"{tensor.shape}")
