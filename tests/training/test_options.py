"""Each optimiser of the core against PyTorch's, and against the equations in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora import _core
from skip2lora.backbones.recipe import PAPER
from skip2lora.training.options import OPTIMIZERS, resolve_options

WIDTHS, RANK, BATCH, RATE, STEPS = (16, 9, 8, 5), 3, 12, 0.001, 100
DECAYS = {"sgd": 0.05, "momentum": 0.05, "adam": 0.05, "adamw": 0.05}


def start(seed: int = 0) -> dict[str, Any]:
    """Rows of one batch, labels, and adapters whose lora_b is not zero."""
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> Any:
        return random.normal(size=shape).astype(np.float32)

    n_outputs = WIDTHS[-1]
    return {
        "taps": [normal(BATCH, width) for width in WIDTHS[:-1]],
        "base": normal(BATCH, n_outputs),
        "labels": random.integers(0, n_outputs, BATCH).astype(np.int32),
        "lora_a": [normal(width, RANK) / 4 for width in WIDTHS[:-1]],
        "lora_b": [normal(RANK, n_outputs) / 2 for _ in WIDTHS[:-1]],
    }


def in_core(task: dict[str, Any], optimizer: str, decay: float) -> list[Any]:
    """The whole batch every step, so that the order does not matter."""
    options = resolve_options(
        PAPER, WIDTHS[:-1], BATCH, epochs=STEPS, learning_rate=RATE, optimizer=optimizer,
        weight_decay=decay,
    )  # fmt: skip
    layout = _core.RowLayout(WIDTHS[:-1], WIDTHS[-1], False)
    rows = np.zeros((BATCH, layout.row_stride), np.float32)
    for tap, at in zip(task["taps"], layout.tap_offsets, strict=True):
        rows[:, at : at + tap.shape[1]] = tap
    rows[:, layout.logits_offset :][:, : WIDTHS[-1]] = task["base"]
    packed = _core.SkipAdapter(layout, RANK)
    for tap, (a, b) in enumerate(zip(task["lora_a"], task["lora_b"], strict=True)):
        packed.pack(tap, a, b)
    trainer = _core.SkipTrainer(packed, BATCH, options.core_optimizer(), 0)
    source = _core.RowSource(layout, rows, np.ones(BATCH, np.uint8), lambda *_: None)
    x = np.zeros((BATCH, 1), np.float32)
    for _ in range(STEPS):
        assert trainer.epoch(x, task["labels"], source, RATE).status == _core.OK
    made = [
        (np.empty_like(a), np.empty_like(b))
        for a, b in zip(task["lora_a"], task["lora_b"], strict=True)
    ]
    for tap, (a, b) in enumerate(made):
        packed.unpack(tap, a, b)
    return [*(a for a, _ in made), *(b for _, b in made)]


def in_torch(task: dict[str, Any], optimizer: str, decay: float) -> list[Any]:
    torch = pytest.importorskip(
        "torch", reason="PyTorch is not installed: make test TEST_GROUPS='test torch'"
    )
    taps = [torch.from_numpy(tap) for tap in task["taps"]]
    weights = [
        torch.from_numpy(w.copy()).requires_grad_() for w in (*task["lora_a"], *task["lora_b"])
    ]
    made = {
        "sgd": lambda: torch.optim.SGD(weights, lr=RATE, weight_decay=decay),
        "momentum": lambda: torch.optim.SGD(weights, lr=RATE, momentum=0.9, weight_decay=decay),
        "adam": lambda: torch.optim.Adam(weights, lr=RATE, weight_decay=decay),
        "adamw": lambda: torch.optim.AdamW(weights, lr=RATE, weight_decay=decay),
    }[optimizer]()
    labels, n_taps = torch.from_numpy(task["labels"]).long(), len(taps)
    for _ in range(STEPS):
        logits = torch.from_numpy(task["base"])
        for tap, a, b in zip(taps, weights[:n_taps], weights[n_taps:], strict=True):
            logits = logits + tap @ a @ b
        made.zero_grad()
        torch.nn.functional.cross_entropy(logits, labels).backward()
        made.step()
    return [w.detach().numpy() for w in weights]


def in_numpy(task: dict[str, Any], optimizer: str, decay: float) -> list[Any]:
    """Kingma and Ba 2015, Loshchilov and Hutter 2019, heavy ball; all in float64."""
    taps = [tap.astype(float) for tap in task["taps"]]
    weights = [w.astype(float) for w in (*task["lora_a"], *task["lora_b"])]
    m, v = ([np.zeros_like(w) for w in weights] for _ in range(2))
    n_taps, of = len(taps), OPTIMIZERS[optimizer]
    for step in range(1, STEPS + 1):
        hidden = [tap @ a for tap, a in zip(taps, weights[:n_taps], strict=True)]
        logits = task["base"] + sum(h @ b for h, b in zip(hidden, weights[n_taps:], strict=True))
        gy = np.exp(logits - logits.max(1, keepdims=True))
        gy /= gy.sum(1, keepdims=True)
        gy[np.arange(BATCH), task["labels"]] -= 1
        gy /= BATCH
        grads = [tap.T @ (gy @ b.T) for tap, b in zip(taps, weights[n_taps:], strict=True)]
        grads += [h.T @ gy for h in hidden]
        for at, grad in enumerate(grads):
            g = grad + (0 if of.decoupled else decay) * weights[at]
            weights[at] = weights[at] * (1 - RATE * decay if of.decoupled else 1)
            if of.rule == _core.SGD:
                weights[at] -= RATE * g
                continue
            adam = of.rule == _core.ADAM
            m[at] = of.beta1 * m[at] + (1 - of.beta1 if adam else 1) * g
            v[at] = of.beta2 * v[at] + (1 - of.beta2) * g * g
            scale = np.sqrt(v[at] / (1 - of.beta2**step)) + 1e-8 if adam else 1
            weights[at] -= RATE * m[at] / (1 - of.beta1**step if adam else 1) / scale
    return weights


@pytest.mark.parametrize("decayed", [False, True], ids=["plain", "decay"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("other", [in_numpy, in_torch], ids=["float64", "PyTorch"])
def test_same_weights_after_100_steps(other: Any, optimizer: str, decayed: bool) -> None:
    task = start()
    decay = DECAYS[optimizer] if decayed else 0.0
    before = [*task["lora_a"], *task["lora_b"]]
    for mine, theirs, first in zip(
        in_core(task, optimizer, decay), other(task, optimizer, decay), before, strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-6)
        assert np.abs(mine - first).max() > 1e-4  # they moved


@pytest.mark.parametrize("method", ["ft-all", "lora-all", "ft-bias", "ft-last", "lora-last"])
@pytest.mark.parametrize("optimizer", ["momentum", "adam", "adamw"])
def test_every_method_takes_every_optimizer(
    method: str, optimizer: str, make_samples: Any, make_model: Any
) -> None:
    x, y = make_samples(60)
    model = make_model([8, 7, 6, 3])
    plain = s2.adapt(model, x, y, method=method, rank=2, epochs=15)
    other = s2.adapt(
        model, x, y, method=method, rank=2, epochs=15, learning_rate=0.003, optimizer=optimizer
    )
    assert other.history.loss[-1] < other.history.loss[0]
    mine, theirs = plain.adapters.tensors(), other.adapters.tensors()
    assert any(not np.array_equal(mine[name], theirs[name]) for name in mine)


def test_cosine_goes_to_zero() -> None:
    options = resolve_options(
        PAPER, WIDTHS[:-1], 20, epochs=10, learning_rate=0.2, schedule="cosine"
    )
    rates = [options.rate(epoch) for epoch in range(11)]
    assert rates[0] == 0.2
    assert rates[5] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(0, abs=1e-15)
    assert rates == sorted(rates, reverse=True)


def test_validation_keeps_the_best_epoch_and_patience_stops(
    make_samples: Any, make_model: Any
) -> None:
    x, y = make_samples(60, seed=3)
    noisy = y.copy()
    noisy[::3] = (noisy[::3] + 1) % 3  # wrong labels: training on and on makes validation worse
    options: dict[str, Any] = {"learning_rate": 0.3, "validation": 0.3, "seed": 1}
    model = make_model([8, 7, 6, 3])
    whole = s2.adapt(model, x, noisy, epochs=60, **options)
    losses = whole.history.validation_loss
    assert whole.history.best_epoch == 1 + int(np.argmin(losses)) < 60
    short = s2.adapt(model, x, noisy, epochs=60, patience=5, **options)
    assert len(short.history.loss) == short.history.best_epoch + 5 < 60
    assert short.history.validation_loss == losses[: len(short.history.loss)]
    first = s2.adapt(model, x, noisy, epochs=short.history.best_epoch, **options)
    for name, array in first.adapters.tensors().items():
        assert array.tobytes() == short.adapters.tensors()[name].tobytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "lion"}, "optimizer is 'lion', expected one of sgd, momentum, adam, adamw"),
        ({"schedule": "step"}, "schedule is 'step', expected one of constant, cosine"),
        ({"weight_decay": -1}, "weight_decay is -1, expected a number from 0"),
        ({"validation": 1.5}, "validation is 1.5, expected a number from 0 to 0.9"),
        ({"patience": 3}, "patience is 3 without validation, expected both: set validation to 0.2"),
        ({"patience": 0, "validation": 0.2}, "patience is 0, expected a whole number from 1"),
    ],
)
def test_bad_options(
    options: Any, message: str, make_samples: Any, make_model: Any, refused: Any
) -> None:
    x, y = make_samples(30)
    said = refused(s2.ParameterError, s2.adapt, make_model([8, 6, 3]), x, y, rank=2, **options)
    assert said.startswith(message)


def test_too_few_samples_to_hold_out(make_samples: Any, make_model: Any, refused: Any) -> None:
    x, y = make_samples(2)
    said = refused(s2.DataError, s2.adapt, make_model([8, 6, 3]), x, y, rank=2, validation=0.1)
    assert "got 2 samples, validation 0.1 holds out 0 of them" in said
