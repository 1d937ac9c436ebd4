"""How good a result is said to be: held out where folds judged, new and old samples apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone


def domains(seed: int = 0) -> tuple[NumpyBackbone, Any, Any]:
    """A model, samples it is right of, and samples of another domain it is wrong of."""
    backbone = NumpyBackbone([9, 16, 3], first_tap_is_input=True)
    random = np.random.default_rng(seed)
    old_x, x = (random.normal(size=(60, 9)).astype(np.float32) for _ in range(2))
    old_y = backbone.forward(old_x).base_logits.argmax(axis=1)
    y = (backbone.forward(x).base_logits + 4 * x[:, :3]).argmax(axis=1)
    return backbone, (x + 3, y), (old_x, old_y)


@pytest.mark.parametrize("given", [{}, {"validation": 0.25}])
def test_new_and_old_samples_are_measured_apart(given: dict[str, float]) -> None:
    backbone, (x, y), old = domains()
    adapted = s2.adapt(backbone, x, y, recipe="auto", keep=old, **given)
    fit = adapted.fit
    assert fit.held_out
    assert fit.old.held_out
    share = 0.25 if given else 1
    assert fit.n_measured == adapted.history.held_out.n_samples == 60 * share
    assert fit.old.n_measured == 60 * share
    assert fit.old.before.overall["accuracy"] == 1.0
    assert fit.before.overall["accuracy"] < fit.after.overall["accuracy"]
    assert fit.on_all.overall["accuracy"] == pytest.approx(adapted.score(x, y))
    assert fit.old.on_all.overall["accuracy"] == pytest.approx(adapted.score(*old))
    assert fit.after.overall["accuracy"] == pytest.approx(adapted.history.held_out.value)


def test_what_is_held_out_is_not_what_was_trained_on() -> None:
    backbone, (x, _), (old_x, _) = domains()
    random = np.random.default_rng(7)
    y, old_y = (random.integers(0, 3, 60) for _ in range(2))
    fit = s2.adapt(backbone, x, y, recipe="auto", keep=(old_x, old_y)).fit
    for of in (fit, fit.old):
        assert of.after.overall["accuracy"] < 0.55
        assert of.on_all.overall["accuracy"] >= of.after.overall["accuracy"]


@pytest.mark.filterwarnings("ignore::skip2lora.errors.FewSamplesWarning")
@pytest.mark.parametrize("options", [{"recipe": "auto"}, {"solver": "exact"}, {"epochs": 3}])
def test_samples_for_validation_are_measured_beside_old_ones(options: dict[str, Any]) -> None:
    backbone = NumpyBackbone([9, 16, 5, 3], first_tap_is_input=False)
    x = np.random.default_rng(3).normal(size=(70, 9)).astype(np.float32)
    y = np.arange(70) % 3
    adapted = s2.adapt(
        backbone, x[:30], y[:30], keep=(x[30:50], y[30:50]), validation_data=(x[50:], y[50:]),
        **options,
    )  # fmt: skip
    fit = adapted.fit
    assert (fit.held_out, fit.n_measured) == (True, 20)
    assert fit.after.overall["accuracy"] == pytest.approx(adapted.score(x[50:], y[50:]))
    assert (fit.old.held_out, fit.old.n_measured) == (False, 20)
