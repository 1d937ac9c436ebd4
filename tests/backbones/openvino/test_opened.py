"""A model that was read: what does not depend on the taps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import openvino_models as nets
from skip2lora.backbones.openvino.opened import open_model
from skip2lora.errors import ModelError, ParameterError

Refused = Callable[..., str]


def test_the_fingerprint_is_that_of_the_file(tmp_path: Path) -> None:
    """Whatever its images are fixed to, it is the same model."""
    path = nets.save(nets.cnn(size=-1), tmp_path / "m.xml")
    free, fixed = open_model(path, None), open_model(path, (20, 16))
    assert free.fingerprint == fixed.fingerprint
    assert [each.inputs[0].shape for each in (free, fixed)] == [(3, None, None), (3, 20, 16)]
    assert (free.size, fixed.size) == (None, (20, 16))
    assert free.path == path


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: nets.cnn(size=-1), (20, 16)), (nets.cnn, None), (nets.mlp, None),
        (nets.texts, None),
    ],
)  # fmt: skip
def test_a_size_where_it_is_open(make: Any, size: Any, tmp_path: Path) -> None:
    path = nets.save(make(), tmp_path / "m.xml")
    assert open_model(path, (20, 16), if_open=True).size == size


def test_refused(tmp_path: Path, refused: Refused) -> None:
    path = nets.save(nets.mlp(), tmp_path / "m.xml")
    assert "0 inputs of" in refused(ParameterError, open_model, path, (20, 16))
    net = nets.Net()
    noise = nets.op.random_uniform(nets.whole([1, 4]), nets.constant(0), nets.constant(1), "f32")
    x = nets.op.add(net.input("x", [-1, 4]), noise)
    path = nets.save(net.model(net.dense(x, 4, 2, "fc")), path)
    assert "(RandomUniform) is random" in refused(ModelError, open_model, path, None)
