"""Phase timers of the trainers: they change nothing, and leave no time out."""

from __future__ import annotations

import numpy as np
import pytest

from skip2lora import _core
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.recipe import PAPER
from skip2lora.methods import METHODS
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import Trained, train
from skip2lora.training.options import resolve_options

WIDTHS, N_SAMPLES = [12, 9, 8, 3], 43
ROWS, FORWARD, BACKWARD, UPDATE, REST = range(5)


def fit(name: str, profile: _core.Profile | None = None) -> Trained:
    random = np.random.default_rng(0)
    x = random.standard_normal((N_SAMPLES, WIDTHS[0]), dtype=np.float32)
    y = (np.arange(N_SAMPLES) % WIDTHS[-1]).astype(np.int32)
    options = resolve_options(
        PAPER, WIDTHS[:-1], N_SAMPLES, method=name, rank=2, epochs=5, batch_size=8,
        learning_rate=0.05, seed=3,
    )  # fmt: skip
    return train(MLP.create(WIDTHS), CheckedSamples(x, y), options, profile=profile)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "arguments", [{}, {"phases": False}, {"n_layers": 3}], ids=["phases", "whole", "parts"]
)
def test_the_result_has_the_same_bits(name: str, arguments: dict[str, int]) -> None:
    if "n_layers" in arguments and METHODS[name].skip:
        with pytest.raises(ValueError, match="no parts of layers"):
            fit(name, _core.Profile(**arguments))
        return
    if "n_layers" in arguments and name == "ft-last":
        arguments = {"n_layers": 1}  # the layers below are no part of what is trained
    plain, timed = fit(name), fit(name, _core.Profile(**arguments))
    tensors = timed.adapters.tensors()
    assert {key: t.tobytes() for key, t in plain.adapters.tensors().items()} == {
        key: t.tobytes() for key, t in tensors.items()
    }
    assert plain.history == timed.history


@pytest.mark.parametrize("name", METHODS)
def test_phases_of_each_method(name: str) -> None:
    profile = _core.Profile()
    fit(name, profile)
    spent = profile.phases_ns
    method = METHODS[name]
    assert [phase for phase in range(5) if spent[phase] > 0] == [
        *([ROWS] if method.freezes_below else []),
        *(FORWARD, BACKWARD),
        *([] if method.skip else [UPDATE]),
        REST,
    ]
    # The marks begin and end inside of what total_ns times.
    assert 0 < sum(spent) <= profile.total_ns * (1 + 1e-9)
    assert profile.parts_ns == []


def test_whole_epochs_alone() -> None:
    profile = _core.Profile(phases=False)
    fit("skip2-lora", profile)
    first = profile.total_ns
    assert first > 0
    assert profile.phases_ns == [0.0] * 5
    fit("skip2-lora", profile)
    assert profile.total_ns > first


def test_parts_are_within_their_phase() -> None:
    profile = _core.Profile(n_layers=3)
    fit("ft-all-lora", profile)
    parts = np.array(profile.parts_ns)
    assert parts.shape == (3, 2, 4)
    hidden, last = parts[:2], parts[2]
    assert (hidden > 0).all()
    assert (last[:, :2] > 0).all()
    assert not last[:, 2:].any()  # neither batch norm nor ReLU follows the last layer
    assert (parts.sum(axis=(0, 2)) < np.array(profile.phases_ns)[[FORWARD, BACKWARD]]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_layers": 65}, "more layers"),
        ({"phases": False, "n_layers": 3}, "without phases"),
    ],
)
def test_refuses(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.Profile(**arguments)


@pytest.mark.parametrize(("name", "n_layers"), [("ft-all", 2), ("ft-all", 4), ("ft-last", 3)])
def test_parts_are_of_the_network_that_is_trained(name: str, n_layers: int) -> None:
    with pytest.raises(ValueError, match="another number of layers"):
        fit(name, _core.Profile(n_layers=n_layers))


@pytest.mark.parametrize("at_a_time", [1, 3, 64])
def test_samples_at_a_time_change_no_bit(at_a_time: int) -> None:
    model = MLP.create(WIDTHS)
    x = np.random.default_rng(1).standard_normal((70, WIDTHS[0]), dtype=np.float32)
    layout = _core.RowLayout(model.tap_widths, 3, True)
    adapter = _core.SkipAdapter(layout, 2)
    for tap, width in enumerate(model.tap_widths):
        adapter.pack(tap, np.full((width, 2), 0.1, np.float32), np.full((2, 3), 0.3, np.float32))
    found = []
    for arguments in ((), (at_a_time,)):
        rows = np.zeros((70, layout.row_stride), np.float32)
        logits = np.empty((70, 3), np.float32)
        model.network.forward(x, layout, 0, rows, *arguments)
        adapter.forward(x, rows, logits, *arguments)
        found.append((rows.tobytes(), logits.tobytes()))
    assert found[0] == found[1]
    assert len(set(logits[:, 0])) == 70


@pytest.mark.parametrize("at_a_time", [0, 65])
def test_samples_at_a_time_are_1_to_64(at_a_time: int) -> None:
    model = MLP.create(WIDTHS)
    layout = _core.RowLayout(model.tap_widths, 3, True)
    x, rows = np.zeros((2, WIDTHS[0]), np.float32), np.zeros((2, layout.row_stride), np.float32)
    with pytest.raises(ValueError, match="1 to 64 samples"):
        model.network.forward(x, layout, 0, rows, at_a_time)
    adapter, logits = _core.SkipAdapter(layout, 2), np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="1 to 64 samples"):
        adapter.forward(x, rows, logits, at_a_time)
