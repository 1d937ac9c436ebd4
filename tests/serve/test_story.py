from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.datasets import simulated
from skip2lora.serve import story
from skip2lora.training.rehearsal import lab_set_beside


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> story.Scenes:
    """Of few samples; the model is fan.safetensors."""
    for name, count in (("N_TRAIN", 60), ("N_QUIET", 330), ("N_NOISY", 60), ("N_BETWEEN", 30)):
        monkeypatch.setattr(story, name, count)
    return story.prepare(tmp_path / "fan.safetensors", seed=1)


def test_what_was_learned_does_not_come_again(scenes: story.Scenes, tmp_path: Path) -> None:
    split = simulated.make_task(seed=1, n_per_split=390)
    assert lab_set_beside(tmp_path / "fan.safetensors").is_file()
    assert (len(scenes.quiet.x), len(scenes.noisy.x), len(scenes.test.x)) == (330, 390, 390)
    known = {
        row.tobytes(): name for row, name in zip(split.pretrain.x, split.pretrain.y, strict=True)
    }
    came = [row.tobytes() for row in scenes.quiet.x]
    assert len({*came}) == 330
    assert [simulated.CLASS_NAMES[known[row]] for row in came] == scenes.quiet.names.tolist()
    assert np.array_equal(scenes.test.x, split.test.x)


def test_all_that_is_told_was_measured(scenes: story.Scenes, tmp_path: Path) -> None:
    model = s2.load(tmp_path / "fan.safetensors")
    steps, lines = [], []
    with s2.Service(model, tmp_path / "store") as served:
        told = story.play(served, scenes, lambda: steps.append(1), lines.append)
        n_predicted, versions = served.status()["n_predicted"], served.versions()
        truth = {
            row.tobytes(): str(name)
            for row, name in zip(scenes.noisy.x, scenes.noisy.names, strict=True)
        }
        wrong = 0
        for of in served.labels():
            x = served.sample(of["sample"])["x"]
            wrong += truth.get(x[0].tobytes(), of["answer"]) != of["answer"]
        after = np.mean(np.asarray(served.model.predict(scenes.test.x)) == scenes.test.names)
    assert len(steps) == n_predicted == 330 + 60 + 30 * 7
    before = np.mean(np.asarray(model.predict(scenes.test.x)) == scenes.test.names)
    assert (told.accuracy_before, told.accuracy_after) == (before, after)
    rounds = [*told.rounds, *told.bad_rounds]
    assert rounds[-1].n_wrong == wrong
    judged = {of["number"]: of for of in versions}
    for of in rounds:
        assert of.version is not None
        assert of.reason.startswith(f"fixed {judged[of.version]['fixed']}, ")
    shown = "\n".join(lines)
    noticed = f"alarm after {told.alarm_after} samples" if told.alarm_after else "no alarm"
    assert f"a ventilation fan starts: {noticed}; " in shown
    assert f"{100 * after:.1f} % now" in shown
    assert shown.count(" labels (") == len(rounds)


def test_samples_of_others_are_left_to_them(
    scenes: story.Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story, "_PATIENCE_S", 0.3)
    theirs: list[int] = []
    with s2.Service(s2.load(tmp_path / "fan.safetensors"), tmp_path / "store") as served:

        def step() -> None:
            theirs.extend(served.predict(scenes.test.x[len(theirs) % 390][None]).ids)

        told = story.play(served, scenes, step, lambda _: None)
        labelled = {of["sample"] for of in served.labels()}
    assert not labelled & {*theirs}
    assert 0 < told.rounds[-1].n_labels < 60


class _HaltError(Exception):
    """Of a step."""


def test_a_step_may_stop_it(scenes: story.Scenes, tmp_path: Path) -> None:
    def stop() -> None:
        raise _HaltError

    with s2.Service(s2.load(tmp_path / "fan.safetensors"), tmp_path / "store") as served:
        with pytest.raises(_HaltError):
            story.play(served, scenes, stop, lambda _: None)
        assert served.status()["n_predicted"] == 0
