"""``adapt``: jobs that end early, losses that leave the finite numbers, and how results print."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.backbones.outputs import OutputSpec
from skip2lora.data.lazy import LazySamples, digests_of
from skip2lora.errors import DivergedError, ForgettingWarning, TaskWarning

METHODS = ("skip2-lora", "skip-lora", "lora-last", "lora-all")
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def model(make_model: Callable[..., s2.MLP]) -> s2.MLP:
    return make_model([8, 6, 5, 3])


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("method", [*METHODS, "pretrain"])
def test_callback_stops_training(
    method: str, error: type[BaseException], model: s2.MLP, make_samples: Any
) -> None:
    x, y = make_samples(40)
    seen: list[int] = []

    def stop(report: s2.EpochReport) -> None:
        seen.append(report.epoch)
        if report.epoch == 2:
            raise error

    call = s2.pretrain if method == "pretrain" else partial(s2.adapt, method=method)
    with pytest.raises(error):
        call(model, x, y, callback=stop)
    assert seen == [1, 2]


def test_signal_stops_a_long_job(tmp_path: Path) -> None:
    code = """
import signal, sys
import numpy as np
import skip2lora as s2
x, y = np.zeros((40, 8), np.float32), np.zeros(40, int)
s2.adapt(
    s2.MLP.create([8, 6, 3]), x, y, epochs=2_000_000,  # ends by itself should this test be killed
    callback=lambda report: report.epoch == 1 and print("running", flush=True),
).save(sys.argv[1])
"""
    job = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "a")], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    guard = threading.Timer(60, job.kill)  # so that a failure is a failure and no endless wait
    guard.start()
    try:
        assert job.stdout is not None
        assert job.stdout.readline() == "running\n"
        job.send_signal(signal.SIGINT)
        _, said = job.communicate()
    finally:
        job.kill()
        job.communicate()
        guard.cancel()
    assert job.returncode == -signal.SIGINT
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", [*METHODS, "pretrain"])
def test_divergence_is_an_error(
    method: str, model: s2.MLP, make_samples: Any, refused: Refused
) -> None:
    x, y = make_samples(40)
    call = s2.pretrain if method == "pretrain" else partial(s2.adapt, method=method)
    message = refused(DivergedError, call, model, 100 * x, y, learning_rate=1e30)
    assert "the loss is not finite in epoch" in message
    assert "at learning_rate 1e+30, expected a finite loss: try 1e+29" in message


@pytest.mark.parametrize("rate", [1e38, 3e38])
@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_a_step_beyond_float32(
    rate: float, optimizer: str, model: s2.MLP, make_samples: Any, refused: Any
) -> None:
    """Adam begins with ten times the rate."""
    x, y = make_samples(40)
    said = refused(DivergedError, s2.adapt, model, x, y, optimizer=optimizer, learning_rate=rate)
    assert f"at learning_rate {rate:g}, expected a finite loss: try {rate / 10:g}" in said


@pytest.mark.parametrize(
    ("scale", "epochs", "learning_rate"), [(1e4, 1, 3e38), (1, 3, 1e19), (1, 3, 100.0)]
)
@pytest.mark.parametrize("method", [*METHODS, "pretrain"])
def test_no_result_holds_infinity(
    method: str, scale: float, epochs: int, learning_rate: float, model: s2.MLP, make_samples: Any
) -> None:
    """The last step may overflow, and batch statistics hide infinite numbers from the loss."""
    x, y = make_samples(40)
    x *= np.float32(scale)
    options: dict[str, Any] = {"epochs": epochs, "batch_size": 40 // epochs}
    options["learning_rate"] = learning_rate
    try:
        if method == "pretrain":
            tensors = s2.pretrain(model, x, y, **options).tensors()
        else:
            made = s2.adapt(model, x, y, method=method, **options)
            tensors = made.adapters.tensors()
    except DivergedError:
        return
    assert [name for name, array in tensors.items() if not np.isfinite(array).all()] == []


@pytest.mark.filterwarnings("error")
def test_classes_without_samples_are_named(model: s2.MLP, make_samples: Any) -> None:
    x, y = make_samples(40)
    s2.adapt(model, x, y, epochs=1)
    with pytest.warns(ForgettingWarning, match=r"2 of 3 classes \(0, 2\), .* all: 1 may") as caught:
        s2.adapt(model, x[y != 1], y[y != 1], epochs=1)
    assert caught[0].filename == __file__
    with pytest.warns(ForgettingWarning, match=r"2 of 4 classes \(1, 9\), .* all: 0, 2 may"):
        s2.adapt(model, x, np.where(y == 1, 1, 9), epochs=1, new_classes=True)
    for options in ({"keep_outputs": False}, {"keep_outputs": False, "task": "regression"}):
        s2.adapt(model, x[y != 1], y[y != 1], epochs=1, **options)


@pytest.mark.parametrize("cache", [True, False])
def test_progress_counts_what_passes_the_frozen_model(cache: bool, make_samples: Any) -> None:
    """Samples to train on, to validate with and to keep, each once; nothing else changes."""
    backbone = NumpyBackbone([8, 6, 5, 3], first_tap_is_input=False)
    x, y = make_samples(200)
    options = {"epochs": 2, "cache": cache, "batch_size": 50}
    options |= {"keep": (x[:30], y[:30]), "validation_data": (x[30:50], y[30:50])}
    seen: list[tuple[int, int]] = []
    watched = s2.adapt(backbone, x, y, progress=lambda *at: seen.append(at), **options)
    assert {total for _, total in seen} == {250}
    done = [count for count, _ in seen]
    assert done == sorted({*done})
    assert (len(done) > 3, done[-1]) == (True, 250)
    plain = s2.adapt(backbone, x, y, **options)
    assert watched.history == plain.history
    assert watched.backbone is backbone
    for name, array in plain.adapters.tensors().items():
        assert array.tobytes() == watched.adapters.tensors()[name].tobytes()


@pytest.mark.parametrize("options", [{}, {"epochs": 3}, {"epochs": 3, "cache": False}])
def test_progress_of_the_fill_alone(options: dict[str, Any], make_samples: Any) -> None:
    backbone = NumpyBackbone([8, 6, 5, 3], first_tap_is_input=False)
    x, y = make_samples(150)
    seen: list[tuple[int, int]] = []
    s2.adapt(backbone, x, y, progress=lambda *at: seen.append(at), **options)
    assert seen[-1] == (150, 150)
    assert len({*seen}) == len(seen) > 2


def test_a_network_in_the_core_is_not_watched(model: s2.MLP, make_samples: Any) -> None:
    x, y = make_samples(40)
    seen: list[tuple[int, int]] = []
    adapted = s2.adapt(model, x, y, progress=lambda *at: seen.append(at))
    assert seen == []
    assert adapted.backbone.base.network is not None


class OfNumbers(NumpyBackbone):
    """A model that says that its outputs are numbers, as one without an activation does."""

    task = "regression"


@pytest.mark.parametrize("task", [None, "regression", "classification"])
def test_says_where_two_classes_would_be_learned_as_numbers(
    task: str | None, make_samples: Any
) -> None:
    x, y = make_samples(30)
    model = OfNumbers([8, 6, 1], first_tap_is_input=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        s2.adapt(model, x, y % 2, task=task)
    said = [each for each in caught if each.category is TaskWarning]
    assert [each.filename for each in said] == ([__file__] if task is None else [])


class OfMeans(OfNumbers):
    """One whose outputs say of classes what no logits follow from."""

    @property
    def outputs(self) -> list[OutputSpec]:
        return [OutputSpec("mean", (3,), "numbers", "a mean")]


def test_outputs_that_are_learned_anew_need_no_logits(make_samples: Any) -> None:
    x, y = make_samples(30)
    model = OfMeans([8, 6, 3], first_tap_is_input=True)
    with pytest.raises(s2.ParameterError, match="is a mean, expected logits"):
        s2.adapt(model, x, y, task="classification")
    adapted = s2.adapt(model, x, y, task="classification", keep_outputs=False)
    assert adapted.task == "classification"


class Source:
    """An array as samples that are yet to be read; the most that were read at once are noted."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.most = values, 0
        self.shape, self.dtype = values.shape, values.dtype

    def read(self, places: np.ndarray) -> np.ndarray:
        self.most = max(self.most, len(places))
        return self.values[places]

    def digests(self, places: np.ndarray, known: object = None) -> list[bytes]:
        return digests_of(self.values[places])


WAYS: dict[str, tuple[dict[str, Any], bool]] = {  # and whether all samples are in memory at once
    "rule of few": ({}, False), "exact": ({"solver": "exact", "penalty": 0.01}, False),
    "scaled": ({"epochs": 3, "standardize": True}, False),
    "steps": ({"epochs": 3}, True), "paper": ({"recipe": "paper", "epochs": 3}, True),
    "scaled, no cache": ({"epochs": 2, "standardize": True, "cache": False}, False),
    "bounded": ({"epochs": 2, "standardize": True, "cache_samples": 20}, False),
    **{method: ({"method": method, "epochs": 2}, True) for method in ("skip-lora", "lora-last",
       "lora-all", "ft-all", "ft-last")},
    "anew": ({"keep_outputs": False}, False), "groups": ({"groups": np.arange(80) // 8}, False),
}  # fmt: skip


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(("options", "whole"), WAYS.values(), ids=WAYS)
def test_samples_that_are_yet_to_be_read_teach_the_same(
    options: dict[str, Any], whole: bool, alone: bool, positive: bool, model: s2.MLP,
    make_samples: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Alone, and beside old samples and some for validation."""
    x, y = make_samples(80)
    x = np.abs(x) if positive else x
    monkeypatch.setattr("skip2lora.data.lazy.READ_BYTES", 16 * x[:1].nbytes)
    sources = [Source(x), Source(x[:9]), Source(x[9:20])]
    lazy = [LazySamples.of(source) for source in sources]
    alone = alone or bool({"groups", "keep_outputs", "cache_samples"} & {*options})
    more, same = (
        {} if alone else {"keep": (old, y[:9]), "validation_data": (beside, y[9:20])}
        for old, beside in (lazy[1:], (x[:9], x[9:20]))
    )
    seen = s2.adapt(model, lazy[0], y, **options, **more)
    given = s2.adapt(model, x, y, **options, **same)
    assert seen.history.loss == given.history.loss
    for name, array in given.adapters.tensors().items():
        assert seen.adapters.tensors()[name].tobytes() == array.tobytes(), name
    if not whole:
        assert max(source.most for source in sources) <= 20  # a batch, or what is read at once


@pytest.mark.parametrize("positive", [False, True])
def test_the_rule_of_many_samples_looks_at_them_part_by_part(
    positive: bool, make_model: Callable[..., s2.MLP], make_samples: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """That of samples without negative numbers; statistics of the field take them all."""
    x, y = make_samples(120)
    x = np.abs(x) if positive else x
    monkeypatch.setattr("skip2lora.data.lazy.READ_BYTES", 16 * x[:1].nbytes)
    source = Source(x)
    of_lazy, of_array = (
        s2.adapt(make_model([8, 6, 3]), samples, y) for samples in (LazySamples.of(source), x)
    )
    for name, array in of_array.adapters.tensors().items():
        assert of_lazy.adapters.tensors()[name].tobytes() == array.tobytes(), name
    assert (source.most == 120) == (not positive)
