"""OpenVINO models as backbones: loading, options, what is kept, and ONNX Runtime's rows."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

import mask_models as masks
import openvino_models as nets
import skip2lora as s2
from skip2lora.arrays import Inputs
from skip2lora.backbones.openvino import OpenVINOBackbone, probe, rows
from skip2lora.errors import DataError, ModelError, ParameterError

Refused = Callable[..., str]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Any]:
    return nets.loader(tmp_path)


def table(n_samples: int = 6, width: int = 9) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n_samples, width)).astype(np.float32)


def images(n_samples: int = 6, size: int = 14) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n_samples, 3, size, size)).astype(np.float32)


def layers(backbone: Any) -> list[str]:
    return [tap.layer for tap in backbone.taps]


@pytest.mark.parametrize("end", ["Softmax", "Sigmoid", "ArgMax", None])
def test_logits_come_before_the_last_activation(end: str | None, load: Any) -> None:
    model, x = nets.mlp(end=end), table()
    backbone = load(model)
    [expected] = nets.answers(nets.mlp(), x)
    assert backbone.n_outputs == 3
    assert backbone.task == ("multi-label" if end == "Sigmoid" else "classification")
    np.testing.assert_allclose(backbone.logits(x), expected, rtol=1e-6)
    np.testing.assert_allclose(backbone.forward(x).base_logits, expected, rtol=1e-6)
    [own] = nets.answers(model, x)
    if end in ("Softmax", "Sigmoid"):
        np.testing.assert_allclose(backbone.predict_proba(x), own, rtol=1e-5, atol=1e-7)
    if end in ("Softmax", None):
        assert backbone.predict(x).tolist() == own.argmax(axis=1).tolist()
    if end == "ArgMax":
        assert backbone.predict(x).tolist() == own.ravel().tolist()


def test_choosing_taps(load: Any, refused: Refused) -> None:
    backbone = load(nets.cnn(), taps=["relu*", "pooled"])
    assert layers(backbone) == ["relu0", "relu1", "pooled"]
    assert [tap.layer for tap in backbone.tappable] == ["x", *layers(backbone)]
    one = backbone.with_taps(["relu1"])
    assert (layers(one), one.tap_widths) == (["relu1"], (128,))
    assert one.with_taps(None, grid=1).tap_widths == (3, 8, 8, 12)
    assert one.fingerprint == backbone.fingerprint
    x = images()
    every, alone = backbone.forward(x), one.forward(x)
    assert alone.taps[0].tobytes() == every.taps[1].tobytes()
    assert alone.base_logits.tobytes() == every.base_logits.tobytes()
    assert 'taps has "conv"' in refused(ParameterError, backbone.with_taps, "conv")


def test_options(load: Any, refused: Refused) -> None:
    names = ("a", "b", "c", "d")
    backbone = load(nets.cnn(), grid=2, threads=2, class_names=names)
    assert (backbone.grid, backbone.threads, backbone.class_names) == (2, 2, names)
    assert backbone.tap_widths == (12, 32, 32, 12)
    assert backbone.with_taps([1]).class_names == names
    x = images(20)
    one = load(nets.cnn(), grid=2)
    assert one.forward(x).taps[2].tobytes() == backbone.forward(x).taps[2].tobytes()
    for option in ({"grid": 0}, {"grid": 2.5}, {"threads": 0}, {"threads": True}):
        [name] = option
        assert f"{name} is {option[name]!r}" in refused(ParameterError, load, nets.cnn(), **option)
    assert "class_names" in refused(ParameterError, load, nets.cnn(), class_names=["a"])
    assert "mask is 'hidden'" in refused(ParameterError, load, nets.cnn(), mask="hidden")


def test_the_size_of_images(load: Any, refused: Refused) -> None:
    free = load(nets.cnn(size=-1))
    assert (free.size, free.tap_widths) == (None, (3, 8, 8, 12))
    fixed = free.with_taps(None, size=(14, 14))
    assert (fixed.size, fixed.tap_widths) == ((14, 14), (48, 128, 128, 12))
    assert fixed.inputs[0].shape == (3, 14, 14)
    assert fixed.fingerprint == free.fingerprint
    x = images()
    assert fixed.logits(x).tobytes() == load(nets.cnn()).logits(x).tobytes()
    assert fixed.with_taps([1]).size == (14, 14)
    assert "takes 14x14" in refused(ParameterError, load, nets.cnn(), size=(20, 20))
    said = refused(DataError, fixed.check, images(size=20))
    assert "the model expects (samples, 3, 14, 14)" in said


def test_a_size_for_images_where_it_is_open(tmp_path: Path) -> None:
    for model, size in ((nets.cnn(size=-1), (20, 20)), (nets.cnn(), None), (nets.mlp(), None)):
        path = nets.save(model, tmp_path / "m.xml")
        backbone = OpenVINOBackbone.load_for_images(path, (20, 20), taps=[0], class_names=None)
        assert backbone.size == size
        assert len(backbone.taps) == 1


def test_a_file_that_changed(tmp_path: Path, refused: Refused) -> None:
    path = nets.save(nets.cnn(size=-1), tmp_path / "m.xml")
    backbone = s2.load(path)
    nets.save(nets.cnn(size=-1, seed=1), path)
    said = refused(ModelError, backbone.with_taps, None, size=(14, 14))
    assert f"{path} changed since it was loaded, expected it unchanged: load it again" in said
    path.unlink()
    assert backbone.with_taps([1]).logits(images()).shape == (6, 4)


def test_pickle(load: Any) -> None:
    names = ("a", "b", "c", "d")
    backbone = load(
        nets.cnn(size=-1), taps=["relu1"], grid=2, size=(14, 14), class_names=names,
        output="probabilities",
    )  # fmt: skip
    again = pickle.loads(pickle.dumps(backbone))  # noqa: S301
    assert (layers(again), again.grid, again.size) == (["relu1"], 2, (14, 14))
    assert (again.class_names, again.output) == (names, "probabilities")
    x = images()
    assert again.forward(x).taps[0].tobytes() == backbone.forward(x).taps[0].tobytes()


def test_several_inputs(load: Any, refused: Refused) -> None:
    backbone, feed = load(nets.texts()), nets.feed_of_texts(5, 7)
    made = backbone.check({name: array.astype(np.float64) for name, array in feed.items()})
    assert isinstance(made, Inputs)
    assert {array.dtype for array in made.arrays.values()} == {np.dtype(np.int64)}
    listed = backbone.logits(list(feed.values()))
    assert listed.tobytes() == backbone.logits(feed).tobytes()
    assert backbone.logits(nets.feed_of_texts(5, 11)).shape == (5, 3)
    assert "pass a dict of arrays named input_ids, attention_mask" in refused(
        DataError, backbone.check, feed["input_ids"]
    )


def test_an_encoder_learns_classes(tmp_path: Path, refused: Refused) -> None:
    path = nets.save(nets.texts(head=False), tmp_path / "m.xml")
    backbone = s2.load(path)
    x = nets.feed_of_texts(6, 7)
    assert "gives no row of logits" in refused(ModelError, backbone.logits, x)
    y = np.array([7, 8, 7, 8, 7, 8])
    adapted = s2.adapt(backbone, x, y, new_classes=True, epochs=200)
    assert adapted.predict(x).tolist() == y.tolist()
    adapted.save(tmp_path / "a")
    again = s2.AdaptedModel.load(s2.load(path), tmp_path / "a")
    assert again.predict(x).tolist() == y.tolist()


def test_an_adapter_knows_its_taps(tmp_path: Path) -> None:
    path = nets.save(nets.cnn(size=-1), tmp_path / "m.xml")
    x, y = images(30), np.arange(30) % 4
    adapted = s2.adapt(s2.load(path, taps=["relu*"], grid=2, size=(14, 14)), x, y, epochs=5)
    adapted.save(tmp_path / "a")
    again = s2.AdaptedModel.load(s2.load(path), tmp_path / "a")
    assert layers(again.backbone) == ["relu0", "relu1"]
    assert (again.backbone.grid, again.backbone.size) == (2, (14, 14))
    assert again.logits(x).tobytes() == adapted.logits(x).tobytes()


def test_a_quantised_model_is_said_to_run_in_floats(tmp_path: Path) -> None:
    path = nets.save(nets.residual(), tmp_path / "m.xml")
    with pytest.warns(UserWarning, match="m.xml is quantised and runs in floats") as caught:
        backbone = s2.load(path)
    assert len(caught) == 1
    assert [note.split(",")[0] for note in backbone.notes] == [
        "is quantised and runs in floats here"
    ]
    assert backbone.with_taps([0]).notes == backbone.notes
    assert s2.load(nets.save(nets.residual(quantised=False), path)).notes == ()


def test_logits_that_noise_does_not_vary_are_said(tmp_path: Path) -> None:
    onnx_models = pytest.importorskip("onnx_models", reason="needs the packages of group runtimes")
    model = onnx_models.mlp()
    for tensor in model.graph.initializer:
        if tensor.name == "w2":
            tensor.raw_data = bytes(len(tensor.raw_data))
    path = nets.converted(onnx_models.save(model, tmp_path / "m.onnx"))
    with pytest.warns(UserWarning, match="gives the same logits for all samples of noise"):
        s2.load(path)


def test_what_takes_no_noise_is_said(tmp_path: Path) -> None:
    net = nets.Net()
    x = net.input("x", [-1, -1])  # its width stands nowhere but in the weights
    hidden = nets.op.relu(nets.op.matmul(x, net.weight(7, 4), False, False))
    openvino.save_model(net.model(net.dense(hidden, 4, 3, "fc")), tmp_path / "m.xml")
    with pytest.warns(UserWarning, match="m.xml takes no samples of noise"):
        [note] = s2.load(tmp_path / "m.xml").notes
    assert "not known whether a sample has the same numbers alone" in note


def test_weights_of_few_bits_are_computed_in_floats(load: Any) -> None:
    """By default OpenVINO would make their data integers of 8 bits."""
    net = nets.Net()
    x = net.input("x", [-1, 64])
    bits = net.random.integers(-8, 8, (32, 64)).astype(np.int8)
    weight = nets.op.multiply(nets.op.convert(nets.op.constant(bits), "f32"), nets.constant(0.1))
    hidden = nets.named(nets.op.relu(nets.op.matmul(x, weight, False, True)), "hidden")
    backbone = load(net.model(net.dense(hidden, 32, 3, "fc")))
    assert layers(backbone) == ["x", "hidden"]
    rows = table(40, 64)
    expected = np.maximum(rows.astype(np.float64) @ (0.1 * bits.T), 0)
    np.testing.assert_allclose(backbone.forward(rows).taps[1], expected, rtol=1e-5, atol=1e-5)


def onnx_networks() -> dict[str, Callable[[], tuple[Any, Any]]]:
    onnx_models = pytest.importorskip("onnx_models", reason="needs the packages of group runtimes")
    return {
        "mlp": lambda: (onnx_models.mlp(end="Softmax"), table()),
        "mlp, batch of 4": lambda: (onnx_models.mlp(batch=4), table()),
        "cnn": lambda: (onnx_models.cnn(end="Sigmoid"), images()),
        "cnn, any size": lambda: (onnx_models.cnn(size="s"), images(size=20)),
        "transformer": lambda: (onnx_models.transformer(), onnx_models.texts(6, 7)),
        "transformer, folded": lambda: (
            onnx_models.transformer(folded=True, batch=2, tokens=7), onnx_models.texts(6, 7),
        ),
        "encoder": lambda: (onnx_models.transformer(encoder=True), onnx_models.texts(6, 7)),
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "mlp", "mlp, batch of 4", "cnn", "cnn, any size", "transformer", "transformer, folded",
        "encoder",
    ],
)  # fmt: skip
def test_the_rows_of_onnxruntime(name: str, tmp_path: Path) -> None:
    """The same network converted has the same taps, kinds and rows."""
    pytest.importorskip("onnxruntime", reason="needs the packages of group runtimes")
    model, feed = onnx_networks()[name]()
    import onnx_models

    path = onnx_models.save(model, tmp_path / "m.onnx")
    one, other = s2.load(path), s2.load(nets.converted(path))
    assert [tap.tensor for tap in one.tappable] == [tap.tensor for tap in other.tappable]
    assert [(tap.kind, tap.shape, tap.grid) for tap in one.taps] == [
        (tap.kind, tap.shape, tap.grid) for tap in other.taps
    ]
    assert (one.n_outputs, one.task, one.inputs) == (other.n_outputs, other.task, other.inputs)
    expected, made = (each.forward(each.check(feed)) for each in (one, other))
    pairs = zip((*expected.taps, expected.base_logits), (*made.taps, made.base_logits), strict=True)
    for theirs, ours in pairs:
        largest = np.abs(theirs).max(initial=0)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize(("meaning", "dtype", "ones"), masks.KINDS)
def test_rows_of_every_kind_of_mask(meaning: str, dtype: str, ones: int, tmp_path: Path) -> None:
    onnx = masks.saved(tmp_path / "m.onnx", meaning, dtype, ones)
    openvino.save_model(openvino.convert_model(onnx), tmp_path / "m.xml", compress_to_fp16=False)
    model = s2.load(tmp_path / "m.xml")
    assert model.mask == f"m={meaning}"
    given = {"ids": masks.IDS, "m": masks.said(meaning, dtype, ones)}
    rows = model.forward(model.check(given)).taps[0]
    np.testing.assert_allclose(rows, masks.rows(), atol=1e-6)
    other = model.with_mask("none")
    again = pickle.loads(pickle.dumps(other))  # noqa: S301
    assert again.mask == other.mask == "none"
    assert other.with_taps(1).with_output("y").mask == "none"


@pytest.mark.parametrize("end", [None, "Softmax"])
def test_loading_compiles_once(end: str | None, load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its tensors show, and whether its output follows from the logits, is seen in one run."""
    calls: list[str] = []

    def counted(module: Any) -> None:
        original = module.compiled
        monkeypatch.setattr(
            module, "compiled", lambda *a, **k: calls.append(module.__name__) or original(*a, **k)
        )

    counted(probe)
    counted(rows)
    model = load(nets.mlp(end=end))
    assert calls == ["skip2lora.backbones.openvino.probe"]
    x = np.ones((2, *model.inputs[0].shape), np.float32)
    model.forward(x)
    model.forward(x)
    assert calls[1:] == ["skip2lora.backbones.openvino.rows"]
    for other in (model.with_taps([0]), model.with_taps(None, grid=1), model.with_output(0)):
        assert other.taps
    assert len(calls) == 2, "what was seen is so whatever is tapped"


def test_the_output_that_is_taken_is_taken_at_once(load: Any) -> None:
    backbone = load(nets.mlp(end="Softmax"))
    assert backbone.with_output(backbone.output) is backbone
    assert backbone.with_output(0) is backbone
