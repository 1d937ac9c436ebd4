"""AdaptedModel: its folder, what is damaged in it, and jobs that end before their time."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

import skip2lora as s2
from skip2lora.adapters.folder import TENSORS_FILE, Tapping, describe
from skip2lora.backbones.loading import CONFIG_FILE
from skip2lora.errors import FileError, ModelError, ParameterError

METHODS = ("skip2-lora", "skip-lora", "lora-last", "lora-all")
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def model(make_model: Callable[..., s2.MLP]) -> s2.MLP:
    return make_model([8, 6, 5, 3])


@pytest.fixture(scope="module")
def adapted(model: s2.MLP, make_samples: Any) -> dict[str, s2.AdaptedModel]:
    x, y = make_samples(40)
    return {name: s2.adapt(model, x, y, method=name, epochs=2, rank=2) for name in METHODS}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("method", METHODS)
def test_round_trip(
    method: str, model: s2.MLP, adapted: dict[str, s2.AdaptedModel], make_samples: Any,
    tmp_path: Path,
) -> None:  # fmt: skip
    x, y = make_samples(30, seed=1)
    one = adapted[method]
    one.save(tmp_path / "a")
    back = s2.AdaptedModel.load(model, str(tmp_path / "a"))
    assert back.method == one.method == method
    assert back.trainable_parameters == one.trainable_parameters
    assert (back.history, back.timing, back.cache_bytes) == (None, None, 0)
    assert back.logits(x).tobytes() == one.logits(x).tobytes()
    assert back.score(x, y) == one.score(x, y)
    assert np.abs(one.logits(x) - model.logits(x)).max() > 1e-3
    back.save(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("method", METHODS)
def test_what_the_folder_says(
    method: str, model: s2.MLP, adapted: dict[str, s2.AdaptedModel], tmp_path: Path
) -> None:
    adapted[method].save(tmp_path / "a")
    assert set(contents(tmp_path / "a")) == {TENSORS_FILE, CONFIG_FILE}
    config = json.loads((tmp_path / "a" / CONFIG_FILE).read_text())
    assert (config["method"], config["r"]) == (method, 2)
    assert config["revision"] == model.fingerprint
    assert config["peft_type"] == "SKIP2LORA"
    assert config["base_model_name_or_path"] is None  # it was made in memory
    assert (config["tap_widths"], config["n_outputs"]) == ([8, 6, 5], 3)
    described = describe(tmp_path / "a")
    assert (described["method"], described["rank"]) == (method, 2)
    assert described["base_fingerprint"] == model.fingerprint
    assert described["trainable_parameters"] == adapted[method].trainable_parameters
    assert described["tensors"] == {
        name: list(array.shape) for name, array in adapted[method].adapters.tensors().items()
    }


def test_saved_over_an_earlier_one(
    adapted: dict[str, s2.AdaptedModel], tmp_path: Path, refused: Refused
) -> None:
    adapted["skip2-lora"].save(tmp_path / "a")
    first = contents(tmp_path / "a")
    adapted["lora-all"].save(tmp_path / "a")
    assert contents(tmp_path / "a") != first
    adapted["skip2-lora"].save(tmp_path / "a")
    assert contents(tmp_path / "a") == first
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat").touch()
    message = refused(FileError, adapted["skip2-lora"].save, tmp_path / "photos")
    assert f"{tmp_path / 'photos'} exists and holds cat, expected {CONFIG_FILE}" in message
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "photos"]


def test_adapter_of_another_model(
    adapted: dict[str, s2.AdaptedModel], make_model: Any, tmp_path: Path, refused: Refused
) -> None:
    other = make_model([8, 6, 5, 3], seed=1)
    for method in METHODS:
        adapted[method].save(tmp_path / "a")
        message = refused(ModelError, s2.AdaptedModel.load, other, tmp_path / "a")
        assert f"{tmp_path / 'a'} was made for the model sha256:" in message
        assert f"got the model {other.fingerprint[:19]}" in message
        assert "load that model, or adapt again" in message


def test_what_is_no_adapter_folder(
    model: s2.MLP, adapted: dict[str, s2.AdaptedModel], tmp_path: Path, refused: Refused
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    folders = [tmp_path / name for name in ("none", "file", "empty")]
    for missing in (TENSORS_FILE, CONFIG_FILE):
        folders.append(tmp_path / missing)
        adapted["skip2-lora"].save(folders[-1])
        (folders[-1] / missing).unlink()
    for folder in folders:
        message = refused(FileError, s2.AdaptedModel.load, model, folder)
        assert f"{folder} is not an adapter folder" in message
        assert f"expected {TENSORS_FILE} and {CONFIG_FILE} in it" in message


def test_kinds_are_not_confused(
    model: s2.MLP, adapted: dict[str, s2.AdaptedModel], tmp_path: Path, refused: Refused
) -> None:
    folder = tmp_path / "a"
    adapted["skip2-lora"].save(folder)
    message = refused(ModelError, s2.load, folder / TENSORS_FILE)
    assert f"{folder / TENSORS_FILE} is a" in message
    assert "adapter, expected" in message
    model.save(folder / TENSORS_FILE)
    message = refused(ModelError, s2.AdaptedModel.load, model, folder)
    assert f"{folder / TENSORS_FILE} is a" in message
    assert "mlp, expected" in message


def edit(folder: Path, tensors: Any = None, said: Any = None, config: Any = None) -> None:
    """Change the files of an adapter; a tensor that is None is taken away."""
    file = folder / TENSORS_FILE
    data = file.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    description = json.loads(header["__metadata__"]["skip2lora"]) | (said or {})
    kept = {k: v for k, v in (load_tensors(data) | (tensors or {})).items() if v is not None}
    file.write_bytes(save_tensors(kept, metadata={"skip2lora": json.dumps(description)}))
    text = (folder / CONFIG_FILE).read_text()
    (folder / CONFIG_FILE).write_text(json.dumps(json.loads(text) | (config or {})))


TAP_0 = {"taps.0.lora_a": None, "taps.0.lora_b": None}
ZEROS = np.zeros((8, 2), np.float32)


@pytest.mark.parametrize(
    ("tensors", "said", "config", "message"),
    [
        ({"taps.1.lora_b": None}, {}, {}, "tensor taps.1.lora_b is missing, expected shape (2, 3)"),
        (TAP_0, {}, {}, "tensor taps.0.lora_a is missing, expected shape (8, 2)"),
        ({"taps.0.lora_a": None}, {}, {}, "tensor taps.0.lora_"),
        ({"extra": ZEROS}, {}, {}, "tensor extra is unknown, expected adapters alone"),
        ({"taps.0.lora_a": ZEROS.T}, {}, {}, "has shape (2, 8), expected (8, 2)"),
        ({"taps.0.lora_a": ZEROS * np.nan}, {}, {}, "expected finite float32"),
        ({"taps.0.lora_a": ZEROS.astype("f8")}, {}, {}, "is F64, expected F32"),
        ({"taps.0.lora_a": ZEROS}, {}, {}, "copy it again"),
        ({}, {"rank": 3}, {"r": 3}, "has shape (8, 2), expected (8, 3)"),
        ({}, {"rank": 3}, {}, f"{CONFIG_FILE} and {TENSORS_FILE} disagree"),
        ({}, {"rank": None}, {}, "its description is damaged"),
        ({}, {"rank": float("inf")}, {}, "its description is damaged"),
        ({}, {"method": "skip-lora"}, {}, "disagree"),
        ({}, {"method": "none"}, {"method": "none"}, "method 'none' is unknown"),
        ({}, {"method": "lora-all"}, {"method": "lora-all"}, "is missing"),
        ({}, {"method": "lora-last"}, {"method": "lora-last"}, "taps.0.lora_a is unknown"),
        ({}, {"version": 2}, {}, "format version 2"),
        ({}, {"columns": {"features": "ab"}}, {"columns": {"features": "ab"}}, "damaged (columns)"),
        ({}, {"columns": {"none": ["a"]}}, {"columns": {"none": ["a"]}}, "damaged (columns)"),
        ({}, {}, {"r": 3}, "disagree: copy both again"),
        ({}, {}, {"method": "lora-last"}, "disagree"),
        ({}, {}, {"revision": "sha256:0"}, "disagree"),
        ({}, {}, {"peft_type": "LORA"}, "is no adapter of skip2lora, expected peft_type"),
    ],
)
def test_edited_folder(
    tensors: Any, said: Any, config: Any, message: str, model: s2.MLP,
    adapted: dict[str, s2.AdaptedModel], tmp_path: Path, refused: Refused,
) -> None:  # fmt: skip
    folder = tmp_path / "a"
    adapted["skip2-lora"].save(folder)
    edit(folder)
    s2.AdaptedModel.load(model, folder)  # what is refused below is not the rewriting itself
    edit(folder, tensors, said, config)
    found = refused(ModelError, s2.AdaptedModel.load, model, folder)
    assert str(folder) in found
    assert message in found or "does not match its digest: copy it again" in found


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b"\xff\xfe{}", b"[" * 100_000, b'{"r": ' + b"1" * 5000 + b"}"],
    ids=["empty", "open", "list", "null", "not utf-8", "deep", "long number"],
)
def test_damaged_config(
    text: bytes, model: s2.MLP, adapted: dict[str, s2.AdaptedModel], tmp_path: Path,
    refused: Refused,
) -> None:  # fmt: skip
    adapted["skip2-lora"].save(tmp_path / "a")
    (tmp_path / "a" / CONFIG_FILE).write_bytes(text)
    message = refused(ModelError, s2.AdaptedModel.load, model, tmp_path / "a")
    assert f"{tmp_path / 'a' / CONFIG_FILE} is " in message


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_truncated_tensors(
    size: int, model: s2.MLP, adapted: dict[str, s2.AdaptedModel], tmp_path: Path,
    refused: Refused,
) -> None:  # fmt: skip
    adapted["skip2-lora"].save(tmp_path / "a")
    file = tmp_path / "a" / TENSORS_FILE
    file.write_bytes(file.read_bytes()[:size])
    message = refused(ModelError, s2.AdaptedModel.load, model, tmp_path / "a")
    assert f"{file} is not a readable .safetensors file" in message


def test_interrupted_save(
    adapted: dict[str, s2.AdaptedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapted["skip2-lora"].save(tmp_path / "a")
    before = contents(tmp_path / "a")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    for name in ("a", "b"):
        with pytest.raises(KeyboardInterrupt):
            adapted["lora-all"].save(tmp_path / name)
    assert contents(tmp_path / "a") == before
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_full_disk(adapted: dict[str, s2.AdaptedModel], tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    adapted["skip2-lora"].save(folder)
    before = contents(folder)
    code = """
import resource, signal, sys
import numpy as np
import skip2lora as s2
x, y = np.zeros((9, 64), np.float32), np.arange(9) % 3
adapted = s2.adapt(s2.MLP.create([64, 64, 3]), x, y, rank=32, epochs=1)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    adapted.save(sys.argv[1])
except s2.FileError as error:
    sys.exit(f"refused: {error}")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("refused: cannot write")
    assert "File too large" in done.stderr
    assert contents(folder) == before
    assert list(tmp_path.iterdir()) == [folder]


QUICK: dict[str, Any] = {"epochs": 3}


def again(model: Any, fresh: Any, x: Any, y: Any, folder: Path) -> s2.AdaptedModel:
    """Adapt ``model``, save, and load on ``fresh``: the same predictions."""
    adapted = s2.adapt(model, x, y, **QUICK)
    adapted.save(folder)
    loaded = s2.AdaptedModel.load(fresh, folder)
    np.testing.assert_array_equal(loaded.logits(x), adapted.logits(x))
    return loaded


@pytest.fixture
def onnx_nets() -> Any:
    pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime")
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    import onnx_models

    return onnx_models


def test_grid_of_onnx(onnx_nets: Any, tmp_path: Path) -> None:
    path = onnx_nets.save(onnx_nets.cnn(), tmp_path / "m.onnx")
    x, y = onnx_nets.images(8), np.arange(8) % 4
    model = s2.load(path, grid=2, class_names=tuple("abcd"))
    assert model.tap_widths == (12, 32, 32, 12)
    loaded = again(model, s2.load(path), x, y, tmp_path / "a")
    assert loaded.backbone.grid == 2
    backwards = s2.load(path, class_names=tuple("dcba"))
    assert s2.AdaptedModel.load(backwards, tmp_path / "a").backbone.class_names == tuple("dcba")


def test_size_of_onnx(onnx_nets: Any, tmp_path: Path) -> None:
    path = onnx_nets.save(onnx_nets.cnn(size="s"), tmp_path / "m.onnx")
    fixed = onnx_nets.save(onnx_nets.cnn(size=16), tmp_path / "f.onnx")
    x, y = onnx_nets.images(8, 16), np.arange(8) % 4
    free, model = s2.load(path), s2.load(path, size=(16, 16))
    assert free.tap_widths == (3, 8, 8, 12)
    assert model.tap_widths == s2.load(fixed).tap_widths
    for one, other in zip(model.forward(x).taps, s2.load(fixed).forward(x).taps, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert model.fingerprint == free.fingerprint
    assert model.with_taps([0]).size == (16, 16)
    again(model, free, x, y, tmp_path / "a")
    with pytest.raises(s2.DataError, match="16"):
        model.check(onnx_nets.images(2, 20))
    assert s2.load(fixed, size=(16, 16)).tap_widths == model.tap_widths


def test_grid_of_tflite(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")
    import tflite_models as nets

    path = tmp_path / "m.tflite"
    path.write_bytes(nets.cnn().content())
    model = s2.load(path, grid=2)
    x = np.random.default_rng(0).standard_normal((6, 8, 8, 2)).astype(np.float32)
    loaded = again(model, s2.load(path), x, np.arange(6) % 3, tmp_path / "a")
    assert loaded.backbone.grid == 2
    assert s2.load(path).tap_widths != model.tap_widths
    with pytest.raises(ParameterError, match="sizes are fixed"):
        s2.load(path, size=(8, 8))


def test_a_fresh_module_needs_no_example(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the package torch")
    from torch_modules import Convolutions

    module = Convolutions()
    x = np.random.default_rng(0).standard_normal((8, 3, 9, 7)).astype(np.float32)
    model = s2.TorchBackbone(module, grid=2, taps=[0, -1], example=x[:1])
    loaded = again(model, s2.TorchBackbone(module), x, np.arange(8) % 4, tmp_path / "a")
    assert (loaded.backbone.grid, loaded.backbone.tap_widths) == (2, model.tap_widths)
    config = json.loads((tmp_path / "a" / CONFIG_FILE).read_text())
    assert config["inputs"] == [["", [3, 9, 7], "f"]]
    wider = s2.TorchBackbone(module, example=x[:1, :, :, :5])
    assert s2.AdaptedModel.load(wider, tmp_path / "a").backbone.grid == 2


def test_tapping_as_json() -> None:
    shapes = (("ids", (7,), "i"), ("mask", (7,), "b"))
    tapping = Tapping(("a", "b"), 2, (8, 6), shapes)
    assert Tapping.from_json(json.loads(json.dumps(tapping.to_json()))) == tapping
    assert Tapping.from_json({}) == Tapping() == Tapping.of(s2.MLP.create([5, 4, 3]))
    assert Tapping().to_json() == {}
    whole = Tapping(("a",), 0, (8, 0), shapes, "out", "mask=tokens")
    assert whole.to_json() == {
        "taps": ["a"], "grid": 0, "input_size": [8, 0],
        "inputs": [["ids", [7], "i"], ["mask", [7], "b"]], "output": "out", "mask": "mask=tokens",
    }  # fmt: skip
    assert Tapping.from_json(whole.to_json()) == whole
    for damaged in (
        {"grid": -1},
        {"grid": True},
        {"grid": "4"},
        {"input_size": [8]},
        {"inputs": [["x", [1.5], "f"]]},
    ):
        with pytest.raises((TypeError, ValueError)):
            Tapping.from_json(damaged)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("output_names", ["x"]), ("images", {"size": [1, 1]}), ("grid", 3),
        ("columns", {"features": ["a", "b", "c", "d", "e"]}),
    ],
)  # fmt: skip
def test_files_that_disagree(tmp_path: Path, name: str, value: Any) -> None:
    model = s2.MLP.create([5, 4, 3])
    x = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    s2.adapt(model, x, np.arange(6) % 3, epochs=2).save(tmp_path / "a")
    file = tmp_path / "a" / CONFIG_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))
    with pytest.raises(ModelError, match="disagree"):
        s2.AdaptedModel.load(model, tmp_path / "a")
