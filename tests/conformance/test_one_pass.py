"""Every sample passes the frozen model once, counted where each runtime runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from conformance.onnx_networks import onnx_backbone
from conformance.test_backbones import litert_backbone, openvino_backbone
from conformance.torch_networks import backbone_of_mlp
from skip2lora import _core
from skip2lora.adapters.rows import SkipCache
from skip2lora.cli import run
from skip2lora.methods import METHODS
from skip2lora.training.lab_set import LabSet

WIDTHS, N_SAMPLES, N_HELD = [9, 16, 5, 3], 60, 15
KINDS = ("MLP", "NumPy", "ONNX", "LiteRT", "OpenVINO", "PyTorch")
OWN_FORWARDS = [name for name, of in METHODS.items() if not of.skip]


class Counter:
    """A model, and how many samples its runtime was given since the last look."""

    def __init__(self, model: Any) -> None:
        self.model, self.n_samples = model, 0

    def add(self, n_samples: int) -> None:
        self.n_samples += n_samples

    def take(self) -> int:
        count, self.n_samples = self.n_samples, 0
        return count


class CountingNetwork:
    """The network of an ``MLP``."""

    def __init__(self, network: Any, add: Callable[[int], None]) -> None:
        self.network, self.add = network, add

    def forward(self, x: np.ndarray, *arguments: Any, **options: Any) -> None:
        self.add(len(x))
        self.network.forward(x, *arguments, **options)


SOURCE = SkipCache.source


def row_source_in_python(
    cache: Any, backbone: Any, x: Any, scale: Any = None, *more: Any
) -> _core.RowSource:
    """As that of a job, but the core asks for rows of an ``MLP`` where they can be counted."""
    return SOURCE(cache, backbone, x, scale or (lambda rows: None), *more)


def build(kind: str, make_model: Any) -> Any:
    if kind == "NumPy":
        return NumpyBackbone(WIDTHS, first_tap_is_input=False)
    if kind in ("MLP", "PyTorch"):
        model = make_model(WIDTHS)
        return model if kind == "MLP" else backbone_of_mlp(model)
    if kind == "ONNX":
        return onnx_backbone(WIDTHS)
    return litert_backbone() if kind == "LiteRT" else openvino_backbone()


def count_calls(
    patch: pytest.MonkeyPatch, owner: Any, name: str, add: Callable[[tuple[Any, ...]], None]
) -> None:
    """Count each call of a method before it is made."""
    method = getattr(owner, name)

    def counting(self: Any, *arguments: Any, **options: Any) -> Any:
        add(arguments)
        return method(self, *arguments, **options)

    patch.setattr(owner, name, counting)


@pytest.fixture(params=KINDS)
def counter(
    request: pytest.FixtureRequest, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> Counter:
    kind: str = request.param
    counter = Counter(build(kind, make_model))
    if kind == "MLP":
        network = s2.MLP.network.func  # type: ignore[attr-defined]
        monkeypatch.setattr(
            s2.MLP, "network", property(lambda self: CountingNetwork(network(self), counter.add))
        )
        monkeypatch.setattr(SkipCache, "source", row_source_in_python)
    elif kind == "NumPy":
        count_calls(monkeypatch, NumpyBackbone, "forward", lambda given: counter.add(len(given[0])))
    elif kind == "ONNX":
        import onnxruntime

        count_calls(
            monkeypatch, onnxruntime.InferenceSession, "run",
            lambda given: counter.add(len(next(iter(given[1].values())))),
        )  # fmt: skip
    elif kind == "LiteRT":
        runner = counter.model._runner  # its interpreter takes one sample a call
        count_calls(monkeypatch, type(runner.interpreter), "invoke", lambda _: counter.add(1))
    elif kind == "OpenVINO":
        from skip2lora.backbones.openvino.rows import Runner

        count_calls(monkeypatch, Runner, "infer", lambda given: counter.add(len(given[0][0])))
    else:
        from skip2lora.backbones.torch.frozen import Frozen

        count_calls(monkeypatch, Frozen, "run", lambda given: counter.add(len(given[0])))
    return counter


@pytest.fixture
def samples(make_samples: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_samples(N_SAMPLES, WIDTHS[0])
    return x, y


@pytest.fixture
def command(
    counter: Counter, samples: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Run a command on the model; how many samples passed it, and what was printed."""
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", X=samples[0], y=samples[1])
    for name in (
        "cli.common.load",
        "cli.learning.load_for_images",
        "cli.plan.load_for_images",
        "cli.inspect.load",
        "cli.bench.load",
        "adapters.folder.load",
    ):
        monkeypatch.setattr(f"skip2lora.{name}", lambda *_, **__: counter.model)

    def type_in(*words: Any) -> tuple[int, dict[str, Any]]:
        counter.take()
        assert run([*map(str, words), "--json"]) == 0, capsys.readouterr().err
        return counter.take(), json.loads(capsys.readouterr().out)

    return type_in


# --- from Python -----------------------------------------------------------------------------


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_adapt(counter: Counter, samples: Any, standardize: bool, validation: float) -> None:
    options = {"standardize": standardize, "validation": validation, "epochs": 7}
    adapted = s2.adapt(counter.model, *samples, **options)
    assert counter.take() == N_SAMPLES
    assert adapted.history.n_forwards == N_SAMPLES
    assert adapted.fit.n_measured == (N_HELD if validation else N_SAMPLES)


@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_adapt_with_nothing_set(counter: Counter, samples: Any, validation: float) -> None:
    """Whatever is tried, and on how many folds."""
    for x in (samples[0], np.abs(samples[0])):
        adapted = s2.adapt(counter.model, x, samples[1], validation=validation)
        assert adapted.history.tried
        assert counter.take() == adapted.history.n_forwards == N_SAMPLES


@pytest.mark.parametrize("standardize", [True, False])
def test_old_samples_pass_once_and_known_rows_never(
    counter: Counter, samples: Any, standardize: bool
) -> None:
    x, y = samples
    lab = LabSet.of(counter.model, x[:30], y[:30], 4)
    assert counter.take() == 30
    options = {"standardize": standardize, "epochs": 5, "validation": 0.25}
    for method in ("skip2-lora", "skip-lora"):
        adapted = s2.adapt(counter.model, x, y, keep=lab, method=method, **options)
        assert counter.take() == adapted.history.n_forwards == N_SAMPLES
        adapted = s2.adapt(counter.model, x, y, keep=(x[:9], y[:9]), method=method, **options)
        assert counter.take() == adapted.history.n_forwards == N_SAMPLES + 9


@pytest.mark.parametrize("standardize", [True, False])
def test_without_a_cache_what_is_held_out_passes_once(
    counter: Counter, samples: Any, standardize: bool
) -> None:
    adapted = s2.adapt(
        counter.model, *samples, method="skip-lora", standardize=standardize, validation=0.25,
        epochs=3,
    )  # fmt: skip
    a_pass = N_SAMPLES - N_HELD
    n_passes = 4 if standardize else 3  # one for the statistics
    assert counter.take() == adapted.history.n_forwards == n_passes * a_pass + N_HELD
    assert adapted.fit is None


def test_the_core_counts_the_same(make_model: Any, samples: Any) -> None:
    """An ``MLP`` is run in the core, where no Python sees it."""
    options = {"validation": 0.25, "epochs": 3}
    once = s2.adapt(make_model(WIDTHS), *samples, **options).history
    each = s2.adapt(make_model(WIDTHS), *samples, method="skip-lora", **options).history
    assert once.n_forwards == N_SAMPLES
    assert each.n_forwards == 3 * (N_SAMPLES - N_HELD) + N_HELD


# --- from the command line -------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--validation", 0.25, "--patience", 5],
        ["--standardize"],
        ["--no-standardize", "--validation", 0.25],
        ["--no-keep-outputs"],
        ["--new-classes"],
    ],
    ids=lambda words: " ".join(map(str, words)) or "plain",
)
def test_command_adapt(command: Callable[..., Any], options: list[Any]) -> None:
    count, facts = command("adapt", "model", "data.npz", "-o", "a", "--epochs", 6, *options)
    assert count == N_SAMPLES
    assert facts["n_samples"] == N_SAMPLES


def test_commands_with_an_adapter(command: Callable[..., Any]) -> None:
    command("adapt", "model", "data.npz", "-o", "a", "--epochs", 6)
    count, facts = command("evaluate", "model", "data.npz", "--adapter", "a")
    assert (count, facts["n_samples"]) == (N_SAMPLES, N_SAMPLES)
    count, _ = command("predict", "model", "data.npz", "--adapter", "a", "-o", "p.csv")
    assert count == N_SAMPLES
    assert command("inspect", "a")[0] == 0


def test_commands_without_an_adapter(command: Callable[..., Any]) -> None:
    assert command("evaluate", "model", "data.npz")[0] == N_SAMPLES
    assert command("predict", "model", "data.npz", "-o", "p.csv")[0] == N_SAMPLES
    Path("model").touch()
    assert command("inspect", "model")[0] == 0


def test_command_plan(command: Callable[..., Any]) -> None:
    count, facts = command("plan", "model", "data.npz")
    assert 1 <= count <= N_SAMPLES
    assert count in (facts["n_measured"], facts["n_measured"] + 1)  # the first warms up
    count, facts = command("plan", "model", "--samples", 1000)
    assert count <= 64
    assert (count > 0) == (facts["cache_fill_ms"] is not None)


@pytest.mark.parametrize("counter", ["NumPy", "ONNX", "LiteRT"], indirect=True)
def test_command_bench(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """One fill for the method that is timed, one for the warm-up, one a round.

    Of an ``MLP`` it times methods that run it with every batch, a module tells no sizes.
    """
    monkeypatch.setattr("skip2lora.bench._predict_seconds", lambda *_: (1.0, 1.0))
    count, _ = command("bench", "model", "--samples", 30, "--rounds", 2)
    assert count == 30 * (1 + 1 + 2)


@pytest.mark.parametrize("method", OWN_FORWARDS)
def test_methods_that_change_the_network(
    method: str, make_model: Any, samples: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base passes for the measure "before" alone, what is held out once an epoch for it."""
    count = {"logits": 0}

    def logits(self: s2.MLP, x: Any, of: Any = s2.MLP.logits) -> Any:
        count["logits"] += len(x)
        return of(self, x)

    monkeypatch.setattr(s2.MLP, "logits", logits)
    make_model(WIDTHS).save(tmp_path / "model.safetensors")
    np.savez(tmp_path / "data.npz", X=samples[0], y=samples[1])
    words = ["adapt", tmp_path / "model.safetensors", tmp_path / "data.npz", "-o", tmp_path / "a"]
    more = ["--method", method, "--epochs", 3, "--validation", 0.25]
    assert run([*map(str, (*words, *more))]) == 0
    assert count["logits"] == 3 * N_HELD + N_SAMPLES + N_HELD  # validation, after, before
