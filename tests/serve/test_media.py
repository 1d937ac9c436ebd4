"""Recordings in a service: what plays of a stored sample, and how files stay readable."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.data.image_options import Images
from skip2lora.data.sound_options import Sound
from skip2lora.serve.media import sound_of, wav
from skip2lora.serve.service import Service
from skip2lora.serve.uploads import read_upload

soundfile = pytest.importorskip("soundfile")
sound_models = pytest.importorskip("sound_models")
pytest.importorskip("onnxruntime")
RATE, WINDOW = sound_models.RATE, sound_models.WINDOW
SOUND = Sound(rate=RATE)


@pytest.fixture(scope="module")
def ear(tmp_path_factory: pytest.TempPathFactory) -> s2.Backbone:
    return s2.load(sound_models.listener(tmp_path_factory.mktemp("ear") / "ear.onnx"))


def served(ear: s2.Backbone, store: Path, **options: Any) -> Service:
    return Service(ear, store, learning=False, lab_set=False, **options)


def recording(seed: int = 0) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, sound_models.tone(300, 0.6, seed=seed), RATE, format="FLAC")
    return stream.getvalue()


def teach(service: Service, n_labels: int = 40) -> None:
    x = np.stack([
        sound_models.tone((300, 1500)[at % 2], WINDOW / RATE, seed=at) for at in range(n_labels)
    ])  # fmt: skip
    for at, id in enumerate(service.predict(x).ids):
        service.label(id, service.class_names[at % 2])


def test_what_plays_is_what_was_recorded(ear: s2.Backbone, tmp_path: Path) -> None:
    with served(ear, tmp_path, sound=SOUND) as service:
        (x,) = read_upload(service, recording()).values()
        ids = service.predict(x).ids
        assert len(ids) == 2
        body = wav(service.images, service.sample(ids[1])["x"])
        assert body is not None
        played, rate = soundfile.read(io.BytesIO(body), dtype="int16")
        original, _ = soundfile.read(io.BytesIO(recording()), dtype="int16")
        assert rate == RATE
        np.testing.assert_allclose(played, original[WINDOW : 2 * WINDOW], atol=1)


def test_the_gain_is_taken_off_and_loud_ones_are_clipped() -> None:
    loud = sound_of(Sound(rate=1, gain=32768.0), np.array([[16384.0, -16384, 60000, -60000]]))
    assert loud is not None
    assert loud.tolist() == [16384, -16384, 32767, -32767]
    assert wav(Sound(rate=8000, gain=1.0), np.zeros((1, 5), np.float32))[24:28] == b"\x40\x1f\0\0"  # type: ignore[index]


@pytest.mark.parametrize(("images", "x"), [
    (None, np.zeros((1, 8))), (Images(), np.zeros((1, 8))), (SOUND, None), (SOUND, {"a": 1}),
])  # fmt: skip
def test_other_samples_are_no_sound(images: Any, x: Any) -> None:
    assert sound_of(images, x) is None
    assert wav(images, x) is None


def test_the_rate_is_asked_for_and_remembered(ear: s2.Backbone, tmp_path: Path) -> None:
    with served(ear, tmp_path) as service:
        assert service.images is None
        with pytest.raises(s2.ParameterError, match="rate= is missing"):
            read_upload(service, recording())
    with served(ear, tmp_path, sound=SOUND):
        pass
    with served(ear, tmp_path) as service:
        assert service.images == SOUND.resolved(ear.inputs)
        assert next(iter(read_upload(service, recording()).values())).shape == (2, WINDOW)
    with pytest.raises(s2.ParameterError, match="the model learned with 8000"):
        served(ear, tmp_path, sound=Sound(rate=16000))


def test_what_it_learns_says_how_recordings_are_read(ear: s2.Backbone, tmp_path: Path) -> None:
    with served(ear, tmp_path, sound=SOUND) as service:
        teach(service)
        assert service.learn().adopt
        before = service.images
        assert isinstance(service.model, s2.AdaptedModel)
        assert service.model.images == before is not None
        (x,) = read_upload(service, recording()).values()
        service.predict(x)
        folder = tmp_path / "versions" / "000001"
    assert s2.AdaptedModel.load(ear, folder).images == before


def test_the_model_alone_reads_them_after_an_adapter(ear: s2.Backbone, tmp_path: Path) -> None:
    x = np.stack([sound_models.tone(300 * at, 0.25, seed=at) for at in range(1, 41)])
    sound = SOUND.resolved(ear.inputs)
    adapted = s2.adapt(ear, x, np.arange(40) % 2, images=sound)
    adapted.save(tmp_path / "adapter")
    with served(ear, tmp_path / "store", adapter=tmp_path / "adapter") as service:
        assert service.images == sound
        service.adopt(0)
        read_upload(service, recording())
    with served(ear, tmp_path / "store") as service:
        assert (service.version, service.images) == (0, sound)
