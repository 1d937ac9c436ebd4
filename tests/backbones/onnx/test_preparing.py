"""Files that ``prepare`` wrote, and what a device needs for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx

import onnx_models as nets
import skip2lora as s2
from skip2lora.backbones.onnx import OnnxBackbone, prepare
from skip2lora.errors import MissingExtraError


def test_prepared(tmp_path: Path) -> None:
    path = nets.save(nets.cnn(), tmp_path / "m.onnx")
    prepare(path, tmp_path / "t.onnx", taps=["/conv1", "/fc"])
    base, backbone = OnnxBackbone.load(path), s2.load(tmp_path / "t.onnx")
    x = nets.images(40)
    assert backbone.fingerprint == base.fingerprint
    assert [tap.layer for tap in backbone.taps] == ["/conv1", "/fc"]
    assert backbone.layers == base.layers
    for one, other in zip(backbone.forward(x).taps, base.forward(x).taps[2:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert [tap.layer for tap in backbone.with_taps(["/fc"]).taps] == ["/fc"]
    assert backbone.with_taps(["/conv0"]).tap_widths == (48,)
    onnx.checker.check_model(str(tmp_path / "t.onnx"))
    outputs = [value.name for value in onnx.load(tmp_path / "t.onnx").graph.output]
    assert outputs[0] == "probabilities"
    prepare(tmp_path / "t.onnx", tmp_path / "again.onnx")
    assert OnnxBackbone.load(tmp_path / "again.onnx").fingerprint == base.fingerprint


def test_an_adapter_fits_both_files(tmp_path: Path) -> None:
    path = nets.save(nets.cnn(), tmp_path / "m.onnx")
    prepare(path, tmp_path / "t.onnx")
    base, tapped = s2.load(path), s2.load(tmp_path / "t.onnx")
    x, y = nets.images(40), np.arange(40) % 4
    adapted = s2.adapt(base, x, y, epochs=3)
    adapted.save(tmp_path / "a")
    back = s2.AdaptedModel.load(tapped, tmp_path / "a")
    np.testing.assert_allclose(back.logits(x), adapted.logits(x), rtol=1e-4, atol=1e-5)


WITHOUT_ONNX = """
import sys
sys.modules["onnx"] = None  # as if it were not installed
import numpy as np
import skip2lora as s2
backbone = s2.load(sys.argv[1])
x = np.load(sys.argv[3])
adapted = s2.adapt(backbone, x, np.arange(len(x)) % 4, epochs=2)
adapted.save(sys.argv[4])
s2.AdaptedModel.load(s2.load(sys.argv[1]), sys.argv[4]).predict(x)
np.save(sys.argv[3], backbone.forward(backbone.check(x)).taps[1])
for path, call in ((sys.argv[2], s2.load), (sys.argv[1], lambda p: s2.load(p, taps=["/conv0"]))):
    try:
        call(path)
    except s2.MissingExtraError as error:
        print(error)
"""


def test_a_prepared_file_needs_no_onnx(tmp_path: Path) -> None:
    path = nets.save(nets.cnn(), tmp_path / "m.onnx")
    prepare(path, tmp_path / "t.onnx", taps=["/conv1", "/fc"])
    x = nets.images(12)
    np.save(tmp_path / "x.npy", x)
    words = [tmp_path / name for name in ("t.onnx", "m.onnx", "x.npy", "a")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ONNX, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(
        np.load(tmp_path / "x.npy"), OnnxBackbone.load(path).forward(x).taps[-1], atol=1e-6
    )
    plain, other = done.stdout.splitlines()
    assert "pip install 'skip2lora[onnx]'" in plain
    assert "skip2lora prepare" in plain
    assert "other taps than t.onnx was prepared with" in other


def test_a_size_counts_where_it_is_open_without_onnx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("fixed", 14), ("open", "s")):
        prepare(nets.save(nets.cnn(size=size), tmp_path / "m.onnx"), tmp_path / f"{name}.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    fixed = OnnxBackbone.load_for_images(tmp_path / "fixed.onnx", (20, 20))
    assert fixed.inputs[0].shape == (3, 14, 14)
    assert fixed.size is None
    with pytest.raises(MissingExtraError, match=r"other taps than open\.onnx was prepared with"):
        OnnxBackbone.load_for_images(tmp_path / "open.onnx", (20, 20))
    assert OnnxBackbone.load_for_images(tmp_path / "open.onnx", None).size is None
