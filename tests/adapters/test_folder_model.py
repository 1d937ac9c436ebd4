"""The model of an adapter folder, by its file, and where it is looked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import skip2lora as s2
from skip2lora.adapters.folder import model_beside
from skip2lora.backbones.loading import CONFIG_FILE
from skip2lora.errors import FileError, ModelError

Refused = Callable[..., str]


@pytest.fixture(scope="module")
def model(make_model: Callable[..., s2.MLP]) -> s2.MLP:
    return make_model([8, 6, 5, 3])


@pytest.fixture(scope="module")
def adapted(model: s2.MLP, make_samples: Any) -> s2.AdaptedModel:
    x, y = make_samples(40)
    return s2.adapt(model, x, y, epochs=2, rank=2)


def test_the_model_may_be_a_file(
    model: s2.MLP, adapted: s2.AdaptedModel, make_samples: Any, refused: Refused,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    x, y = make_samples(40)
    model.save(tmp_path / "m.safetensors")
    adapted.save(tmp_path / "nameless")
    assert model_beside(tmp_path / "nameless") is None  # of a network that was no file
    read = s2.load(tmp_path / "m.safetensors")
    s2.adapt(read, x, y, epochs=2, rank=2).save(tmp_path / "a")
    again = s2.AdaptedModel.load(str(tmp_path / "m.safetensors"), tmp_path / "a")
    assert (again.logits(x) == adapted.logits(x)).all()
    assert model_beside(tmp_path / "a") == tmp_path / "m.safetensors"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "a").rename(tmp_path / "deep" / "a")
    assert model_beside("deep/a") == Path("m.safetensors")
    (tmp_path / "m.safetensors").unlink()
    assert model_beside("deep/a") is None
    refused(FileError, s2.AdaptedModel.load, "m.safetensors", "deep/a")


def test_an_adapter_is_no_model(adapted: s2.AdaptedModel, refused: Refused, tmp_path: Path) -> None:
    adapted.save(tmp_path / "a")
    for call in (s2.load, lambda path: s2.AdaptedModel.load(path, tmp_path / "a")):
        said = refused(ModelError, call, tmp_path / "a")
        assert "is an adapter, expected the model that it was made for" in said


def test_a_name_elsewhere_is_not_looked_for(adapted: s2.AdaptedModel, tmp_path: Path) -> None:
    adapted.save(tmp_path / "a")
    config = tmp_path / "a" / CONFIG_FILE
    (tmp_path / "m.safetensors").touch()
    for name in ("../m.safetensors", str(tmp_path / "m.safetensors"), "", "..", 3, None):
        entries = json.loads(config.read_text()) | {"base_model_name_or_path": name}
        config.write_text(json.dumps(entries))
        assert model_beside(tmp_path / "a") is None, name
