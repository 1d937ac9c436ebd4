"""Rows of a few numbers a tap: which, from which samples, and that each sample passes once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapt import adapt_and_measure
from skip2lora.adapters.projected import KINDS
from skip2lora.adapters.rows import RowFormat, SkipCache
from skip2lora.errors import DataError, ParameterError
from skip2lora.tasks.task import TASKS
from skip2lora.training import projection
from skip2lora.training.fit import measure_fit
from skip2lora.training.projection import FirstPart, _answers
from skip2lora.training.skip_job import Scaling, places_of

WIDTHS, RANK = (20, 16, 12, 3), 4
CLASSES = TASKS["classification"]
STEPS: dict[str, Any] = {"method": "skip2-lora", "epochs": 8, "batch_size": 7}
RECIPES: dict[str, dict[str, Any]] = {
    "steps": STEPS,
    "scaled": STEPS | {"standardize": True, "optimizer": "adam", "learning_rate": 0.01},
    "validation": STEPS | {"validation": 0.25},
    "bounded": STEPS | {"cache_samples": 10, "standardize": True},
    "no cache": STEPS | {"method": "skip-lora"},
    "last tap": STEPS | {"method": "lora-last"},
    "exact": {"solver": "exact"},
    "auto": {"recipe": "auto"},
    "anew": {"keep_outputs": False},
    "anew, by steps": STEPS | {"keep_outputs": False, "validation": 0.25},
    "suspects": STEPS | {"suspects": True},
}


@pytest.fixture(params=[True, False], ids=["input is a tap", "input is none"])
def backbone(request: pytest.FixtureRequest) -> NumpyBackbone:
    return NumpyBackbone(WIDTHS, first_tap_is_input=request.param)


def first_part(
    backbone: Any, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None
) -> FirstPart:
    cache = SkipCache.of(RowFormat.of(backbone, copy_input=True), len(x))
    cache.fill(backbone, x)
    return FirstPart(cache, y, weight)


def columns(part: FirstPart) -> list[np.ndarray]:
    """Scaled columns of each tap, float64."""
    scaling = Scaling.of(part.cache.format, [part.cache.rows], None, part.weight)
    scaled = (part.cache.rows.astype(np.float64) - scaling.mean) * scaling.scale
    return [scaled[:, at : at + width] for at, width in places_of(part.cache.format)]


def same_space(one: np.ndarray, other: np.ndarray) -> None:
    """The columns of both, (n, rank), span the same, in order: each the others' up to its sign."""
    for a, b in zip(one.T, other.T, strict=True):
        a, b = a - a.mean(), b - b.mean()
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert abs(cosine) == pytest.approx(1, abs=1e-4)


def scores(part: FirstPart, kind: str, rank: int = RANK, task: Any = CLASSES) -> list[np.ndarray]:
    """What rows would hold of the first part, tap by tap."""
    of = part.projections(rank, kind, task)
    rows, places = part.cache.rows, places_of(part.cache.format)
    return [
        each.of(rows[:, at : at + width])
        for each, (at, width) in zip(of, places, strict=True)
        if each is not None
    ]


def test_pca_is_that_of_scikit_learn(backbone: NumpyBackbone, make_samples: Any) -> None:
    peer = pytest.importorskip("sklearn.decomposition", reason="scikit-learn is the peer")
    part = first_part(backbone, *make_samples(60, WIDTHS[0]))
    for values, tap in zip(scores(part, "pca"), columns(part), strict=True):
        same_space(values, peer.PCA(RANK).fit_transform(tap))
        np.testing.assert_allclose(values.std(axis=0), 1, rtol=1e-3)


def test_pls_is_that_of_scikit_learn(backbone: NumpyBackbone, make_samples: Any) -> None:
    peer = pytest.importorskip("sklearn.cross_decomposition", reason="scikit-learn is the peer")
    x, y = make_samples(60, WIDTHS[0])
    part, answers = first_part(backbone, x, y), np.eye(3)[y]
    for values, tap in zip(scores(part, "pls"), columns(part), strict=True):
        of = peer.PLSRegression(RANK, scale=False, tol=1e-14, max_iter=10000).fit(tap, answers)
        same_space(values, tap @ of.x_rotations_)
        np.testing.assert_allclose(values.std(axis=0), 1, rtol=1e-3)


def test_pls_of_numbers_and_labels(backbone: NumpyBackbone, make_samples: Any) -> None:
    """By the definition: the first column has the largest covariance with the answers."""
    x, y = make_samples(50, WIDTHS[0])
    targets = np.stack([y, y * y, -y], axis=1).astype(np.float32)
    logits = backbone.forward(x).base_logits
    lack = targets - logits.astype(np.float64)
    lack = (lack - lack.mean(axis=0)) / lack.std(axis=0)
    for task, answers, wanted in (
        ("regression", targets, lack),
        ("multi-label", targets > 0, (targets > 0) - (targets > 0).mean(axis=0)),
    ):
        part = first_part(backbone, x, answers.astype(np.float32))
        for values, tap in zip(scores(part, "pls", task=TASKS[task]), columns(part), strict=True):
            left = np.linalg.svd(tap.T @ wanted)[0][:, :1]
            same_space(values[:, :1], tap @ left)


def test_weighted_samples_count_as_if_they_were_there_twice(
    backbone: NumpyBackbone, make_samples: Any
) -> None:
    x, y = make_samples(40, WIDTHS[0])
    weight = np.where(np.arange(40) < 10, 2, 1).astype(np.float32)
    twice = np.concatenate([np.arange(10), np.arange(40)])
    for kind in ("pca", "pls"):
        weighted = first_part(backbone, x, y, weight).projections(RANK, kind, CLASSES)
        repeated = first_part(backbone, x[twice], y[twice]).projections(RANK, kind, CLASSES)
        for one, other in zip(weighted, repeated, strict=True):
            np.testing.assert_allclose(one.mean, other.mean, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(abs(one.matrix), abs(other.matrix), rtol=1e-2, atol=1e-3)


def test_random_columns_are_by_the_seed_and_of_their_scale(
    backbone: NumpyBackbone, make_samples: Any
) -> None:
    part = first_part(backbone, *make_samples(60, WIDTHS[0]))
    one, same, other = (part.projections(RANK, "random", CLASSES, seed) for seed in (1, 1, 2))
    for a, b, c in zip(one, same, other, strict=True):
        np.testing.assert_array_equal(a.matrix, b.matrix)
        assert (a.matrix != c.matrix).any()
    assert 0.3 < np.mean([values.std() for values in scores(part, "random")]) < 2


def test_narrow_taps_stay_and_no_more_columns_than_say_something(
    backbone: NumpyBackbone, make_samples: Any
) -> None:
    x, y = make_samples(60, WIDTHS[0])
    assert [of is None for of in first_part(backbone, x, y).projections(12, "pls", CLASSES)] == [
        False, False, True,
    ]  # fmt: skip
    few = first_part(backbone, x[:4], y[:4]).projections(8, "pca", CLASSES)
    same = first_part(backbone, np.repeat(x[:1], 9, axis=0), y[:9]).projections(8, "pls", CLASSES)
    for several, count in ((few, 3), (same, 0)):
        for of in several:
            assert of is not None
            assert of.matrix.shape[1] == 8
            assert np.abs(of.matrix).any(axis=0).tolist() == [True] * count + [False] * (8 - count)


def tapped(adapted: Any) -> list[int]:
    return [len(a) for a in adapted.adapters.lora_a]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_result_is_an_ordinary_adapter_and_every_sample_passes_once(
    recipe: str, kind: str, backbone: NumpyBackbone, make_samples: Any, tmp_path: Path
) -> None:
    options = RECIPES[recipe]
    x, y = make_samples(60, WIDTHS[0])
    whole = s2.adapt(backbone, x, y, **options)
    backbone.batches.clear()
    adapted, fit = adapt_and_measure(
        backbone, x, y, **options, projection=RANK, projection_from=kind
    )
    if recipe not in ("bounded", "no cache", "last tap"):  # which compute rows again
        assert backbone.n_forwards == adapted.history.n_forwards == 60
    assert adapted.history.n_forwards <= whole.history.n_forwards
    assert 0 <= adapted.cache_bytes <= whole.cache_bytes
    assert tapped(adapted) == tapped(whole)
    adapted.save(tmp_path / "adapter")
    loaded = s2.AdaptedModel.load(backbone, tmp_path / "adapter")
    np.testing.assert_array_equal(loaded.logits(x), adapted.logits(x))
    # What was trained on projected rows and what was folded say the same.
    assert fit.on_all.overall["accuracy"] == pytest.approx(adapted.score(x, y), abs=0.001)


@pytest.mark.parametrize("recipe", ["steps", "scaled", "exact", "auto"])
def test_logits_on_projected_rows_are_those_of_the_folded_adapter(
    recipe: str, backbone: NumpyBackbone, make_samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def measured(job: Any, result: Any, *of: Any, **more: Any) -> Any:
        seen.append((job, result))
        return measure_fit(job, result, *of, **more)

    monkeypatch.setattr("skip2lora.training.loop.measure_fit", measured)
    x, y = make_samples(60, WIDTHS[0])
    adapted, _ = adapt_and_measure(backbone, x, y, **RECIPES[recipe], projection=RANK)
    job, result = seen[0]
    few = job.outputs(result, held_out=False, with_base=False).adapted
    np.testing.assert_allclose(adapted.logits(x), few, rtol=1e-5, atol=1e-5)
    widths = job.cache.format.tap_widths
    assert widths == (RANK,) * 3
    assert adapted.cache_bytes == 60 * 4 * (3 * RANK + 3)


def test_whoever_follows_sees_ordinary_adapters(backbone: NumpyBackbone, make_samples: Any) -> None:
    reports: list[Any] = []
    x, y = make_samples(40, WIDTHS[0])
    adapted = s2.adapt(backbone, x, y, **STEPS, projection=RANK, callback=reports.append)
    assert len(reports) == 8
    last = reports[-1].result()
    for name, array in adapted.adapters.tensors().items():
        np.testing.assert_array_equal(last.tensors()[name], array)


def test_old_samples_and_those_for_validation_pass_once(
    backbone: NumpyBackbone, make_samples: Any
) -> None:
    x, y = make_samples(90, WIDTHS[0])
    backbone.batches.clear()
    adapted = s2.adapt(
        backbone, x[:40], y[:40], projection=RANK, keep=(x[40:70], y[40:70]),
        validation_data=(x[70:], y[70:]),
    )  # fmt: skip
    assert adapted.history.n_forwards == 90
    assert backbone.n_forwards == 90 + (0 if adapted.fit else 90)
    assert adapted.fit.old is not None
    few = adapted.fit.after.overall["accuracy"]
    assert few == pytest.approx(adapted.score(x[70:], y[70:]), abs=0.001)


def test_answers_that_a_projection_was_found_from_judge_nothing(
    backbone: NumpyBackbone, make_samples: Any
) -> None:
    """With chance as answers, held-out accuracy must be that of chance."""
    x, _ = make_samples(200, WIDTHS[0])
    wide = NumpyBackbone((200, 150, 3), first_tap_is_input=True)
    noise = np.random.default_rng(0)
    x, y = noise.normal(size=(120, 200)).astype(np.float32), np.tile([0, 1, 2], 40)
    for options in ({"recipe": "auto"}, {"solver": "exact"}):
        adapted = s2.adapt(wide, x, y, projection=8, **options)
        held_out = adapted.history.held_out
        assert 0.15 < held_out.value < 0.5
        assert held_out.notes == (
            "60 samples that the projection is found from are never held out",
        )
    by_chance = s2.adapt(wide, x, y, projection=8, projection_from="pca")
    assert by_chance.history.held_out.notes == ()


def test_a_first_part_is_of_every_class_and_of_few_bytes(
    backbone: NumpyBackbone, make_samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes may come one after the other, as of a folder of images."""
    x, y = make_samples(90, WIDTHS[0])
    order = np.argsort(y, kind="stable")
    x, y, parts = x[order], y[order], []
    of_first = FirstPart.projections
    monkeypatch.setattr(
        FirstPart, "projections", lambda self, *of: parts.append(self.y) or of_first(self, *of)
    )
    monkeypatch.setattr(projection, "FIRST", 30)
    s2.adapt(backbone, x, y, **STEPS, projection=RANK)
    assert 24 <= len(parts[0]) <= 30
    assert set(parts[0]) == {0, 1, 2}
    monkeypatch.setattr(projection, "FIRST_BYTES", 1)
    s2.adapt(backbone, x, y, **STEPS, projection=RANK)
    assert len(parts[1]) == RANK
    monkeypatch.setattr(projection, "FIRST_BYTES", 1 << 26)
    s2.adapt(backbone, x, y, **STEPS, projection=RANK, validation=0.5, seed=1)
    assert len(parts[2]) <= 30


def test_accuracy_is_close_to_that_of_whole_rows(make_samples: Any) -> None:
    """Bands: few of 200 columns matter, which partial least squares finds and chance does not."""
    random = np.random.default_rng(5)
    wide = NumpyBackbone((200, 60, 4), first_tap_is_input=True, seed=1)
    y = random.integers(0, 4, 900)
    x = random.normal(size=(900, 200)).astype(np.float32)
    x[:, :4] += 3 * np.eye(4, dtype=np.float32)[y]
    some, rest = slice(500), slice(500, None)
    score = {
        kind: s2.adapt(wide, x[some], y[some], solver="exact", **of).score(x[rest], y[rest])
        for kind, of in {
            "whole": {},
            **{kind: {"projection": 8, "projection_from": kind} for kind in KINDS},
        }.items()
    }
    assert score["pls"] > score["whole"] - 0.12
    assert score["pls"] > max(score["pca"], score["random"]) + 0.15


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"projection": 20}, ParameterError, "projection is 20, expected a whole number from 1 to"),
        ({"projection": 2, "method": "ft-all"}, ParameterError, "with method ft-all"),
        ({"projection_from": "pls"}, ParameterError, "without a projection"),
        (
            {"projection": 2, "projection_from": "ica"},
            ParameterError,
            "expected one of pls, pca, random",
        ),
        ({"projection": 2, "rank": 3}, ParameterError, "rank is 3, expected"),
    ],
)
def test_bad_input(
    options: dict[str, Any], error: Any, message: str, make_samples: Any, refused: Any
) -> None:
    model = NumpyBackbone(WIDTHS, first_tap_is_input=True)
    x, y = make_samples(30, WIDTHS[0])
    assert message in refused(error, s2.adapt, model, x, y, **options)
    assert not model.batches


def test_one_class_has_no_partial_least_squares(
    backbone: NumpyBackbone, make_samples: Any, refused: Any
) -> None:
    x, _ = make_samples(30, WIDTHS[0])
    y = np.zeros(30, int)
    with pytest.warns(s2.errors.ForgettingWarning):
        message = refused(DataError, s2.adapt, backbone, x, y, **STEPS, projection=RANK)
    assert message == (
        "projection is found from pls, but the 30 samples it is found from have one answer alone, "
        "expected others too: add some, or pass projection_from='pca'"
    )
    with pytest.warns(s2.errors.ForgettingWarning):
        s2.adapt(backbone, x, y, **STEPS, projection=RANK, projection_from="pca")


def test_what_a_projection_is_to_explain() -> None:
    """Each class on its own, labels, or numbers that the model lacks; about their mean."""
    y = np.array([0, 2, 2, 5])
    classes = _answers(y, CLASSES, np.zeros((4, 6), np.float32))
    np.testing.assert_allclose(
        classes,
        [[0.75, -0.5, -0.25], [-0.25, 0.5, -0.25], [-0.25, 0.5, -0.25], [-0.25, -0.5, 0.75]],
    )
    labels = np.array([[1, 0], [0, 0]], np.float32)
    got = _answers(labels, TASKS["multi-label"], np.ones((2, 2), np.float32))
    np.testing.assert_allclose(got, [[0.5, 0], [-0.5, 0]])
    numbers, base = np.array([[1, 5], [9, 5]], np.float32), np.array([[0, 1, 8], [2, 1, 8]])
    got = _answers(numbers, TASKS["regression"], base.astype(np.float32))
    np.testing.assert_allclose(got, [[-1, 0], [1, 0]])  # 1 and 7 are missing, in deviations


def test_what_is_taken_at_even_distances() -> None:
    numbers = np.arange(10) * 10
    assert projection._spread(numbers, 10) is numbers
    assert projection._spread(numbers, 9).tolist() == [0, 10, 20, 30, 40, 50, 60, 70, 80]
    assert projection._spread(numbers, 4).tolist() == [0, 20, 50, 70]
    assert projection._spread(numbers, 1).tolist() == [0]
