"""Versions answer from rows as their models answer samples, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import onnx_models
import skip2lora as s2
from desk import NAMES
from serve.place import field, model
from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.serve.answering import Frozen, Served, Version, margins


def test_rows_keep_all_that_answers_need() -> None:
    x, _ = field()
    frozen = Frozen(model())
    rows = frozen.rows(x)
    packed = frozen.packed(rows)
    assert packed.shape == (300, 12 + 16 + 16 + 3) == (300, frozen.width)
    assert (frozen.unpacked(packed) == rows).all()
    assert (packed[:, :12] == x).all()
    taps = model().forward(x)
    assert (frozen.last_tap(rows) == taps.taps[-1]).all()
    assert (packed[:, -3:] == taps.base_logits).all()


@pytest.mark.parametrize("options", [{}, {"solver": "exact"}, {"solver": "steps", "epochs": 2}])
def test_an_adapter_answers_rows_as_samples(options: dict[str, object]) -> None:
    x, names = field()
    adapted = s2.adapt(model(), x[:60], names[:60], **options)  # type: ignore[arg-type]
    frozen = Frozen(model())
    version = Version(1, frozen, adapted)
    assert (version.probabilities(frozen.rows(x)) == adapted.predict_proba(x)).all()
    assert version.titles == NAMES
    assert version.model is adapted
    alone = Version(0, frozen)
    assert (alone.probabilities(frozen.rows(x)) == model().predict_proba(x)).all()


def test_rows_do_not_pass_the_model_again(monkeypatch: pytest.MonkeyPatch) -> None:
    x, names = field()
    adapted = s2.adapt(model(), x[:60], names[:60], solver="steps", epochs=2)
    frozen, read = Frozen(model()), []
    rows, expected = frozen.rows(x), adapted.predict_proba(x)
    opened = SkipAdapters.opened

    def opening(adapters: SkipAdapters, backbone: s2.Backbone) -> object:
        read.append(backbone)
        return opened(adapters, backbone)

    monkeypatch.setattr(SkipAdapters, "opened", opening)
    version = Version(1, frozen, adapted)
    for _ in range(2):  # the adapter is made ready once
        assert (version.probabilities(rows) == expected).all()
    assert [backbone is adapted.backbone for backbone in read] == [False]


def test_new_classes_have_their_titles() -> None:
    x, names = field()
    y = ["rust" if at < 20 else name for at, name in enumerate(names)]
    adapted = s2.adapt(model(), x, y, new_classes=True)
    frozen = Frozen(model())
    assert Version(1, frozen, adapted).titles == (*NAMES, "rust")
    assert (
        Version(1, frozen, adapted).probabilities(frozen.rows(x)) == adapted.predict_proba(x)
    ).all()


def test_another_model_answers_from_rows(tmp_path: Path) -> None:
    onnx = s2.load(onnx_models.save(onnx_models.mlp(), tmp_path / "m.onnx"))
    width = onnx.inputs[0].shape[-1]
    x = np.random.default_rng(0).standard_normal((40, width)).astype(np.float32)
    frozen = Frozen(onnx)
    version = Version(0, frozen)
    assert np.allclose(version.probabilities(frozen.rows(x)), onnx.predict_proba(x), atol=1e-6)
    assert version.titles == tuple(map(str, range(onnx.n_outputs)))


def test_what_changes_the_network_is_refused() -> None:
    x, names = field()
    tuned = s2.adapt(model(), x, names, method="ft-all", epochs=1)
    with pytest.raises(s2.ParameterError, match="method ft-all"):
        Version(1, Frozen(model()), tuned)


def test_margins_are_of_the_two_likeliest() -> None:
    shares = np.array([[0.2, 0.5, 0.3], [1, 0, 0]], np.float32)
    assert margins(shares) == pytest.approx([0.2, 1.0])
    assert margins(shares[:, :1]).tolist() == [1, 1]


def test_served_is_cut() -> None:
    served = Served((1, 2, 3), ("a", "b", "a"), np.eye(3, 2, dtype=np.float32), 4, ("a", "b"))
    part = served.part(1, 3)
    assert (part.ids, part.names, part.version, len(part)) == ((2, 3), ("b", "a"), 4, 2)
    assert part.probabilities.tolist() == [[0, 1], [0, 0]]
