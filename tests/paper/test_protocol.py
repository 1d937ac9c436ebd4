"""How a trial is run: data, epochs and networks of section 5."""

from __future__ import annotations

from pathlib import Path

import pytest

from skip2lora.datasets import simulated
from skip2lora.errors import FileError, ParameterError
from skip2lora.paper import protocol
from skip2lora.training.pretraining import pretrain


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="12cm_hmlo_normal_silentA_1"):
        protocol.load_split("damage1", tmp_path)
    with pytest.raises(FileError, match="holds no HAR data"):
        protocol.load_split("har", tmp_path)


def test_an_unknown_task(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="task is 'damage3', expected one of damage1, damage2"):
        protocol.load_split("damage3", tmp_path)


@pytest.mark.parametrize("place", protocol._HAR_PLACES)
def test_places_of_har(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol.har, "load_task", lambda path: path)
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).touch()
    found = protocol.load_split("har", tmp_path)
    assert found == (tmp_path / place if "/" not in place else tmp_path / "har")


@pytest.mark.parametrize("folder", ["cooling-fan", "."])
def test_places_of_the_fan(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol.fan, "load_task", lambda task, path: (task, path))
    (tmp_path / folder).mkdir(exist_ok=True)
    assert protocol.load_split("damage2", tmp_path) == ("damage2", tmp_path / folder)


def test_the_network_of_the_paper() -> None:
    split = simulated.make_task(n_per_split=60)
    model = protocol.new_network(split, 3)
    assert model.widths == (split.pretrain.x.shape[1], 96, 96, 3)
    assert model.class_names == split.pretrain.class_names
    assert model.fingerprint == protocol.new_network(split, 3).fingerprint
    assert model.fingerprint != protocol.new_network(split, 4).fingerprint


def test_pre_training_is_of_the_pre_train_samples() -> None:
    split = simulated.make_task(n_per_split=60)
    task = protocol.Experiment("damage1", 5, 1, 1)
    same = pretrain(
        protocol.new_network(split, 0), split.pretrain.x, split.pretrain.labels,
        epochs=5, batch_size=20, learning_rate=0.01, seed=0, standardize=False,
    )  # fmt: skip
    assert protocol.pretrained(split, task, 0).fingerprint == same.fingerprint


def test_epochs_and_recipes_of_section_5() -> None:
    epochs = {n: (t.pretrain_epochs, t.scratch_epochs, t.epochs) for n, t in protocol.TASKS.items()}
    fan = (100, 400, 300)
    assert epochs == {"damage1": fan, "damage2": fan, "har": (300, 900, 600)}
    first = protocol.RECIPES[0]
    assert first == {"optimizer": "sgd", "learning_rate": 0.01, "schedule": "constant"}
