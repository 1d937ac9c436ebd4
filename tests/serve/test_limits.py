"""Limits are whole numbers from 1."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import skip2lora as s2
from skip2lora.serve.limits import Limits


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_a_limit_is_a_whole_number_from_1(value: object) -> None:
    with pytest.raises(s2.ParameterError, match="pending_bytes"):
        Limits(pending_bytes=value)  # type: ignore[arg-type]


def test_what_is_normal_takes_200_samples_or_more() -> None:
    assert Limits(learn=200).learn == 200
    with pytest.raises(s2.ParameterError, match="learn is 199, expected a whole number"):
        Limits(learn=199)


def test_the_page_says_what_a_sample_may_be() -> None:
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
    [said] = re.findall(r"more than `sample_bytes`, (\d+) MiB", page)
    assert Limits().sample_bytes == int(said) << 20
