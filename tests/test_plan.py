"""Plans against what adapting really allocates and does."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.numpy_backbone import NumpyBackbone
from filed import in_a_file
from skip2lora import MLP, _core, adapt
from skip2lora.adapters.rows import RowFormat
from skip2lora.arrays import Inputs
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.inputs import InputSpec
from skip2lora.backbones.recipe import ANY_MODEL, PAPER
from skip2lora.errors import DataError, DivergedError, ParameterError
from skip2lora.methods import METHODS
from skip2lora.plan import DEFAULT_SAMPLES, Plan, plan
from skip2lora.tasks.task import CLASSIFICATION, Goal
from skip2lora.training.costs import method_cost, skip_cost
from skip2lora.training.exact_memory import exact_memory
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.options import resolve_options
from skip2lora.training.room import Memory
from skip2lora.training.skip_job import SkipJob

WIDTHS = (13, 9, 30, 3)


def network(kind: str) -> Any:
    if kind == "mlp":
        return MLP.create(WIDTHS, seed=0)
    return NumpyBackbone(WIDTHS, first_tap_is_input=kind == "input first")


def quick(model: Backbone, X: Any = None, **options: Any) -> Plan:
    return plan(model, X, **{"seconds": 1e-4} | options)


CASES = [
    (kind, optimizer, standardize, n_outputs)
    for kind in ("mlp", "input first", "other first")
    for optimizer, standardize, n_outputs in (
        ("sgd", False, None), ("adam", True, None), ("momentum", False, 5), ("adamw", True, 20),
    )
]  # fmt: skip


@pytest.mark.parametrize(("kind", "optimizer", "standardize", "n_outputs"), CASES)
@pytest.mark.parametrize("n_samples", [1, 47])
def test_memory_is_what_adapting_allocates(
    kind: str, optimizer: str, standardize: bool, n_outputs: int | None, n_samples: int
) -> None:
    model = network(kind)
    x = np.random.default_rng(0).normal(size=(n_samples, 13)).astype(np.float32)
    options = resolve_options(
        ANY_MODEL, model.tap_widths, n_samples, rank=2, epochs=2, optimizer=optimizer,
        standardize=standardize,
    )  # fmt: skip
    y = np.zeros(n_samples, np.int32)
    job = SkipJob(model, CheckedSamples(x, y), options, goal=Goal(CLASSIFICATION, n_outputs))
    job.epoch(0.01)
    assert job.cache is not None
    found = quick(
        model, n_samples=n_samples, rank=2, epochs=2, optimizer=optimizer,
        standardize=standardize, n_outputs=n_outputs,
    )  # fmt: skip
    memory = found.memory
    assert memory.samples_bytes == x.nbytes
    assert memory.cache_bytes == job.cache.payload_bytes
    assert memory.cache_overhead_bytes == job.cache.overhead_bytes
    assert memory.adapter_bytes == job._packed.n_bytes
    assert memory.optimizer_bytes == job.trainer.state_bytes
    assert memory.optimizer_bytes + memory.workspace_bytes == job.trainer.reserved_bytes
    assert found.n_parameters == job.result().n_parameters
    assert memory.saved_bytes == sum(a.nbytes for a in job.result().tensors().values())


@pytest.mark.parametrize("kind", ["mlp", "input first", "other first"])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_samples_in_a_file_are_counted_by_the_part_that_is_read(
    kind: str, standardize: bool, dtype: str
) -> None:
    """All of them where they are a tap, as rows are rounded and they are not."""
    model, n_samples = network(kind), 1000
    x = np.random.default_rng(0).normal(size=(n_samples, 13)).astype(np.float32)
    given: dict[str, Any] = {
        "rank": 2,
        "epochs": 2,
        "standardize": standardize,
        "cache_dtype": dtype,
    }
    options = resolve_options(ANY_MODEL, model.tap_widths, n_samples, **given)
    job = SkipJob(model, CheckedSamples(in_a_file(x), np.zeros(n_samples, np.int32)), options)
    assert job.cache is not None
    memory = quick(model, in_a_file(x), **given).memory
    assert memory.cache_bytes == job.cache.payload_bytes
    assert memory.cache_overhead_bytes == job.cache.overhead_bytes
    whole = kind != "other first" and not standardize and dtype == "int8"
    assert memory.in_parts == (not whole)
    if whole:
        assert memory.samples_bytes == x.nbytes
    else:
        assert 0.9 * x[:256].nbytes < memory.samples_bytes <= x[:256].nbytes


@pytest.mark.parametrize("widths", [(4, 6000, 2), (6000, 4, 2)], ids=str)
def test_prefetching_is_in_the_workspace(widths: tuple[int, ...]) -> None:
    """Beyond the cache of the processor the core keeps pointers to the next batch."""
    model = MLP.create(widths, batch_norm=False)
    x = np.zeros((1500, widths[0]), np.float32)
    options = resolve_options(PAPER, model.tap_widths, 1500, rank=1, batch_size=7)
    job = SkipJob(model, CheckedSamples(x, np.zeros(1500, np.int32)), options)
    job.epoch(0.01)
    memory = quick(model, n_samples=1500, rank=1, batch_size=7).memory
    assert memory.optimizer_bytes + memory.workspace_bytes == job.trainer.reserved_bytes


@pytest.mark.parametrize("kind", ["mlp", "mlp of spectra", "input first", "other first"])
def test_defaults_are_those_of_adapt(kind: str) -> None:
    model = network(kind.removesuffix(" of spectra"))
    x = np.random.default_rng(0).normal(size=(50, 13)).astype(np.float32)
    x = np.abs(x) if kind.endswith("spectra") else x
    adapted = adapt(model, x, np.arange(50) % 3)
    assert adapted.history is not None
    found = quick(model, x)
    assert (found.memory.cache_bytes, found.memory.cache_overhead_bytes) == (
        adapted.cache_bytes, adapted.cache_overhead_bytes,
    )  # fmt: skip
    assert found.n_parameters == adapted.trainable_parameters
    assert found.n_batches == adapted.history.n_batches
    assert found.rank == adapted.adapters.rank
    assert (found.recipe, found.solver) == ("auto", adapted.history.solver)
    assert quick(model).n_samples == DEFAULT_SAMPLES


def test_a_narrow_tap_does_not_lower_the_rank() -> None:
    model = MLP.create((2, 9, 3))
    adapted = adapt(model, np.eye(2, dtype=np.float32), [0, 1], epochs=1)
    assert quick(model, n_samples=2, epochs=1).n_parameters == adapted.trainable_parameters


def test_new_classes_are_counted_as_adapt_counts_them() -> None:
    model = network("mlp")
    x = np.random.default_rng(0).normal(size=(50, 13)).astype(np.float32)
    adapted = adapt(model, x, np.arange(50) % 5, new_classes=True, epochs=1)
    found = quick(model, x, n_outputs=5, epochs=1)
    assert found.n_outputs == adapted.n_outputs == 5
    assert found.n_parameters == adapted.trainable_parameters
    assert found.memory.cache_bytes == adapted.cache_bytes


def test_taps_add_up_to_the_cache() -> None:
    for kind in ("mlp", "other first"):
        found = quick(network(kind), n_samples=10, epochs=1)
        of_taps = sum(tap.bytes_a_sample for tap in found.taps)
        assert found.memory.cache_bytes == 10 * (of_taps + 4 * found.n_outputs)
    first, second, _ = quick(network("mlp"), recipe="paper").taps
    assert (first.width, first.bytes_a_sample, first.layer) == (13, 0, "layers.0")
    assert (second.width, second.bytes_a_sample) == (9, 36)


def test_operations_are_those_of_the_method() -> None:
    model = network("mlp")
    found = quick(model, batch_size=7, rank=2)
    expected = method_cost(METHODS["skip2-lora"], WIDTHS, 7, 2, epochs=None)
    assert skip_cost(WIDTHS[:-1], 3, 7, 2) == expected
    assert found.operations_a_batch == expected.operations
    assert found.gflops == pytest.approx(expected.operations / (1e3 * found.us_a_batch))


def test_times_are_of_all_batches_and_samples() -> None:
    found = quick(network("mlp"), n_samples=45, batch_size=20, epochs=7)
    assert found.n_batches == 3 * 7
    assert found.training_ms == pytest.approx(found.us_a_batch * 21 / 1e3)
    assert found.training_ms > 0
    assert 1 <= found.n_measured <= 45  # fewer where the machine is slow
    assert found.cache_fill_ms == pytest.approx(found.fill_us_a_sample * 45 / 1e3)


def test_the_model_runs_on_few_samples_only() -> None:
    model = network("other first")
    quick(model, np.zeros((1000, 13), np.float32))
    assert 3 <= model.n_forwards <= 1 + 2 * 64


def test_a_large_plan_takes_little_memory() -> None:
    memory = quick(network("mlp"), n_samples=10**8, recipe="paper").memory
    assert memory.cache_bytes == 10**8 * 4 * (9 + 30 + 3)
    assert memory.peak_bytes == memory.process_bytes + memory.adapting_bytes
    assert memory.process_bytes < memory.cache_bytes < memory.adapting_bytes


class Texts(NumpyBackbone):
    """Takes two inputs, whose width may be open; gives no logits of its own."""

    def __init__(self, width: int | None) -> None:
        super().__init__((4, 5, 3), first_tap_is_input=False)
        self.inputs = tuple(InputSpec(name, (width,), "int64") for name in ("ids", "mask"))

    def check(self, x: Any) -> Inputs:
        arrays = {name: np.asarray(x[name]) for name in ("ids", "mask")}
        assert all((array == 1).all() for array in arrays.values())
        return Inputs(arrays)

    def forward(self, x: Inputs) -> Any:
        return super().forward(x.arrays["ids"][:, :4].astype(np.float32))


def test_several_inputs_of_known_and_unknown_size() -> None:
    known = quick(Texts(4))
    assert 1 <= known.n_measured <= 64
    assert known.memory.samples_bytes == DEFAULT_SAMPLES * 2 * 4 * 4
    unknown = quick(Texts(None))
    assert (unknown.cache_fill_ms, unknown.n_measured, unknown.memory.samples_bytes) == (None, 0, 0)
    assert unknown.training_ms > 0
    given = quick(Texts(None), {"ids": np.ones((9, 6)), "mask": np.ones((9, 6))})
    assert 1 <= given.n_measured <= 9
    assert given.memory.samples_bytes == 9 * 2 * 6 * 8


def test_outputs_left_out() -> None:
    """Memory is that of the outputs that are learned, defaults are those for any model."""
    x = np.random.default_rng(0).normal(size=(47, 13)).astype(np.float32)
    for kind in ("mlp", "input first", "other first"):
        model = network(kind)
        for given in ({"X": x}, {"n_samples": 47}):
            options = {"n_outputs": 1, "keep_outputs": False, **given}
            found = quick(model, solver="steps", **options)
            made = adapt(model, x, x[:, 0], task="regression", keep_outputs=False, epochs=1)
            assert found.n_outputs == made.n_outputs == 1
            assert found.n_parameters == made.trainable_parameters
            assert found.memory.cache_bytes == made.cache_bytes
            assert found.memory.cache_overhead_bytes == made.cache_overhead_bytes
            assert (found.optimizer, found.epochs, found.standardize) == ("adam", 50, True)
            assert found.cache_fill_ms is not None  # the size of a sample is known
            solved = quick(model, **options)
            assert (solved.recipe, solved.solver, found.recipe) == ("auto", "exact", None)
            made = adapt(model, x, x[:, 0], task="regression", keep_outputs=False)
            assert solved.n_parameters == made.trainable_parameters
        with pytest.raises(ParameterError, match="left out, expected the number to learn"):
            quick(model, keep_outputs=False)
        with pytest.raises(ParameterError, match="classes is 0"):
            quick(model, keep_outputs=False, n_outputs=0)


def test_refused() -> None:
    model = network("mlp")
    x = np.zeros((5, 13), np.float32)
    for options, said in (
        ({"n_samples": 0}, "samples is 0"),
        ({"rank": 31}, "rank is 31"),
        ({"epochs": 0}, "epochs is 0"),
        ({"n_samples": 4, "batch_size": 5}, "batch_size is 5"),
        ({"optimizer": "lion"}, "optimizer is 'lion'"),
        ({"n_outputs": 2}, "classes is 2, expected 3 or more"),
        ({"n_outputs": "3"}, "classes is '3', expected a whole number"),
        ({"X": x, "n_samples": 5}, "n_samples is 5 beside data"),
    ):
        with pytest.raises(ParameterError, match=said):
            quick(model, **options)
    with pytest.raises(DataError, match="columns"):
        quick(model, x[:, :5])
    nothing = network("other first")
    nothing.n_outputs = 0
    with pytest.raises(ParameterError, match="no outputs of its own"):
        quick(nothing)
    assert model.check(x) is x  # plan() left it alone


@pytest.mark.parametrize(("a_sample_s", "n_measured"), [(0.04, 11), (0.3, 1), (2.0, 1), (1e-4, 63)])
def test_the_model_runs_for_half_a_second_at_most(
    a_sample_s: float, n_measured: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that the model moves on: one sample first, then as many as the rest allows."""
    model, real = network("other first"), time.perf_counter
    for clock in ("time.perf_counter", "time.process_time"):
        monkeypatch.setattr(clock, lambda: real() / 1e4 + a_sample_s * model.n_forwards)
    x = np.zeros((100, 13), np.float32)
    planned = quick(model, x, standardize=True, seconds=1e-7)  # of a clock that is slow
    assert planned.n_measured == n_measured
    assert planned.fill_us_a_sample == pytest.approx(1e6 * a_sample_s, rel=0.2)
    assert a_sample_s * model.n_forwards <= max(0.5, a_sample_s)


@pytest.mark.parametrize(("fill", "larger"), [(0, 654_000), (700_000, 700_000)])
def test_the_peak_is_of_what_is_there_at_once(fill: int, larger: int) -> None:
    memory = Memory(
        samples_bytes=1, cache_bytes=20, cache_overhead_bytes=300, saved_bytes=9_000_000,
        adapter_bytes=4_000, optimizer_bytes=50_000, workspace_bytes=600_000, fill_bytes=fill,
        process_bytes=10**9,
    )  # fmt: skip
    assert memory.adapting_bytes == 321 + larger
    assert memory.peak_bytes == 10**9 + 321 + larger
    in_parts = replace(memory, samples_bytes=1000, in_parts=True)  # gone once the cache is filled
    assert in_parts.adapting_bytes == 320 + max(654_000, 1000 + fill)


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("kind", ["mlp", "other first"])
@pytest.mark.parametrize("n_samples", [47, 1000])
def test_the_room_of_filling(kind: str, standardize: bool, n_samples: int) -> None:
    """Taps of as many samples as pass at once, as a runtime gives them; rows of a part else."""
    model, chunk = network(kind), min(256, n_samples) if standardize else 20
    passed = min(chunk, model.samples_at_once)
    taps = model.forward(np.zeros((passed, 13), np.float32))
    given = sum(tap.nbytes for tap in (*taps.taps, *taps.base_logits)) if kind != "mlp" else 0
    of = {"n_samples": n_samples, "batch_size": 20, "epochs": 1, "standardize": standardize}
    assert quick(model, **of).memory.fill_bytes == given
    spare = chunk * RowFormat.of(model, copy_input=standardize).row_bytes * standardize
    assert quick(model, **of, cache_samples=9).memory.fill_bytes == given + spare


def test_samples_that_are_there_are_in_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skip2lora.plan.held_bytes", lambda: 10**9)
    x = np.zeros((30, 13), np.float32)
    of_x, of_none = (quick(network("other first"), **of).memory for of in ({"X": x}, {}))
    assert of_x.process_bytes == 10**9 - x.nbytes
    assert of_none.process_bytes == 10**9
    assert of_none.samples_bytes == DEFAULT_SAMPLES * 13 * 4


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_process_is_as_large_as_the_system_says() -> None:
    memory = quick(network("mlp")).memory
    status = Path("/proc/self/status").read_text(encoding="ascii")
    now, most = (
        1024 * int(status.partition(f"{name}:")[2].split()[0]) for name in ("VmRSS", "VmHWM")
    )
    assert memory.process_bytes == pytest.approx(now, rel=0.2)
    assert memory.highest_bytes == pytest.approx(most, rel=0.01)
    assert memory.peak_bytes >= memory.highest_bytes


def test_exact_solving_is_guessed_for_all_that_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe auto solves for three candidates, of two selections of taps."""
    tried: list[tuple[str | None, float | None]] = []

    def seconds(model: Any, options: Any, n_samples: int, goal: Any) -> float:
        tried.append((options.recipe, options.penalty))
        assert (model.n_outputs, n_samples) == (3, 400)
        return 2.0

    monkeypatch.setattr("skip2lora.plan.solving_seconds", seconds)
    model = network("other first")
    for options, asked, n_designs in (
        ({}, ("auto", None), 2),
        ({"solver": "exact"}, (None, None), 1),
        ({"solver": "exact", "penalty": 0.1}, (None, 0.1), 1),
    ):
        planned = quick(model, n_samples=400, **options)
        assert (tried[-1], planned.training_ms) == (asked, 2000)
        assert planned.recipe == ("auto" if n_designs == 2 else None)
        assert (planned.n_batches, planned.us_a_batch, planned.gflops) == (0, 0, 0)
        memory = planned.memory
        assert memory.saved_bytes == memory.adapter_bytes == 4 * planned.n_parameters
        rows = RowFormat.of(model, copy_input=True)
        expected = exact_memory(rows, 400, 3, n_designs=n_designs)
        assert memory.workspace_bytes == expected.workspace_bytes


def test_folds_of_a_rule_by_steps_are_trainings() -> None:
    """Without samples an MLP's are taken for spectra, which it learns by steps."""
    planned = quick(network("mlp"), n_samples=45)
    assert (planned.recipe, planned.solver) == ("auto", "steps")
    once = planned.us_a_batch * planned.n_batches / 1e3
    assert planned.training_ms == pytest.approx(4 * once)


def test_a_loss_that_is_no_number_is_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "OK", -1)
    with pytest.raises(DivergedError, match="on random rows, expected a finite loss"):
        quick(network("mlp"), epochs=1)
