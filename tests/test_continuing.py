"""An adapter that goes on ends as one of all samples at once: the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from desk import blobs
from skip2lora.adapted import NewlyAdapted
from skip2lora.adapters.kept import folder_beside, versions_in
from skip2lora.errors import DataError, ParameterError
from skip2lora.training.watch import Checkpoint

WIDTHS = [12, 8, 6, 3]
X, LABELS = blobs(1, shift=1.0)
Y = np.where(np.arange(60) > 50, 7, LABELS)  # a new class comes late
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def model_of(kind: str, make_model: Any) -> s2.Backbone:
    if kind == "network":
        model: s2.MLP = make_model(WIDTHS)
        return model
    return NumpyBackbone(WIDTHS, first_tap_is_input=False)


def bits(of: s2.AdaptedModel) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in of.adapters.tensors().items()}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


OPTIONS: dict[str, dict[str, Any]] = {
    "auto": {}, "steps": {"epochs": 5, "optimizer": "adam"},
    "exact, weights": {"solver": "exact", "class_weight": {"0": 2.0, 1: 3}},
    "outputs anew": {"keep_outputs": False}, "old samples left": {"keep": False},
    "few numbers of a tap": {"projection": 2, "projection_from": "pca"},
    "codes": {"cache_dtype": "int8"},
}  # fmt: skip


@pytest.mark.parametrize("kind", ["network", "any model"])
@pytest.mark.parametrize("options", OPTIONS)
def test_parts_end_as_all_at_once(kind: str, options: str, make_model: Any, tmp_path: Path) -> None:
    model, asked = model_of(kind, make_model), dict(OPTIONS[options])
    if "class_weight" in asked:
        asked["class_weight"] = {0: 2.0, 1: 3}
    last = {} if asked.get("keep_outputs") is False else {"new_classes": True}
    s2.adapt(model, X, Y, **asked, **last).save(tmp_path / "whole")
    first = s2.adapt(model, X[:30], Y[:30], keep_rows=True, **asked)
    second = s2.adapt(first, X[30:45], Y[30:45])  # in memory, by the same options
    second.save(tmp_path / "adapter")
    read = s2.AdaptedModel.load(model, tmp_path / "adapter")
    third = s2.adapt(read, X[45:], Y[45:], **last)
    third.save(tmp_path / "adapter")
    assert content(tmp_path / "adapter") == content(tmp_path / "whole")
    assert [len(each.samples()) for each in versions_in(tmp_path / "adapter.rows")] == [45, 60]
    if kind == "any model":
        assert [of.history.n_forwards for of in (first, second, third)] == [30, 15, 15]


@pytest.mark.parametrize("kind", ["network", "any model"])
def test_what_is_forgotten_was_never_there(kind: str, make_model: Any, tmp_path: Path) -> None:
    model, stay = model_of(kind, make_model), np.delete(np.arange(50), [3, 17])
    s2.adapt(model, X[:40], Y[:40], keep_rows=True).save(tmp_path / "adapter")
    read = s2.AdaptedModel.load(model, tmp_path / "adapter")
    with pytest.raises(DataError, match="forget has the id 40"):
        s2.adapt(read, X[40:50], Y[40:50], forget=[40])
    result = s2.adapt(read, X[40:50], Y[40:50], forget=[3, 17])
    assert bits(result) == bits(s2.adapt(model, X[stay], Y[stay]))
    result.save(tmp_path / "adapter")
    read = s2.AdaptedModel.load(model, tmp_path / "adapter")
    less = s2.adapt(read, X[:0], Y[:0], forget=[49])
    assert bits(less) == bits(s2.adapt(model, X[stay[:-1]], Y[stay[:-1]]))
    less.save(tmp_path / "adapter")
    (version,) = versions_in(folder_beside(tmp_path / "adapter"))
    samples = version.samples()
    assert samples.ids.tolist() == stay[:-1].tolist()
    assert samples.next_id == 50  # no number is given twice
    more = s2.adapt(s2.AdaptedModel.load(model, tmp_path / "adapter"), X[50:], Y[50:] % 7)
    assert more.memory is not None
    assert more.memory.samples.ids[-10:].tolist() == [*range(50, 60)]


def n_rows(cache: Path) -> int:
    """Of all files of a cache, as NumPy reads them."""
    return sum(len(np.load(file)) for file in cache.glob("*.npy"))


@pytest.mark.parametrize("way", ["in memory", "folder", "elsewhere", "two steps"])
def test_rows_of_what_is_forgotten_are_nowhere(way: str, make_model: Any, tmp_path: Path) -> None:
    model, place, own = model_of("any model", make_model), tmp_path / "adapter", tmp_path / "own"
    shared = s2.CacheFolder(own) if way == "folder" else None
    first = s2.adapt(model, X[:30], LABELS[:30], keep_rows=True, cache=shared)
    first.save(place)
    went: Any = first if way != "elsewhere" else s2.AdaptedModel.load(model, place)
    second = s2.adapt(went, X[:0], LABELS[:0], forget=[3, 7], cache=shared)
    if way == "two steps":
        second = s2.adapt(second, X[30:40], LABELS[30:40], forget=[8])
    target = tmp_path / "other" if way == "elsewhere" else place
    second.save(target)
    left = 37 if way == "two steps" else 28
    assert n_rows(folder_beside(target) / "cache") == left
    (version,) = versions_in(folder_beside(target))
    assert len(version.samples()) == left
    if way == "folder":
        assert n_rows(own) == left
    more = s2.adapt(s2.AdaptedModel.load(model, target), X[40:41], LABELS[40:41])
    assert len(more.memory.samples) == left + 1  # type: ignore[union-attr]


def test_what_is_forgotten_may_come_again(make_model: Any, tmp_path: Path) -> None:
    model = model_of("any model", make_model)
    first = s2.adapt(model, X[:30], LABELS[:30], keep_rows=True)
    again = s2.adapt(first, X[3:4], LABELS[3:4], forget=[3])
    again.save(tmp_path / "adapter")
    read = s2.AdaptedModel.load(model, tmp_path / "adapter")
    assert s2.adapt(read, X[30:40], LABELS[30:40]).history.n_forwards == 10


@pytest.mark.parametrize("ids", [[1.5], ["1"], [True, False]])
def test_ids_are_whole_numbers(ids: Any, make_model: Any) -> None:
    first = s2.adapt(model_of("network", make_model), X[:30], LABELS[:30], keep_rows=True)
    with pytest.raises(DataError, match="forget has numbers of type"):
        s2.adapt(first, X[:0], LABELS[:0], forget=ids)


def test_weights_and_groups_join(make_model: Any) -> None:
    model, weight = model_of("any model", make_model), np.linspace(0, 2, 60)
    groups = np.repeat(["u", "v", "w", "x", "y"], 12)
    whole = s2.adapt(model, X, LABELS, sample_weight=weight, groups=groups)
    first = s2.adapt(
        model, X[:30], LABELS[:30], sample_weight=weight[:30], groups=groups[:30], keep_rows=True
    )
    assert first.memory is not None
    assert len(first.memory.samples) == 29  # one has weight 0
    more = s2.adapt(first, X[30:], LABELS[30:], sample_weight=weight[30:], groups=groups[30:])
    assert bits(more) == bits(whole)
    with pytest.raises(DataError, match="some samples have groups and others none"):
        s2.adapt(first, X[30:], LABELS[30:])
    by_one = s2.adapt(first, X[30:], LABELS[30:], groups=groups[30:])
    ones = np.concatenate([weight[:30], np.ones(30)])
    assert bits(by_one) == bits(s2.adapt(model, X, LABELS, sample_weight=ones, groups=groups))


def test_other_options_take_the_place_of_earlier_ones(make_model: Any) -> None:
    model = model_of("network", make_model)
    first = s2.adapt(model, X[:30], LABELS[:30], epochs=3, seed=5, keep_rows=True)
    more = s2.adapt(first, X[30:], LABELS[30:], epochs=4)
    assert bits(more) == bits(s2.adapt(model, X, LABELS, epochs=4, seed=5))


def test_numbers_go_on(tmp_path: Path) -> None:
    model = NumpyBackbone(WIDTHS, first_tap_is_input=True)
    targets = X[:, :2] @ np.array([[1, 2], [3, 4]], np.float32)
    asked: dict[str, Any] = {
        "task": "regression", "keep_outputs": False, "output_names": ["a", "b"],
    }  # fmt: skip
    s2.adapt(model, X, targets, **asked).save(tmp_path / "whole")
    s2.adapt(model, X[:40], targets[:40], keep_rows=True, **asked).save(tmp_path / "adapter")
    read = s2.AdaptedModel.load(model, tmp_path / "adapter")
    s2.adapt(read, X[40:], targets[40:]).save(tmp_path / "adapter")
    assert content(tmp_path / "adapter") == content(tmp_path / "whole")


def test_what_cannot_go_on_is_refused(make_model: Any, tmp_path: Path) -> None:
    model = model_of("network", make_model)
    plain: NewlyAdapted = s2.adapt(model, X, LABELS)
    with pytest.raises(ParameterError, match=r"has no samples with it.*keep_rows=True"):
        s2.adapt(plain, X, LABELS)
    plain.save(tmp_path / "adapter")
    with pytest.raises(ParameterError, match="has no samples of"):
        s2.adapt(s2.AdaptedModel.load(model, tmp_path / "adapter"), X, LABELS)
    with pytest.raises(ParameterError, match="forget is set without an adapter"):
        s2.adapt(model, X, LABELS, forget=[1])
    with pytest.raises(ParameterError, match="keep_rows is set with method ft-all"):
        s2.adapt(model, X, LABELS, method="ft-all", keep_rows=True)
    old = s2.adapt(model, X, LABELS, keep=(X, LABELS), keep_rows=True)
    with pytest.raises(ParameterError, match="learned old samples too, which are not kept"):
        s2.adapt(old, X, LABELS)
    again = s2.adapt(old, X, LABELS, keep=(X, LABELS))
    twice = s2.adapt(model, np.tile(X, (2, 1)), np.tile(LABELS, 2), keep=(X, LABELS))
    assert bits(again) == bits(twice)


def test_a_stopped_run_of_exact_fits_has_its_rows(tmp_path: Path) -> None:
    model = NumpyBackbone(WIDTHS, first_tap_is_input=False)
    whole = s2.adapt(model, X, LABELS)
    seen = []

    def stop(report: s2.EpochReport) -> None:
        seen.append(report.epoch)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        s2.adapt(model, X, LABELS, checkpoint=Checkpoint(tmp_path), callback=stop)
    assert seen == [1]
    again = s2.adapt(model, X, LABELS, checkpoint=Checkpoint(tmp_path))
    assert (bits(again), again.history.n_forwards) == (bits(whole), 0)


@pytest.mark.parametrize("kind", ["network", "any model"])
def test_partial_fit_goes_on_from_a_saved_adapter(
    kind: str, make_model: Any, tmp_path: Path
) -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    from skip2lora.sklearn import Skip2LoRAClassifier

    model = model_of(kind, make_model)
    options: dict[str, Any] = {"solver": "exact", "penalty": 0.01}
    s2.adapt(model, X[:40], LABELS[:40], keep_rows=True).save(tmp_path / "adapter")
    known = Skip2LoRAClassifier(model, **options)
    known.partial_fit(X[:40], LABELS[:40]).partial_fit(X[40:], LABELS[40:])
    taken = Skip2LoRAClassifier(model, **options)
    taken.go_on_from(s2.AdaptedModel.load(model, tmp_path / "adapter"))
    assert taken.adapted_.history.n_forwards == (40 if kind == "network" else 0)
    taken.partial_fit(X[40:], LABELS[40:])
    assert bits(taken.adapted_) == bits(known.adapted_)
    assert (taken.predict(X) == known.predict(X)).all()
    with pytest.raises(ParameterError, match="expected the same: pass that model"):
        Skip2LoRAClassifier(make_model([12, 7, 3])).go_on_from(taken.adapted_)
    with pytest.raises(ParameterError, match="has no samples with it"):
        taken.go_on_from(taken.adapted_)


def test_numbers_are_taken_over(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    from skip2lora.sklearn import Skip2LoRARegressor

    model = NumpyBackbone(WIDTHS, first_tap_is_input=True)
    targets = X[:, :2]
    asked: dict[str, Any] = {"task": "regression", "keep_outputs": False}
    adapted = s2.adapt(model, X[:40], targets[:40], keep_rows=True, **asked)
    options: dict[str, Any] = {"keep_outputs": False, "solver": "exact", "penalty": 0.01}
    known = Skip2LoRARegressor(model, **options)
    known.partial_fit(X[:40], targets[:40]).partial_fit(X[40:], targets[40:])
    taken = Skip2LoRARegressor(model, **options).go_on_from(adapted)
    taken.partial_fit(X[40:], targets[40:])
    assert bits(taken.adapted_) == bits(known.adapted_)
