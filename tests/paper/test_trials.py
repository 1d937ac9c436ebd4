"""Trials: plain numbers, kept on disk, resumed and never mixed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paper.trial_files import keep
from skip2lora.datasets import simulated
from skip2lora.errors import MissingExtraError, ModelError
from skip2lora.methods import METHODS
from skip2lora.paper import protocol, report, trials
from skip2lora.paper.tables import jobs_of


@pytest.mark.parametrize("part", [part for part in trials.PARTS if "tinytl" not in part])
def test_parts_give_plain_numbers(part: str, small_trials: None) -> None:
    numbers = trials.PARTS[part]("damage1", Path(), 0)
    again = trials.PARTS[part]("damage1", Path(), 0)
    json.dumps(numbers)
    scores = (
        numbers["accuracy"]
        if part == "curve"
        else [v for v in numbers.values() if isinstance(v, float)]
    )
    assert scores
    assert all(0 <= score <= 1 for score in scores)
    assert {k: v for k, v in numbers.items() if "_ms" not in k} == {
        k: v for k, v in again.items() if "_ms" not in k
    }
    if part == "methods":
        assert list(numbers) == list(METHODS)
        assert numbers["skip-lora"] == numbers["skip2-lora"]
    if part == "curve":
        assert len(scores) == 4


def test_recipe_is_chosen_without_the_test_part(
    small_trials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the test part says, the recipe is the same."""
    first = trials.tuned("damage1", Path(), 0)
    split = simulated.make_task(n_per_split=60)
    other = split._replace(test=simulated.make_task(seed=9, n_per_split=60).pretrain)
    monkeypatch.setattr(trials, "_split", lambda *_: other)
    second = trials.tuned("damage1", Path(), 0)
    assert first["recipe"] == second["recipe"]
    assert first["recipe"] in protocol.RECIPES
    assert first["best_epoch"] == second["best_epoch"]


def test_kept_trials_are_not_run_again(kept: Path) -> None:
    jobs = jobs_of(["methods", "curve"], ["damage1"], 3)
    assert jobs[:2] == [("methods", "damage1", 0), ("curve", "damage1", 0)]
    assert list(trials.run_trials(kept, kept / "no data", jobs)) == jobs


def test_other_versions_are_not_mixed(kept: Path) -> None:
    keep(kept, "methods", "damage1", 1, {}, version=2)
    with pytest.raises(ModelError, match="of another version, expected 1"):
        list(trials.run_trials(kept, kept, [("methods", "damage1", 1)]))
    (kept / "report.json").write_text('{"version": 0}')
    with pytest.raises(ModelError, match="is of version 0, expected 1 as it is not mixed"):
        report.check_report(kept)


@pytest.mark.parametrize("content", ['{"version": 1}', '{"version": 1, "numbers": [1]}'])
def test_trials_without_numbers(content: str, kept: Path) -> None:
    file = trials.trial_file(kept, "methods", "damage1", 1)
    file.write_text(content)
    with pytest.raises(ModelError, match="holds no numbers, expected a trial"):
        trials.read_trial(file)


def test_table5_without_pytorch_names_the_extra(
    small_trials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"skip2lora\[paper\]"):
        trials.PARTS["tinytl-bn"]("damage1", Path(), 0)
