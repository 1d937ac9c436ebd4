"""Samples of noise, for times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conformance.numpy_backbone import NumpyBackbone
from skip2lora.arrays import Inputs
from skip2lora.backbones.noise import random_samples


def test_tables_of_random_numbers(make_model: Any) -> None:
    for model in (make_model([9, 5, 3]), NumpyBackbone([9, 5, 3], first_tap_is_input=True)):
        x = random_samples(model, 7)
        assert (x.shape, x.dtype) == ((7, 9), np.float32)
        assert 0 < x.std() < 1
        assert random_samples(model, 7).tobytes() == x.tobytes()


def test_images_and_tokens(tmp_path: Any) -> None:
    pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime")
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    import onnx_models as nets
    from skip2lora.backbones.onnx.backbone import OnnxBackbone

    images = OnnxBackbone.load(nets.save(nets.cnn(), tmp_path / "c.onnx"))
    assert random_samples(images, 2).shape == (2, 3, 14, 14)
    tokens = OnnxBackbone.load(nets.save(nets.transformer(), tmp_path / "t.onnx"))
    assert random_samples(tokens, 2) is None  # of how many tokens?
    x = random_samples(tokens, 2, open_size=5)
    assert isinstance(x, Inputs)
    for array in x.arrays.values():
        assert array.tolist() == [[1] * 5] * 2
    tokens.forward(x)
    x = random_samples(tokens, 5, open_size=6, n_tokens=2)
    assert len(np.unique(x.arrays["input_ids"], axis=0)) > 1
    assert x.arrays["attention_mask"].all()
    tokens.forward(x)
