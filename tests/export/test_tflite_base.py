"""What can be exported as .tflite, and whether adapters fit it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert: group runtimes")

import skip2lora as s2
import tflite_models as nets
from conformance.numpy_backbone import NumpyBackbone
from onnx_exports import random_adapters
from skip2lora.backbones.standins import Bare, Headless
from skip2lora.errors import ModelError
from skip2lora.export.tflite_base import read_base

Refused = Callable[..., str]


def test_whether_the_sum_is_an_output_of_its_own(tmp_path: Path) -> None:
    """Not where the base's own outputs can show it: also with more classes, but for a pair."""
    load = nets.loader(tmp_path)
    model = load(nets.cnn().content())
    cases: list[tuple[Any, int, bool]] = [
        (model, 0, False), (model, 2, False), (Headless(model, 4), 0, True), (Bare(model), 0, True),
        (s2.MLP.create([4, 3]), 1, False),
    ]  # fmt: skip
    for given, new, apart in cases:
        assert read_base(given, random_adapters(given, new=new)).apart is apart
    file, random = nets.File(), np.random.default_rng(0)
    x, y, z = (file.tensor(name, (1, 3)) for name in "xyz")
    weight = file.constant("w", random.normal(size=(3, 3)).astype(np.float32))
    to, shaped = file.constant("to", np.array([1, 3], np.int32)), file.tensor("s", (1, 3))
    file.operator("FULLY_CONNECTED", [x, weight, file.constant("b", np.zeros(3, np.float32))], [y])
    file.operator("SOFTMAX", [y], [shaped], beta=1.0)
    file.operator("RESHAPE", [shaped, to], [z], newShape=[1, 3])
    fixed = load(file.pack([x], [z]))
    assert not read_base(fixed, random_adapters(fixed)).apart
    assert read_base(fixed, random_adapters(fixed, new=1)).apart  # its shape holds three


def test_what_is_refused(tmp_path: Path, refused: Refused) -> None:
    other: Any = NumpyBackbone((4, 3), first_tap_is_input=True)
    message = refused(ModelError, read_base, other, random_adapters(other))
    assert "expected adapters from the taps of a model as .tflite, or of an MLP" in message
    file = nets.File()
    x, y, z = (file.tensor(name, (1, 3)) for name in "xyz")
    weight = file.constant("w", np.eye(3, dtype=np.float32))
    file.operator("FULLY_CONNECTED", [x, weight, file.constant("b", np.zeros(3, np.float32))], [y])
    file.operator("IF", [y], [z])
    with pytest.warns(UserWarning, match="is control flow"):
        model = nets.loader(tmp_path)(file.pack([x], [z]))
    message = refused(
        ModelError, read_base, Headless(model, 2), random_adapters(Headless(model, 2))
    )
    assert "expected a model that is whole" in message
