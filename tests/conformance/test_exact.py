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
from skip2lora.tasks.task import TASKS, mean_loss
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


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_objective_is_scikit_learns(backbone: Any, samples: Any, task: str) -> None:
    """Of the columns that anyone can compute from the taps, through adapt, fold and all."""
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    x, y = samples[0][:N_TRAINED], samples[1][:N_TRAINED].astype(np.int32)
    answers, penalty = (y if task == "classification" else x[:, 3:6] * 30 - 500), 1e-3
    adapted = s2.adapt(
        backbone, x, answers, solver="exact", penalty=penalty, task=task, keep_outputs=False
    )
    columns = Columns(backbone, x, answers if task == "regression" else None)
    z, scaled = columns.z, answers
    if task == "classification":
        peer = linear.LogisticRegression(C=1 / (penalty * len(z)), tol=1e-8, max_iter=100000)
    else:
        peer, scaled = linear.Ridge(alpha=penalty * len(z)), answers * columns.scaling.output_scale
    peer.fit(z, scaled)
    theirs = z @ peer.coef_.T + peer.intercept_
    least = columns.objective(task, theirs, scaled, peer.coef_, penalty)
    outputs = adapted.logits(x) * columns.scaling.output_scale
    reached = columns.objective(task, outputs, scaled, columns.weights_of(adapted), penalty)
    assert least - 1e-6 <= reached <= least * (1 + 1e-4)


class Columns:
    """Columns z of a model's taps, as docs/decisions/0015-exact.md says what they are."""

    def __init__(self, backbone: Any, x: np.ndarray, numbers: np.ndarray | None) -> None:
        self.rows = RowFormat.of(backbone, n_outputs=3, copy_input=True)
        table = self.rows.empty(len(x))
        own = RowFormat.of(backbone, copy_input=True)
        own.compute(backbone, x, table)
        table[:, self.rows.layout.logits_offset :] = 0  # outputs are left out
        self.scaling = Scaling.of(self.rows, [table], numbers)
        z = (table.astype(np.float64) - self.scaling.mean) * self.scaling.scale
        self.z = np.concatenate(
            [z[:, at : at + width] for at, width in places_of(self.rows)], axis=1
        )
        self.size = np.sqrt((self.z**2).sum() / len(z))
        self.z /= self.size

    def weights_of(self, adapted: Any) -> np.ndarray:
        """W of z, from the adapters on taps as they are."""
        parts, adapters = [], adapted.adapters
        for (at, width), a, b in zip(
            places_of(self.rows), adapters.lora_a, adapters.lora_b, strict=True
        ):
            scale = self.scaling.scale[at : at + width].astype(np.float64)
            parts.append(a.astype(np.float64) @ b / scale[:, None])
        return np.concatenate(parts) * self.size * self.scaling.output_scale

    def objective(
        self,
        task: str,
        outputs: np.ndarray,
        answers: np.ndarray,
        weights: np.ndarray,
        penalty: float,
    ) -> float:
        loss = mean_loss(TASKS[task], outputs.astype(np.float64), answers)
        return float(loss + penalty / 2 * (weights.astype(np.float64) ** 2).sum())


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
