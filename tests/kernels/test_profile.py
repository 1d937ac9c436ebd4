"""Phase timers by a clock that ticks once a look: every mark is counted, where and how often."""

import ctypes
import itertools

import numpy as np
import pytest

from kernels import core_api
from kernels.cases import normal
from kernels.core_api import PARTS, PHASES
from kernels.methods import METHODS, SKIP_LORA, make_params
from kernels.networks import Layout, Network, SkipAdapter

WIDTHS, RANK, COUNT = (9, 17, 8, 6), 3, 7
N_LAYERS = len(WIDTHS) - 1


class Ticks:
    """s2_profile on a clock that shows 1, 2, 3, ..., so that each mark counts one."""

    def __init__(self, *, parts=False):
        self.looks = itertools.count(1)
        self.parts = (ctypes.c_uint64 * len(PARTS) * 2 * N_LAYERS)()
        clock = core_api.CLOCK(lambda: next(self.looks))
        self.profile = core_api.Profile(clock, 0)
        if parts:
            self.profile.part = self.parts

    @property
    def pointer(self):
        return ctypes.pointer(self.profile)

    def phases(self):
        """Marks of each phase that has any."""
        return {n: c for n, c in zip(PHASES, self.profile.phase, strict=True) if c}

    def marked(self, direction):
        """Parts that were marked, layer by layer; none more than once."""
        counts = np.array(self.parts)[:, direction]
        assert counts.max() <= 1
        return [{p for p, c in zip(PARTS, of, strict=True) if c} for of in counts]


def step(table, name, profile=None):
    """One step of a method; the network after it."""
    rows = METHODS[name].rows(N_LAYERS)
    network = Network(table, make_params(WIDTHS, rows, RANK))
    if profile is not None:
        network.net.profile = profile.pointer
    network.step(rows, normal(1, COUNT, WIDTHS[0]), np.arange(COUNT) % WIDTHS[-1], 0.1)
    return network


def expected_parts(rows):
    """Of forward and backward, layer by layer: backward reaches down while gx is asked for."""
    forward, backward, reached = [], [], True
    for number, row in enumerate(rows):
        hidden = {"bn", "act"} if number + 1 < N_LAYERS else set()
        forward.append({"fc"} | hidden | ({"lora"} if row["lora"] else set()))
    for number in reversed(range(N_LAYERS)):
        backward.append(forward[number] if reached else set())
        reached = reached and "x" in rows[number]["fc"]
    return forward, backward[::-1]


@pytest.mark.parametrize("name", METHODS)
def test_each_phase_of_a_network_is_marked_once(table, name):
    ticks = Ticks()
    step(table, name, ticks)
    assert ticks.phases() == {"forward": 1, "backward": 1, "update": 1}


@pytest.mark.parametrize("name", METHODS)
def test_parts_of_each_layer(table, name):
    ticks = Ticks(parts=True)
    step(table, name, ticks)
    forward, backward = expected_parts(METHODS[name].rows(N_LAYERS))
    assert ticks.marked(0) == forward
    assert ticks.marked(1) == backward
    n_forward, n_backward = (sum(map(len, of)) for of in (forward, backward))
    # and once each for gathering the batch, the loss, what is left of backward, the update
    assert ticks.phases() == {"forward": n_forward + 2, "backward": n_backward + 1, "update": 1}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("parts", [False, True])
def test_a_profile_changes_no_bit(table, name, parts):
    plain, timed = step(table, name), step(table, name, Ticks(parts=parts))
    for one, other in zip(plain.params, timed.params, strict=True):
        for key, tensor in one.items():
            assert tensor is None or tensor.tobytes() == other[key].tobytes()


def test_fused_step(table):
    """Backward and update are one pass: no phase of its own for the update."""
    params = make_params(WIDTHS, SKIP_LORA.rows(N_LAYERS), RANK, lora_to_last=True)
    bare = [layer | {"lora_a": None, "lora_b": None} for layer in params]
    layout, x = Layout(table.core, WIDTHS[:-1], WIDTHS[-1]), normal(1, COUNT, WIDTHS[0])
    network, ticks = Network(table, bare), Ticks(parts=True)
    network.net.profile = ticks.pointer
    cached = network.forward(x, layout)
    assert ticks.phases() == {}  # inference is timed by who calls it, as rows
    trained = []
    for profile in (None, ticks):
        adapter = SkipAdapter(table, layout, params)
        if profile is not None:
            adapter.adapter.profile = profile.pointer
        adapter.step(x, cached, np.arange(COUNT) % WIDTHS[-1], 0.1)
        trained.append([array.tobytes() for pair in adapter.tensors() for array in pair])
        adapter.forward(x, cached)
    assert ticks.phases() == {"forward": 1, "backward": 1}
    assert trained[0] == trained[1]
