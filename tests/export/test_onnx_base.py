"""A base model with its adapters: what is read of it, and when its last weights may change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx_models as nets
from onnx_exports import random_adapters
from skip2lora.backbones.derived import Derived, DerivedTap
from skip2lora.backbones.onnx.backbone import OnnxBackbone
from skip2lora.backbones.standins import for_task
from skip2lora.errors import ModelError
from skip2lora.export.onnx_base import read_base


@pytest.fixture
def model(tmp_path: Path) -> OnnxBackbone:
    return OnnxBackbone.load(nets.save(nets.mlp(end="Softmax"), tmp_path / "m.onnx"))


def test_sources_are_the_taps_of_the_adapters(model: OnnxBackbone) -> None:
    derived = Derived.of(model, ["logits"])
    for first_tap in range(4):
        base = read_base(derived, random_adapters(derived, first_tap=first_tap))
        layers = [of.kind if isinstance(of, DerivedTap) else of.tap.layer for of in base.sources]
        assert layers == [tap.layer for tap in derived.taps[first_tap:]]
    assert base.fingerprint == model.fingerprint


def test_the_last_weights_change_where_nothing_needs_the_logits(model: OnnxBackbone) -> None:
    derived = Derived.of(model, ["logits"])
    numbers = for_task(model, "regression")
    for given, folds in ((model, True), (derived, False), (numbers, False)):
        assert read_base(given, random_adapters(given)).folds is folds
    assert read_base(derived, random_adapters(derived, first_tap=1)).folds


def test_a_network_belongs_to_its_own_fingerprint(
    make_model: Any, refused: Callable[..., str]
) -> None:
    network = make_model([9, 16, 5, 3])
    assert read_base(network, random_adapters(network)).fingerprint == network.fingerprint
    fewer = random_adapters(network, first_tap=1)
    wrong = type(fewer)(fewer.lora_a, fewer.lora_b, 0, fewer.bias)
    assert "the model has taps of [9, 16, 5]" in refused(ModelError, read_base, network, wrong)
