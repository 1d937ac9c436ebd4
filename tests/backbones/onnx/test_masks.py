"""Masks of an ONNX graph: the mean of the tokens that count, whatever the mask's numbers mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnxruntime

import skip2lora as s2
from mask_models import IDS, KINDS, TABLE, WIDTH, rows, said, saved
from skip2lora.backbones.onnx.preparing import prepare
from skip2lora.errors import ParameterError
from skip2lora.export.onnx import export_onnx

Refused = Callable[..., str]


@pytest.mark.parametrize(("meaning", "dtype", "ones"), KINDS)
def test_rows_of_every_kind_of_mask(meaning: str, dtype: str, ones: int, tmp_path: Path) -> None:
    """Found by running; kept by adapter, prepared file and pickle, honoured by the export."""
    path = saved(tmp_path / "m.onnx", meaning, dtype, ones)
    model = s2.load(path)
    assert model.mask == f"m={meaning}"
    given = {"ids": IDS, "m": said(meaning, dtype, ones)}
    x = model.check(given)
    np.testing.assert_allclose(model.forward(x).taps[0], rows(), atol=1e-6)

    adapted = s2.adapt(model, given, np.arange(len(IDS)) % 3, epochs=3)
    adapted.save(tmp_path / "adapter")
    again = s2.AdaptedModel.load(s2.load(path), tmp_path / "adapter")
    assert again.backbone.mask == model.mask
    assert np.array_equal(again.logits(given), adapted.logits(given))
    export_onnx(adapted.backbone, adapted.adapters, tmp_path / "out.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "out.onnx")
    [exported] = session.run(["y"], {**x.arrays})
    np.testing.assert_allclose(exported, adapted.logits(given), atol=1e-5)

    prepare(path, tmp_path / "tapped.onnx")
    prepared = s2.load(tmp_path / "tapped.onnx")
    assert prepared.mask == model.mask
    assert np.array_equal(prepared.forward(prepared.check(given)).taps[0], model.forward(x).taps[0])


def test_running_counts_more_than_a_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", "padding", "int64", 0, "attention_mask")
    assert s2.load(path).mask == "attention_mask=padding"


def test_what_is_told_counts_most(tmp_path: Path, refused: Refused) -> None:
    path = saved(tmp_path / "m.onnx", "tokens", "int64", 0, "mask", reads=False)
    assert "choose mask='tokens'" in refused(ParameterError, s2.load, path)
    model = s2.load(path, mask="padding")
    given = {"ids": IDS, "mask": said("padding", "int64", 0)}
    np.testing.assert_allclose(model.forward(model.check(given)).taps[0], rows(), atol=1e-6)
    other = model.with_mask("none")
    mean = TABLE[IDS].mean(axis=1)
    assert other.mask == "none"
    np.testing.assert_allclose(
        other.forward(other.check(given)).taps[0][:, :WIDTH], mean, atol=1e-6
    )
    assert model.with_taps(1).mask == "mask=padding"
    assert "expected none, tokens" in refused(ParameterError, s2.load, path, mask="upside down")


def test_an_adapter_needs_no_question(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", "tokens", "int64", 0, "mask", reads=False)
    given = {"ids": IDS, "mask": said("padding", "int64", 0)}
    adapted = s2.adapt(s2.load(path, mask="padding"), given, np.arange(len(IDS)) % 3, epochs=2)
    adapted.save(tmp_path / "adapter")
    other = s2.load(path, mask="none")
    again = s2.AdaptedModel.load(other, tmp_path / "adapter")
    assert again.backbone.mask == "mask=padding"
    assert np.array_equal(again.logits(given), adapted.logits(given))
