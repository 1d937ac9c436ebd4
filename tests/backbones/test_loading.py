"""Loading a model by its file."""

from __future__ import annotations

from pathlib import Path

import pytest

import skip2lora as s2
from skip2lora.errors import ParameterError


def test_a_network_of_rows_has_no_choice(tmp_path: Path) -> None:
    s2.MLP.create([5, 4, 3]).save(tmp_path / "m.safetensors")
    for option in ({"grid": 2}, {"size": (4, 4)}, {"taps": [0]}):
        with pytest.raises(ParameterError, match=f"{next(iter(option))} is .* leave"):
            s2.load(tmp_path / "m.safetensors", **option)
    assert s2.load(tmp_path / "m.safetensors", class_names=list("abc")).class_names == tuple("abc")
    with pytest.raises(ParameterError, match="3 distinct names"):
        s2.load(tmp_path / "m.safetensors", class_names=list("ab"))
