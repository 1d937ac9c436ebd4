"""The rule for an MLP: which taps, statistics and options, and its rows from known ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.adapters.rows import RowFormat, SkipCache
from skip2lora.backbones.derived import derived_taps
from skip2lora.backbones.field_mlp import FieldMLP
from skip2lora.training.mlp_rule import MlpRule, adam_options


@pytest.fixture
def model(make_model: Any) -> s2.MLP:
    return make_model([9, 16, 5, 3])


@pytest.fixture
def samples(make_samples: Any) -> tuple[np.ndarray, np.ndarray]:
    return make_samples(60, 9)


@pytest.mark.parametrize(
    ("n_samples", "epochs"), [(1, 1000), (20, 1000), (21, 500), (470, 42), (680, 30), (10_000, 30)]
)
def test_a_thousand_steps_or_thirty_epochs(n_samples: int, epochs: int) -> None:
    assert adam_options(n_samples)["epochs"] == epochs


def test_samples_without_negative_numbers(model: s2.MLP, samples: Any) -> None:
    x, y = np.abs(samples[0]), samples[1]
    rule = MlpRule.of(model, x, len(x))
    assert [tap.kind for tap in derived_taps(rule.backbone)] == ["log", "log-centred"]
    adapted = s2.adapt(rule.backbone, x, y, **rule.options)
    assert adapted.adapters.rank == 8
    assert adapted.history.n_batches >= 1000
    assert adapted.adapters.bias is not None
    assert adapted.score(x, y) > s2.adapt(model, x, y).score(x, y)


def test_samples_with_a_negative_number(model: s2.MLP, make_model: Any, samples: Any) -> None:
    x = np.abs(samples[0])
    x[3, 4] = -1e-6
    rule = MlpRule.of(model, x, len(x))
    assert isinstance(rule.backbone, FieldMLP)
    assert rule.options == {"solver": "exact"}
    plain = make_model([9, 16, 5, 3], batch_norm=False)
    assert MlpRule.of(plain, x, len(x)).backbone is plain
    assert MlpRule.of(model, x[3:4], 1).backbone is model


@pytest.mark.parametrize("sign", [1, -1])
def test_rows_from_those_of_the_network(sign: int, model: s2.MLP, samples: Any) -> None:
    """As if the samples had passed the model of the rule."""
    x = np.abs(samples[0]) * np.float32(sign)
    rule = MlpRule.of(model, x, len(x))
    known, wanted = (
        SkipCache.of(RowFormat.of(each, copy_input=True), len(x)) for each in (model, rule.backbone)
    )
    known.fill(model, x)
    wanted.fill(rule.backbone, x)
    rows = rule.rows(known)
    assert rows.rows.tobytes() == wanted.rows.tobytes()
    assert rows.filled.all()
    assert rows.format.tap_widths == rule.backbone.tap_widths
