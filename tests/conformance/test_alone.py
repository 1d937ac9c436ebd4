"""A sample alone has the row that it has in a batch, for every tap, output and runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import torch

import skip2lora as s2
from conformance.alone_networks import (
    MIXERS,
    SEPARATE,
    TIME_FIRST,
    Aside,
    Baked,
    Dead,
    exported,
    made,
    samples,
)
from onnx_exports import expected, random_adapters, session_of
from skip2lora.errors import ModelError
from skip2lora.export.onnx import export_onnx

Refused = Callable[..., str]
N_SAMPLES = 7


def onnx_backbone(module: Any, x: np.ndarray, folder: Path, **options: Any) -> Any:
    return s2.load(exported(module, x, folder / "m.onnx", **options))


def torch_backbone(module: Any, x: np.ndarray, folder: Path) -> Any:
    del folder
    return s2.TorchBackbone(module, example=x[:1])


def openvino_backbone(module: Any, x: np.ndarray, folder: Path, **options: Any) -> Any:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed (extra openvino)")
    model = openvino.Core().read_model(exported(module, x, folder / "m.onnx", **options))
    openvino.save_model(model, folder / "m.xml", compress_to_fp16=False)
    return s2.load(folder / "m.xml")


RUNTIMES: dict[str, Callable[..., Any]] = {
    "onnx": onnx_backbone, "torch": torch_backbone, "openvino": openvino_backbone,
}  # fmt: skip


def check_alone(backbone: Any, x: np.ndarray) -> Any:
    """Rows in two batches of other orders are those of each sample alone; those alone."""
    whole = backbone.forward(backbone.check(x))
    turned = backbone.forward(backbone.check(x[::-1]))
    singles = [backbone.forward(backbone.check(x[at : at + 1])) for at in range(len(x))]
    assert len(whole.taps) == len(backbone.taps) > 0
    for number, rows in enumerate((*whole.taps, whole.base_logits)):
        alone = np.concatenate([(*each.taps, each.base_logits)[number] for each in singles])
        other = (*turned.taps, turned.base_logits)[number]
        assert rows.shape == alone.shape
        np.testing.assert_allclose(rows, alone, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(other[::-1], alone, rtol=1e-6, atol=1e-6)
    return whole


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", SEPARATE)
def test_rows_are_those_of_the_sample(name: str, runtime: str, tmp_path: Path) -> None:
    make, shape = SEPARATE[name]
    module, x = made(make), samples(shape, N_SAMPLES, tokens=name == "words")
    backbone = RUNTIMES[runtime](module, x, tmp_path)
    whole = check_alone(backbone, x)
    with torch.no_grad():
        answer = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(whole.base_logits, answer, atol=1e-5)
    folded = [tap for tap in backbone.taps if tap.kind == "sequence"]
    assert folded or name == "norms"


@pytest.mark.parametrize("n_samples", [1, N_SAMPLES])
@pytest.mark.parametrize("name", [*SEPARATE, *(f"time first: {name}" for name in TIME_FIRST)])
def test_what_is_exported_reads_the_same(name: str, n_samples: int, tmp_path: Path) -> None:
    late = name.startswith("time first: ")
    make, shape = TIME_FIRST[name[12:]] if late else SEPARATE[name]
    module, x = made(make), samples(shape, N_SAMPLES, tokens=name == "words")
    backbone = onnx_backbone(module, x, tmp_path, axis=int(late))
    adapters = random_adapters(backbone)
    export_onnx(backbone, adapters, tmp_path / "e.onnx")
    part = x[:n_samples]
    session = session_of(tmp_path / "e.onnx")
    fed = np.ascontiguousarray(part.swapaxes(0, 1)) if late else part
    [logits] = session.run(None, {"x": fed})
    wanted = expected(backbone, adapters, part)
    np.testing.assert_allclose(logits, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("name", TIME_FIRST)
def test_samples_along_the_second_axis(name: str, tmp_path: Path) -> None:
    make, shape = TIME_FIRST[name]
    module, x = made(make), samples(shape, N_SAMPLES)
    backbone = onnx_backbone(module, x, tmp_path, axis=1)
    assert backbone.inputs[0].shape == shape
    whole = check_alone(backbone, x)
    with torch.no_grad():
        answer = module(torch.from_numpy(x.swapaxes(0, 1).copy())).numpy()
    np.testing.assert_allclose(whole.base_logits, answer, atol=1e-5)


@pytest.mark.parametrize("name", TIME_FIRST)
def test_openvino_names_samples_along_the_second_axis(
    name: str, tmp_path: Path, refused: Refused
) -> None:
    make, shape = TIME_FIRST[name]
    module, x = made(make), samples(shape, N_SAMPLES)
    said = refused(ModelError, openvino_backbone, module, x, tmp_path, axis=1)
    assert "input x has its samples along the second axis" in said


@pytest.mark.parametrize("name", ["encoder"])
def test_the_newer_exporter(name: str, tmp_path: Path) -> None:
    make, shape = SEPARATE[name]
    x = samples(shape, N_SAMPLES)
    check_alone(onnx_backbone(made(make), x, tmp_path, dynamo=True), x)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", MIXERS)
def test_what_mixes_samples_is_refused(
    name: str, runtime: str, tmp_path: Path, refused: Refused
) -> None:
    if runtime != "torch" and "statistics" in name:
        pytest.skip("PyTorch does not export it")
    x = samples((6,), N_SAMPLES)
    said = refused(ModelError, RUNTIMES[runtime], made(MIXERS[name]), x, tmp_path)
    assert "mixes the samples of a batch" in said
    if runtime != "torch":
        assert f": {'node' if runtime == 'onnx' else 'operator'} " in said
    else:
        parts = ("between (BatchNorm1d)", "between (Softmax)", "before last (Linear)")
        assert any(
            f"Mixing: {part}" in said or f"what is computed {part}" in said for part in parts
        )


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_tap_that_mixes_samples_is_left_out(runtime: str, tmp_path: Path) -> None:
    x = samples((6,), N_SAMPLES)
    backbone = RUNTIMES[runtime](made(Aside), x, tmp_path)
    check_alone(backbone, x)
    assert len(backbone.tappable) == 2
    assert not any("aside" in tap.layer for tap in backbone.tappable)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_tap_whose_order_does_not_show_is_left_out_and_said(runtime: str, tmp_path: Path) -> None:
    x = samples((6,), N_SAMPLES)
    x[1:] *= 30  # PyTorch sees the first
    with pytest.warns(UserWarning, match="not tapped, as its numbers are the same in several"):
        backbone = RUNTIMES[runtime](made(Dead), x, tmp_path)
    check_alone(backbone, x)
    assert len(backbone.tappable) == 2


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_number_of_samples_that_only_the_inside_knows(
    runtime: str, count: int, tmp_path: Path
) -> None:
    """Though any number is declared, so many run at a time."""
    x, module = samples((6,), N_SAMPLES), made(lambda: Baked(count))
    backbone = RUNTIMES[runtime](module, x[:count], tmp_path)
    whole = check_alone(backbone, x)
    parts = [x[at : at + 1].repeat(count, 0) for at in range(N_SAMPLES)]
    with torch.no_grad():
        answer = np.stack([module(torch.from_numpy(part)).numpy()[0] for part in parts])
    np.testing.assert_allclose(whole.base_logits, answer, atol=1e-6)
    adapted = s2.adapt(backbone, x, np.arange(N_SAMPLES) % 3, epochs=2)
    assert adapted.predict(x).shape == (N_SAMPLES,)
