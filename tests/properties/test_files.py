"""What is saved is what is loaded, and saving equal things gives equal bytes."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import skip2lora as s2
from skip2lora.methods import METHODS as ALL_METHODS

METHODS = [name for name, of in ALL_METHODS.items() if not of.tunes_network]
WIDTHS = st.lists(st.integers(2, 20), min_size=2, max_size=5)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
MakeModel = Callable[..., s2.MLP]


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@given(
    widths=WIDTHS, batch_norm=st.booleans(), seed=st.integers(0, 99), data=st.data(),
    numbers=st.tuples(st.floats(1e-8, 1), st.floats(0, 1)),
)  # fmt: skip
def test_models(
    widths: list[int], batch_norm: bool, seed: int, data: st.DataObject,
    numbers: tuple[float, float], make_model: MakeModel, make_samples: Any,
) -> None:  # fmt: skip
    each = st.lists(NAMES, min_size=widths[-1], max_size=widths[-1], unique=True)
    names = data.draw(st.none() | each.map(tuple))
    model = dataclasses.replace(
        make_model(widths, batch_norm=batch_norm, seed=seed),
        class_names=names, bn_eps=numbers[0], bn_momentum=numbers[1],
    )  # fmt: skip
    x, _ = make_samples(5, widths[0])
    with tempfile.TemporaryDirectory() as room:
        one, two = Path(room, "1.safetensors"), Path(room, "2.safetensors")
        model.save(one)
        model.save(two)
        assert one.read_bytes() == two.read_bytes()
        back = s2.load(one)
        back.save(two)
        assert one.read_bytes() == two.read_bytes()
    assert back.class_names == model.class_names
    assert back.fingerprint == model.fingerprint
    assert (back.bn_eps, back.bn_momentum) == numbers
    assert {name: array.tobytes() for name, array in back.tensors().items()} == {
        name: array.tobytes() for name, array in model.tensors().items()
    }
    assert back.logits(x).tobytes() == model.logits(x).tobytes()


@given(
    method=st.sampled_from(METHODS), widths=WIDTHS, batch_norm=st.booleans(),
    rank=st.integers(1, 2), seed=st.integers(0, 2**64 - 1),
)  # fmt: skip
def test_adapters(
    method: str, widths: list[int], batch_norm: bool, rank: int, seed: int,
    make_model: MakeModel, make_samples: Any,
) -> None:  # fmt: skip
    model = make_model(widths, batch_norm=batch_norm)
    x, y = make_samples(12, widths[0], widths[-1])

    def train() -> s2.AdaptedModel:
        return s2.adapt(model, x, y, method=method, rank=rank, epochs=2, batch_size=5, seed=seed)

    adapted = train()
    with tempfile.TemporaryDirectory() as room:
        one, two = Path(room, "1"), Path(room, "2")
        adapted.save(one)
        train().save(two)  # equal training: no date, path or duration in the files
        assert contents(one) == contents(two)
        back = s2.AdaptedModel.load(model, one)
        back.save(two)
        assert contents(one) == contents(two)
    for call in ("logits", "predict", "predict_proba"):
        assert getattr(back, call)(x).tobytes() == getattr(adapted, call)(x).tobytes()
    assert back.score(x, y) == adapted.score(x, y)
    assert np.isfinite(back.logits(x)).all()
