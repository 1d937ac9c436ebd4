"""How good both models are, and the validation loss, from rows: as from the samples themselves."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapt import adapt_and_measure
from skip2lora.backbones.recipe import ANY_MODEL
from skip2lora.cli import run
from skip2lora.tasks.task import PLAIN, TASKS, mean_loss
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import EpochReport, stratified_split
from skip2lora.training.options import Options, resolve_options

WIDTHS = [9, 16, 5, 3]
RATES = {"classification": 0.002, "multi-label": 0.002, "regression": 1e-6}


@pytest.fixture(params=["MLP", "input is a tap", "input is none"])
def backbone(request: pytest.FixtureRequest, make_model: Any) -> Any:
    if request.param == "MLP":
        return make_model(WIDTHS)
    return NumpyBackbone(WIDTHS, first_tap_is_input=request.param == "input is a tap")


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

    facts = json.loads(type_in("--json"))
    assert facts["before"] == {"accuracy": model.score(x, y)}
    assert facts["after"] == {"accuracy": facts["accuracy"]}
    assert (facts["measured_on"], facts["n_measured"]) == ("training", 60)
    facts = json.loads(type_in("--json", "--validation", "0.25"))
    _, held = split(x, y, 0.25)
    assert facts["before"] == {"accuracy": model.score(held.x, held.y)}
    assert (facts["measured_on"], facts["n_measured"]) == ("held-out", 15)
    assert facts["accuracy"] != facts["after"]["accuracy"]  # of all samples
    assert json.loads(type_in("--json", "--no-keep-outputs"))["before"] is None
    line = f"before accuracy {100 * model.score(x, y):.1f} %, after accuracy "
    assert line in type_in()
    assert "on the 60 training samples" in type_in()
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
