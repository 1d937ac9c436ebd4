"""What an adapted model says of itself; its folder is tested with the adapters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import skip2lora as s2

METHODS = ("skip2-lora", "skip-lora", "lora-last", "lora-all")


@pytest.fixture(scope="module")
def model(make_model: Callable[..., s2.MLP]) -> s2.MLP:
    return make_model([8, 6, 5, 3])


@pytest.mark.parametrize("method", METHODS)
def test_its_repr_is_one_short_line(method: str, model: s2.MLP, make_samples: Any) -> None:
    result = s2.adapt(model, *make_samples(40), method=method, epochs=2, rank=2)
    start = f"AdaptedModel(MLP(8-6-5-3), {method}, rank 2, "
    assert repr(result) == f"{start}{result.trainable_parameters} trained numbers, 3 outputs)"
    assert len(repr(result.adapters)) < 60
    assert "rank 2" in repr(result.adapters)


def test_a_notebook_shows_a_table_without_markup_of_others(
    model: s2.MLP, make_samples: Any, tmp_path: Path
) -> None:
    fresh = s2.adapt(model, *make_samples(40), epochs=2)
    fresh.save(tmp_path / "adapter")
    loaded = s2.AdaptedModel.load(model, tmp_path / "adapter")
    assert "<th>base model</th><td>MLP(8-6-5-3)</td>" in fresh._repr_html_()
    assert f"<td>{fresh.timing.total_ms:,.1f} ms</td>" in fresh._repr_html_()
    assert "time to adapt" not in loaded._repr_html_()
    named = replace(fresh, method="<b>")
    assert "&lt;b&gt;" in named._repr_html_()
    assert "<b>" not in named._repr_html_()
