"""Exported ONNX files: run by the stock onnxruntime, they give what the adapted model gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx
import onnxruntime
from onnx import TensorProto

import onnx_models as nets
import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from onnx_exports import activated, expected, random_adapters, session_of
from skip2lora.backbones.onnx import OnnxBackbone, prepare
from skip2lora.backbones.standins import Headless
from skip2lora.errors import FileError, ForgettingWarning, ModelError, ParameterError, brief
from skip2lora.export.onnx import export_onnx, export_onnx_adapter, write_onnx_adapter
from skip2lora.tasks.task import softmax

Refused = Callable[..., str]
Feed = dict[str, np.ndarray]
TABLE = {"x": np.random.default_rng(1).normal(size=(7, 9)).astype(np.float32)}
IMAGES = {"x": nets.images(6)}
TEXTS = nets.texts(6, 7)
CASES: dict[str, tuple[Callable[[], Any], Feed]] = {
    "mlp": (nets.mlp, TABLE),
    "mlp, opset 7": (lambda: nets.mlp(opset=7), TABLE),
    "mlp, opset 9, sigmoid": (lambda: nets.mlp(opset=9, end="Sigmoid"), TABLE),
    "cnn": (nets.cnn, IMAGES),
    "cnn, opset 11": (lambda: nets.cnn(opset=11), IMAGES),
    "cnn, opset 21": (lambda: nets.cnn(opset=21), IMAGES),
    "cnn, any size": (lambda: nets.cnn(size="s"), IMAGES),
    "transformer": (nets.transformer, TEXTS),
    "transformer, folded": (lambda: nets.transformer(folded=True), TEXTS),
}


def signature(session: Any) -> list[tuple[str, str]]:
    return [(v.name, v.type) for v in (*session.get_inputs(), *session.get_outputs())]


def initializers(path: Path) -> list[str]:
    return [tensor.name for tensor in onnx.load(path).graph.initializer]


@pytest.mark.parametrize("first_tap", [0, -1], ids=["all taps", "last tap"])
@pytest.mark.parametrize("name", CASES)
def test_one_file(name: str, first_tap: int, tmp_path: Path) -> None:
    make, feed = CASES[name]
    model = make()
    path = nets.save(model, tmp_path / "m.onnx")
    backbone = OnnxBackbone.load(path)
    adapters = random_adapters(backbone, first_tap=first_tap % len(backbone.taps))
    export_onnx(backbone, adapters, tmp_path / "e.onnx", description={"method": "skip2-lora"})
    onnx.checker.check_model(str(tmp_path / "e.onnx"))
    base, session = session_of(path), session_of(tmp_path / "e.onnx")
    assert signature(session) == signature(base)
    [made] = session.run(None, feed)
    np.testing.assert_allclose(
        made, activated(model, expected(backbone, adapters, feed)), rtol=1e-5, atol=1e-5
    )
    kept = [each for each in initializers(tmp_path / "e.onnx") if ".lora_a." in each]
    assert len(kept) == len(adapters.lora_a) - 1  # the last one is in the weights
    said = session.get_modelmeta().custom_metadata_map
    assert said["skip2lora.base_fingerprint"] == backbone.fingerprint
    assert said["skip2lora.rank"] == "3"
    assert said["skip2lora.method"] == "skip2-lora"
    assert backbone.taps[-1].layer in said["skip2lora.taps"]


@pytest.mark.parametrize("name", CASES)
def test_new_classes(name: str, tmp_path: Path) -> None:
    make, feed = CASES[name]
    model = make()
    path = nets.save(model, tmp_path / "m.onnx")
    backbone = OnnxBackbone.load(path)
    adapters = random_adapters(backbone, new=2)
    export_onnx(backbone, adapters, tmp_path / "e.onnx")
    session = session_of(tmp_path / "e.onnx")
    assert signature(session) == signature(session_of(path))
    assert session.get_outputs()[0].shape[-1] == backbone.n_outputs + 2
    [made] = session.run(None, feed)
    np.testing.assert_allclose(
        made, activated(model, expected(backbone, adapters, feed)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("new", [0, 2])
def test_maps_are_averaged_on_the_way(new: int, tmp_path: Path) -> None:
    """The runtime would else compute the base first, and keep every map till then."""
    backbone = OnnxBackbone.load(nets.save(nets.cnn(end=None), tmp_path / "m.onnx"))
    export_onnx(backbone, random_adapters(backbone, new=new), tmp_path / "e.onnx")
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(tmp_path / "e.onnx", options)
    session.run(None, {"x": nets.images(1)})
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = [each["name"] for each in events if each["name"].endswith("kernel_time")]
    [head] = [at for at, name in enumerate(ran) if name.startswith("/fc")]
    assert min(at for at, name in enumerate(ran) if "tap.1" in name) < head


def test_new_classes_that_do_not_fit(tmp_path: Path) -> None:
    """Their logits are an output of its own, and the label of the old ones is left out."""
    net = nets.Net()
    tensor = net.node("Gemm", ["x", net.weight("w", 4, 3)], "fc")
    tensor = net.node("Softmax", [tensor], "soft", axis=1)
    tensor = net.node("Reshape", [tensor, net.constant("s", np.array([-1, 3]))], "shaped")
    tensor = net.node("ArgMax", [tensor], "label", axis=1, keepdims=0)
    model = net.model([nets.value("x", ["n", 4])], [nets.value(tensor, ["n"], TensorProto.INT64)])
    backbone = OnnxBackbone.load(nets.save(model, tmp_path / "m.onnx"))
    feed = {"x": np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)}
    adapters = random_adapters(backbone)
    export_onnx(backbone, adapters, tmp_path / "e.onnx")
    [made] = session_of(tmp_path / "e.onnx").run(None, feed)
    assert made.tolist() == expected(backbone, adapters, feed).argmax(axis=1).tolist()
    more = random_adapters(backbone, new=1)
    export_onnx(backbone, more, tmp_path / "e.onnx")
    [made] = session_of(tmp_path / "e.onnx").run(None, feed)
    np.testing.assert_allclose(made, expected(backbone, more, feed), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("new", [0, 2])
@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize("kind", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_int8(form: str, kind: str, batch: Any, new: int, tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType

    path = nets.save(nets.cnn(batch=batch), tmp_path / "m.onnx")
    images = nets.images(20)
    path = nets.quantized(
        path, [{"x": image[None]} for image in images],
        activation_type=getattr(QuantType, kind), quant_format=getattr(QuantFormat, form),
    )  # fmt: skip
    backbone = OnnxBackbone.load(path)
    adapters = random_adapters(backbone, new=new)
    export_onnx(backbone, adapters, tmp_path / "e.onnx")
    feed = {"x": images[:1] if batch == 1 else images[:6]}
    [made] = session_of(tmp_path / "e.onnx").run(None, feed)
    np.testing.assert_allclose(
        made, softmax(expected(backbone, adapters, feed)), rtol=1e-5, atol=1e-5
    )
    types = {tensor.data_type for tensor in onnx.load(tmp_path / "e.onnx").graph.initializer}
    assert types & {TensorProto.INT8, TensorProto.UINT8}  # the base stays quantised


@pytest.mark.parametrize("grid", [1, 3, 4])
@pytest.mark.parametrize(("size", "width"), [(7, 8), (33, 8), (48, 8), (48, 16), (64, 24)])
def test_int8_maps_of_any_size(size: int, width: int, grid: int, tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType

    path = nets.save(nets.cnn(size=size, width=width, end=None), tmp_path / "m.onnx")
    feed = {"x": nets.images(5, size)}
    path = nets.quantized(path, [feed], activation_type=QuantType.QUInt8)
    backbone = OnnxBackbone.load(path, grid=grid)
    adapters = random_adapters(backbone)
    export_onnx(backbone, adapters, tmp_path / "e.onnx")
    [made] = session_of(tmp_path / "e.onnx").run(None, feed)
    np.testing.assert_allclose(made, expected(backbone, adapters, feed), rtol=1e-5, atol=1e-5)


def test_weights_used_twice_are_not_changed(tmp_path: Path) -> None:
    net = nets.Net()
    weight = net.weight("w", 4, 4)
    tensor = net.node("MatMul", ["x", weight], "first")
    tensor = net.node("MatMul", [tensor, weight], "second")
    model = net.model([nets.value("x", ["n", 4])], [nets.value(tensor, ["n", 4])])
    backbone = OnnxBackbone.load(nets.save(model, tmp_path / "m.onnx"))
    adapters = random_adapters(backbone)
    export_onnx(backbone, adapters, tmp_path / "e.onnx")
    feed = {"x": np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)}
    [made] = session_of(tmp_path / "e.onnx").run(None, feed)
    np.testing.assert_allclose(made, expected(backbone, adapters, feed), rtol=1e-5, atol=1e-5)
    assert sum(".lora_a." in name for name in initializers(tmp_path / "e.onnx")) == 2


def test_encoder(tmp_path: Path) -> None:
    """A base without logits keeps its outputs; the adapters' become another."""
    path = nets.save(nets.transformer(encoder=True), tmp_path / "m.onnx")
    backbone = OnnxBackbone.load(path)
    adapters = random_adapters(backbone, new=4)
    export_onnx(backbone, adapters, tmp_path / "e.onnx")
    hidden, logits = session_of(tmp_path / "e.onnx").run(None, TEXTS)
    [same] = session_of(path).run(None, TEXTS)
    np.testing.assert_allclose(hidden, same, atol=1e-6)
    np.testing.assert_allclose(logits, expected(backbone, adapters, TEXTS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("inputs", [False, True], ids=["one file", "adapter inputs"])
@pytest.mark.parametrize("first_tap", [0, -1], ids=["all taps", "last tap"])
@pytest.mark.parametrize("name", CASES)
def test_outputs_left_out(name: str, first_tap: int, inputs: bool, tmp_path: Path) -> None:
    """What the base says of classes is gone; what was learned stands alone, whatever its width."""
    make, feed = CASES[name]
    path = nets.save(make(), tmp_path / "m.onnx")
    backbone = OnnxBackbone.load(path)
    for n_outputs in (1, backbone.n_outputs, 7):
        headless = Headless(backbone, n_outputs)
        adapters = random_adapters(headless, first_tap=first_tap % len(backbone.taps))
        export = export_onnx_adapter if inputs else export_onnx
        export(headless, adapters, tmp_path / "e.onnx", description={"task": "regression"})
        onnx.checker.check_model(str(tmp_path / "e.onnx"))
        session = session_of(tmp_path / "e.onnx")
        added = "adapted_logits" if "transformer" in name else "logits"  # that has logits
        assert [v.name for v in session.get_outputs()] == [added]
        assert session.get_outputs()[0].shape[1] == n_outputs
        options = onnxruntime.RunOptions()
        if inputs:
            adapter = onnxruntime.LoraAdapter()
            adapter.Load(str(tmp_path / "e.onnx_adapter"))
            options.add_active_adapter(adapter)
        [made] = session.run(None, feed, options)
        want = expected(headless, adapters, feed)
        np.testing.assert_allclose(made, want, rtol=1e-5, atol=1e-5)


def test_no_name_is_left_for_the_output(tmp_path: Path, refused: Refused) -> None:
    net = nets.Net()
    tensor = net.node("MatMul", ["logits", net.weight("w", 4, 4)], "adapted_logits")
    model = net.model([nets.value("logits", ["n", 4])], [nets.value(tensor, ["n", 4])])
    headless = Headless(OnnxBackbone.load(nets.save(model, tmp_path / "m.onnx")), 2)
    adapters = random_adapters(headless)
    message = refused(ModelError, export_onnx, headless, adapters, tmp_path / "e.onnx")
    assert "logits and adapted_logits" in message
    assert not (tmp_path / "e.onnx").exists()


def test_from_external_data_and_prepared_files(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    path = nets.save(nets.cnn(), tmp_path / "base" / "m.onnx", external=True)
    prepare(path, tmp_path / "t.onnx")
    backbone, tapped = OnnxBackbone.load(path), OnnxBackbone.load(tmp_path / "t.onnx")
    adapters = random_adapters(backbone)
    made = []
    for number, base in enumerate((backbone, tapped)):
        out = tmp_path / f"{number}.onnx"
        export_onnx(base, adapters, out)
        made.append(session_of(out).run(None, IMAGES))
        assert len(session_of(out).get_outputs()) == 1
    assert made[0][0].tobytes() == made[1][0].tobytes()


def test_what_is_exported_can_be_adapted_again(tmp_path: Path) -> None:
    backbone = OnnxBackbone.load(nets.save(nets.cnn(), tmp_path / "m.onnx"))
    adapters = random_adapters(backbone)
    export_onnx(backbone, adapters, tmp_path / "e.onnx")
    again = OnnxBackbone.load(tmp_path / "e.onnx")
    assert again.fingerprint != backbone.fingerprint
    np.testing.assert_allclose(
        again.logits(IMAGES["x"]), expected(backbone, adapters, IMAGES), rtol=1e-5, atol=1e-5
    )
    prepare(tmp_path / "e.onnx", tmp_path / "t.onnx")
    assert OnnxBackbone.load(tmp_path / "t.onnx").fingerprint == again.fingerprint


@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer"])
def test_adapters_are_swapped_over_one_session(name: str, tmp_path: Path) -> None:
    make, feed = CASES[name]
    model = make()
    path = nets.save(model, tmp_path / "m.onnx")
    backbone = OnnxBackbone.load(path)
    first = random_adapters(backbone)
    others = [random_adapters(backbone, rank=rank, seed=rank) for rank in (1, 3, 5)]
    files = [export_onnx_adapter(backbone, first, tmp_path / "e.onnx")]
    assert files == [tmp_path / "e.onnx_adapter"]
    for number, adapters in enumerate(others):
        files.append(tmp_path / f"{number}.onnx_adapter")
        write_onnx_adapter(replace(adapters, bias=None) if number else adapters, files[-1])
    others[1:] = [replace(adapters, bias=None) for adapters in others[1:]]
    session, base = session_of(tmp_path / "e.onnx"), session_of(path)
    assert signature(session) == signature(base)
    for _ in range(2):
        np.testing.assert_allclose(session.run(None, feed)[0], base.run(None, feed)[0], atol=1e-6)
        for adapters, file in zip((first, *others), files, strict=True):
            loaded = onnxruntime.LoraAdapter()
            loaded.Load(str(file))
            options = onnxruntime.RunOptions()
            options.add_active_adapter(loaded)
            [made] = session.run(None, feed, options)
            logits = expected(backbone, adapters, feed)
            np.testing.assert_allclose(made, activated(model, logits), rtol=1e-5, atol=1e-5)


def test_a_pair_of_two_exports_is_seen(tmp_path: Path) -> None:
    """A kill may come when one of two files is new; model and adapter then differ in a version."""
    pairs = set()
    for seed in range(2):
        backbone = OnnxBackbone.load(nets.save(nets.mlp(seed=seed), tmp_path / "m.onnx"))
        for rank in (1, 2):
            beside = export_onnx_adapter(
                backbone, random_adapters(backbone, rank=rank), tmp_path / "e.onnx"
            )
            version = session_of(tmp_path / "e.onnx").get_modelmeta().version
            adapter = onnxruntime.AdapterFormat.read_adapter(str(beside))
            assert (adapter.get_adapter_version(), adapter.get_model_version()) == (1, version)
            pairs.add(version)
    assert len(pairs) == 2  # any adapters of one base go with it


def test_equal_exports_are_equal_bytes(tmp_path: Path) -> None:
    backbone = OnnxBackbone.load(nets.save(nets.cnn(), tmp_path / "m.onnx"))
    for name in ("a", "b"):
        export_onnx(backbone, random_adapters(backbone), tmp_path / f"{name}.onnx")
        export_onnx_adapter(backbone, random_adapters(backbone), tmp_path / f"{name}2.onnx")
    for one, other in (("a.onnx", "b.onnx"), ("a2.onnx", "b2.onnx")):
        assert (tmp_path / one).read_bytes() == (tmp_path / other).read_bytes()


def test_what_does_not_fit(tmp_path: Path, refused: Refused) -> None:
    path = nets.save(nets.cnn(), tmp_path / "m.onnx")
    backbone = OnnxBackbone.load(path)
    adapters = random_adapters(backbone)
    other = NumpyBackbone([4, 3, 2], first_tap_is_input=True)
    message = refused(ModelError, export_onnx, other, adapters, tmp_path / "e.onnx")
    assert "got SkipAdapters for NumpyBackbone, expected adapters from the taps" in message
    fewer = backbone.with_taps([-1])
    message = refused(ModelError, export_onnx, fewer, adapters, tmp_path / "e.onnx")
    assert "the model has taps of [12] with 4 outputs, expected [48, 128, 128, 12]" in message
    nets.save(nets.cnn(seed=1), path)
    message = refused(ModelError, export_onnx, backbone, adapters, tmp_path / "e.onnx")
    now, then = (brief(each.fingerprint) for each in (OnnxBackbone.load(path), backbone))
    assert f"changed since it was loaded ({now}, expected {then}): load it" in message
    assert not (tmp_path / "e.onnx").exists()


def test_nothing_is_left_of_an_export_that_fails(tmp_path: Path, refused: Refused) -> None:
    backbone = OnnxBackbone.load(nets.save(nets.mlp(), tmp_path / "m.onnx"))
    adapters = random_adapters(backbone)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.onnx").mkdir()
    (tmp_path / "out" / "other.onnx_adapter").mkdir()
    for name in ("model.onnx", "other.onnx"):
        target = tmp_path / "out" / name
        assert "is a folder" in refused(FileError, export_onnx_adapter, backbone, adapters, target)
    target = tmp_path / "out" / "same.onnx_adapter"
    said = refused(ParameterError, export_onnx_adapter, backbone, adapters, target)
    assert "call the model .onnx" in said
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model.onnx", "other.onnx_adapter",
    }  # fmt: skip


def test_an_output_before_the_bias_stays_as_it_is(tmp_path: Path) -> None:
    net = nets.Net()
    hidden = net.node("Gemm", ["x", net.weight("w0", 9, 5), net.vector("b0", 5)], "fc0")
    hidden = net.node("Relu", [hidden], "relu")
    net.node("MatMul", [hidden, net.weight("w1", 5, 3)], "product")
    net.node("Add", ["product", net.vector("b1", 3)], "logits")
    outputs = [nets.value(name, ["n", 3]) for name in ("logits", "product")]
    path = nets.save(net.model([nets.value("x", ["n", 9])], outputs), tmp_path / "m.onnx")
    backbone = OnnxBackbone.load(path)
    adapters = random_adapters(backbone)
    export_onnx(backbone, adapters, tmp_path / "e.onnx")
    logits, product = session_of(tmp_path / "e.onnx").run(None, TABLE)
    np.testing.assert_allclose(logits, expected(backbone, adapters, TABLE), atol=1e-5)
    np.testing.assert_allclose(product, nets.raw(path, ["product"], TABLE)[0], atol=1e-6)


@pytest.mark.parametrize("integers", [False, True])
def test_solved_exactly(integers: bool, tmp_path: Path) -> None:
    """Rank as many as classes, with classes that have no sample and a new one."""
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 12)).astype(np.float32)
    path = nets.save(nets.mlp([12, 16, 9, 5]), tmp_path / "base.onnx")
    if integers:
        path = nets.quantized(path, [{"x": x}])
    backbone = OnnxBackbone.load(path)
    labels = np.array([1, 3, 7])[np.argsort(np.argsort(x[:, 0])) // 20]
    with pytest.warns(ForgettingWarning):
        adapted = s2.adapt(backbone, x, labels, solver="exact", new_classes=True)
    assert adapted.adapters.rank == 3
    assert adapted.history.held_out.value > 0.6
    out = tmp_path / "out.onnx"
    export_onnx(backbone, adapted.adapters, out)
    [exported] = session_of(out).run(None, {"x": x})
    np.testing.assert_allclose(exported, adapted.logits(x), rtol=1e-4, atol=1e-4)
