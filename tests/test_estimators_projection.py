"""Estimators with a projection: rows of few columns, part after part, and without some again."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapters.projected import KINDS
from skip2lora.errors import ParameterError

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from skip2lora.sklearn import Skip2LoRAClassifier, Skip2LoRARegressor

WIDTHS, RANK = (20, 16, 12, 3), 4


@pytest.fixture(params=[True, False], ids=["input is a tap", "input is none"])
def backbone(request: pytest.FixtureRequest) -> NumpyBackbone:
    return NumpyBackbone(WIDTHS, first_tap_is_input=request.param)


def tapped(adapted: Any) -> list[int]:
    return [len(a) for a in adapted.adapters.lora_a]


@pytest.mark.parametrize("options", [{}, {"solver": "steps"}], ids=["auto", "steps"])
def test_estimators_keep_projected_rows_part_after_part(
    options: dict[str, Any], backbone: NumpyBackbone, make_samples: Any
) -> None:
    x, y = make_samples(90, WIDTHS[0])
    learned = Skip2LoRAClassifier(backbone, projection=RANK, **options)
    backbone.batches.clear()
    learned.fit(x[:60], y[:60])
    assert backbone.n_forwards == 60
    alone = s2.adapt(backbone, x[:60], y[:60], projection=RANK, **options)
    if not options:  # where no seed plays a part
        np.testing.assert_array_equal(learned.adapted_.logits(x), alone.logits(x))
    again = pickle.loads(pickle.dumps(learned))  # noqa: S301 - written by this test
    backbone.batches.clear()
    for each in (learned, again):
        each.partial_fit(x[60:], y[60:])
        assert tapped(each.adapted_)[-3:] == list(backbone.tap_widths)
        assert each.adapted_.cache_bytes == 90 * 4 * (3 * RANK + 3)
    assert backbone.n_forwards == 30  # the other has a copy
    np.testing.assert_array_equal(learned.predict(x), again.predict(x))
    assert learned.score(x, y) > 0.8


def test_estimators_know_who_judges(backbone: NumpyBackbone, make_samples: Any) -> None:
    x, y = make_samples(120, WIDTHS[0])
    learned = Skip2LoRAClassifier(backbone, projection=RANK, keep=(x[:20], y[:20]), solver="exact")
    backbone.batches.clear()
    learned.partial_fit(x[20:70], y[20:70])
    assert backbone.n_forwards == 70
    first = learned.adapted_.history.held_out
    learned.partial_fit(x[70:], y[70:])
    both = learned.adapted_.history.held_out
    assert first.notes == both.notes  # more samples judge, none of those that A was found from
    assert both.n_samples == first.n_samples + 50


def test_estimators_of_numbers_and_of_samples_for_validation(
    backbone: NumpyBackbone, make_samples: Any
) -> None:
    x, y = make_samples(80, WIDTHS[0])
    numbers = np.stack([x[:, 0], x[:, 1] + y], axis=1)
    learned = Skip2LoRARegressor(backbone, keep_outputs=False, projection=10, projection_from="pca")
    backbone.batches.clear()
    learned.fit(x[:60], numbers[:60], validation_data=(x[60:], numbers[60:]))
    assert backbone.n_forwards == 80
    alone = s2.adapt(
        backbone, x[:60], numbers[:60], task="regression", keep_outputs=False, projection=10,
        projection_from="pca", validation_data=(x[60:], numbers[60:]),
    )  # fmt: skip
    np.testing.assert_allclose(learned.predict(x), alone.predict(x), rtol=1e-5, atol=1e-5)


def test_estimators_refuse_what_a_projection_cannot(
    backbone: NumpyBackbone, make_samples: Any, refused: Any
) -> None:
    x, y = make_samples(60, WIDTHS[0])
    learned = Skip2LoRAClassifier(backbone, projection=RANK, solver="exact")
    learned.fit(x, y)
    said = refused(ParameterError, learned.forget, [1])
    assert "takes back some of the first 60 samples, from which the projection was found" in said
    with pytest.raises(ValueError, match=r"inconsistent .*\[58, 59\]"):
        learned.forget([1], x[2:])
    for other in (None, 3):
        learned.set_params(projection=other)
        said = refused(ParameterError, learned.partial_fit, x[:9], y[:9])
        assert f"projection is {other}, rows so far are of projection {RANK}" in said
    judged = Skip2LoRAClassifier(backbone, projection=RANK, solver="exact")
    judged.fit(x[:40], y[:40], validation_data=(x[40:], y[40:]))
    said = refused(ParameterError, judged.forget, [1], x[1:40])
    assert "the projection of samples for validation was found from them, too" in said
    last = Skip2LoRAClassifier(backbone, projection=12, method="lora-last")
    assert "less than the widest tap, 12" in refused(ParameterError, last.fit, x, y)


@pytest.mark.parametrize("options", [{}, {"solver": "exact"}], ids=["steps", "exact"])
@pytest.mark.parametrize("kind", ["pls", "pca"])
def test_estimators_project_the_last_tap_alone(
    options: dict[str, Any], kind: str, backbone: NumpyBackbone, make_samples: Any
) -> None:
    x, y = make_samples(90, WIDTHS[0])
    few: dict[str, Any] = {"method": "lora-last", "projection": RANK, "projection_from": kind}
    learned = Skip2LoRAClassifier(backbone, keep=(x[:15], y[:15]), **few, **options)
    backbone.batches.clear()
    learned.partial_fit(x[15:70], y[15:70])
    assert backbone.n_forwards == 70
    if options:  # where no seed plays a part
        alone = s2.adapt(backbone, x[15:70], y[15:70], keep=(x[:15], y[:15]), **few, **options)
        logits = alone.logits(x)
        np.testing.assert_allclose(learned.adapted_.logits(x), logits, rtol=1e-4, atol=1e-4)
    backbone.batches.clear()
    learned.partial_fit(x[70:], y[70:])
    assert backbone.n_forwards == 20
    adapters = learned.adapted_.adapters
    assert (adapters.first_tap, tapped(learned.adapted_)) == (2, [WIDTHS[2]])
    assert learned.adapted_.cache_bytes == 90 * 4 * (RANK + 3)
    rows = learned._state.stream.cache.rows
    whole = backbone.forward(x).taps[2]
    matrix = np.linalg.lstsq(
        np.column_stack([whole, np.ones(90)]), rows[:, :RANK], rcond=None
    )[0]  # fmt: skip
    seen = np.column_stack([whole, np.ones(90)]) @ matrix
    np.testing.assert_allclose(rows[:, :RANK], seen, atol=1e-4)  # all by one A


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chosen", [{}, {"solver": "exact"}, {"method": "lora-last"}])
@pytest.mark.parametrize("task", ["labels", "numbers"])
def test_estimators_forget_projected_samples(
    kind: str, chosen: dict[str, Any], task: str, backbone: NumpyBackbone, make_samples: Any,
) -> None:  # fmt: skip
    """What is left is a fit of what is left, to the bit: the projection too."""
    x, y = make_samples(110, WIDTHS[0])
    options = {"projection": RANK, "projection_from": kind, "keep": (x[90:], y[90:])} | chosen
    weight = np.linspace(0.5, 2, 90)
    make: Any = Skip2LoRAClassifier
    if "method" in chosen:
        options["solver"] = "exact"
    if task == "numbers":
        make, y = Skip2LoRARegressor, np.stack([y, -y, x[:110, 0]], axis=1) + 0.5
        options["keep"] = None

    def fitted(*parts: Any) -> Any:
        new = make(backbone, **options)
        for part in parts:
            new.partial_fit(x[part], y[part], sample_weight=weight[part])
        return new

    def logits(of: Any) -> Any:
        return of.adapted_.logits(x)

    later = np.delete(np.arange(60, 90), [3, 9])
    both, first, others = slice(0, 90), slice(0, 60), np.delete(np.arange(90), [3, 17, 80])
    parts = fitted(first, slice(60, 90))
    backbone.batches.clear()
    parts.forget([63, 69])  # of whom the projection knows nothing
    assert backbone.n_forwards == 0
    np.testing.assert_array_equal(logits(parts), logits(fitted(first, later)))
    whole = fitted(both)
    before = logits(whole)
    backbone.batches.clear()
    again = pickle.loads(pickle.dumps(whole))  # noqa: S301 - written by this test
    whole.forget([3, 17, 80], x[others])
    assert backbone.n_forwards == 87
    np.testing.assert_array_equal(logits(whole), logits(fitted(others)))
    assert np.abs(logits(whole) - before).max() > 1e-3
    np.testing.assert_array_equal(logits(again.forget([80, 3, 17], x[others])), logits(whole))
    whole.partial_fit(x[:9], y[:9])
    assert len(whole._state.stream) == 96 + (0 if options["keep"] is None else 20)
