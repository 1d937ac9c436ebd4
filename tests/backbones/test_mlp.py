"""The paper's network: creation, frozen forward pass, prediction, its file."""

from __future__ import annotations

import dataclasses
import json
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

import oracle
import skip2lora as s2
from skip2lora.backbones.field_mlp import FieldMLP
from skip2lora.backbones.standins import Headless
from skip2lora.data.sensor_options import Sensors
from skip2lora.errors import DataError, FileError, ModelError, ParameterError
from skip2lora.files import digest

WIDTHS = [7, 20, 5, 3]
MakeModel = Callable[..., s2.MLP]
Refused = Callable[..., str]


def expected_forward(model: s2.MLP, x: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Taps and base logits by the oracle, in float64."""
    names = [field.name for field in dataclasses.fields(model.layers[0])]
    params = [dict(zip(names, layer.arrays(), strict=True)) for layer in model.layers]
    rows = [{"fc": "y", "lora": "", "bn": ""}] * len(params)
    taps, base_logits, _ = oracle.net_forward(params, rows, x)
    return taps, base_logits


def test_sizes_of_the_paper() -> None:
    model = s2.MLP.create([256, 96, 96, 3])
    assert model.widths == (256, 96, 96, 3)
    assert model.tap_widths == (256, 96, 96)
    assert (model.n_features, model.n_outputs) == (256, 3)
    assert model.first_tap_is_input
    assert model.n_parameters == 256 * 96 + 96 + 96 * 96 + 96 + 96 * 3 + 3 + 4 * 96
    assert (model.bn_eps, model.bn_momentum) == (1e-5, 0.1)
    shapes = {name: array.shape for name, array in model.tensors().items()}
    norm = ("gamma", "beta", "mean", "var")
    expected = {f"layers.{at}.{name}": (96,) for at in (0, 1) for name in ("bias", *norm)}
    expected |= {"layers.0.weight": (256, 96), "layers.1.weight": (96, 96)}
    expected |= {"layers.2.weight": (96, 3), "layers.2.bias": (3,)}
    assert shapes == expected


def test_first_values() -> None:
    model = s2.MLP.create([400, 300, 3], seed=1)
    first, last = model.layers
    weights = first.weight.astype(np.float64)
    assert abs(weights.mean()) < 0.001
    assert weights.std() == pytest.approx(1 / np.sqrt(400), rel=0.02)  # N(0, 1/n_in)
    assert np.abs(weights).max() > 3.5 / np.sqrt(400)  # not uniform
    for array in (first.bias, first.beta, first.mean, last.bias):
        assert not array.any()
    for array in (first.gamma, first.var):
        assert (array == 1).all()
    assert last.gamma is None
    assert {array.dtype for array in model.tensors().values()} == {np.dtype(np.float32)}


def test_seed_decides() -> None:
    one, same, other = (s2.MLP.create(WIDTHS, seed=seed) for seed in (3, 3, 4))
    assert one.fingerprint == same.fingerprint
    assert one.fingerprint != other.fingerprint


def test_without_batch_norm() -> None:
    model = s2.MLP.create(WIDTHS, batch_norm=False)
    assert not model.batch_norm
    assert s2.MLP.create(WIDTHS).batch_norm
    assert all(name.endswith((".weight", ".bias")) for name in model.tensors())


def test_tensors_are_read_only() -> None:
    for array in s2.MLP.create(WIDTHS).tensors().values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@pytest.mark.parametrize(
    ("widths", "said"),
    [
        ([], "got 0 widths, expected 2 to 65"),
        ([8], "got 1 widths, expected 2 to 65"),
        ([8] * 66, "got 66 widths, expected 2 to 65"),
        ([8, 0, 3], "width 0 at place 1 of [8, 0, 3], expected 1 to"),
        ([8, 4, 0], "width 0 at place 2 of [8, 4, 0], expected 1 to"),
        ([8, -4, 3], "width -4 at place 1"),
        ([2**24 + 1, 3], "width 16777217 at place 0"),
        ([8, 4.0, 3], "expected whole numbers"),
        ("843", "expected whole numbers"),
    ],
)
def test_widths_that_cannot_be(widths: Any, said: str, refused: Refused) -> None:
    assert said in refused(ParameterError, s2.MLP.create, widths)


@pytest.mark.parametrize("seed", [-1, 1.5, "1", None])
def test_seeds_that_cannot_be(seed: Any, refused: Refused) -> None:
    message = refused(ParameterError, s2.MLP.create, WIDTHS, seed=seed)
    assert f"seed is {seed!r}, expected a whole number from 0" in message


def test_class_names(refused: Refused) -> None:
    assert s2.MLP.create(WIDTHS, class_names=["a", "b", "c"]).class_names == ("a", "b", "c")
    for names in (["a"], ["a", "a", "b"]):
        message = refused(ParameterError, s2.MLP.create, WIDTHS, class_names=names)
        assert "expected 3 distinct names" in message


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("widths", [[4, 2], WIDTHS, [33, 17, 16, 1, 9]], ids=str)
def test_forward_is_the_oracle(
    widths: Sequence[int], batch_norm: bool, make_model: MakeModel, make_samples: Any
) -> None:
    model = make_model(widths, batch_norm=batch_norm)
    x, _ = make_samples(21, widths[0])
    made = model.forward(x)
    taps, base_logits = expected_forward(model, x)
    assert len(made.taps) == len(widths) - 1
    assert made.taps[0] is x
    for tap, expected in zip((*made.taps, made.base_logits), (*taps, base_logits), strict=True):
        assert tap.dtype == np.float32
        np.testing.assert_allclose(tap, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(model.logits(x), made.base_logits)


def test_samples_that_do_not_fit(make_model: MakeModel, refused: Refused) -> None:
    model, x = make_model(WIDTHS), np.zeros((3, 7), np.float32)
    for call in (model.forward, model.logits, model.predict, model.predict_proba):
        message = refused(DataError, call, np.zeros((3, 6), np.float32))
        assert "X has 6 columns, the model expects 7" in message
        assert "NaN" in refused(DataError, call, x * np.nan)
        assert "0 samples" in refused(DataError, call, x[:0])
    assert "label 3 at row 2" in refused(DataError, model.score, x, [0, 1, 3])
    assert "2 labels, expected 3" in refused(DataError, model.score, x, [0, 1])


def test_fingerprint_follows_what_changes_an_output(make_model: MakeModel) -> None:
    model = make_model(WIDTHS)
    found = {model.fingerprint}
    for name in ("weight", "bias", "gamma", "beta", "mean", "var"):
        changed = getattr(model.layers[1], name).copy()
        changed.flat[0] = np.nextafter(changed.flat[0], np.float32(9))
        layer = dataclasses.replace(model.layers[1], **{name: changed})
        layers = (model.layers[0], layer, model.layers[2])
        found.add(dataclasses.replace(model, layers=layers).fingerprint)
    found.add(dataclasses.replace(model, bn_eps=1e-3).fingerprint)
    assert len(found) == 8
    assert dataclasses.replace(model, class_names=("a", "b", "c")).fingerprint in found
    assert make_model(WIDTHS).fingerprint == model.fingerprint


def test_file_round_trip(make_model: MakeModel, make_samples: Any, tmp_path: Path) -> None:
    x, _ = make_samples(9, 7)
    for number, batch_norm in enumerate((True, False)):
        file = tmp_path / f"{number}.safetensors"
        model = make_model(WIDTHS, batch_norm=batch_norm)
        model = dataclasses.replace(model, class_names=("stop", "läuft", "c"), bn_momentum=0.3)
        model.save(file)
        for back in (s2.load(file), s2.load(str(file)), s2.MLP.load(file)):
            assert back.fingerprint == model.fingerprint
            assert back.class_names == model.class_names
            assert (back.bn_eps, back.bn_momentum) == (1e-5, 0.3)
            assert back.logits(x).tobytes() == model.logits(x).tobytes()
        again = tmp_path / "again.safetensors"
        s2.load(file).save(again)
        assert again.read_bytes() == file.read_bytes()


def test_what_says_how_files_become_samples_goes_along(
    make_model: MakeModel, make_samples: Any, tmp_path: Path
) -> None:
    """To other processes, stand-ins and networks made of it; it changes no output."""
    model, windows = make_model(WIDTHS), Sensors(window=7, hop=7, channels=("a",))
    knowing = dataclasses.replace(model, images=windows)
    assert knowing.fingerprint == model.fingerprint
    assert pickle.loads(pickle.dumps(knowing)).images == windows  # noqa: S301
    x, y = make_samples(40, WIDTHS[0])
    for method in ("skip2-lora", "ft-bias"):
        s2.adapt(knowing, x, y, method=method, epochs=2).save(tmp_path / method)
        assert s2.AdaptedModel.load(knowing, tmp_path / "skip2-lora").images == windows
    assert s2.load(tmp_path / "ft-bias").images == windows
    assert Headless(FieldMLP.of(knowing, x), 2).images == windows


def test_folder_that_holds_the_file(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(WIDTHS)
    model.save(tmp_path / "model.safetensors")
    assert s2.load(tmp_path).fingerprint == model.fingerprint


def test_what_is_no_model(tmp_path: Path, refused: Refused) -> None:
    message = refused(FileError, s2.load, tmp_path / "a.safetensors")
    assert f"{tmp_path / 'a.safetensors'} does not exist, expected a model" in message
    message = refused(FileError, s2.load, tmp_path)
    assert f"{tmp_path / 'model.safetensors'} does not exist" in message
    (tmp_path / "a.h5").touch()
    message = refused(ModelError, s2.load, tmp_path / "a.h5")
    assert "ends in .h5, expected a model as .safetensors, .onnx" in message


def rewrite(file: Path, tensors: dict[str, Any], description: dict[str, Any]) -> None:
    """Change a model's file; None takes a tensor or an entry away."""
    data = file.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    said = json.loads(header["__metadata__"]["skip2lora"]) | description
    kept = load_tensors(data) | tensors
    said = {key: value for key, value in said.items() if value is not ...}
    kept = {name: array for name, array in kept.items() if array is not None}
    if "sha256" in description:  # the digest itself is under test
        said["sha256"] = (
            description["sha256"] or json.loads(header["__metadata__"]["skip2lora"])["sha256"]
        )
    else:
        del said["sha256"]
        said["sha256"] = digest(kept, said)
    file.write_bytes(save_tensors(kept, metadata={"skip2lora": json.dumps(said)}))


@pytest.mark.parametrize(
    ("tensors", "description", "said"),
    [
        ({"layers.1.bias": np.ones(5, np.float32)}, {"sha256": None}, "does not match its digest"),
        ({"layers.1.bias": None}, {}, "tensor layers.1.bias is missing, expected shape (5,)"),
        ({"layers.1.bias": np.ones(4, np.float32)}, {}, "has shape (4,), expected (5,)"),
        ({"extra": np.ones(4, np.float32)}, {}, "tensor extra is unknown"),
        ({}, {"widths": [7, 20, 6, 3]}, "has shape (20, 5), expected (20, 6)"),
        ({}, {"widths": [7, 20, 5]}, "is unknown, expected a network alone"),
        ({}, {"widths": None}, "its description is damaged (widths are None"),
        ({}, {"widths": [7, 20, 5, 2**40]}, "its description is damaged (width 1099511627776"),
        ({}, {"widths": ...}, "its description is damaged ('widths')"),
        ({}, {"batch_norm": False}, "is unknown, expected a network alone"),
        ({}, {"bn_eps": 1e-3, "sha256": None}, "does not match its digest"),
        ({}, {"bn_eps": "small"}, "its description is damaged"),
        ({}, {"bn_eps": 10**400}, "its description is damaged"),
        ({}, {"sha256": "sha256:0"}, "does not match its digest"),
        ({}, {"class_names": 5}, "its description is damaged"),
        ({}, {"windows": {"kind": "sensors"}}, "its description is damaged"),
        ({}, {"windows": {"kind": "smells"}}, "its description is damaged"),
        ({}, {"windows": []}, "its description is damaged"),
        ({}, {"images": {"size": "8"}}, "its description is damaged"),
        ({}, {"class_names": ["a", "b"]}, "class"),
        ({}, {"kind": "adapter"}, "adapter"),
        ({}, {"version": 2}, "this program reads version 1"),
    ],
)
def test_edited_file(
    make_model: MakeModel,
    tmp_path: Path,
    refused: Refused,
    tensors: dict[str, Any],
    description: dict[str, Any],
    said: str,
) -> None:
    file = tmp_path / "a.safetensors"
    make_model(WIDTHS).save(file)
    rewrite(file, {}, {})
    s2.load(file)  # what is refused below is not the rewriting itself
    rewrite(file, tensors, description)
    message = refused(ModelError, s2.load, file)
    assert str(file) in message
    assert said in message


def test_full_disk(make_model: MakeModel, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    make_model([64, 64, 3]).save(file)
    before = file.read_bytes()
    assert len(before) > 8192
    code = """
import resource, signal, sys
import skip2lora as s2
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    s2.MLP.create([64, 64, 3]).save(sys.argv[1])
except s2.FileError as error:
    sys.exit(f"refused: {error}")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"refused: cannot write {file}: File too large")
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


METHODS = ("skip2-lora", "skip-lora", "lora-last", "lora-all")


@pytest.fixture(scope="module")
def model(make_model: Callable[..., s2.MLP]) -> s2.MLP:
    return make_model([8, 6, 5, 3])


@pytest.fixture(scope="module")
def adapted(model: s2.MLP, make_samples: Any) -> dict[str, s2.AdaptedModel]:
    x, y = make_samples(40)
    return {name: s2.adapt(model, x, y, method=name, epochs=2, rank=2) for name in METHODS}


def test_layer_adapters_as_a_model(
    adapted: dict[str, s2.AdaptedModel], tmp_path: Path, make_samples: Any
) -> None:
    """A network with adapters in its layers is saved with them merged into its weights."""
    x, _ = make_samples(10)
    inner = adapted["lora-all"].adapters.model
    inner.save(tmp_path / "a.safetensors")
    saved = s2.load(tmp_path / "a.safetensors")
    assert "layers.0.lora_a" not in saved.tensors()
    np.testing.assert_allclose(saved.logits(x), inner.logits(x), rtol=1e-4, atol=1e-5)
