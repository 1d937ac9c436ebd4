"""``solver="exact"`` through the front door: every backbone, every task, saved and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.test_backbones import BACKBONES
from skip2lora.adapters.rows import RowFormat
from skip2lora.errors import ForgettingWarning, ParameterError
from skip2lora.tasks.task import CLASSIFICATION, mean_loss
from skip2lora.training.skip_job import Scaling, places_of

N_TRAINED = 80


@pytest.fixture(params=BACKBONES)
def every_backbone(request: pytest.FixtureRequest, make_model: Any) -> Any:
    return BACKBONES[request.param](make_model)


@pytest.fixture(params=["MLP", "NumPy", "LiteRT, 8 bits", "ONNX"])
def backbone(request: pytest.FixtureRequest, make_model: Any) -> Any:
    return BACKBONES[request.param](make_model)


@pytest.fixture
def samples(make_samples: Any) -> tuple[np.ndarray, np.ndarray]:
    return make_samples(120, 9)


def adapt(model: Any, samples: Any, **options: Any) -> Any:
    x, y = samples
    return s2.adapt(model, x[:N_TRAINED], y[:N_TRAINED], solver="exact", **options)


def test_every_backbone(every_backbone: Any, samples: Any, tmp_path: Path) -> None:
    backbone, (x, y) = every_backbone, samples
    before = backbone.fingerprint
    adapted = adapt(backbone, samples)
    again = adapt(backbone, samples)
    for one, other in zip(
        adapted.adapters.tensors().values(), again.adapters.tensors().values(), strict=True
    ):
        assert one.tobytes() == other.tobytes()  # there is no seed
    assert backbone.fingerprint == before
    assert (adapted.adapters.rank, adapted.history.n_forwards) == (3, N_TRAINED)
    assert adapted.fit.before.overall["accuracy"] < adapted.fit.after.overall["accuracy"]
    new = (adapted.predict(x[N_TRAINED:]) == y[N_TRAINED:]).mean()
    held_out = adapted.history.held_out
    assert held_out.low - 0.1 < new < held_out.high + 0.1
    adapted.save(tmp_path / "adapter")
    read = s2.AdaptedModel.load(backbone, tmp_path / "adapter")
    assert read.logits(x).tobytes() == adapted.logits(x).tobytes()


def test_it_is_the_best_of_the_penalised_fits(backbone: Any, samples: Any) -> None:
    """A thousand epochs of Adam on the same scaled taps do not reach the objective."""
    x, y = samples
    exact = adapt(backbone, samples, penalty=1e-3)
    adam = s2.adapt(
        backbone, x[:N_TRAINED], y[:N_TRAINED], rank=3, epochs=1000, optimizer="adam",
        learning_rate=0.01, standardize=True,
    )  # fmt: skip
    assert penalised(backbone, exact, x[:N_TRAINED], y) < penalised(
        backbone, adam, x[:N_TRAINED], y
    )


def penalised(backbone: Any, adapted: Any, x: np.ndarray, y: np.ndarray) -> float:
    """The objective of penalty 0.001, from the adapters alone."""
    rows = RowFormat.of(backbone, copy_input=True)
    table = rows.empty(len(x))
    rows.compute(backbone, x, table)
    scaling = Scaling.of(rows, [table])
    z = (table.astype(np.float64) - scaling.mean) * scaling.scale
    size, squares, adapters = 0.0, 0.0, adapted.adapters
    for (at, width), a, b in zip(places_of(rows), adapters.lora_a, adapters.lora_b, strict=True):
        columns = slice(at, at + width)
        size += (z[:, columns] ** 2).sum() / len(z)
        weights = a.astype(np.float64) @ b / scaling.scale[columns, None]
        squares += (weights**2).sum()
    loss = mean_loss(CLASSIFICATION, adapted.logits(x), y[: len(x)].astype(np.int32))
    return float(loss + 1e-3 / 2 * squares * size)


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_other_tasks(backbone: Any, samples: Any, task: str) -> None:
    x, y = samples
    answers = np.stack([y == 0, y != 2, x[:, 0] > 0], axis=1).astype(np.float32)
    if task == "regression":
        answers = x[:, 3:6] * 30 - 500
    adapted = adapt(backbone, (x, answers), task=task)
    held_out = adapted.history.held_out
    assert held_out.measure == {"multi-label": "exact_match", "regression": "r2"}[task]
    score = adapted.score(x[N_TRAINED:], answers[N_TRAINED:])
    assert score > 0.4
    assert abs(score - held_out.value) < 0.3


@pytest.mark.parametrize("keep_outputs", [True, False])
def test_new_classes(backbone: Any, samples: Any, keep_outputs: bool) -> None:
    x, y = samples
    labels = np.array(["gear", "belt", "noise"])[y]
    options = {"new_classes": True} if keep_outputs else {"keep_outputs": False}
    adapted = adapt(backbone, (x, labels), **options)
    assert adapted.n_outputs == (6 if keep_outputs else 3)
    held_out = adapted.history.held_out
    score = adapted.score(x[N_TRAINED:], labels[N_TRAINED:])
    assert held_out.low - 0.1 < score < held_out.high + 0.1


def test_the_last_tap_alone(backbone: Any, samples: Any) -> None:
    adapted = adapt(backbone, samples, method="lora-last")
    assert len(adapted.adapters.lora_a) == 1
    assert adapted.history.held_out.value > 1 / 3


def test_classes_without_samples_do_not_win(backbone: Any, samples: Any) -> None:
    x, y = samples
    two = y != 1
    with pytest.warns(ForgettingWarning):
        adapted = s2.adapt(backbone, x[two], y[two], solver="exact")
    assert (adapted.predict(x[two]) != 1).mean() > 0.9
    assert adapted.fit.after.overall["accuracy"] > 0.7


# --- refused -----------------------------------------------------------------------------------

BESIDE = [
    {"epochs": 3}, {"batch_size": 5}, {"learning_rate": 0.1}, {"optimizer": "sgd"},
    {"weight_decay": 0.1}, {"schedule": "cosine"}, {"patience": 2, "validation": 0.2},
    {"standardize": False}, {"cache": False},
]  # fmt: skip


@pytest.mark.parametrize("beside", BESIDE, ids=lambda of: next(iter(of)))
def test_options_of_steps(make_model: Any, samples: Any, beside: Any, refused: Any) -> None:
    name, value = next(iter(beside.items()))
    message = refused(ParameterError, adapt, make_model([9, 5, 3]), samples, **beside)
    assert f"{name} is {value} beside solver='exact', which has no such choice" in message
    assert f"leave {name} out" in message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"penalty": -1e-9}, "penalty is -1e-09, expected a number from 0"),
        ({"penalty": float("nan")}, "penalty is nan, expected a number from 0"),
        ({"penalty": float("inf")}, "penalty is inf, expected a number from 0"),
        ({"penalty": "1"}, "penalty is '1', expected a number from 0"),
        ({"penalty": 1, "solver": None}, "penalty is 1 with solver steps, expected the exact one"),
        ({"solver": "newton"}, "solver is 'newton', expected one of steps, exact"),
        ({"method": "skip-lora"}, "solver is exact with method skip-lora, expected one whose rows"),
        ({"method": "ft-last"}, "solver is exact with method ft-last, expected one whose rows"),
        ({"rank": 0}, "rank is 0, expected a whole number from 1 to 9"),
    ],
)
def test_bad_options(make_model: Any, samples: Any, options: Any, said: str, refused: Any) -> None:
    x, y = samples
    model = make_model([9, 5, 3])
    assert said in refused(ParameterError, s2.adapt, model, x, y, **{"solver": "exact"} | options)
