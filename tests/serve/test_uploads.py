import io
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import skip2lora as s2
from desk import blobs
from serve.place import model
from skip2lora.errors import DataError
from skip2lora.serve.uploads import read_file, read_upload


def picture(form="png", size=(14, 14), seed=0):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    stream = io.BytesIO()
    image.fromarray(pixels).save(stream, form)
    return pixels, stream.getvalue()


@pytest.fixture
def camera(tmp_path):
    onnx_models = pytest.importorskip("onnx_models")
    pytest.importorskip("onnxruntime")
    model = s2.load(onnx_models.save(onnx_models.cnn(), tmp_path / "c.onnx"))
    return SimpleNamespace(model=model, images=None)


@pytest.fixture
def ear(tmp_path):
    """A model adapted on tones, which keeps how recordings become samples."""
    pytest.importorskip("onnxruntime")
    sound_models = pytest.importorskip("sound_models")
    path = sound_models.listener(tmp_path / "ear.onnx")
    sound_models.tones(tmp_path / "tones", n_each=6)
    words = ["adapt", path, tmp_path / "tones", "-o", tmp_path / "adapter"]
    words += ["--rate", sound_models.RATE, "--class-names", "high,low"]
    words = [sys.executable, "-m", "skip2lora", *map(str, words)]
    subprocess.run(words, check=True, capture_output=True)
    model = s2.AdaptedModel.load(s2.load(path), tmp_path / "adapter")
    return SimpleNamespace(model=model, images=model.images)


def test_an_image_is_what_its_folder_would_give(camera, tmp_path):
    pixels, body = picture()
    (x,) = read_upload(camera, body).values()
    assert x.shape == (1, 3, 14, 14)
    (tmp_path / "a.png").write_bytes(body)
    (same,) = read_file(camera, tmp_path / "a.png").values()
    np.testing.assert_array_equal(x, same)
    np.testing.assert_allclose(x[0], np.moveaxis(pixels, -1, 0) / 255, atol=1e-6)


def test_the_bytes_tell_the_kind_of_an_image(camera):
    for form in ("png", "bmp", "gif", "webp", "jpeg"):
        (x,) = read_upload(camera, picture(form)[1]).values()
        assert x.shape == (1, 3, 14, 14)


def test_a_recording_gives_a_sample_a_window(ear, tmp_path):
    sound_models = pytest.importorskip("sound_models")
    file = sound_models.record(tmp_path / "a.wav", sound_models.tone(300, 1.0))
    (x,) = read_upload(ear, file.read_bytes()).values()
    (same,) = read_file(ear, file).values()
    np.testing.assert_array_equal(x, same)
    assert x.shape[0] >= 1


def test_an_image_is_no_recording(ear):
    with pytest.raises(DataError, match=r"expected .*recording"):
        read_upload(ear, picture()[1])


@pytest.mark.parametrize("body", [b"", b"hello", b"PK\3\4", b"x,y\n1,2\n", b"\x89PNG", b"BM" * 40])
def test_other_bytes_are_refused(camera, body):
    with pytest.raises(DataError, match="upload"):
        read_upload(camera, body)


def test_a_cut_image_is_refused_without_a_path(camera, tmp_path):
    body = picture("jpeg")[1]
    with pytest.raises(DataError) as refused:
        read_upload(camera, body[: len(body) // 2])
    assert "/tmp" not in str(refused.value)  # noqa: S108
    assert "upload" in str(refused.value)


def test_a_table_of_a_folder_is_read_by_its_columns(tmp_path):
    x = blobs(0, n_samples=4)[0]
    np.savetxt(tmp_path / "a.csv", x, delimiter=",", header=",".join(f"f{at}" for at in range(12)),
               comments="")  # fmt: skip
    (read,) = read_file(SimpleNamespace(model=model(), images=None), tmp_path / "a.csv").values()
    np.testing.assert_allclose(read, x, rtol=1e-5)
