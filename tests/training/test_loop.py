"""Training against the oracle, which replays the same batches in float64."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import oracle
import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora import _core
from skip2lora.adapt import adapt_and_measure
from skip2lora.backbones.mlp import MLP, Layer
from skip2lora.backbones.recipe import ANY_MODEL, PAPER
from skip2lora.cli import run
from skip2lora.errors import DataError
from skip2lora.methods import METHODS as ALL_METHODS
from skip2lora.tasks.task import PLAIN, TASKS, mean_loss
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import (
    EpochReport,
    History,
    Timing,
    Trained,
    _diverged,
    stratified_split,
    train,
)
from skip2lora.training.options import Options, resolve_options

ORDER, ADAPTER = 1, 2  # streams of one seed
FIELDS = [field.name for field in dataclasses.fields(Layer)]
MakeModel = Callable[..., MLP]


class Pcg32:
    """PCG-XSH-RR 64/32 (O'Neill 2014), written from the paper's description."""

    def __init__(self, seed: int, stream: int) -> None:
        self.state, self.increment = 0, (2 * stream + 1) % 2**64
        self.next()
        self.state = (self.state + seed) % 2**64
        self.next()

    def next(self) -> int:
        old = self.state
        self.state = (old * 6364136223846793005 + self.increment) % 2**64
        word, turn = (((old >> 18) ^ old) >> 27) % 2**32, old >> 59
        return (word >> turn | word << (32 - turn)) % 2**32

    def below(self, bound: int) -> int:
        """Lemire 2019: the high word of a product; low words below 2^32 mod bound are redrawn."""
        while True:
            product = self.next() * bound
            if product % 2**32 >= 2**32 % bound:
                return product >> 32

    def permutation(self, count: int) -> list[int]:
        """Fisher and Yates, from the end, of 0, 1, ..."""
        order = list(range(count))
        for i in range(count - 1, 0, -1):
            j = self.below(i + 1)
            order[i], order[j] = order[j], order[i]
        return order


def batches(
    n_samples: int, batch_size: int, epochs: int, seed: int, smallest: int = 1
) -> Iterator[list[list[int]]]:
    """The batches of each epoch."""
    random = Pcg32(seed, ORDER)
    for _ in range(epochs):
        order = random.permutation(n_samples)
        cut = [order[at : at + batch_size] for at in range(0, n_samples, batch_size)]
        yield [batch for batch in cut if len(batch) >= smallest]


def first_adapters(widths: tuple[int, ...], rank: int, seed: int) -> list[np.ndarray]:
    """lora_a of each width, (width, rank): uniform in +-1/sqrt(width), float32."""
    random, made = Pcg32(seed, ADAPTER), []
    for width in widths:
        bound = np.float32(1) / np.sqrt(np.float32(width))
        units = [(random.next() >> 8) * 2**-24 for _ in range(rank * width)]
        made.append((np.float32(2) * np.array(units, np.float32) - np.float32(1)) * bound)
    return [a.reshape(rank, -1).T for a in made]


def test_generator_gives_the_published_numbers() -> None:
    random = Pcg32(42, 54)  # of the reference implementation's demonstration
    expected = [0xA15C02B7, 0x7B47F409, 0xBA1D3330, 0x83D2F293, 0xBFA4784B, 0xCBED606E]
    assert [random.next() for _ in range(6)] == expected


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**64 - 1])
def test_first_adapters_are_drawn_from_the_seed(seed: int) -> None:
    layout = _core.RowLayout((17, 1, 6), 3, True)
    packed = _core.SkipAdapter(layout, 1)
    packed.init(seed)
    for tap, expected in enumerate(first_adapters((17, 1, 6), 1, seed)):
        lora_a, lora_b = np.empty_like(expected, order="C"), np.full((1, 3), 9, np.float32)
        packed.unpack(tap, lora_a, lora_b)
        assert lora_a.tobytes() == expected.tobytes()
        assert not lora_b.any()


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
@pytest.mark.parametrize(("n_samples", "batch_size"), [(20, 5), (21, 5), (23, 5), (5, 5), (1, 1)])
def test_order_of_the_samples(n_samples: int, batch_size: int, seed: int) -> None:
    x = np.arange(n_samples, dtype=np.float32)[:, None] * np.ones(2, np.float32)
    seen: list[list[int]] = []

    class Recorder(NumpyBackbone):
        def forward(self, x: np.ndarray) -> s2.Taps:
            seen.append(x[:, 0].astype(int).tolist())
            return super().forward(x)

    s2.adapt(
        Recorder([2, 2], first_tap_is_input=True), x / 1, np.zeros(n_samples, int),
        method="skip-lora", rank=1, epochs=3, batch_size=batch_size, learning_rate=1e-9, seed=seed,
    )  # fmt: skip
    expected = list(batches(n_samples, batch_size, 3, seed))
    assert seen == [batch for epoch in expected for batch in epoch]
    for epoch in expected:
        assert sorted(sample for batch in epoch for sample in batch) == list(range(n_samples))


# Compute types of the first, an inner and the last layer, from sections 3 and 4.1.
TYPES = {
    "ft-all": {"fc": ("ywb", "ywbx", "ywbx"), "lora": ("", "", ""), "bn": ("sw", "sw", "")},
    "lora-all": {"fc": ("y", "yx", "yx"), "lora": ("yw", "ywx", "ywx"), "bn": ("s", "s", "")},
    "lora-last": {"fc": ("y", "y", "y"), "lora": ("", "", "yw"), "bn": ("", "", "")},
    "skip-lora": {"fc": ("y", "y", "y"), "lora": ("yw", "yw", "yw"), "bn": ("", "", "")},
    "skip2-lora": {"fc": ("y", "y", "y"), "lora": ("yw", "yw", "yw"), "bn": ("", "", "")},
}
TRAINED = {"ft-all": "weight bias gamma beta mean var", "lora-all": "mean var"}
RUN = {"epochs": 4, "batch_size": 10, "learning_rate": 0.2, "seed": 5}
RANK = 3


def oracle_run(
    name: str, model: MLP, x: np.ndarray, y: np.ndarray
) -> tuple[list[dict[str, Any]], list[float], int]:
    """Tensors of each layer, loss of each epoch and number of batches."""
    depth = len(model.layers)
    places = [0, *[1] * (depth - 2), 2]
    rows = [{kind: TYPES[name][kind][place] for kind in ("fc", "lora", "bn")} for place in places]
    params = [dict(zip(FIELDS, layer.arrays(), strict=True)) for layer in model.layers]
    to_last = name.startswith("skip")
    adapted = [at for at, row in enumerate(rows) if row["lora"]]
    widths = tuple(model.tap_widths[at] for at in adapted)
    for at, lora_a in zip(adapted, first_adapters(widths, RANK, RUN["seed"]), strict=True):
        width = model.n_outputs if to_last else model.widths[at + 1]
        params[at] |= {"lora_a": lora_a, "lora_b": np.zeros((RANK, width))}
    smallest = 2 if "s" in rows[0]["bn"] else 1
    losses, n_batches = [], 0
    for epoch in batches(len(x), RUN["batch_size"], RUN["epochs"], RUN["seed"], smallest):
        total = 0.0
        for batch in epoch:
            params, loss, _ = oracle.net_step(
                params, rows, x[batch], y[batch], RUN["learning_rate"], lora_to_last=to_last
            )
            total += loss * len(batch)
        losses.append(total / sum(map(len, epoch)))
        n_batches += len(epoch)
    return params, losses, n_batches


def core_run(
    name: str, model: MLP, x: np.ndarray, y: np.ndarray
) -> tuple[list[dict[str, Any]], list[float], int | None]:
    """The same of the program."""
    before = [dict(zip(FIELDS, layer.arrays(), strict=True)) for layer in model.layers]
    if name == "ft-all":
        reports: list[EpochReport] = []
        after = s2.pretrain(model, x, y, callback=reports.append, standardize=False, **RUN)
        tensors, losses, n_batches = after.tensors(), [report.loss for report in reports], None
    else:
        adapted = s2.adapt(model, x, y, method=name, rank=RANK, **RUN)
        tensors = {
            key.replace("taps.", "layers."): array
            for key, array in adapted.adapters.tensors().items()
        }
        assert adapted.history is not None
        losses, n_batches = list(adapted.history.loss), adapted.history.n_batches
    for key, array in tensors.items():
        _, layer, tensor = key.split(".")
        before[int(layer)][tensor] = array
    return before, losses, n_batches


@pytest.mark.parametrize("n_samples", [40, 47, 41], ids=["even", "tail of 7", "tail of 1"])
@pytest.mark.parametrize("widths", [[8, 6, 3], [8, 6, 5, 3], [8, 17, 6, 5, 4]], ids=str)
@pytest.mark.parametrize("name", TYPES)
def test_training_is_the_oracle(
    name: str, widths: list[int], n_samples: int, make_model: MakeModel, make_samples: Any
) -> None:
    model, (x, y) = make_model(widths), make_samples(n_samples, 8, widths[-1])
    compare(name, model, x, y)


@pytest.mark.parametrize("name", TYPES)
def test_training_without_batch_norm(name: str, make_model: MakeModel, make_samples: Any) -> None:
    compare(name, make_model([8, 6, 5, 3], batch_norm=False), *make_samples(47))


def compare(name: str, model: MLP, x: np.ndarray, y: np.ndarray) -> None:
    found, losses, n_batches = core_run(name, model, x, y)
    expected, expected_losses, expected_batches = oracle_run(name, model, x, y)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    assert losses[-1] < losses[0]
    assert n_batches in (expected_batches, None)
    trained = TRAINED.get(name, "").split()
    for at, layer in enumerate(model.layers):
        for tensor, start in zip(FIELDS, layer.arrays(), strict=True):
            one, other = found[at][tensor], expected[at][tensor]
            if other is None:
                assert one is None
                continue
            label = f"layer {at} {tensor}"
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-4, err_msg=label)
            if tensor == "lora_b" or tensor in trained:
                # A hidden bias moves nothing under batch statistics: its gradient is zero.
                least = 0 if tensor == "bias" else 1e-2
                assert np.abs(other - (0 if start is None else start)).max() >= least, label
            elif tensor != "lora_a":
                assert one.tobytes() == start.tobytes(), label


def test_history(make_model: MakeModel, make_samples: Any) -> None:
    model, (x, y) = make_model([8, 6, 5, 3]), make_samples(47)
    reports: list[EpochReport] = []
    adapted = s2.adapt(model, x, y, epochs=5, batch_size=10, callback=reports.append)
    history = adapted.history
    assert history is not None
    assert [(report.epoch, report.epochs) for report in reports] == [(n, 5) for n in range(1, 6)]
    assert history.loss == tuple(report.loss for report in reports)
    assert history.accuracy == tuple(report.accuracy for report in reports)
    assert history.n_batches == 25


def test_accuracy_and_loss_are_of_the_samples_as_they_were_seen(
    make_model: MakeModel, make_samples: Any
) -> None:
    model, (x, y) = make_model([8, 6, 5, 3]), make_samples(47)
    adapted = s2.adapt(model, x, y, epochs=1, batch_size=47, learning_rate=1e-20)
    assert adapted.history is not None
    assert adapted.history.accuracy == (model.score(x, y),)
    own = model.predict_proba(x)[np.arange(47), y].astype(np.float64)
    assert adapted.history.loss[0] == pytest.approx(-np.log(own).mean(), rel=1e-5)


@pytest.mark.parametrize(("method", "n_forwards"), [
    ("skip2-lora", 47), ("skip-lora", 4 * 47), ("lora-last", 4 * 47), ("lora-all", 0),
])  # fmt: skip
def test_forwards_of_the_frozen_layers(
    method: str, n_forwards: int, make_model: MakeModel, make_samples: Any
) -> None:
    model, (x, y) = make_model([8, 6, 5, 3]), make_samples(47)
    adapted = s2.adapt(model, x, y, method=method, epochs=4)
    assert adapted.history is not None
    assert adapted.history.n_forwards == n_forwards
    if method == "skip2-lora":
        assert adapted.cache_bytes == 47 * (6 + 5 + 3) * 4
        assert adapted.cache_overhead_bytes == 47 * (3 * 16 * 4 + 1) - adapted.cache_bytes
    else:
        assert (adapted.cache_bytes, adapted.cache_overhead_bytes) == (0, 0)


@pytest.mark.parametrize("capacity", [0, 1, 30, 47, 1000])
def test_forwards_with_a_bounded_cache(
    capacity: int, make_model: MakeModel, make_samples: Any
) -> None:
    model, (x, y) = make_model([8, 6, 5, 3]), make_samples(47)
    for method in ("skip-lora", "skip2-lora"):
        options = resolve_options(
            PAPER, model.tap_widths, 47, method=method, rank=2, epochs=4, cache_samples=capacity
        )
        trained = train(model, CheckedSamples(x, y.astype(np.int32)), options)
        kept = min(capacity, 47)
        assert trained.history.n_forwards == kept + 4 * (47 - kept)
        assert trained.cache_bytes == kept * (6 + 5 + 3) * 4


def test_result_of_a_report_is_a_copy_of_that_epoch(
    make_model: MakeModel, make_samples: Any
) -> None:
    model, (x, y) = make_model([8, 6, 5, 3]), make_samples(47)
    for method in ("skip2-lora", "lora-all"):
        kept: list[Any] = []

        def keep(report: EpochReport, kept: list[Any] = kept) -> None:
            kept.append(report.result())

        last = s2.adapt(model, x, y, method=method, epochs=3, callback=keep).adapters
        once = s2.adapt(model, x, y, method=method, epochs=1).adapters
        assert_same(kept[0].tensors(), once.tensors())
        assert_same(kept[2].tensors(), last.tensors())
    kept = []
    trained = s2.pretrain(model, x, y, epochs=3, callback=lambda r: kept.append(r.result()))
    assert kept[0].fingerprint == s2.pretrain(model, x, y, epochs=1).fingerprint
    assert kept[2].fingerprint == trained.fingerprint


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in expected.items()
    }


@pytest.mark.parametrize("what", ["skip adapters", "network", "inference"])
def test_other_threads_run_during_an_epoch(what: str) -> None:
    """With this switch interval a thread gets the lock only if the core lets go of it."""
    model, x = MLP.create([256, 256, 256, 3]), np.zeros((20_000, 256), np.float32)
    y = np.zeros(len(x), np.int32)
    layout = _core.RowLayout(model.tap_widths, 3, True)
    packed = _core.SkipAdapter(layout, 4)
    nothing = np.zeros((0, layout.row_stride), np.float32), np.zeros(0, np.uint8)
    network = _core.Network([layer.copy() for layer in model.layers], 1e-5, 0.1)
    rows = np.empty((len(x), layout.row_stride), np.float32)
    source = _core.RowSource(layout, *nothing, network)
    sgd = _core.Optimizer(_core.SGD)
    trainer = _core.SkipTrainer(packed, 20, sgd, 0)
    whole = _core.NetworkTrainer(network, ALL_METHODS["ft-all"].rows(3), 20, sgd, 0)
    call = {
        "skip adapters": lambda: trainer.epoch(x, y, source, 0.01),
        "network": lambda: whole.epoch(x, y, None, 0.01),
        "inference": lambda: network.forward(x, layout, 0, rows),
    }[what]
    turns, stop = 0, False

    def count() -> None:
        nonlocal turns
        while not stop:
            turns += 1
            time.sleep(0.0005)

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=count)
    thread.start()
    try:
        sys.setswitchinterval(1000)
        before = turns
        call()
        after = turns
    finally:
        stop = True
        sys.setswitchinterval(interval)
        thread.join()
    assert after - before >= 5


WIDTHS = [9, 16, 5, 3]
RATES = {"classification": 0.002, "multi-label": 0.002, "regression": 1e-6}


@pytest.fixture
def samples(make_samples: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_samples(60, 9)
    return x * np.float32(4) + 2, y.astype(np.int32)


def answers_of(task: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if task == "classification":
        return y
    return (x[:, :3] > 2).astype(np.float32) if task == "multi-label" else x[:, :3] * 50 + 9


def split(
    x: np.ndarray, y: np.ndarray, validation: float
) -> tuple[CheckedSamples, CheckedSamples | None]:
    options: Options = resolve_options(ANY_MODEL, WIDTHS[:-1], len(x), validation=validation)
    return stratified_split(CheckedSamples(x, y), options)


def test_a_weight_goes_with_its_sample() -> None:
    x, y = np.arange(40, dtype=np.float32).reshape(20, 2), np.arange(20, dtype=np.int32) % 3
    options = resolve_options(ANY_MODEL, WIDTHS[:-1], 20, validation=0.25)
    for part in stratified_split(CheckedSamples(x, y, x[:, 0] + 1), options):
        assert part is not None
        np.testing.assert_array_equal(part.weight, part.x[:, 0] + 1)


def test_a_part_without_weight_is_refused() -> None:
    x, y = np.zeros((20, 2), np.float32), np.zeros(20, np.int32)
    options = resolve_options(ANY_MODEL, WIDTHS[:-1], 20, validation=0.25)
    part = CheckedSamples(x, y, np.eye(20, dtype=np.float32)[0])
    with pytest.raises(DataError, match="1 of 20 samples have a weight above 0"):
        stratified_split(part, options)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("method", ["skip2-lora", "skip-lora", "lora-last"])
def test_validation_loss_is_that_of_the_samples(
    backbone: Any, samples: Any, task: str, standardize: bool, method: str
) -> None:
    x, y = samples[0], answers_of(task, *samples)
    _, held = split(x, y, 0.25)
    expected: list[float] = []

    def follow(report: EpochReport) -> None:
        outputs = report.result().logits(backbone, held.x)
        expected.append(mean_loss(TASKS[task], outputs, held.y))

    adapted = s2.adapt(
        backbone, x, y, task=task, standardize=standardize, method=method, validation=0.25,
        epochs=12, learning_rate=0.02 if standardize else RATES[task], callback=follow,
    )  # fmt: skip
    losses = adapted.history.validation_loss
    np.testing.assert_allclose(losses, expected, rtol=2e-4)
    best = adapted.history.best_epoch - 1
    assert losses[best] == min(losses)
    outputs = adapted.logits(held.x)
    assert mean_loss(TASKS[task], outputs, held.y) == pytest.approx(losses[best], rel=2e-4)


def test_nothing_of_the_held_out_samples_reaches_training(backbone: Any, samples: Any) -> None:
    """Other values of samples held out change no bit of what is trained on scaled others."""
    x, y = samples
    kept, _ = split(np.arange(60, dtype=np.float32)[:, None], y, 0.25)
    held_out = ~np.isin(np.arange(60), kept.x[:, 0])
    assert held_out.sum() == 15
    results: list[Any] = []
    for factor in (1, 100):
        moved = x.copy()
        moved[held_out] *= factor
        of_epoch: list[Any] = []

        def follow(report: EpochReport, to: list[Any] = of_epoch) -> None:
            to.append(report.result().tensors())

        s2.adapt(backbone, moved, y, validation=0.25, epochs=5, standardize=True, callback=follow)
        results.append(of_epoch[-1])
    for name, array in results[0].items():
        assert array.tobytes() == results[1][name].tobytes(), name


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_fit_is_what_the_models_give(
    backbone: Any, samples: Any, task: str, standardize: bool, validation: float
) -> None:
    x, y = samples[0], answers_of(task, *samples)
    adapted = s2.adapt(
        backbone, x, y, task=task, standardize=standardize, validation=validation, epochs=20,
        learning_rate=0.02 if standardize else RATES[task],
    )  # fmt: skip
    kept, held = split(x, y, validation)
    part = held or kept
    fit = adapted.fit
    assert fit.held_out == (validation > 0)
    assert fit.n_measured == len(part.y)
    key = {"classification": "accuracy", "multi-label": "exact_match", "regression": "r2"}[task]
    assert fit.after.overall[key] == pytest.approx(adapted.score(part.x, part.y), abs=1e-4)
    assert fit.on_all.overall[key] == pytest.approx(adapted.score(x, y), abs=1e-4)
    base = backbone.forward(part.x).base_logits
    if task == "classification":
        assert fit.before.overall[key] == (base.argmax(axis=1) == part.y).mean()
    elif task == "regression":
        error = np.abs(base.astype(np.float64) - part.y).mean()
        assert fit.before.overall["mean_absolute_error"] == pytest.approx(error, rel=1e-4)
    else:
        assert fit.before.overall[key] == ((base > 0) == part.y).all(axis=1).mean()


@pytest.mark.parametrize("options", [{"new_classes": True}, {"keep_outputs": False}], ids=str)
def test_there_is_no_before_where_the_base_has_no_such_outputs(
    backbone: Any, samples: Any, options: dict[str, bool]
) -> None:
    x, y = samples[0], np.where(samples[0][:, 0] > 2, 7, samples[1])
    fit = s2.adapt(backbone, x, y, epochs=5, **options).fit
    assert fit.before is None
    assert fit.after == fit.on_all


@pytest.mark.parametrize("method", ["skip-lora", "lora-all", "ft-all", "ft-last"])
@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_methods_without_rows_are_measured_on_demand(
    make_model: Any, samples: Any, method: str, validation: float
) -> None:
    x, y = samples
    model = make_model(WIDTHS)
    options = {"method": method, "epochs": 4, "validation": validation}
    assert s2.adapt(model, x, y, **options).fit is None
    adapted, fit = adapt_and_measure(model, x, y, **options)
    kept, held = split(x, y, validation)
    part = held or kept
    assert fit.before.overall["accuracy"] == model.score(part.x, part.y)
    assert fit.after.overall["accuracy"] == adapted.score(part.x, part.y)
    assert fit.on_all.overall["accuracy"] == pytest.approx(adapted.score(x, y))


def test_the_cache_is_gone_with_the_training(make_model: Any, samples: Any) -> None:
    adapted = s2.adapt(make_model(WIDTHS), *samples, epochs=2)
    again = pickle.loads(pickle.dumps(adapted))  # noqa: S301
    assert again.fit == adapted.fit


def test_command_tells_before_and_after(
    make_model: Any, samples: Any, tmp_path: Path, capsys: Any
) -> None:
    model, (x, y) = make_model(WIDTHS), samples
    model.save(tmp_path / "model.safetensors")
    np.savez(tmp_path / "data.npz", X=x, y=y)
    words = [str(tmp_path / name) for name in ("model.safetensors", "data.npz")]

    def type_in(*options: str) -> str:
        assert run(["adapt", *words, "-o", str(tmp_path / "a"), "--force", *options]) == 0
        return capsys.readouterr().out

    facts = json.loads(type_in("--json", "--solver", "steps"))
    assert facts["before"] == {"accuracy": model.score(x, y)}
    assert facts["after"] == {"accuracy": facts["accuracy"]}
    assert (facts["measured_on"], facts["n_measured"]) == ("training", 60)
    facts = json.loads(type_in("--json", "--solver", "steps", "--validation", "0.25"))
    _, held = split(x, y, 0.25)
    assert facts["before"] == {"accuracy": model.score(held.x, held.y)}
    assert (facts["measured_on"], facts["n_measured"]) == ("held-out", 15)
    assert facts["accuracy"] != facts["after"]["accuracy"]  # of all samples
    assert json.loads(type_in("--json", "--no-keep-outputs"))["before"] is None
    line = f"before accuracy {100 * model.score(x, y):.1f} %, after accuracy "
    said = type_in("--solver", "steps")
    assert line in said
    assert "on the 60 training samples" in said
    assert "old domain: no samples of it, so it may be forgotten: see --keep" in said
    assert "on 15 held-out samples" in type_in("--validation", "0.25")
    assert "the model alone has no such outputs, after accuracy" in type_in("--no-keep-outputs")


def test_plain_is_compared_by_value(make_model: Any, samples: Any) -> None:
    """A goal that says the same as the paper's is the paper's."""
    from skip2lora.tasks.task import CLASSIFICATION, Goal
    from skip2lora.training.loop import train

    options = resolve_options(ANY_MODEL, WIDTHS[:-1], 60, method="ft-all", epochs=1)
    done = train(make_model(WIDTHS), CheckedSamples(*samples), options, goal=Goal(CLASSIFICATION))
    assert Goal(CLASSIFICATION) == PLAIN
    assert done.history.n_batches == 3


@pytest.mark.parametrize(
    ("method", "standardize", "said"),
    [("skip2-lora", False, True), ("skip2-lora", True, False), ("ft-all", False, False)],
)
def test_what_to_do_where_the_loss_is_no_number(method: str, standardize: bool, said: bool) -> None:
    given = resolve_options(
        ANY_MODEL, (4,), 9, method=method, standardize=standardize, learning_rate=0.5
    )
    error = str(_diverged("loss", 3, given))
    assert error.startswith("the loss is not finite in epoch 3 at learning_rate 0.5, expected")
    assert ("try 0.05, or standardize=True" in error) == said
    assert "try 0.05" in error


@pytest.mark.parametrize("solver", ["steps", "exact"])
def test_times_are_milliseconds(
    solver: str, make_samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on by three seconds whenever it is asked."""
    model = NumpyBackbone([8, 5, 3], first_tap_is_input=True)
    options = {"epochs": 1} if solver == "steps" else {"penalty": 0.1}
    monkeypatch.setattr("time.perf_counter", itertools.count(7, 3).__next__)
    timing = s2.adapt(model, *make_samples(30), solver=solver, **options).timing
    assert timing.total_ms % 3000 == 0
    assert timing.total_ms > timing.cache_fill_ms >= 3000
    if solver == "exact":  # of steps the core has a clock of its own
        assert timing.cache_fill_ms == 3000
        assert timing.training_ms % 3000 == 0
        assert timing.total_ms > timing.training_ms >= 3000


def test_times_before_training_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies before the training is filling or in the total; copies and scales are training."""
    history = History((), (), (), best_epoch=1, n_batches=1, n_forwards=0)
    timing = Timing(cache_fill_ms=30.0, training_ms=400.0, total_ms=500.0)
    done = Trained(None, history, timing, lambda *_: None, rows_kept=False)
    monkeypatch.setattr("time.perf_counter", lambda: 12.5)
    again = done.after_fill(10.0, 12.0, 77)
    assert again.timing == Timing(2000.0, 430.0, 2500.0)
    assert again.history == dataclasses.replace(history, n_forwards=77)
    assert (again.measure, again.rows_kept) == (done.measure, False)
