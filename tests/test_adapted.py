"""What an adapted model says of itself; its folder is tested with the adapters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.errors import ModelError, ParameterError

METHODS = ("skip2-lora", "skip-lora", "lora-last", "lora-all")


@pytest.fixture(scope="module")
def model(make_model: Callable[..., s2.MLP]) -> s2.MLP:
    return make_model([8, 6, 5, 3])


@pytest.mark.parametrize("method", METHODS)
def test_its_repr_is_one_short_line(method: str, model: s2.MLP, make_samples: Any) -> None:
    result = s2.adapt(model, *make_samples(40), method=method, epochs=2, rank=2)
    start = f"AdaptedModel(MLP(8-6-5-3), {method}, rank 2, "
    assert repr(result) == f"{start}{result.trainable_parameters} trained numbers, 3 outputs)"
    assert len(repr(result.adapters)) < 60
    assert "rank 2" in repr(result.adapters)


def test_a_notebook_shows_a_table_without_markup_of_others(
    model: s2.MLP, make_samples: Any, tmp_path: Path
) -> None:
    fresh = s2.adapt(model, *make_samples(40), epochs=2)
    fresh.save(tmp_path / "adapter")
    loaded = s2.AdaptedModel.load(model, tmp_path / "adapter")
    assert "<th>base model</th><td>MLP(8-6-5-3)</td>" in fresh._repr_html_()
    assert f"<td>{fresh.timing.total_ms:,.1f} ms</td>" in fresh._repr_html_()
    assert "time to adapt" not in loaded._repr_html_()
    named = replace(fresh, method="<b>")
    assert "&lt;b&gt;" in named._repr_html_()
    assert "<b>" not in named._repr_html_()


def groups_of_samples(seed: int) -> Any:
    """Samples of three classes of which one is rare, and the recording of each."""
    random = np.random.default_rng(seed)
    y = random.choice(3, 300, p=[0.5, 0.48, 0.02])
    x = 1.2 * np.random.default_rng(1).normal(size=(3, 9))[y] + random.normal(size=(300, 9))
    return x.astype(np.float32), y, np.arange(300) // 30


@pytest.mark.parametrize("options", [{}, {"validation": 0.5, "solver": "steps"}])
def test_thresholds_are_kept_and_gone_by(options: dict[str, Any], tmp_path: Path) -> None:
    model = s2.MLP.create([9, 12, 3])
    x, y, groups = groups_of_samples(2)
    plain = s2.adapt(model, x, y, keep_outputs=False, groups=None if options else groups, **options)
    adapted = plain.with_thresholds(0.95)
    assert plain.thresholds is None
    assert adapted.thresholds.values[2] is None  # too few
    adapted.save(tmp_path / "a")
    loaded = s2.AdaptedModel.load(model, tmp_path / "a")
    assert loaded.thresholds == adapted.thresholds
    others, true, _ = groups_of_samples(3)
    least = adapted.thresholds.least(adapted.learned)
    predictions = loaded.predict(others)
    assert predictions.tolist() == loaded.predict(others, threshold=least.tolist()).tolist()
    assert loaded.predict(others, threshold=0).tolist() == plain.predict(others).tolist()
    known = predictions != -1
    assert 0.2 < known.mean() < 1
    right = (predictions == true)[known].mean()
    assert right > max(0.9, plain.score(others, true))
    assert loaded.score(others, true) == plain.score(others, true)
    plain.save(tmp_path / "a")
    assert "thresholds" not in (tmp_path / "a" / "adapter_config.json").read_text()


def test_thresholds_are_of_answers_without_the_group() -> None:
    """Labels by chance: whoever was asked of samples that it learned would be sure of all."""
    random = np.random.default_rng(0)
    x = np.repeat(random.normal(size=(20, 40)), 5, axis=0).astype(np.float32)  # recordings
    y = np.repeat(random.integers(0, 2, 20), 5)
    model = s2.MLP.create([40, 30, 2])
    adapted = s2.adapt(model, x, y, keep_outputs=False, groups=np.arange(100) // 5)
    assert adapted.score(x, y) == 1
    answers = adapted.fit.answers
    assert len(answers.y) == 100
    assert (answers.logits.argmax(axis=1) == answers.y).mean() < 0.8
    chosen = adapted.with_thresholds(0.99).thresholds
    assert max(value or 0 for value in chosen.values) > 0.9


def test_nothing_held_out_no_thresholds(refused: Any) -> None:
    model = s2.MLP.create([9, 12, 3])
    x, y, _ = groups_of_samples(2)
    by_steps = s2.adapt(model, x, y, solver="steps", epochs=2)
    tuned = s2.adapt(model, x, y, method="ft-bias", epochs=2)
    for adapted in (by_steps, tuned):
        assert "no answers to samples held out" in refused(ParameterError, adapted.with_thresholds)
    whole = s2.adapt(model, x, y)
    assert "precision= is 2" in refused(ParameterError, whole.with_thresholds, 2)


def test_thresholds_of_another_number_of_outputs(refused: Any, tmp_path: Path) -> None:
    model = s2.MLP.create([9, 12, 3])
    x, y, _ = groups_of_samples(2)
    adapted = s2.adapt(model, x, y).with_thresholds()
    chosen = adapted.thresholds
    fewer = replace(chosen, values=chosen.values[:2], counts=chosen.counts[:2])
    replace(adapted, thresholds=fewer).save(tmp_path / "a")
    assert "has 2 thresholds, expected 3, one an output" in refused(
        ModelError, s2.AdaptedModel.load, model, tmp_path / "a"
    )


def test_thresholds_are_chosen_again_when_it_goes_on(tmp_path: Path) -> None:
    model = s2.MLP.create([9, 12, 3])
    x, y, _ = groups_of_samples(2)
    first = s2.adapt(model, x[:200], y[:200], keep_outputs=False, keep_rows=True)
    first.with_thresholds(0.9).save(tmp_path / "a")
    loaded = s2.AdaptedModel.load(model, tmp_path / "a")
    further = s2.adapt(loaded, x[200:], y[200:], keep_outputs=False)
    whole = s2.adapt(model, x, y, keep_outputs=False).with_thresholds(0.9)
    assert further.thresholds == whole.thresholds
