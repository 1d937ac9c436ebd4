"""What several test files share: samples, networks, refusals, and where the real data lies."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

import skip2lora as s2
from desk import Answer, unknown_advice
from skip2lora.backbones.mlp import Layer
from skip2lora.cli import run

# The same examples on every run and machine; no database of failures is kept.
hypothesis.settings.register_profile(
    "suite", derandomize=True, deadline=None, database=None, max_examples=25
)
hypothesis.settings.load_profile("suite")
# A shell ignores it for what runs in the background, and the commands that tests start would too.
signal.signal(signal.SIGINT, signal.default_int_handler)

Samples = tuple[np.ndarray, np.ndarray]


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many random graphs tests/conformance/test_random_graphs.py draws, and from which seed.

    And how many hostile requests tests/hostile/test_requests.py sends.
    """
    parser.addoption("--graphs", type=int, default=500)
    parser.addoption("--requests", type=int, default=600)
    parser.addoption("--first-graph", type=int, default=0)


@pytest.fixture(scope="session")
def make_samples() -> Callable[..., Samples]:
    """make_samples(n_samples, n_features, n_classes, seed): X and y that can be learned."""

    def make(n_samples: int, n_features: int = 8, n_classes: int = 3, seed: int = 0) -> Samples:
        random = np.random.default_rng([n_samples, n_features, seed])
        y = random.integers(0, n_classes, n_samples)
        centres = np.random.default_rng(seed).normal(size=(n_classes, n_features))
        x = centres[y] + random.normal(size=(n_samples, n_features))
        return x.astype(np.float32), y

    return make


@pytest.fixture(scope="session")
def make_model() -> Callable[..., s2.MLP]:
    """make_model(widths, batch_norm=True, seed=0): a network whose every tensor is random."""

    def make(widths: Sequence[int], *, batch_norm: bool = True, seed: int = 0) -> s2.MLP:
        random = np.random.default_rng([seed, *widths])

        def normal(*shape: int) -> np.ndarray:
            return random.normal(size=shape).astype(np.float32)

        layers = []
        for n_in, n_out in pairwise(widths):
            tensors = {
                "weight": normal(n_in, n_out) / np.float32(np.sqrt(n_in)),
                "bias": normal(n_out) / 2,
            }
            if batch_norm and len(layers) + 2 < len(widths):
                tensors |= {"gamma": 1 + normal(n_out) / 4, "beta": normal(n_out) / 2}
                tensors |= {"mean": normal(n_out) / 2, "var": 1 + normal(n_out) ** 2 / 4}
            layers.append(Layer(**tensors))
        return s2.MLP(tuple(layers))

    return make


@pytest.fixture(scope="session")
def refused() -> Callable[..., str]:
    """refused(error, call, *args, **options): the message of the error that the call must raise."""

    def refuse(error: type[Exception], call: Callable[..., Any], /, *args: Any, **kw: Any) -> str:
        with pytest.raises(s2.Skip2LoraError) as caught:
            call(*args, **kw)
        assert type(caught.value) is error
        message = str(caught.value)
        assert message
        assert "\n" not in message
        return message

    return refuse


@pytest.fixture
def torch_generator() -> Iterator[None]:
    """Weights of PyTorch from a seed, and its generator as it was afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data beside the repository, or where SKIP2LORA_DATA says."""
    beside = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("SKIP2LORA_DATA", beside))
    if not folder.is_dir():
        pytest.skip("the real data is not there: set SKIP2LORA_DATA to its folder")
    return folder


@pytest.fixture
def type_in(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Answer]:
    """``type_in("evaluate", "model.safetensors", ...)`` runs a command in the folder."""
    monkeypatch.chdir(tmp_path)

    def type_command(*words: object) -> Answer:
        capsys.readouterr()
        typed = [str(word) for word in words]
        code = run(typed)
        captured = capsys.readouterr()
        if code == 2:  # every option that a refusal names is one of the command
            assert not unknown_advice(typed, captured.err), captured.err
        return Answer(code, captured.out, captured.err)

    return type_command


@pytest.fixture
def sys_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree in place of /sys, no psutil and no devices."""
    from skip2lora.power import find, host

    root = tmp_path / "sys"
    root.mkdir()
    monkeypatch.setattr(host, "SYS_ROOT", root)
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(find, "DEV_ROOT", tmp_path / "dev")
    return root


@pytest.fixture
def small_har(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The simulated task in place of HAR of Figure 4; the folders it was asked for."""
    from skip2lora.datasets import simulated
    from skip2lora.paper import figure4, protocol

    asked: list[Path] = []

    def load(task: str, data: Path) -> object:
        assert task == "har"
        asked.append(data)
        return simulated.make_task(n_per_split=60)

    monkeypatch.setattr(figure4, "load_split", load)
    monkeypatch.setitem(protocol.TASKS, "har", protocol.Experiment("har", 3, 3, 4))
    return asked
